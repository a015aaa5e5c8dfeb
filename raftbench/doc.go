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
// A round measures every cell once: each of its rivals for a short slice, one
// right after the other. The next round reverses the order (A B, B A), and the one
// after that begins with another rival. So a machine that gets slower or faster does
// so for all. Figures are medians over rounds. A ratio is the median of the ratios
// within each round. Its interval has 95 % confidence by the sign test, which
// assumes only that rounds are independent. The garbage collector runs before each
// slice. Slices must be so long that its work within them counts. For a close call
// take more rounds, not longer slices.
//
// All rivals have this in common:
//
//   - Both ends live in this process, unless -target names a receiver elsewhere. They
//     are connected over loopback TCP, or over TLS with the same layer under each
//     transport.
//   - One goroutine reads the receiver's requests, and answers each at once with
//     Success and a last log index that counts up.
//   - The request is made before the clock starts, and is the same for every call. The
//     response is a fresh one for each call.
//   - A pipeline has one goroutine that sends and one that reads the answers.
//   - There is a live heap of log entries. A Raft node has one, and the garbage
//     collector's share of the time depends on it.
//
// Each answer of a transport is checked for errors, success and order. Each request is
// checked for its length, and the first in full. Plain TCP's answers are compared or,
// in a stream, counted. Any failure ends the run.
//
// The files, in the order of a run:
//
//   - main, options; cell and rival (what is measured), content (what is sent)
//   - transports, tls, hashicorp, raftwire and raw (the rivals)
//   - loop (the measured loops), measure (one rival in one cell), profile (where its
//     time goes), rounds (all of them)
//   - report, ratio, table, summary, compare, chart, draw and benchfmt (the output)
//   - with (two builds, each a process)
//   - cluster, snapshot, idle and serve: commands of their own, with the same
//     transports
//   - of cluster: cluster_options, cluster_cell (what is measured), cluster_nodes (the
//     processes, as the first sees them), cluster_node (as they see themselves),
//     cluster_load and pace (the writers), slow (the network between nodes),
//     cluster_events, cluster_profile and cluster_table
package main
