package probe

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/raft"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/raftwire/raftwire/layers"
	"github.com/stretchr/testify/require"
)

// check probes, and compares the result.
func check(t *testing.T, want Result, config Config) *Report {
	t.Helper()
	if config.Timeout == 0 {
		config.Timeout = patience
	}
	report := Run(config)
	require.Equal(t, want, report.Result, "%+v", report)
	require.NotEmpty(t, report.Detail)
	return report
}

// text returns what a reader sees.
func text(r *Report) string {
	var out strings.Builder
	r.WriteText(&out, time.Now())
	return out.String()
}

func TestProbe_TellsTermAndIDOfARaftwireNodeOverTCP(t *testing.T) {
	t.Parallel()
	layer, err := raftwire.NewTCPStreamLayer(raftwire.TCPConfig{Bind: "127.0.0.1:0"})
	require.NoError(t, err)
	address := string(transport(t, layer, nil).LocalAddr())

	report := check(t, Raft, Config{Address: address})
	require.Nil(t, report.TLS)
	require.Empty(t, report.Via)
	require.Equal(t, "node1", report.Node.ID)
	require.Equal(t, "10.0.0.1:8300", report.Node.Address)
	require.Equal(t, uint64(7), report.Node.Term)
	require.Positive(t, report.Node.RoundTrip)
	require.Contains(t, text(report), `ID "node1", address "10.0.0.1:8300", protocol version 3`)
	require.Contains(t, text(report), "-via none avoids that")

	report = check(t, Raft, Config{Address: address, Via: []Step{}})
	require.NotContains(t, text(report), "-via none avoids that")
}

func TestProbe_TellsAnErrorOfTheCore(t *testing.T) {
	t.Parallel()
	layer, err := raftwire.NewTCPStreamLayer(raftwire.TCPConfig{Bind: "127.0.0.1:0"})
	require.NoError(t, err)
	address := string(transport(t, layer, errors.New("disk is full")).LocalAddr())
	report := check(t, CoreError, Config{Address: address})
	require.Contains(t, report.Detail, "disk is full")
	require.Nil(t, report.Node)
}

// carriers make a layer for a node, and say how it is probed.
var carriers = map[string]func(t *testing.T, ca *testca.Authority) (raftwire.StreamLayer, Config){
	"TCP": func(t *testing.T, _ *testca.Authority) (raftwire.StreamLayer, Config) {
		return layers.FromListener(listen(t), nil), Config{Via: []Step{}}
	},
	"TLS": func(t *testing.T, ca *testca.Authority) (raftwire.StreamLayer, Config) {
		layer, err := layers.NewTLS(layers.FromListener(listen(t), nil), security(t, ca))
		require.NoError(t, err)
		return layer, Config{Certificate: ca.Issue(), Roots: testca.Pool(ca), ServerName: testca.Name}
	},
	"Mux": func(t *testing.T, _ *testca.Authority) (raftwire.StreamLayer, Config) {
		layer, err := mux(t, layers.MuxConfig{Listener: listen(t)}).Layer(layers.FirstByte(11))
		require.NoError(t, err)
		return layer, Config{Via: []Step{{Key: 11}}}
	},
	"Mux with TLS": func(t *testing.T, ca *testca.Authority) (raftwire.StreamLayer, Config) {
		secure := security(t, ca)
		layer, err := mux(t, layers.MuxConfig{Listener: listen(t), TLS: &secure}).Layer(layers.ALPN("raft"))
		require.NoError(t, err)
		return layer, Config{Certificate: ca.Issue(), Protocols: []string{"raft"}}
	},
}

// onCarriers probes a node over each carrier, which has an Identity and whose core
// answers with an error or term 7. refused tells what the node has refused.
func onCarriers(t *testing.T, identity raftwire.Identity, answer error, want Result, test func(t *testing.T, report *Report, refused <-chan string)) {
	for name, carrier := range carriers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			layer, config := carrier(t, testca.New())
			refused := make(chan string, 1)
			node := configured(t, layer, raftwire.NetworkTransportConfig{
				Identity: identity,
				Hooks:    raftwire.Hooks{Refused: func(e raftwire.RefusalEvent) { refused <- e.Reason }},
			}, answer)
			config.Address = string(node.LocalAddr())
			test(t, check(t, want, config), refused)
		})
	}
}

// eu is an Identity, and what a probe makes of it.
var (
	eu        = raftwire.Identity{Cluster: "eu", Node: "n1"}
	itselfEU  = &Identity{Cluster: "eu", Node: "n1"}
	shownAsEU = `  identity     node "n1" of cluster "eu"` + "\n"
)

func TestProbe_TellsClusterAndNodeOfAnIdentity(t *testing.T) {
	t.Parallel()
	onCarriers(t, eu, nil, Raft, func(t *testing.T, report *Report, refused <-chan string) {
		require.Equal(t, itselfEU, report.Identity)
		require.Equal(t, uint64(7), report.Node.Term)
		require.Contains(t, text(report), shownAsEU)
		require.Contains(t, report.Detail, "raftwire, with an Identity")
		require.Empty(t, refused)
	})
}

func TestProbe_TellsNoIdentityOfANodeWithoutOne(t *testing.T) {
	t.Parallel()
	onCarriers(t, raftwire.Identity{}, nil, Raft, func(t *testing.T, report *Report, refused <-chan string) {
		require.Nil(t, report.Identity)
		require.NotContains(t, text(report), "identity")
		require.Contains(t, report.Detail, "hashicorp/raft 1.7 or newer, or raftwire")
		require.Empty(t, refused)
	})
}

// The node names itself in the refusal. A core that was asked would answer with an error.
func TestProbe_TellsANodeThatRequiresAnIdentity(t *testing.T) {
	t.Parallel()
	required := eu
	required.Require = true
	onCarriers(t, required, errors.New("the core was asked"), IdentityRequired, func(t *testing.T, report *Report, refused <-chan string) {
		require.Equal(t, itselfEU, report.Identity)
		require.Nil(t, report.Node)
		require.Contains(t, text(report), shownAsEU)
		require.NotContains(t, text(report), "The core has handled", "it has not")
		require.Equal(t, "NoIdentity", <-refused)
	})
}

func TestProbe_TellsTheIdentityBesideAnErrorOfTheCore(t *testing.T) {
	t.Parallel()
	onCarriers(t, eu, errors.New("disk is full"), CoreError, func(t *testing.T, report *Report, _ <-chan string) {
		require.Contains(t, report.Detail, "disk is full")
		require.Equal(t, itselfEU, report.Identity)
	})
}

// Names come from the peer.
func TestReport_QuotesTheNamesOfAnIdentity(t *testing.T) {
	report := &Report{Result: Raft, Identity: &Identity{Cluster: "eu\n  result", Node: "\x1b[2J"}}
	require.Contains(t, text(report), `node "\x1b[2J" of cluster "eu\n  result"`)
}

// So do the text of an error and what a certificate says, which are no Go strings.
func TestReport_EscapesWhatATerminalWouldObey(t *testing.T) {
	report := &Report{
		Result: CoreError,
		Detail: "the core answers with an error: \x1b[2J\n  result       fine, \u202e but for größe \"x\" \\",
		TLS: &TLS{Certificate: &Certificate{
			Names: []string{"\x1b]0;b\x07"}, Issuer: "CN=\u009b31m", Problem: "valid for \x1b[1mc",
		}},
	}
	require.NotRegexp(t, `[^[:print:]ß-ö\n]`, text(report))
	require.Contains(t, text(report), `an error: \x1b[2J\n  result       fine, \u202e but for größe "x" \`+"\n")
	require.Contains(t, text(report), `of \x1b]0;b\a, issued by CN=\u009b31m`)
	require.Contains(t, text(report), `does not pass: valid for \x1b[1mc`)
}

func TestProbe_TellsWhoseCertificateThereIs(t *testing.T) {
	t.Parallel()
	ca := testca.New()
	tcp, err := raftwire.NewTCPStreamLayer(raftwire.TCPConfig{Bind: "127.0.0.1:0"})
	require.NoError(t, err)
	secured, err := layers.NewTLS(tcp, security(t, ca))
	require.NoError(t, err)
	address := string(transport(t, secured, nil).LocalAddr())
	client := ca.Issue()

	t.Run("without a client certificate", func(t *testing.T) {
		report := check(t, Refused, Config{Address: address})
		require.Contains(t, report.Detail, "give -cert and -key")
		require.Equal(t, []string{testca.Name}, report.TLS.Certificate.Names)
		require.Equal(t, "asked for, none shown", report.TLS.ClientCertificate)
		require.Nil(t, report.Node)
	})
	t.Run("with one", func(t *testing.T) {
		report := check(t, Raft, Config{Address: address, Certificate: client})
		require.Equal(t, "TLS 1.3", report.TLS.Version)
		require.Equal(t, "shown", report.TLS.ClientCertificate)
		require.False(t, report.TLS.Certificate.Checked)
		require.Equal(t, "CN=test CA", report.TLS.Certificate.Issuer)
		require.Equal(t, []string{"tls"}, report.Via)
		require.Contains(t, text(report), "(in 364 days)")
		require.Contains(t, text(report), "not checked: give -ca")
		require.NotContains(t, text(report), "-via none", "nothing was refused")
	})
	t.Run("of another CA", func(t *testing.T) {
		report := check(t, Refused, Config{Address: address, Certificate: testca.New().Issue()})
		require.Contains(t, report.Detail, "tls: ")
	})
	t.Run("checked", func(t *testing.T) {
		report := check(t, Raft, Config{Address: address, Certificate: client, Roots: testca.Pool(ca), ServerName: testca.Name})
		require.True(t, report.TLS.Certificate.Checked)
		require.Contains(t, text(report), "passes: authority, name and dates")
	})
	t.Run("checked with another name", func(t *testing.T) {
		report := check(t, Untrusted, Config{Address: address, Certificate: client, Roots: testca.Pool(ca)})
		require.Contains(t, report.Detail, "127.0.0.1")
		require.Equal(t, uint64(7), report.Node.Term)
	})
	t.Run("checked with other CAs", func(t *testing.T) {
		check(t, Untrusted, Config{Address: address, Certificate: client, Roots: testca.Pool(testca.New()), ServerName: testca.Name})
	})
	t.Run("without TLS", func(t *testing.T) {
		report := check(t, Closed, Config{Address: address, Via: []Step{}})
		require.Contains(t, report.Detail, "-via tls")
	})
}

func TestProbe_ChecksANameThatIsAURI(t *testing.T) {
	t.Parallel()
	const name = "spiffe://cluster/raft"
	ca := testca.New()
	certificate := ca.Issue(func(c *x509.Certificate) {
		uri, err := url.Parse(name)
		require.NoError(t, err)
		c.DNSNames, c.IPAddresses, c.URIs = nil, nil, []*url.URL{uri}
	})
	tcp, err := raftwire.NewTCPStreamLayer(raftwire.TCPConfig{Bind: "127.0.0.1:0"})
	require.NoError(t, err)
	layer, err := layers.NewTLS(tcp, layers.TLSConfig{
		Load:       func() (*tls.Certificate, *x509.CertPool, error) { return certificate, testca.Pool(ca), nil },
		ServerName: name, ReloadInterval: -1, Logger: hclog.NewNullLogger(),
	})
	require.NoError(t, err)
	config := Config{Address: string(transport(t, layer, nil).LocalAddr()), Certificate: certificate, Roots: testca.Pool(ca)}
	for given, want := range map[string]Result{name: Raft, name + "/other": Untrusted, "": Untrusted} {
		config.ServerName = given
		check(t, want, config)
	}
}

func TestProbe_TellsAnExpiredCertificate(t *testing.T) {
	t.Parallel()
	ca := testca.New()
	expired := ca.Issue(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	listener := tls.NewListener(listen(t), &tls.Config{Certificates: []tls.Certificate{*expired}})
	layer := layers.FromListener(listener, nil)
	report := check(t, Raft, Config{Address: string(transport(t, layer, nil).LocalAddr())})
	require.Contains(t, text(report), "EXPIRED")
}

func TestProbe_PassesTheKeysOfAMux(t *testing.T) {
	t.Parallel()
	ca := testca.New()
	secure := security(t, ca)
	m := mux(t, layers.MuxConfig{Listener: listen(t), TLS: &secure})
	byByte, err := m.Layer(layers.FirstByte(11))
	require.NoError(t, err)
	byProtocol, err := m.Layer(layers.ALPN("raft"))
	require.NoError(t, err)
	address := string(transport(t, byByte, nil).LocalAddr())
	transport(t, byProtocol, nil)
	client := ca.Issue()

	report := check(t, Raft, Config{Address: address, Via: []Step{{Key: 11}}})
	require.Contains(t, text(report), "key          first byte 11")

	report = check(t, Raft, Config{Address: address, Protocols: []string{"raft"}, Certificate: client})
	require.Equal(t, "raft", report.TLS.Protocol)
	require.Contains(t, text(report), `key          ALPN "raft"`)

	report = check(t, Raft, Config{Address: address, Via: []Step{{TLS: true}, {Key: 11}}, Certificate: client})
	require.Equal(t, []string{"tls", "11"}, report.Via)

	report = check(t, Closed, Config{Address: address, Via: []Step{}})
	require.Contains(t, report.Detail, "it wants a key first (-via)")

	report = check(t, Closed, Config{Address: address, Certificate: client})
	require.Contains(t, report.Detail, "-alpn")

	report = check(t, Refused, Config{Address: address, Certificate: client, Protocols: []string{"h2"}})
	require.Contains(t, report.Detail, "no application protocol")
}

func TestProbe_FindsOutThatAMuxHasNoTLS(t *testing.T) {
	t.Parallel()
	m := mux(t, layers.MuxConfig{Listener: listen(t)})
	layer, err := m.Layer(layers.Unprefixed())
	require.NoError(t, err)
	report := check(t, Raft, Config{Address: string(transport(t, layer, nil).LocalAddr())})
	require.Contains(t, text(report), "key          none")
}

func TestProbe_LeavesTheStateOfARaftNodeAsItIs(t *testing.T) {
	t.Parallel()
	n := newNode(t, true)
	before := n.state(t)
	require.Equal(t, "Leader", before["state"])
	require.Equal(t, "node1", before["leader ID"])
	report := check(t, Raft, Config{Address: string(n.address)})
	require.Equal(t, before["term"], strconv.FormatUint(report.Node.Term, 10))
	require.Equal(t, "node1", report.Node.ID)
	require.Equal(t, string(n.address), report.Node.Address)
	require.False(t, report.Node.Granted)
	require.Nil(t, report.Identity, "hashicorp/raft skips the field")
	require.Equal(t, before, n.state(t))
}

func TestProbe_LeavesANodeAsItIsThatHasNoStateYet(t *testing.T) {
	t.Parallel()
	n := newNode(t, false)
	before := n.state(t)
	report := check(t, Raft, Config{Address: string(n.address)})
	require.True(t, report.Node.Granted)
	require.Contains(t, text(report), "belongs to no cluster yet")
	require.Equal(t, before, n.state(t))
	require.Equal(t, "0", before["term"])
}

func TestProbe_TellsAnHTTPServer(t *testing.T) {
	t.Parallel()
	nothing := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	for name, start := range map[string]func(*httptest.Server){"plain": (*httptest.Server).Start, "TLS": (*httptest.Server).StartTLS} {
		server := httptest.NewUnstartedServer(nothing)
		server.Config.ErrorLog = hclog.NewNullLogger().StandardLogger(nil)
		start(server)
		t.Cleanup(server.Close)
		report := check(t, Foreign, Config{Address: server.Listener.Addr().String(), Timeout: brief})
		require.Contains(t, report.Detail, "an HTTP server", name)
		require.Equal(t, name == "TLS", report.TLS != nil)
		report = check(t, Foreign, Config{Address: server.Listener.Addr().String(), Timeout: brief, Via: report.via(t)})
		require.Contains(t, report.Detail, "an HTTP server", name)
	}
}

// via returns what a report says of it.
func (r *Report) via(t *testing.T) []Step {
	via, err := ParseVia(cmp.Or(strings.Join(r.Via, ","), "none"))
	require.NoError(t, err)
	return via
}

func TestProbe_TellsAServerThatSpeaksFirst(t *testing.T) {
	t.Parallel()
	listener := listen(t)
	serve(t, listener, func(conn net.Conn) {
		_, _ = io.WriteString(conn, "SSH-2.0-OpenSSH_9.6\r\n")
		_, _ = io.Copy(io.Discard, conn)
	})
	for _, via := range [][]Step{nil, {}} {
		report := check(t, Foreign, Config{Address: listener.Addr().String(), Via: via})
		require.Contains(t, report.Detail, "an SSH server")
	}
}

func TestProbe_TellsAClosedPort(t *testing.T) {
	t.Parallel()
	listener := listen(t)
	require.NoError(t, listener.Close())
	report := check(t, Unreachable, Config{Address: listener.Addr().String()})
	require.Contains(t, report.Detail, "refused")
}

func TestProbe_TellsASilentPort(t *testing.T) {
	t.Parallel()
	listener := listen(t)
	serve(t, listener, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
	for _, via := range [][]Step{nil, {}, {{Key: 9}}} {
		report := check(t, Silent, Config{Address: listener.Addr().String(), Timeout: 200 * time.Millisecond, Via: via})
		require.Contains(t, report.Detail, "nothing is answered")
	}
}

func TestProbe_TellsASilentCoreFromASilentPort(t *testing.T) {
	t.Parallel()
	ours, err := raftwire.NewTCPTransport("127.0.0.1:0", nil, 3, patience, io.Discard)
	require.NoError(t, err)
	t.Cleanup(func() { _ = ours.Close() })
	identified, err := raftwire.NewTCPTransportWithConfig("127.0.0.1:0", nil, &raftwire.NetworkTransportConfig{
		MaxPool: 3, Timeout: patience, Identity: eu, Logger: hclog.NewNullLogger(),
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = identified.Close() })
	theirs, err := raft.NewTCPTransportWithLogger("127.0.0.1:0", nil, 3, patience, hclog.NewNullLogger())
	require.NoError(t, err)
	t.Cleanup(func() { _ = theirs.Close() })

	for _, via := range [][]Step{nil, {}} {
		for _, address := range []string{string(ours.LocalAddr()), string(identified.LocalAddr()), string(theirs.LocalAddr())} {
			t.Run("", func(t *testing.T) {
				t.Parallel()
				check(t, CoreSilent, Config{Address: address, Timeout: brief, Via: via})
			})
		}
	}
}

// An answer that begins and does not end is no answer. What never answers otherwise is no
// Raft.
func TestProbe_TellsAnAnswerThatDoesNotEnd(t *testing.T) {
	for want, other := range map[Result]string{CoreSilent: "", Foreign: "\xa5"} {
		t.Run(string(want), func(t *testing.T) {
			t.Parallel()
			listener := listen(t)
			serve(t, listener, func(conn net.Conn) {
				in := bufio.NewReader(conn)
				kind, _ := in.ReadByte()
				if kind != kindRequestPreVote {
					_, _ = io.WriteString(conn, other)
					return
				}
				_, _ = io.WriteString(conn, "\xa0\x81")
				_, _ = io.Copy(io.Discard, in)
			})
			check(t, want, Config{Address: listener.Addr().String(), Timeout: brief, Via: []Step{}})
		})
	}
}

func TestProbe_TellsRaftBefore17(t *testing.T) {
	t.Parallel()
	listener := listen(t)
	serve(t, listener, before17)
	for _, via := range [][]Step{nil, {}} {
		report := check(t, Before17, Config{Address: listener.Addr().String(), Via: via})
		require.Contains(t, report.Detail, "before 1.7")
	}
}

func TestProbe_TellsAPortThatClosesEverything(t *testing.T) {
	t.Parallel()
	listener := listen(t)
	serve(t, listener, func(net.Conn) {})
	report := check(t, Closed, Config{Address: listener.Addr().String()})
	require.Contains(t, report.Detail, "does not let this host in")
}

// hashicorp/raft decodes the request as if the one field more were not there.
func TestRequest_IsAPreVoteInTermZero(t *testing.T) {
	sent := preVote()
	require.Equal(t, byte(kindRequestPreVote), sent[0])
	var request raftwire.RequestPreVoteRequest
	require.NoError(t, codec.NewDecoderBytes(sent[1:], new(codec.MsgpackHandle)).Decode(&request))
	header := raftwire.RPCHeader{ProtocolVersion: 3, ID: []byte(Name), Addr: []byte(Name)}
	require.Equal(t, raftwire.RequestPreVoteRequest{RPCHeader: header}, request)

	var plain []byte
	require.NoError(t, codec.NewEncoderBytes(&plain, new(codec.MsgpackHandle)).Encode(&request))
	plain[0]++ // the header of the map
	require.Equal(t, string(plain)+"\xa8raftwire\x81\xa8Revision\x01", string(sent[1:]))
}

func TestProbe_ClosesItsConnections(t *testing.T) {
	listener := listen(t)
	closed := make(chan struct{}, 2) // by the probe: that with the pre-vote, and that with HTTP
	serve(t, listener, func(conn net.Conn) {
		_, _ = io.Copy(io.Discard, conn)
		closed <- struct{}{}
	})
	check(t, Silent, Config{Address: listener.Addr().String(), Timeout: 100 * time.Millisecond, Via: []Step{{Key: 9}}})
	<-closed
	<-closed
}

func TestReport_HasResultAndTimesInJSON(t *testing.T) {
	var out bytes.Buffer
	report := &Report{Address: "a:1", Result: Raft, Connect: Millis(1500 * time.Microsecond), Via: []string{}, Identity: itselfEU, Node: &Node{Term: 7, RoundTrip: Millis(time.Millisecond)}}
	require.NoError(t, json.NewEncoder(&out).Encode(report))
	require.JSONEq(t, `{"address":"a:1","result":"raft","detail":"","connect_ms":1.5,"via":[],"identity":{"cluster":"eu","node":"n1"},"node":{"protocol_version":0,"term":7,"granted":false,"round_trip_ms":1}}`, out.String())
}

func TestParseVia_RefusesWhatIsNoStep(t *testing.T) {
	for _, list := range []string{"", "ssl", "tls,", "256", "none,tls", "-1"} {
		_, err := ParseVia(list)
		require.Error(t, err, list)
	}
	via, err := ParseVia("3,tls,0x0b")
	require.NoError(t, err)
	require.Equal(t, []string{"3", "tls", "11"}, names(via))
}

func TestExitCodes_AreDifferent(t *testing.T) {
	seen := map[int]Result{1: "the program", 2: "the command line"}
	for result, code := range ExitCodes {
		require.NotContains(t, seen, code, result)
		seen[code] = result
	}
}
