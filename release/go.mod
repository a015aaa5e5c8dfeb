module github.com/raftwire/raftwire/release

go 1.25.0

require (
	github.com/stretchr/testify v1.7.2
	golang.org/x/mod v0.31.0
)

require (
	github.com/davecgh/go-spew v1.1.0 // indirect
	github.com/pmezard/go-difflib v1.0.0 // indirect
	gopkg.in/yaml.v3 v3.0.1 // indirect
)
