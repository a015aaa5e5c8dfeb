package main

import (
	"errors"
	"io"
	"os"
)

// save copies a snapshot into a new file, as a snapshot store does.
func save(file string, body io.Reader) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, body)
	return errors.Join(err, f.Close())
}
