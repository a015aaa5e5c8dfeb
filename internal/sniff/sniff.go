// Package sniff guesses by its first byte what speaks where a Raft peer should.
package sniff

// How TLS begins, and how it says no: ContentTypes of RFC 8446 §5.1.
const (
	TLSHandshake = 0x16
	TLSAlert     = 0x15
)

// RaftKinds is how many kinds of request there are: a Raft peer that sends no prefix
// begins with a byte below that.
const RaftKinds = 5

// Answer names what the first byte looks like that comes back on a
// connection that was dialled, or "".
func Answer(first byte) string {
	switch first {
	case 'H':
		return "an HTTP response"
	case 'S':
		return "an SSH server" // RFC 4253 §4.2
	case TLSAlert:
		return "a TLS alert"
	}
	return ""
}

// Request names what the first byte looks like of a connection that was
// accepted, or "".
func Request(first byte) string {
	switch first {
	case 'G', 'H', 'D', 'O', 'C', 'T':
		return "an HTTP request" // GET, HEAD, DELETE, OPTIONS, CONNECT, TRACE
	case 'P':
		return "a PROXY header of a load balancer, or an HTTP request" // or POST, PUT, PATCH, PRI
	case '\r':
		return "a PROXY header of a load balancer" // version 2 begins with \r\n\r\n
	case TLSHandshake:
		return "a TLS handshake"
	case 'S':
		return "an SSH client" // RFC 4253 §4.2
	}
	return ""
}
