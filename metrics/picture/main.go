// Picture draws what raftwire's metrics show of a cluster in trouble. It runs
// three processes of the example program kvnode under writes, scrapes them once
// a second while things happen to them, and plots the scrapes:
//
//	go run ./metrics/picture -o docs/metrics.png
//
// It takes a minute, and a Unix.
//
//	cluster.go  the processes, and what happens to them
//	load.go     the writes
//	record.go   the scrapes, and what the panels show of them
//	draw.go     the picture
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"
)

func main() {
	file := flag.String("o", "metrics.png", "draw into `file`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *file); err != nil {
		fmt.Fprintln(os.Stderr, "picture:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, file string) error {
	folder, err := os.MkdirTemp("", "picture")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	c, err := startCluster(ctx, folder)
	if err != nil {
		return err
	}
	defer c.stop()
	record, err := watch(ctx, c)
	if err != nil {
		return err
	}
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(drawPicture(out, panelsOf(record), record.events), out.Close())
}

// watch lets the story of the picture happen, and records it.
func watch(ctx context.Context, c *cluster) (*record, error) {
	ctx, cancel := context.WithTimeout(ctx, storyEnds)
	defer cancel()
	r := newRecord(c)
	defer c.write(ctx)()
	told := make(chan error, 1)
	go func() { told <- c.tell(ctx, r) }()
	r.scrapeUntil(ctx)
	if err := <-told; err != nil {
		return nil, err
	}
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil, context.Cause(ctx)
	}
	return r, nil
}

const storyEnds = 60 * time.Second
