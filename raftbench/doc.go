// Command raftbench measures how fast a Raft transport carries AppendEntries
// requests, side by side with others and with plain TCP:
//
//	go run ./raftbench            about three minutes
//	go run ./raftbench -quick     under one minute
//	go run ./raftbench -tls       over TLS
//	go run ./raftbench -h         all flags
//	go run ./raftbench -with BINARY                 this build and another one
//	go run ./raftbench cluster    clusters of hashicorp/raft, a process for each node
//	go run ./raftbench snapshot   InstallSnapshot from a file to a file
//	go run ./raftbench idle       memory of idle inbound connections
//	go run ./raftbench serve -listen HOST:PORT      on one machine, and on another:
//	go run ./raftbench run -target HOST:PORT        AppendEntries between them
//	go run ./raftbench compare old.json new.json    what changed between two files of -json
//	go run ./raftbench chart new.json -o new.svg    draws a run with -json
//
// A cell is a workload (entries of a size, "64x1K"; or "heartbeat", which the
// heartbeat handler answers) at a window ("sync": one call at a time; a number:
// that many requests in flight; "stream": no window, plain TCP only), sent to
// one follower or by one leader to several at once. A rival is something that
// can be measured in a cell.
//
// A round measures every cell once, each of its rivals for a short slice right
// after the other, in an order that the next round reverses (A B, B A) and the
// one after that begins elsewhere. So a machine that gets slower or faster does
// so for all. Figures are medians over rounds. A ratio is the median of the
// ratios within each round, with the interval in which it lies with 95 %
// confidence by the sign test, which assumes nothing of how rounds are
// distributed but that they are independent. The garbage collector has run
// before each slice: slices have to be so long that what it does within them
// counts. For a close call take more rounds, not longer slices.
//
// What every rival has in common: both ends live in this process, connected
// over loopback TCP (or TLS, with the same layer under each transport; unless
// -target names a receiver elsewhere); one goroutine reads the receiver's
// requests and answers each at once with Success and a last log index that
// counts up; the request is made before the clock starts and is the same for
// every call; the response is a fresh one for each call; a pipeline has one
// goroutine that sends and one that reads the answers; and there is a live heap
// of log entries, because a Raft node has one and the garbage collector's share
// of the time depends on it.
// Each answer of a transport is checked for errors, success and order, each
// request for its length and the first in full; plain TCP's answers are
// compared or, in a stream, counted. Any failure ends the run.
//
// The files, in the order of a run: main and options, cell and rival (what is
// measured), content (what is sent), transports, tls, hashicorp, raftwire and
// raw (the rivals), loop (the measured loops), measure (one rival in one cell),
// profile (where its time goes), rounds (all of them), report, ratio, table,
// summary, compare, chart and draw (what comes out), with (two builds,
// each a process), benchfmt. cluster, snapshot and idle, whose figures are trials, and
// serve are commands of their own, with the same transports. cluster goes on in
// cluster_options, cluster_cell (what is measured), cluster_nodes (the processes, as seen by the
// first), cluster_node (as seen by themselves), cluster_load and pace (the
// writers), slow (what is between nodes), cluster_events, cluster_profile and
// cluster_table.
package main
