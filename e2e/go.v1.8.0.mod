// The dependencies with the newest hashicorp/raft; go.mod has the oldest.
// CONTRIBUTING.md, under Modules, says how to test with them.

module github.com/raftwire/raftwire/e2e

go 1.25.0

require (
	github.com/anishathalye/porcupine v0.1.4
	github.com/hashicorp/go-hclog v1.6.3
	github.com/hashicorp/raft v1.8.0
	github.com/raftwire/raftwire v0.0.0
	github.com/raftwire/raftwire/hashicorpraft v0.0.0
	github.com/stretchr/testify v1.11.1
	go.uber.org/goleak v1.2.0
)

require (
	github.com/davecgh/go-spew v1.1.1 // indirect
	github.com/fatih/color v1.13.0 // indirect
	github.com/hashicorp/go-immutable-radix v1.3.1 // indirect
	github.com/hashicorp/go-metrics v0.7.0 // indirect
	github.com/hashicorp/go-msgpack/v2 v2.1.5 // indirect
	github.com/hashicorp/golang-lru v1.0.2 // indirect
	github.com/kr/text v0.2.0 // indirect
	github.com/mattn/go-colorable v0.1.12 // indirect
	github.com/mattn/go-isatty v0.0.14 // indirect
	github.com/pmezard/go-difflib v1.0.0 // indirect
	golang.org/x/sys v0.47.0 // indirect
	gopkg.in/yaml.v3 v3.0.1 // indirect
)
