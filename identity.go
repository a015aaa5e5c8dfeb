package raftwire

import (
	"fmt"

	"github.com/raftwire/raftwire/internal/identity"
)

// Identity says which node of which cluster a transport belongs to. Set it in the
// [NetworkTransportConfig], or by [InmemTransport.SetIdentity]. Two nodes that both have
// an Identity refuse each other if their clusters differ. They also do if the id argument
// of a call names another node than the one that the call reaches. So an address that was
// given to another node, or a copied configuration, changes no node's state.
//
// The first request on each connection has one field more, which says who sends it and
// for whom it is. So has its answer, which says who gives it. Peers without an Identity
// skip the field. The receiver checks it before its core gets anything. An id that is
// empty, or equal to the address that is called, means any node: Raft protocols before 3
// name servers by addresses.
//
// It guards against mistakes. Against attackers use TLS: anybody can claim to be anyone.
type Identity struct {
	// Cluster is the cluster's name, the same at all of its nodes, of 1 KiB at most. A
	// name that no other cluster has, such as a UUID, is best.
	Cluster string

	// Node is this node's ServerID: the one in the configuration of the cluster, which
	// the core sends as RPCHeader.ID. If the core sends another ID there, its requests
	// fail before they are sent, with an error that says so. An empty one is right.
	Node ServerID

	// Require refuses peers that do not say who they are. Set it when all nodes of the
	// cluster have an Identity. Such a peer's core may get a request of this node: only
	// its answer shows that it has none, and is refused.
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
