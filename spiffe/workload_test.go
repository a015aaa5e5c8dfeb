package spiffe_test

import (
	"context"
	"crypto/x509"
	"net"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/raftwire/raftwire/layers"
	"github.com/raftwire/raftwire/spiffe"
	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
)

// Two nodes over TCP, each with an X509Source of its own, talk to each other.
func TestTLSConfig_TakesAnX509Source(t *testing.T) {
	ca := testca.New()
	a, b := listenBySource(t, ca), listenBySource(t, ca)
	serve(t, a)
	serve(t, b)
	require.NoError(t, appendOnce(a, b.LocalAddr()))
	require.NoError(t, appendOnce(b, a.LocalAddr()))
	require.NoError(t, installSnapshot(a, b.LocalAddr()))
}

// listenBySource starts a node whose SVID comes from an agent.
func listenBySource(t *testing.T, ca *testca.Authority) *raftwire.NetworkTransport {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	source, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(workloadapi.WithAddr(startAgent(t, ca))))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, source.Close()) })
	transport, err := layers.NewTLSTransport("127.0.0.1:0", nil, spiffe.TLSConfig(source, source, tlsconfig.AuthorizeID(raftID)),
		&raftwire.NetworkTransportConfig{Timeout: 10 * time.Second, Logger: hclog.NewNullLogger()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, transport.Close()) })
	return transport
}

// agent is a Workload API with one SVID.
type agent struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	answer *workload.X509SVIDResponse
}

func (a *agent) FetchX509SVID(_ *workload.X509SVIDRequest, stream workload.SpiffeWorkloadAPI_FetchX509SVIDServer) error {
	if err := stream.Send(a.answer); err != nil {
		return err
	}
	<-stream.Context().Done()
	return stream.Context().Err()
}

// startAgent returns the agent's address.
func startAgent(t *testing.T, ca *testca.Authority) string {
	t.Helper()
	certificate := issue(ca, raftID.String())
	key, err := x509.MarshalPKCS8PrivateKey(certificate.PrivateKey)
	require.NoError(t, err)
	server := grpc.NewServer()
	workload.RegisterSpiffeWorkloadAPIServer(server, &agent{answer: &workload.X509SVIDResponse{Svids: []*workload.X509SVID{{
		SpiffeId: raftID.String(), X509Svid: certificate.Certificate[0], X509SvidKey: key, Bundle: ca.Certificate.Raw,
	}}}})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		require.NoError(t, <-served)
	})
	return "tcp://" + listener.Addr().String()
}
