//go:build !plan9

package faultnet

import "syscall"

// The errors of a system's sockets, so that code under test, which looks for
// these with errors.Is, meets what it will meet outside.
var (
	errReset        error = syscall.ECONNRESET
	errBrokenPipe   error = syscall.EPIPE
	errRefused      error = syscall.ECONNREFUSED
	errAddressInUse error = syscall.EADDRINUSE
	errTooManyFiles error = syscall.EMFILE
)
