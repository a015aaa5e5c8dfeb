package layers_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/raftwire/raftwire/layers"
)

// A node in a tailnet. newTailnet stands for a *tsnet.Server, which has the methods
// Listen and Dial. Its listener's address is ":8300", which peers cannot dial:
// namedListener tells them a name instead.
//
// Other listeners are used alike. With PROXY protocol the listener is the one that
// reads the headers, and Dial is a net.Dialer's DialContext to the peer's proxy.
func ExampleFromListener_tsnet() {
	server := newTailnet()
	listener, err := server.Listen("tcp", ":8300")
	if err != nil {
		log.Fatal(err)
	}
	layer := layers.FromListener(namedListener{listener, "node-1:8300"}, func(ctx context.Context, address raftwire.ServerAddress) (net.Conn, error) {
		return server.Dial(ctx, "tcp", string(address))
	})
	transport := raftwire.NewNetworkTransport(layer, 3, 10*time.Second, io.Discard)
	defer transport.Close()
	go grantVotes(transport, 1)
	fmt.Println(transport.LocalAddr(), askForVote(transport, "node-1:8300"))
	// Output: node-1:8300 granted
}

// namedListener is a listener that has a name as its address.
type namedListener struct {
	net.Listener
	name string
}

func (l namedListener) Addr() net.Addr  { return l }
func (l namedListener) Network() string { return "tcp" }
func (l namedListener) String() string  { return l.name }

// tailnet is a network with one listener.
type tailnet struct{ conns chan net.Conn }

func newTailnet() *tailnet { return &tailnet{make(chan net.Conn)} }

func (n *tailnet) Listen(string, string) (net.Listener, error) {
	return &tailnetListener{n, make(chan struct{})}, nil
}

func (n *tailnet) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case n.conns <- there:
		return here, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type tailnetListener struct {
	*tailnet
	done chan struct{}
}

func (l *tailnetListener) Accept() (net.Conn, error) {
	select {
	case conn := <-l.conns:
		return conn, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *tailnetListener) Close() error   { close(l.done); return nil }
func (l *tailnetListener) Addr() net.Addr { return namedListener{name: ":8300"} }

// Files of cert-manager's. dir is where the secret of a Certificate is mounted, such as
// /etc/raft/tls: mount the whole directory, without subPath. The Certificate asks for
// the usages "server auth" and "client auth", and for a DNS name that all nodes have.
// The layer looks at the files once a second, so that a renewal needs no restart.
func ExampleTLSConfig_certManager() {
	dir := mountedSecret()
	defer os.RemoveAll(dir)
	transport, err := layers.NewTLSTransport("127.0.0.1:0", nil, layers.TLSConfig{
		CertFile:   filepath.Join(dir, "tls.crt"),
		KeyFile:    filepath.Join(dir, "tls.key"),
		CAFile:     filepath.Join(dir, "ca.crt"),
		ServerName: "node",
	}, &raftwire.NetworkTransportConfig{MaxPool: 3, Timeout: 10 * time.Second})
	if err != nil {
		log.Fatal(err)
	}
	defer transport.Close()
	go grantVotes(transport, 1)
	fmt.Println(askForVote(transport, transport.LocalAddr()))
	// Output: granted
}

// mountedSecret makes files such as cert-manager writes.
func mountedSecret() (dir string) {
	dir = clusterFiles()
	files := testca.Files{Dir: dir}
	for from, to := range map[string]string{files.Cert(): "tls.crt", files.Key(): "tls.key", files.CA(): "ca.crt"} {
		if err := os.Rename(from, filepath.Join(dir, to)); err != nil {
			log.Fatal(err)
		}
	}
	return dir
}
