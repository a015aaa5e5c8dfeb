package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	writers      = 16
	betweenTwo   = 20 * time.Millisecond // writes of one writer
	beforeAnew   = 100 * time.Millisecond
	writeTimeout = time.Second
)

// write begins to write to the cluster until ctx ends; wait waits for the end.
func (c *cluster) write(ctx context.Context) (wait func()) {
	var all sync.WaitGroup
	client := &http.Client{Timeout: writeTimeout} // follows to the leader
	for w := range writers {
		all.Go(func() {
			for i := w; ctx.Err() == nil; i++ {
				if c.nodes[w%len(c.nodes)].put(ctx, client, fmt.Sprintf("key-%d", i%100)) {
					pause(ctx, betweenTwo)
				} else {
					w++ // to another node
					pause(ctx, beforeAnew)
				}
			}
		})
	}
	return func() { all.Wait(); client.CloseIdleConnections() }
}

func (n *node) put(ctx context.Context, client *http.Client, key string) bool {
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+n.http+"/kv/"+key, strings.NewReader(strings.Repeat("x", 128)))
	if err != nil {
		return false
	}
	answer, err := client.Do(request)
	if err != nil {
		return false
	}
	_ = answer.Body.Close()
	return answer.StatusCode == http.StatusNoContent
}
