package main

// repository is where users find the modules.
const repository = "github.com/raftwire/raftwire"

// kind says what is done with a module.
type kind int

const (
	unpublished kind = iota + 1 // has no tag: for work in this repository
	library                     // is tagged; users import it
	program                     // is tagged; users install it
)

// kinds has every module of go.work, by its folder. A new module needs a line
// here.
var kinds = map[string]kind{
	".":                             library,
	"cmd/raftwire":                  program,
	"e2e":                           unpublished,
	"examples/ownraft":              unpublished,
	"hashicorpraft":                 library,
	"hashicorpraft/examples/kvnode": program,
	"metrics/gometrics":             library,
	"metrics/otel":                  library,
	"metrics/picture":               unpublished,
	"metrics/prometheus":            library,
	"checks":                        unpublished,
	"raftbench":                     program,
	"release":                       unpublished,
	"spiffe":                        library,
}
