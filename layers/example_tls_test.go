package layers_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/raftwire/raftwire/layers"
)

// A node of a cluster whose nodes all have the name "node" in their
// certificates. Whoever has not, or does not speak TLS, is not a peer.
func ExampleNewTLSTransport() {
	dir := clusterFiles() // by your CA
	defer os.RemoveAll(dir)
	security := layers.TLSConfig{
		CertFile:   filepath.Join(dir, "cert.pem"),
		KeyFile:    filepath.Join(dir, "key.pem"),
		CAFile:     filepath.Join(dir, "ca.pem"),
		ServerName: "node", // every peer has this name in its certificate
	}
	transport, err := layers.NewTLSTransport("127.0.0.1:0", nil, security, &raftwire.NetworkTransportConfig{
		MaxPool: 3,
		Timeout: 10 * time.Second,
		Logger:  hclog.NewNullLogger(),
	})
	if err != nil {
		log.Fatal(err)
	}
	defer transport.Close()
	go grantVotes(transport, 1)
	fmt.Println("with TLS:", askForVote(transport, transport.LocalAddr()))

	plain, err := raftwire.NewTCPTransport("127.0.0.1:0", nil, 3, 10*time.Second, io.Discard)
	if err != nil {
		log.Fatal(err)
	}
	defer plain.Close()
	fmt.Println("without:", askForVote(plain, transport.LocalAddr()) == "granted")
	// Output:
	// with TLS: granted
	// without: false
}

// Certificates from memory, over a layer of one's own choice; the certificates
// of some peers were revoked. When that list changes, Reload the layer, and then
// call CloseStreams on the transport: everybody has to authenticate again.
func ExampleNewTLS() {
	tcp, err := raftwire.NewTCPStreamLayer(raftwire.TCPConfig{Bind: "localhost:0"})
	if err != nil {
		log.Fatal(err)
	}
	identity := newTLS()                     // from wherever certificates are kept
	revoked := map[string]bool{"4711": true} // by serial number
	secured, err := layers.NewTLS(tcp, layers.TLSConfig{
		Load: func() (*tls.Certificate, *x509.CertPool, error) {
			return &identity.Certificates[0], identity.RootCAs, nil
		},
		ServerName: "node",
		Authorize: func(peer *layers.TLSPeer) error {
			if serial := peer.Certificate().SerialNumber.String(); revoked[serial] {
				return fmt.Errorf("its certificate %s was revoked", serial)
			}
			return nil
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	transport := raftwire.NewNetworkTransport(secured, 3, 10*time.Second, io.Discard)
	defer transport.Close()
	go grantVotes(transport, 1)
	fmt.Println(askForVote(transport, transport.LocalAddr()))
	// Output: granted
}

// When the own certificate and its CA expire, for a program without metrics. With them, the
// modules in the folder metrics export both times from the Stats of the transport.
func ExampleTLS_Expires() {
	dir := clusterFiles()
	defer os.RemoveAll(dir)
	tcp, err := raftwire.NewTCPStreamLayer(raftwire.TCPConfig{Bind: "localhost:0"})
	if err != nil {
		log.Fatal(err)
	}
	secured, err := layers.NewTLS(tcp, nodeFiles(dir))
	if err != nil {
		log.Fatal(err)
	}
	transport := raftwire.NewNetworkTransport(secured, 3, 10*time.Second, io.Discard)
	defer transport.Close()
	certificate, ca := secured.Expires()
	fmt.Println("certificate expires before its CA:", certificate.Before(ca))
	fmt.Println("the same in Stats:", transport.Stats().CertificateExpires.Equal(certificate))
	// Output:
	// certificate expires before its CA: true
	// the same in Stats: true
}

// One port for several groups, all over TLS: each peer is verified once, by one
// configuration, and then says which group it means, by ALPN here. Reload and
// the rest of the layer are at hand.
func ExampleMux_overTLS() {
	dir := clusterFiles()
	defer os.RemoveAll(dir)
	tcp, err := raftwire.NewTCPStreamLayer(raftwire.TCPConfig{Bind: "localhost:0"})
	if err != nil {
		log.Fatal(err)
	}
	secured, err := layers.NewTLS(tcp, nodeFiles(dir))
	if err != nil {
		log.Fatal(err)
	}
	mux, err := layers.NewMux(layers.MuxConfig{Listener: secured})
	if err != nil {
		log.Fatal(err)
	}
	defer mux.Close()

	for _, name := range []string{"orders", "invoices"} {
		layer, err := mux.Layer(layers.ALPN("raft/" + name)) // or FirstByte: it comes inside TLS
		if err != nil {
			log.Fatal(err)
		}
		transport := raftwire.NewNetworkTransport(layer, 3, 10*time.Second, io.Discard)
		defer transport.Close()
		go grantVotes(transport, 1)
		fmt.Println(name+":", askForVote(transport, transport.LocalAddr()))
	}
	// Output:
	// orders: granted
	// invoices: granted
}

// TLS for one group of a port, with a CA of its own, while another group on the
// same port does without.
func ExampleMux_underTLS() {
	dir := clusterFiles()
	defer os.RemoveAll(dir)
	tcp, err := raftwire.NewTCPStreamLayer(raftwire.TCPConfig{Bind: "localhost:0"})
	if err != nil {
		log.Fatal(err)
	}
	mux, err := layers.NewMux(layers.MuxConfig{Listener: tcp})
	if err != nil {
		log.Fatal(err)
	}
	defer mux.Close()

	orders, err := mux.Layer(layers.FirstByte(11))
	if err != nil {
		log.Fatal(err)
	}
	secured, err := layers.NewTLS(orders, nodeFiles(dir))
	if err != nil {
		log.Fatal(err)
	}
	cache, err := mux.Layer(layers.FirstByte(12))
	if err != nil {
		log.Fatal(err)
	}
	for _, layer := range []raftwire.StreamLayer{secured, cache} {
		transport := raftwire.NewNetworkTransport(layer, 3, 10*time.Second, io.Discard)
		defer transport.Close()
		go grantVotes(transport, 1)
		fmt.Println(askForVote(transport, transport.LocalAddr()))
	}
	// Output:
	// granted
	// granted
}

// Who may connect, if the CAs sign for others than the peers as well. AllowNames
// and AllowRole make functions for Authorize.
func ExampleAllowRole() {
	dir := clusterFiles() // certificates with the name "node"
	defer os.RemoveAll(dir)
	listen := func(authorize func(*layers.TLSPeer) error) *raftwire.NetworkTransport {
		security := nodeFiles(dir)
		security.ServerName = ""
		security.ServerNameFor = func(raftwire.ServerAddress) string { return "node" } // of a peer that is dialled
		security.Authorize = authorize
		transport, err := layers.NewTLSTransport("127.0.0.1:0", nil, security, &raftwire.NetworkTransportConfig{
			Timeout: 10 * time.Second,
			Logger:  hclog.NewNullLogger(),
		})
		if err != nil {
			log.Fatal(err)
		}
		return transport
	}
	open := listen(layers.AllowNames("node", "standby"))
	defer open.Close()
	closed := listen(layers.AllowRole("server", "dc1.consul", "dc2.consul")) // server.dc1.consul, for example
	defer closed.Close()
	go grantVotes(open, 1)
	fmt.Println(askForVote(open, open.LocalAddr()))
	fmt.Println(askForVote(open, closed.LocalAddr()) == "granted")
	// Output:
	// granted
	// false
}

// A certificate was revoked, or the CA changed. Write the new files, read them,
// and let everybody authenticate again. The files are also read once a second by
// themselves; that alone closes no connection.
func ExampleTLS_Reload() {
	dir := clusterFiles()
	defer os.RemoveAll(dir)
	tcp, err := raftwire.NewTCPStreamLayer(raftwire.TCPConfig{Bind: "localhost:0"})
	if err != nil {
		log.Fatal(err)
	}
	security := nodeFiles(dir)
	security.Logger = hclog.NewNullLogger()
	secured, err := layers.NewTLS(tcp, security)
	if err != nil {
		log.Fatal(err)
	}
	transport := raftwire.NewNetworkTransport(secured, 3, 10*time.Second, io.Discard)
	defer transport.Close()
	go grantVotes(transport, 2)
	fmt.Println(askForVote(transport, transport.LocalAddr()))

	ca := testca.New() // the next CA
	testca.WriteFiles(dir, ca.Issue(named("node")), ca)
	if err := secured.Reload(); err != nil {
		log.Fatal(err)
	}
	transport.CloseStreams()
	fmt.Println(askForVote(transport, transport.LocalAddr()))
	// Output:
	// granted
	// granted
}

// nodeFiles is the configuration of a node of such a cluster.
func nodeFiles(dir string) layers.TLSConfig {
	return layers.TLSConfig{
		CertFile:   filepath.Join(dir, "cert.pem"),
		KeyFile:    filepath.Join(dir, "key.pem"),
		CAFile:     filepath.Join(dir, "ca.pem"),
		ServerName: "node",
	}
}

// clusterFiles makes files such as a CA would.
func clusterFiles() (dir string) {
	dir, err := os.MkdirTemp("", "raftwire")
	if err != nil {
		log.Fatal(err)
	}
	ca := testca.New()
	testca.WriteFiles(dir, ca.Issue(named("node")), ca)
	return dir
}
