package raftwire_test

import (
	"fmt"
	"log"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/dispatch"
)

// A leader's main loop gets the answers of all followers on one channel, and
// needs no goroutine for each pipeline.
func ExampleWithPipelineSink() {
	network := raftwire.NewInmemNetwork(raftwire.InmemNetworkConfig{})
	defer network.Close()
	leader := network.Add("leader")

	type match struct {
		follower raftwire.ServerID
		future   raftwire.AppendFuture
	}
	matches := make(chan match)
	followers := make(map[raftwire.ServerID]raftwire.AppendPipeline)
	for _, id := range []raftwire.ServerID{"b", "c"} {
		follower := network.Add(raftwire.ServerAddress(id))
		go func() {
			rpc := <-follower.Consumer()
			rpc.Respond(&raftwire.AppendEntriesResponse{Success: true, LastLog: 1}, nil)
		}()
		pipeline, err := leader.AppendEntriesPipelineTo(id, raftwire.ServerAddress(id),
			func(future raftwire.AppendFuture, stop <-chan struct{}) bool {
				return dispatch.Offer(matches, match{id, future}, stop) // waits until it is taken, or until stop is closed
			})
		if err != nil {
			log.Fatal(err)
		}
		followers[id] = pipeline
	}

	request := &raftwire.AppendEntriesRequest{Term: 7, Entries: []*raftwire.Log{{Index: 1, Term: 7}}}
	for _, pipeline := range followers {
		if _, err := pipeline.AppendEntries(request, new(raftwire.AppendEntriesResponse)); err != nil {
			log.Fatal(err)
		}
	}
	for range followers {
		m := <-matches
		fmt.Println(m.follower, m.future.Response().LastLog, m.future.Error())
	}
	for _, pipeline := range followers {
		_ = pipeline.Close()
	}
	// Unordered output:
	// b 1 <nil>
	// c 1 <nil>
}
