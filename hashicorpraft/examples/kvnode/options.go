package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/hashicorp/raft"
)

// options is what the flags say.
type options struct {
	id        raft.ServerID
	peers     peers
	bootstrap bool
	data      string

	raftBind, httpBind string
	transport, tls     string
	cluster            string
	requireIdentity    bool
	snapshotAfter      uint64
}

const usage = `Usage: kvnode -id ID -peers ID=RAFT/HTTP,... [flags]

One node of a replicated key-value store. All nodes get the same -peers, which
says where the Raft port and the HTTP port of each node are. The first time,
one of them, or all, are started with -bootstrap.

`

func parseOptions(args []string, output io.Writer) (options, error) {
	o := options{peers: peers{}}
	flags := flag.NewFlagSet("kvnode", flag.ContinueOnError)
	flags.SetOutput(output)
	flags.Usage = func() {
		fmt.Fprint(output, usage)
		flags.PrintDefaults()
	}
	flags.StringVar((*string)(&o.id), "id", "", "which of -peers this node is, by `name`")
	flags.Func("peers", "every node of the cluster: `name=host:port/host:port,...` for Raft and for HTTP", o.peers.parse)
	flags.BoolVar(&o.bootstrap, "bootstrap", false, "make -peers a new cluster, unless this node has been in one")
	flags.StringVar(&o.data, "data", "kvnode-data", "`directory` for data; this node uses the folder of its name in it")
	flags.StringVar(&o.raftBind, "raft", "", "`address` to listen on for Raft, if not that of -peers")
	flags.StringVar(&o.httpBind, "http", "", "`address` to listen on for HTTP, if not that of -peers")
	flags.StringVar(&o.transport, "transport", "raftwire", "`kind` of transport, raftwire or hashicorp; a cluster may have both")
	flags.StringVar(&o.tls, "tls", "", "speak TLS between the nodes, with cert.pem, key.pem and ca.pem in this `directory`; every certificate has the name "+clusterName)
	flags.StringVar(&o.cluster, "cluster", "", "`name` of the cluster: nodes of another one, and nodes at the address of another, are refused (not with -transport hashicorp)")
	flags.BoolVar(&o.requireIdentity, "require-identity", false, "refuse nodes without -cluster as well: for when all nodes have it")
	flags.Uint64Var(&o.snapshotAfter, "snapshot-after", 8192, "take a snapshot after so many `entries` of the log, and keep as many")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("%q is not a flag", flags.Arg(0))
	}
	return o.complete()
}

// complete checks o, and fills in what -peers says.
func (o options) complete() (options, error) {
	self, known := o.peers[o.id]
	switch {
	case len(o.peers) == 0:
		return o, errors.New("-peers is missing: say where the nodes are, as in -peers a=127.0.0.1:7001/127.0.0.1:8001")
	case o.id == "":
		return o, errors.New("-id is missing: say which of -peers this node is")
	case !known:
		return o, fmt.Errorf("-id %s is not one of -peers", o.id)
	case o.transport != "raftwire" && o.transport != "hashicorp":
		return o, fmt.Errorf("-transport %s: it is raftwire or hashicorp", o.transport)
	case o.requireIdentity && o.cluster == "":
		return o, errors.New("-require-identity needs -cluster")
	case o.cluster != "" && o.transport == "hashicorp":
		return o, errors.New("-cluster is for -transport raftwire: hashicorp's does not say who it is")
	}
	o.raftBind = cmp.Or(o.raftBind, string(self.raft))
	o.httpBind = cmp.Or(o.httpBind, self.http)
	return o, nil
}

// peers is where each node of the cluster is. It answers the transport's
// question for an address, so that nodes can move: Raft's own configuration,
// which is in the log, has the addresses of the time when the cluster was made.
type peers map[raft.ServerID]peer

type peer struct {
	raft raft.ServerAddress
	http string
}

func (p peers) parse(list string) error {
	for item := range strings.SplitSeq(list, ",") {
		id, addresses, _ := strings.Cut(item, "=")
		raftAddress, httpAddress, _ := strings.Cut(addresses, "/")
		if id == "" || !hasPort(raftAddress) || !hasPort(httpAddress) {
			return fmt.Errorf("%q is not of the form name=host:port/host:port", item)
		}
		if _, twice := p[raft.ServerID(id)]; twice {
			return fmt.Errorf("there are two nodes %q", id)
		}
		p[raft.ServerID(id)] = peer{raft.ServerAddress(raftAddress), httpAddress}
	}
	return nil
}

func hasPort(address string) bool {
	_, port, err := net.SplitHostPort(address)
	return err == nil && port != ""
}

// ServerAddr makes peers a [raft.ServerAddressProvider].
func (p peers) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	if known, ok := p[id]; ok {
		return known.raft, nil
	}
	return "", fmt.Errorf("%s is not one of -peers", id)
}

// configuration is that of a new cluster.
func (p peers) configuration() (c raft.Configuration) {
	for _, id := range slices.Sorted(maps.Keys(p)) {
		c.Servers = append(c.Servers, raft.Server{ID: id, Address: p[id].raft})
	}
	return c
}
