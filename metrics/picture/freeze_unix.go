//go:build unix

package main

import (
	"os"
	"syscall"
)

// freeze makes a process silent: its connections stand, and nothing is answered.
func freeze(p *os.Process) error { return p.Signal(syscall.SIGSTOP) }

func thaw(p *os.Process) error { return p.Signal(syscall.SIGCONT) }
