// Package armonmetrics makes package hashicorpraft emit its timers to
// github.com/armon/go-metrics. Programs on hashicorp/raft v1.7 import it for
// that effect:
//
//	import _ "github.com/raftwire/raftwire/hashicorpraft/armonmetrics"
//
// hashicorp/raft v1.7 emits its metrics there by default. From v1.8.0 on it uses
// github.com/hashicorp/go-metrics, as hashicorpraft does without this package.
//
// The timers go to armon's registry if the program has set it up, else to
// hashicorp's. Remove the import when you move to v1.8.0 or later: then nothing
// links armon's library. Under the build tag hashicorpmetrics, which makes
// hashicorp/raft v1.7 use hashicorp's library, this package does nothing.
package armonmetrics
