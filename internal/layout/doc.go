// Package layout holds a test of the source tree: how many files of a package
// depend on each other. It has no code for users.
package layout
