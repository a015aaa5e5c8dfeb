package faultnet

import "errors"

// Plan 9 has no numbers for these, only texts.
var (
	errReset        = errors.New("connection reset by peer")
	errBrokenPipe   = errors.New("broken pipe")
	errRefused      = errors.New("connection refused")
	errAddressInUse = errors.New("address already in use")
	errTooManyFiles = errors.New("no free file descriptors")
)
