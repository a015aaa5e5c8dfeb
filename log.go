package raftwire

import (
	"io"
	"os"

	"github.com/hashicorp/go-hclog"
)

// The keys of log lines, everywhere the same; the package doc explains them.
const (
	keyPeer    = "peer"           // an address: what was dialled, or where a connection comes from
	keyLocal   = "local"          // the own address of the transport, Mux or TLSStreamLayer
	keyID      = "id"             // a ServerID
	keyError   = "error"          // why
	keyBefore  = "before"         // what was, where something has changed
	keyCert    = "certificate"    // this node's own, in words
	keyExpires = "expires"        // when it does
	keySimilar = "similar-before" // lines like this one that were left out since the last
)

// defaultLogger returns the logger of a transport that was given none.
func defaultLogger() hclog.Logger { return newLogger(hclog.DefaultOutput) }

// newLogger returns the logger of a transport that was given an output, or nil.
func newLogger(output io.Writer) hclog.Logger {
	if output == nil {
		output = os.Stderr
	}
	return hclog.New(&hclog.LoggerOptions{Name: "raft-net", Output: output, Level: hclog.DefaultLevel})
}
