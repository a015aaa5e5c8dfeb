module github.com/raftwire/raftwire/examples/ownraft

go 1.25.0

require github.com/raftwire/raftwire v0.0.0
