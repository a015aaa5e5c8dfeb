// Package e2e has no code, only tests of whole clusters: real nodes of
// hashicorp/raft over the transports of this library.
//
//	faults_test.go   clusters on a network in memory and on fake time, under
//	                 faults drawn from a seed
//	wedge_test.go    a follower whose disk fails once catches up again
//	process_test.go  processes on TCP that are killed
//
// What clients saw is checked with porcupine: the history of their reads and
// writes must be linearizable. The tests are a module of their own, so that
// nothing else requires what they do.
//
// # Seeds
//
// A seed decides on the cluster, its faults and its clients, not on the order
// in which goroutines run, so one that failed may need several runs to fail
// again:
//
//	RAFTWIRE_SEEDS=17 go test -count=100 -run TestClusterUnderFaults .
//	RAFTWIRE_SEEDS=1-50000 go test -timeout 0 -run TestClusterUnderFaults .
//	RAFTWIRE_LONG=1 go test -timeout 0 .  # ten times as much of everything
//
// With a single seed and -v the logs of all nodes are printed, with times that
// can be compared with those of the plan and of the history.
package e2e
