package layers_test

import (
	"crypto/tls"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/raftwire/raftwire/layers"
	"github.com/stretchr/testify/require"
)

// CloseStreams after a revocation cuts the revoked node off, whatever it had
// open, and it does not come back. The others do, at once.
func TestARevokedNodeIsCutOff(t *testing.T) {
	for name, revoke := range map[string]func(w *revocation){
		"its CA was dropped": func(w *revocation) { w.trusted = []*testca.Authority{w.ours} },
		"Authorize says no":  func(w *revocation) { w.denied = true },
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				w := newRevocation(t)
				b, layer := listenTLS(t, net, "b", w.secure(t))
				serve(t, b, accept)
				bad, _ := listenTLS(t, net, "bad", secure(w.theirs.Issue(serial(666)), w.ours, w.theirs))
				good, _ := listenTLS(t, net, "good", secure(w.ours.Issue(), w.ours, w.theirs))
				require.NoError(t, appendOnce(bad, "b"))
				p := openPipeline(t, bad, "b")
				require.NoError(t, appendOnce(bad, "b"))
				require.NoError(t, appendOnce(good, "b"))

				revoke(w)
				require.NoError(t, layer.Reload())
				require.NoError(t, appendOnce(bad, "b"), "connections that stand are left alone")
				require.LessOrEqual(t, elapsed(b.CloseStreams), prompt)
				synctest.Wait()
				future, err := p.AppendEntries(appendRequest(1), new(raftwire.AppendEntriesResponse))
				if err == nil {
					err = future.Error()
				}
				require.Error(t, err)
				for kind, call := range calls {
					require.Error(t, call(bad, "b"), kind)
				}
				require.NoError(t, appendOnce(good, "b"))
				synctest.Wait() // a refusal is counted after the connection was closed
				require.NotZero(t, layer.Refusals().Untrusted)
			})
		})
	}
}

// A handshake takes as long as the peer likes. One that began before a Reload,
// or has not been accepted yet, does not slip past it.
func TestAHandshakeDoesNotOutlastARevocation(t *testing.T) {
	for _, progress := range []string{"begun", "over"} {
		for name, revoke := range map[string]func(w *revocation){
			"its CA was dropped": func(w *revocation) { w.trusted = []*testca.Authority{w.ours} },
			"Authorize says no":  func(w *revocation) { w.denied = true },
		} {
			t.Run(progress+" when "+name, func(t *testing.T) {
				onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
					w := newRevocation(t)
					layer := secureLayer(t, net, "b", w.secure(t))
					accepted := make(chan net_, 3)
					acceptOne := func() {
						conn, err := layer.Accept()
						if err == nil {
							accepted <- conn
						}
					}
					connect := func(from string, ca *testca.Authority, serialNumber int64) *tls.Conn {
						conn := dialRaw(t, net, from)
						return tls.Client(conn, &tls.Config{
							RootCAs: testca.Pool(w.ours), ServerName: role,
							Certificates: []tls.Certificate{*ca.Issue(serial(serialNumber))},
						})
					}
					first := connect("good", w.ours, 1)
					go acceptOne()
					require.NoError(t, first.Handshake())
					synctest.Wait()

					bad := connect("bad", w.theirs, 666)
					synctest.Wait() // it was accepted by now, and has its configuration
					if progress == "over" {
						require.NoError(t, bad.Handshake())
						synctest.Wait()
					}
					revoke(w)
					require.NoError(t, layer.Reload())
					_ = bad.Handshake()
					synctest.Wait()
					good := connect("good", w.ours, 2)
					require.NoError(t, good.Handshake())
					go acceptOne()
					synctest.Wait()

					_, err := bad.Read(make([]byte, 1))
					require.Error(t, err)
					require.NoError(t, bad.NetConn().Close())
					synctest.Wait()
					require.NoError(t, layer.Close())
					require.Len(t, accepted, 2)
					for _, want := range []int64{1, 2} {
						conn := (<-accepted).(*tls.Conn)
						require.Equal(t, want, conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64())
						require.NoError(t, conn.Close())
					}
					require.EqualValues(t, 1, layer.Refusals().Untrusted)
				})
			})
		}
	}
}

// CloseStreams means connections as well that have been accepted, and are not
// served yet.
func TestCloseStreamsClosesWhatWasJustAccepted(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		w := newRevocation(t)
		layer := secureLayer(t, net, "b", w.secure(t))
		slow := func(raftwire.ConnEvent) { pause(time.Minute) }
		b := transport(t, withStream(layer), withHooks(raftwire.Hooks{ConnOpened: slow}))
		serve(t, b, accept)
		bad, _ := listenTLS(t, net, "bad", secure(w.theirs.Issue(serial(666)), w.ours), withTimeout(time.Hour))
		result := make(chan error, 1)
		go func() { result <- appendOnce(bad, "b") }()
		synctest.Wait()
		w.denied = true
		require.NoError(t, layer.Reload())
		b.CloseStreams()
		require.LessOrEqual(t, elapsed(func() { require.Error(t, <-result) }), prompt)
		pause(time.Minute) // until the hook returns
	})
}

// A transport verifies a TLS peer again when it takes the connection, also if a handshake
// of another TLS layer comes in between.
func TestRevocation_ReachesWhoIsInAnotherHandshake(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		w := newRevocation(t)
		outer := secureLayer(t, net, "b", w.secure(t))
		innerCA := testca.New()
		inner, err := layers.NewTLS(layerOf(t, muxOver(t, outer), layers.FirstByte(7)), secure(innerCA.Issue(), innerCA))
		require.NoError(t, err)
		b := transport(t, withStream(inner))
		serve(t, b, accept)
		knock := func(from string, ca *testca.Authority, number int64) (outside, inside *tls.Conn) {
			config := mutual(ca, role)
			config.RootCAs, config.Certificates = testca.Pool(w.ours), []tls.Certificate{*ca.Issue(serial(number))}
			outside = tls.Client(dialRaw(t, net, from), config)
			require.NoError(t, outside.Handshake())
			say(t, outside, "\x07")
			return outside, tls.Client(outside, mutual(innerCA, role))
		}
		badOutside, bad := knock("bad", w.theirs, 666)
		_, good := knock("good", w.ours, 1)
		synctest.Wait()
		w.denied = true
		require.NoError(t, outer.Reload())
		b.CloseStreams()

		_ = bad.Handshake()
		_, _ = io.WriteString(bad, "\x03\x80")
		_, err = bad.Read(make([]byte, 1))
		require.Error(t, err)
		require.NoError(t, badOutside.NetConn().Close())
		require.NoError(t, good.Handshake())
		say(t, good, "\x03\x80")
		_, err = good.Read(make([]byte, 1))
		require.NoError(t, err)
		synctest.Wait()
		require.EqualValues(t, 1, outer.Refusals().Untrusted)
	})
}

// The same holds for what a mux has verified itself.
func TestMuxReload_ReachesWhoWaitsForItsLayer(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		w := newRevocation(t)
		mux := share(t, net, "b", withTLS(w.secure(t)))
		layer := layerOf(t, mux, layers.ALPN("a"))
		knock := func(from string, ca *testca.Authority, number int64) *tls.Conn {
			config := mutual(ca, role)
			config.RootCAs, config.NextProtos = testca.Pool(w.ours), []string{"a"}
			config.Certificates = []tls.Certificate{*ca.Issue(serial(number))}
			client := tls.Client(dialRaw(t, net, from), config)
			require.NoError(t, client.Handshake())
			return client
		}
		bad, good := knock("bad", w.theirs, 666), knock("good", w.ours, 1)
		synctest.Wait()
		w.denied = true
		require.NoError(t, mux.Reload())
		serve(t, transport(t, withStream(layer)), accept)
		_, _ = io.WriteString(bad, "\x03\x80")
		_, err := bad.Read(make([]byte, 1))
		require.Error(t, err)
		say(t, good, "\x03\x80")
		_, err = good.Read(make([]byte, 1))
		require.NoError(t, err)
		require.NoError(t, bad.NetConn().Close())
		synctest.Wait()
		require.EqualValues(t, 1, mux.Refusals().Untrusted)
		require.ErrorContains(t, share(t, net, "c").Reload(), "MuxConfig.TLS is nil")
	})
}
