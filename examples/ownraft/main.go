// Command ownraft is a replicated key-value store on a Raft of its own: the smallest whole
// one on raftwire's transports. It is an example, made to be read and copied.
//
//	node.go       the main loop, elections, followers
//	replicate.go  leaders
//	storage.go    what is on disk
//	main.go       the program: a key-value store, with commands on standard input
package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/raftwire/raftwire"
)

func main() {
	id := flag.String("id", "", "who this node is, of the servers")
	list := flag.String("servers", "", "all servers of the cluster: ID=HOST:PORT,...")
	dir := flag.String("dir", "ownraft-data", "where data is kept, in a directory for each node")
	flag.Parse()
	servers := make(map[raftwire.ServerID]raftwire.ServerAddress)
	for server := range strings.SplitSeq(*list, ",") {
		id, address, _ := strings.Cut(server, "=")
		servers[raftwire.ServerID(id)] = raftwire.ServerAddress(address)
	}
	self := raftwire.ServerID(*id)
	transport, err := raftwire.NewTCPTransportWithConfig(string(servers[self]), nil, &raftwire.NetworkTransportConfig{
		MaxPool: 3, MaxRPCsInFlight: 64, Timeout: time.Second / 2, // a lost request then costs no election
	})
	if err != nil {
		log.Fatal(err)
	}
	delete(servers, self)
	node, err := Start(Config{ID: self, Peers: servers, Dir: filepath.Join(*dir, *id), Transport: transport, Machine: store{}, ElectionTimeout: time.Second, SnapshotAfter: 1000})
	if err != nil {
		log.Fatal(err)
	}
	defer node.Stop()
	fmt.Println("ready")
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		result, err := node.Propose([]byte(lines.Text()))
		if err != nil {
			result = []byte("error: " + err.Error())
		}
		fmt.Printf("%s\n", result)
	}
}

// store is the state machine: values by their keys.
type store map[string]string

// Apply implements StateMachine.
func (s store) Apply(command []byte) []byte {
	switch words := strings.SplitN(string(command), " ", 3); {
	case words[0] == "set" && len(words) == 3:
		s[words[1]] = words[2]
		return []byte("ok")
	case words[0] == "get" && len(words) == 2:
		return []byte(s[words[1]])
	}
	return []byte("error: use set KEY VALUE or get KEY")
}

// Snapshot implements StateMachine.
func (s store) Snapshot() io.Reader {
	text, _ := json.Marshal(s) // cannot fail
	return bytes.NewReader(text)
}

// Restore implements StateMachine.
func (s store) Restore(state io.Reader) error {
	clear(s)
	return json.NewDecoder(state).Decode(&s)
}
