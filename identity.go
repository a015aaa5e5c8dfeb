package raftwire

import (
	"fmt"

	"github.com/raftwire/raftwire/internal/identity"
)

// Identity says which node of which cluster a transport belongs to, for the [NetworkTransportConfig]
// or [InmemTransport.SetIdentity]. With it, peers that have one as well refuse each other
// if they are of different clusters, or if one is not the node that the other means: the
// id argument of its calls. So an address that was given to another node, or a copied
// configuration, changes no node's state.
//
// The first request on each connection says who sends it and for whom it is, and its
// answer who gives it, as one field more that peers without Identity skip. The receiver
// looks at it before its core gets anything. An ID that is empty, or the address that is
// called, means any node: that is how Raft protocols before 3 name servers.
//
// It guards against mistakes. Against attackers use TLS: anybody can claim to be anyone.
type Identity struct {
	// Cluster is the cluster's name, the same at all of its nodes, of 1 KiB at most. A
	// name that no other cluster has, such as a UUID, is best.
	Cluster string

	// Node is this node's ServerID: the one in the configuration of the cluster, which
	// the core gives as RPCHeader.ID. If that is another, requests fail here, with an
	// error that says so.
	Node ServerID

	// Require refuses peers that do not say who they are. Set it when all nodes of the
	// cluster have an Identity. A request that this node sends to such a peer
	// has reached the peer's core when its answer is refused.
	Require bool
}

// self returns nil for the zero value. address is the transport's.
func (i Identity) self(address ServerAddress) *identity.Self {
	if i == (Identity{}) {
		return nil
	}
	return &identity.Self{Cluster: i.Cluster, Node: string(i.Node), Address: string(address), Require: i.Require}
}

func (i Identity) check() error {
	if self := i.self(""); self != nil {
		if err := self.Check(); err != nil {
			return fmt.Errorf("Identity is %+v: %w", i, err)
		}
	}
	return nil
}

// checkIntroduction refuses a request that would introduce this node by another ID than
// its header gives.
func checkIntroduction(d *identity.Dialled, args any) error {
	if !d.Says() {
		return nil
	}
	header := args.(WithRPCHeader).GetRPCHeader()
	return d.CheckRequest(header.ID, string(header.Addr))
}
