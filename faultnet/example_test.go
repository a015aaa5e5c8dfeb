package faultnet_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"github.com/raftwire/raftwire/faultnet"
)

// In a test, put such code into a testing/synctest bubble: then the times are
// exact and take no time.
func Example() {
	network := faultnet.New(1)
	server, err := network.Host("server").Listen()
	if err != nil {
		log.Fatal(err)
	}
	client, err := network.Host("client").Dial(context.Background(), "server")
	if err != nil {
		log.Fatal(err)
	}
	accepted, err := server.Accept()
	if err != nil {
		log.Fatal(err)
	}

	network.Link("client", "server").Cut()
	fmt.Fprint(client, "hello")
	buf := make([]byte, 100)
	_ = accepted.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err = accepted.Read(buf)
	fmt.Println(err)

	network.Heal()
	_ = accepted.SetReadDeadline(time.Time{})
	n, err := accepted.Read(buf)
	fmt.Println(string(buf[:n]), err)

	_, _, _ = client.Close(), accepted.Close(), server.Close()
	fmt.Println("open:", network.OpenConns())
	// Output:
	// read faultnet server->client:40001: i/o timeout
	// hello <nil>
	// open: 0
}

// A plan is written as text. Run calls back after each step: there a test
// stops and starts what runs on a host.
func ExamplePlan_Run() {
	plan, err := faultnet.ParsePlan(`
		0s    latency leader follower 20ms
		10ms  isolate leader
		20ms  heal
		30ms  crash follower
		40ms  restart follower
	`)
	if err != nil {
		log.Fatal(err)
	}
	err = plan.Run(context.Background(), faultnet.New(1), func(step faultnet.Step) {
		switch step.Action {
		case faultnet.Crash:
			fmt.Println("stop the node on", step.Hosts[0])
		case faultnet.Restart:
			fmt.Println("start the node on", step.Hosts[0])
		}
	})
	fmt.Println(err)
	// Output:
	// stop the node on follower
	// start the node on follower
	// <nil>
}

func ExampleRandomPlan() {
	plan := faultnet.RandomPlan(1, []string{"a", "b", "c"}, time.Minute, faultnet.Isolate, faultnet.Crash, faultnet.Latency)
	fmt.Print(plan[:5])
	// Output:
	// 5.983s isolate b a
	// 6.618s crash c
	// 6.942s restart c
	// 10.891s crash b
	// 12.943s heal
}
