package layers_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/layers"
)

// Raft and another service on one port, told apart by the first byte, as in
// rqlite. Both ends of each service know its byte only here.
func ExampleMux() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	mux, err := layers.NewMux(layers.MuxConfig{Listener: listener})
	if err != nil {
		log.Fatal(err)
	}
	defer mux.Close()
	raft, err := mux.Layer(layers.FirstByte(11))
	if err != nil {
		log.Fatal(err)
	}
	cluster, err := mux.Layer(layers.FirstByte(12)) // a net.Listener, for gRPC say
	if err != nil {
		log.Fatal(err)
	}

	transport := raftwire.NewNetworkTransport(raft, 3, 10*time.Second, io.Discard)
	defer transport.Close()
	go grantVotes(transport, 1)
	fmt.Println("raft:", askForVote(transport, transport.LocalAddr()))

	go func() {
		conn, err := cluster.Accept()
		if err == nil {
			_, _ = io.WriteString(conn, "node 1 is ready")
			_ = conn.Close()
		}
	}()
	conn, err := cluster.Dial(transport.LocalAddr(), 10*time.Second)
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	status, err := io.ReadAll(conn)
	fmt.Println("cluster:", string(status), err)
	// Output:
	// raft: granted
	// cluster: node 1 is ready <nil>
}

// Several Raft groups on one port, told apart by the protocol that TLS
// negotiates, as in Vault. Any number of groups comes and goes while the port
// stays open.
func ExampleALPN() {
	dir := clusterFiles()
	defer os.RemoveAll(dir)
	security := nodeFiles(dir)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	mux, err := layers.NewMux(layers.MuxConfig{Listener: listener, TLS: &security})
	if err != nil {
		log.Fatal(err)
	}
	defer mux.Close()

	for _, name := range []string{"orders", "invoices"} {
		layer, err := mux.Layer(layers.ALPN("raft/" + name))
		if err != nil {
			log.Fatal(err)
		}
		transport := raftwire.NewNetworkTransport(layer, 3, 10*time.Second, io.Discard)
		go grantVotes(transport, 1)
		fmt.Println(name+":", askForVote(transport, transport.LocalAddr()))
		transport.Close() // closes this group, and leaves the port
	}
	// Output:
	// orders: granted
	// invoices: granted
}

// gRPC and HTTP beside Raft on one port. gRPC and HTTP/2 negotiate the same
// protocol, h2, so that one HTTP server serves both and tells them apart by their
// content type. grpc here stands for a *grpc.Server, which is an http.Handler.
func ExampleMux_grpcBesideHTTP() {
	identity := newTLS() // certificates; mutual
	security := layers.TLSConfig{
		Load: func() (*tls.Certificate, *x509.CertPool, error) {
			return &identity.Certificates[0], identity.RootCAs, nil
		},
		ServerName: "node",
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	mux, err := layers.NewMux(layers.MuxConfig{Listener: listener, TLS: &security})
	if err != nil {
		log.Fatal(err)
	}
	defer mux.Close()
	raft, err := mux.Layer(layers.ALPN("raft"))
	if err != nil {
		log.Fatal(err)
	}
	web, err := mux.Layer(layers.ALPN("h2"), layers.ALPN("http/1.1"))
	if err != nil {
		log.Fatal(err)
	}

	grpc := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "gRPC over ", r.Proto) })
	pages := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "a page over ", r.Proto) })
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			grpc.ServeHTTP(w, r)
			return
		}
		pages.ServeHTTP(w, r)
	})}
	go server.Serve(web)
	defer server.Close()

	transport := raftwire.NewNetworkTransport(raft, 3, 10*time.Second, io.Discard)
	defer transport.Close()
	go grantVotes(transport, 1)
	fmt.Println("raft:", askForVote(transport, transport.LocalAddr()))

	web2 := &http.Transport{TLSClientConfig: identity.Clone(), ForceAttemptHTTP2: true}
	defer web2.CloseIdleConnections()
	web1 := &http.Transport{TLSClientConfig: identity.Clone()}
	web1.TLSClientConfig.NextProtos = []string{"http/1.1"} // a Mux hands over only what negotiates a protocol
	defer web1.CloseIdleConnections()
	fmt.Println("a gRPC client:", post(web2, listener.Addr(), "application/grpc"))
	fmt.Println("curl:", post(web2, listener.Addr(), "text/plain"))
	fmt.Println("curl --http1.1:", post(web1, listener.Addr(), "text/plain"))
	// Output:
	// raft: granted
	// a gRPC client: gRPC over HTTP/2.0
	// curl: a page over HTTP/2.0
	// curl --http1.1: a page over HTTP/1.1
}

// post returns the answer to a request with a content type.
func post(client *http.Transport, to net.Addr, contentType string) string {
	response, err := (&http.Client{Transport: client}).Post("https://"+to.String(), contentType, nil)
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	return string(text)
}

// A program that has a listener of its own, and reads the first byte itself,
// hands the connections over that are for Raft, as Consul and Nomad do.
func ExampleHandoff() {
	const rpcRaft = 1 // of the program's own protocol
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	defer listener.Close()
	layer := layers.NewHandoff(listener.Addr(), func(ctx context.Context, address raftwire.ServerAddress) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", string(address))
		if err == nil {
			_, err = conn.Write([]byte{rpcRaft})
		}
		return conn, err
	})
	transport := raftwire.NewNetworkTransport(layer, 3, 10*time.Second, io.Discard)
	defer transport.Close()

	handle := func(conn net.Conn) {
		var kind [1]byte
		if _, err := io.ReadFull(conn, kind[:]); err != nil || kind[0] != rpcRaft {
			_ = conn.Close() // or serve something else
			return
		}
		_ = layer.Handoff(conn) // closes conn if the layer is closed
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go handle(conn)
		}
	}()

	go grantVotes(transport, 1)
	fmt.Println(askForVote(transport, transport.LocalAddr()))
	// Output: granted
}

// A listener that something else has opened, and a way to dial peers. For a
// socket of systemd's, listener is what net.FileListener(os.NewFile(3, "raft"))
// returns. For tsnet it is the server's Listen, and dial calls the server's Dial.
func ExampleFromListener() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	dial := func(ctx context.Context, address raftwire.ServerAddress) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", string(address))
	}
	transport := raftwire.NewNetworkTransport(layers.FromListener(listener, dial), 3, 10*time.Second, io.Discard)
	defer transport.Close() // closes the listener, too
	go func() {
		rpc := <-transport.Consumer()
		rpc.Respond(&raftwire.RequestVoteResponse{Granted: true}, nil)
	}()
	var vote raftwire.RequestVoteResponse
	err = transport.RequestVote("self", transport.LocalAddr(), &raftwire.RequestVoteRequest{Term: 8}, &vote)
	fmt.Println(vote.Granted, err)
	// Output: true <nil>
}

// A cluster of hashicorp/raft nodes, whose connections have no prefix, gets a
// key of its own, so that other groups can share the port. Each node is
// restarted twice: first with both keys, dialling as before; once all have
// them, the other way round.
func ExampleUnprefixed() {
	old, err := raftwire.NewTCPTransport("127.0.0.1:0", nil, 3, 10*time.Second, io.Discard) // knows of no keys
	if err != nil {
		log.Fatal(err)
	}
	defer old.Close()
	for _, keys := range [][]layers.Key{
		{layers.Unprefixed(), layers.FirstByte(11)},
		{layers.FirstByte(11), layers.Unprefixed()},
	} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			log.Fatal(err)
		}
		mux, err := layers.NewMux(layers.MuxConfig{Listener: listener, Logger: hclog.NewNullLogger()})
		if err != nil {
			log.Fatal(err)
		}
		layer, err := mux.Layer(keys...)
		if err != nil {
			log.Fatal(err)
		}
		transport := raftwire.NewNetworkTransport(layer, 3, 10*time.Second, io.Discard)
		go grantVotes(transport, 2)
		fmt.Printf("dials with %v: itself %v, an old node %v\n", keys[0],
			askForVote(transport, transport.LocalAddr()), askForVote(old, transport.LocalAddr()))
		mux.Close()
		transport.Close()
	}
	// Output:
	// dials with no prefix: itself granted, an old node granted
	// dials with first byte 11: itself granted, an old node granted
}

// grantVotes is what a Raft core would do, as often as it is asked here.
func grantVotes(transport raftwire.Transport, votes int) {
	for range votes {
		rpc := <-transport.Consumer()
		rpc.Respond(&raftwire.RequestVoteResponse{Granted: true}, nil)
	}
}

func askForVote(transport *raftwire.NetworkTransport, address raftwire.ServerAddress) string {
	var response raftwire.RequestVoteResponse
	err := transport.RequestVote("node", address, &raftwire.RequestVoteRequest{Term: 8}, &response)
	if err != nil {
		return err.Error()
	}
	if response.Granted {
		return "granted"
	}
	return "refused"
}
