// Package nettest has no code, only a test: the connections of faultnet keep
// the contract of net.Conn, as golang.org/x/net/nettest checks it. The test is
// not beside faultnet so that the library does not require golang.org/x/net.
package nettest
