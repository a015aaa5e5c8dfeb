//go:build !linux && !darwin

package main

// raiseOpenFiles returns n: what the limit is, if any, is not known.
func raiseOpenFiles(n int) int { return n }
