package probe

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
)

// A failure is why a connection brought no answer.
type failure struct {
	result Result // Unreachable, Silent, Closed, Refused or Foreign
	// passed are the steps that were taken before.
	passed []Step
	// handshake is true if a TLS handshake failed.
	handshake bool
	err       error
}

// fail says what an error of a connection means.
func fail(err error) *failure {
	var header tls.RecordHeaderError
	var operation *net.OpError
	switch {
	case errors.As(err, &header):
		return foreign(header.RecordHeader[:])
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &failure{result: Silent, err: err}
	case errors.As(err, &operation) && operation.Op == "remote error": // crypto/tls: an alert of the peer
		return &failure{result: Refused, err: operation.Err}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), operation != nil:
		return &failure{result: Closed, err: err}
	}
	return &failure{result: Refused, err: err} // crypto/tls does not agree with the peer
}

// foreign is an answer that begins with bytes that are no Raft.
func foreign(began []byte) *failure {
	looks := fmt.Sprintf("something that begins with %q", began)
	switch {
	case bytes.HasPrefix(began, []byte("H")):
		looks = "an HTTP server"
	case bytes.HasPrefix(began, []byte("S")):
		looks = "an SSH server"
	case bytes.HasPrefix(began, []byte{0x15}):
		looks = "a TLS server that refuses what is no TLS"
	}
	return &failure{result: Foreign, err: errors.New(looks)}
}
