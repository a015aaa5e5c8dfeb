// Package layout holds tests of the source tree: how many files of a package
// depend on each other, whether each public type has an Example, and whether
// links in comments lead somewhere. It has no code for users.
package layout
