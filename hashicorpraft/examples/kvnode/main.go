// Kvnode is one node of a replicated key-value store: hashicorp/raft with a
// log on disk, an HTTP API, and raftwire between the nodes. It is an example:
// whole, and small enough to read in one go.
//
//	options.go    the flags, and who the peers are
//	transport.go  the transport between nodes: raftwire's, or hashicorp/raft's, over TCP or TLS
//	node.go       the Raft node: log, snapshots, start and stop
//	store.go      the state machine
//	api.go        the HTTP API
//	metrics.go    what /metrics shows
//
// README.md says how to run three of them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "kvnode:", err)
		os.Exit(1)
	}
}

// run is the program. It ends when ctx does, or with an error.
func run(ctx context.Context, args []string, out, logOutput io.Writer) error {
	o, err := parseOptions(args, logOutput)
	if err != nil {
		return err
	}
	logger := hclog.New(&hclog.LoggerOptions{Name: string(o.id), Output: logOutput, Level: hclog.Info})

	listener, err := net.Listen("tcp", o.httpBind)
	if err != nil {
		return fmt.Errorf("HTTP: %w", err)
	}
	defer listener.Close()
	n, err := startNode(o, logger)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "kvnode %s: Raft on %s by %s, HTTP on http://%s\n", o.id, o.raftBind, o.wire(), listener.Addr())
	return serveUntil(ctx, n, listener)
}

// patience is how long the program waits, at its end, for requests that are
// being answered, and then for Raft.
const patience = 10 * time.Second

// serveUntil answers HTTP requests until ctx ends, then stops the node.
func serveUntil(ctx context.Context, n *node, listener net.Listener) error {
	server := &http.Server{Handler: (&api{n}).routes(), ReadHeaderTimeout: patience}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()

	var serveErr error
	select {
	case <-ctx.Done():
	case serveErr = <-ended:
	}
	// Leadership goes first, while this node can still tell clients who has it.
	n.handOver()
	return errors.Join(serveErr, drain(server), n.stop())
}

// drain ends server when the requests that it has begun are answered.
func drain(server *http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return server.Shutdown(ctx)
}
