package labels

// The four timers of an inbound request, which applications know from
// hashicorp/raft's own transport.
var (
	GetRPCType = []string{"raft", "net", "getRPCType"} // waiting for a request
	RPCDecode  = []string{"raft", "net", "rpcDecode"}  // reading it
	RPCEnqueue = []string{"raft", "net", "rpcEnqueue"} // handing it to the core
	RPCRespond = []string{"raft", "net", "rpcRespond"} // waiting for the answer
)

// RPCType is the label of all but the first; its values are Kinds.
const RPCType = "rpcType"
