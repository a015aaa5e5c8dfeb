package layers_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/internal/sock"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/raftwire/raftwire/layers"
	"github.com/stretchr/testify/require"
)

func withMuxLog(w io.Writer) muxOption {
	return func(c *layers.MuxConfig) { c.Logger = hclog.New(&hclog.LoggerOptions{Output: w}) }
}

// connect opens a connection that a test speaks on by itself.
func connect(t *testing.T, network *faultnet.Network, host, beginning string) net.Conn {
	t.Helper()
	conn, err := network.Host("client").Dial(t.Context(), host)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	_, err = io.WriteString(conn, beginning)
	require.NoError(t, err)
	return conn
}

// requireEnd blocks until the peer has closed the connection.
func requireEnd(t *testing.T, conn net.Conn) {
	t.Helper()
	_, err := conn.Read(make([]byte, 1))
	if !errors.Is(err, io.EOF) {
		require.ErrorContains(t, err, "reset") // it was closed with input unread
	}
	require.NoError(t, conn.Close())
}

// Requests reach the group that they are for, over one port.
func TestMuxKeepsGroupsApart(t *testing.T) {
	keys := []layers.Key{layers.FirstByte(7), layers.FirstByte(8), layers.ALPN("a"), layers.ALPN("b"), layers.Unprefixed()}
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		secured := withTLS(newSecurity())
		here, there := share(t, net, "here", secured), share(t, net, "there", secured)
		delivered := make(chan layers.Key, 1)
		for _, key := range keys {
			serve(t, group(t, there, key), func(rpc raftwire.RPC) { delivered <- key; accept(rpc) })
		}
		for _, key := range keys {
			trans := group(t, here, key)
			require.Equal(t, raftwire.ServerAddress("here"), trans.LocalAddr())
			for kind, call := range calls {
				require.NoError(t, call(trans, "there"), kind)
				require.Equal(t, key, <-delivered)
			}
		}
	})
}

// A group ends alone, and may begin again.
func TestClosingAGroupLeavesTheOthersAlone(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		here, there := share(t, net, "here"), share(t, net, "there")
		a1, a2 := group(t, here, layers.FirstByte(7)), group(t, here, layers.FirstByte(8))
		b1, b2 := group(t, there, layers.FirstByte(7)), group(t, there, layers.FirstByte(8))
		serve(t, b1, accept)
		serve(t, b2, accept)
		require.NoError(t, appendOnce(a1, "there"))
		require.NoError(t, appendOnce(a2, "there"))

		require.NoError(t, b1.Close())
		require.Error(t, appendOnce(a1, "there"))
		require.NoError(t, appendOnce(a2, "there"))
		a2.CloseStreams()
		require.NoError(t, appendOnce(a2, "there"), "the listener is closed")

		serve(t, group(t, there, layers.FirstByte(7)), accept)
		require.NoError(t, appendOnce(a1, "there"))
	})
}

// A group is moved from the bare port to a key of its own, one node at a time.
func TestAGroupCanBeMovedFromOneKeyToAnother(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		old := listen(t, net, "old") // knows of no keys
		first := group(t, share(t, net, "first"), layers.Unprefixed(), layers.FirstByte(7))
		last := group(t, share(t, net, "last"), layers.FirstByte(7), layers.Unprefixed())
		for _, trans := range []*raftwire.NetworkTransport{old, first, last} {
			serve(t, trans, accept)
		}
		require.NoError(t, appendOnce(old, "first"))
		require.NoError(t, appendOnce(first, "old"))
		require.NoError(t, appendOnce(first, "last"))
		require.NoError(t, appendOnce(last, "first"))
		require.NoError(t, appendOnce(old, "last"))
		require.Error(t, appendOnce(last, "old"), "the prefix was not sent")
	})
}

// Whoever says nothing, or begins and stops, holds up nobody, and is sent away
// at its time.
func TestStalledClientsHoldUpNobody(t *testing.T) {
	for name, beginning := range map[string]string{
		"silent":                     "",
		"in the middle of TLS":       "\x16\x03\x01\x02\x00\x01",
		"at the beginning of TLS":    "\x16",
		"and more of TLS than comes": "\x16\x03\x01\xff\xff",
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				secured := withTLS(newSecurity())
				there := share(t, net, "there", secured, func(c *layers.MuxConfig) { c.Timeout = 3 * time.Second })
				serve(t, group(t, there, layers.FirstByte(7)), accept)
				serve(t, group(t, there, layers.ALPN("a")), accept)
				here := share(t, net, "here", secured)
				var stalled []net_
				for range 100 {
					stalled = append(stalled, connect(t, net, "there", beginning))
				}
				synctest.Wait()
				require.Zero(t, elapsed(func() {
					require.NoError(t, appendOnce(group(t, here, layers.FirstByte(7)), "there"))
					require.NoError(t, appendOnce(group(t, here, layers.ALPN("a")), "there"))
				}))
				if strings.HasSuffix(name, "comes") {
					return // TLS refuses that at once
				}
				require.Equal(t, 3*time.Second, elapsed(func() {
					for _, conn := range stalled {
						requireEnd(t, conn)
					}
				}))
			})
		})
	}
}

// Timeout is for what a connection says first, and not for what comes then.
func TestASortedConnectionMayBeSilent(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		layer := layerOf(t, share(t, net, "there"), layers.FirstByte(7))
		conn := connect(t, net, "there", "\x07")
		accepted, err := layer.Accept()
		require.NoError(t, err)
		timer := time.NewTimer(time.Hour)
		<-timer.C
		go func() { _, _ = io.WriteString(conn, "x") }()
		_, err = accepted.Read(make([]byte, 1))
		require.NoError(t, err)
		require.NoError(t, accepted.Close())
	})
}

// However many come and say nothing, there is room for who speaks.
func TestACrowdThatSaysNothingIsBounded(t *testing.T) {
	var log bytes.Buffer
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		there := share(t, net, "there", withMuxLog(&log), func(c *layers.MuxConfig) { c.MaxUnsorted = 5 })
		serve(t, group(t, there, layers.FirstByte(7)), accept)
		var crowd []net_
		for range 50 {
			crowd = append(crowd, connect(t, net, "there", ""))
		}
		synctest.Wait()
		require.Zero(t, elapsed(func() {
			for _, conn := range crowd[:45] {
				requireEnd(t, conn) // the oldest
			}
			require.NoError(t, appendOnce(group(t, share(t, net, "here"), layers.FirstByte(7)), "there"))
		}))
		requireEnd(t, crowd[45]) // made room for the peer
		for _, conn := range crowd[46:] {
			require.NoError(t, conn.Close())
		}
		synctest.Wait()
		require.Equal(t, raftwire.Refusals{TooManyConns: 46}, there.Refusals())
		require.NoError(t, there.Close())
	})
	require.Contains(t, log.String(), "too many others came before it said for which layer it is")
}

// Who shows the key of no layer is refused, and the log says what it is.
func TestAnUnknownKeyIsRefusedVisibly(t *testing.T) {
	for beginning, line := range map[string]string{
		"GET / HTTP/1.1\r\n\r\n": "no layer has its first byte, 71: this looks like an HTTP request",
		"PROXY TCP4 ":            "no layer has its first byte, 80: this looks like a PROXY header of a load balancer, or an HTTP request",
		"\x16\x03\x01":           "no layer has its first byte, 22: this looks like a TLS handshake",
		"\x03\x80":               "no layer has its first byte, 3: this looks like a Raft peer that sends no prefix (Unprefixed would accept it)",
		"\x09":                   `no layer has its first byte, 9"`,
	} {
		t.Run(line, func(t *testing.T) {
			var log bytes.Buffer
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				there := share(t, net, "there", withMuxLog(&log))
				layerOf(t, there, layers.FirstByte(7))
				requireEnd(t, connect(t, net, "there", beginning))
				require.NoError(t, there.Close())
				synctest.Wait() // a refusal is counted after the connection was closed
				require.Equal(t, raftwire.Refusals{Foreign: 1}, there.Refusals())
			})
			require.Equal(t, 1, strings.Count(log.String(), "\n"), log.String())
			require.Contains(t, log.String(), `[WARN]  connection refused: local=there peer=client:40001 error="`+line)
		})
	}
}

// A look at the port is not worth a line.
func TestAProbeIsNotLogged(t *testing.T) {
	var log bytes.Buffer
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		there := share(t, net, "there", withMuxLog(&log))
		layerOf(t, there, layers.FirstByte(7))
		require.NoError(t, connect(t, net, "there", "").Close())
		synctest.Wait()
		require.NoError(t, there.Close())
	})
	require.Empty(t, log.String())
}

// Over TLS nobody gets to a layer without being verified, nor past a protocol
// that nobody has.
func TestMuxRefusesWhomTLSRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*tls.Config)
		line   string
	}{
		"no certificate":     {func(c *tls.Config) { c.Certificates = nil }, "client didn't provide a certificate"},
		"another authority":  {func(c *tls.Config) { c.Certificates = nil }, "certificate signed by unknown authority"},
		"an unknown network": {func(c *tls.Config) { c.RootCAs = x509.NewCertPool() }, "bad certificate"},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				ca := testca.New()
				there := share(t, net, "there", withTLS(secure(ca.Issue(), ca)), withMuxLog(&log))
				trans := group(t, there, layers.ALPN("a"))
				serve(t, trans, func(raftwire.RPC) { t.Error("a request got through") })
				strange := mutual(ca, role)
				strange.NextProtos = []string{"a"}
				if c.change(strange); name == "another authority" {
					strange.Certificates = newTLS().Certificates
				}
				conn := connect(t, net, "there", "")
				_, err := tls.Client(conn, strange).Read(make([]byte, 1))
				require.Error(t, err)
				require.NoError(t, conn.Close())
				synctest.Wait()
				require.NoError(t, trans.Close())
				require.NoError(t, there.Close())
			})
			require.Contains(t, log.String(), c.line)
		})
	}
	t.Run("another protocol", func(t *testing.T) {
		onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
			secured := withTLS(newSecurity())
			layerOf(t, share(t, net, "there", secured), layers.ALPN("a"))
			err := appendOnce(group(t, share(t, net, "here", secured), layers.ALPN("b")), "there")
			require.ErrorContains(t, err, "no application protocol")
		})
	})
	t.Run("no protocol", func(t *testing.T) {
		onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
			secured := withTLS(newSecurity())
			layerOf(t, share(t, net, "there", secured), layers.FirstByte(7))
			err := appendOnce(group(t, share(t, net, "here", secured), layers.ALPN("b")), "there")
			require.ErrorContains(t, err, `negotiated the protocol "" instead of "b": it has no such layer`)
		})
	})
}

// A client whose TLS lacks what a layer goes by is told apart from one that only
// begins in a strange way.
func TestMuxSaysThatNoProtocolWasNegotiated(t *testing.T) {
	for name, c := range map[string]struct {
		keys []layers.Key
		line string
	}{
		"protocols":    {[]layers.Key{layers.ALPN("b"), layers.ALPN("a")}, `its TLS negotiated no protocol, of ["a" "b"], and no layer has its first byte, 71: this looks like an HTTP request`},
		"no protocols": {[]layers.Key{layers.FirstByte(7)}, `error="no layer has its first byte, 71: this looks like an HTTP request`},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				ca := testca.New()
				there := share(t, net, "there", withTLS(secure(ca.Issue(), ca)), withMuxLog(&log))
				layerOf(t, there, c.keys...)
				conn := tls.Client(connect(t, net, "there", ""), mutual(ca, role))
				_, err := io.WriteString(conn, "GET / HTTP/1.1\r\n\r\n")
				require.NoError(t, err)
				requireEnd(t, conn)
				require.NoError(t, there.Close())
				synctest.Wait() // a refusal is counted after the connection was closed
				require.Equal(t, raftwire.Refusals{Foreign: 1}, there.Refusals())
			})
			require.Contains(t, strings.ReplaceAll(log.String(), `\"`, `"`), c.line)
		})
	}
}

// A listener with a configuration of the program's own may ask a certificate of those
// who offer one protocol, and not of others.
func TestMux_TakesAListenerThatAsksCertificatesForOneProtocol(t *testing.T) {
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		ca := testca.New()
		strict, open := mutual(ca, role), mutual(ca, role)
		strict.NextProtos, open.NextProtos, open.ClientAuth = []string{"raft"}, []string{"web"}, tls.NoClientCert
		config := &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if slices.Contains(hello.SupportedProtos, "raft") {
				return strict, nil
			}
			return open, nil
		}}
		layer, err := network.Host("there").Listen()
		require.NoError(t, err)
		mux, err := layers.NewMux(layers.MuxConfig{Listener: tls.NewListener(layer, config), Logger: hclog.NewNullLogger()})
		require.NoError(t, err)
		defer func() { require.NoError(t, mux.Close()) }()
		for protocol, certificates := range map[string]int{"raft": 1, "web": 0} {
			layer := layerOf(t, mux, layers.ALPN(protocol))
			config := mutual(ca, role)
			config.NextProtos = []string{protocol}
			client := tls.Client(connect(t, network, "there", ""), config)
			require.NoError(t, client.Handshake())
			conn, err := layer.Accept()
			require.NoError(t, err)
			require.Len(t, conn.(*tls.Conn).ConnectionState().PeerCertificates, certificates)
			sock.Close(conn)
			require.NoError(t, client.NetConn().Close())
		}
	})
}

// A listener may bring TLS along: then keys are looked for inside.
func TestMuxOverATLSListener(t *testing.T) {
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		secured := newTLS()
		secured.NextProtos = []string{"a"}
		over := func(host string) *layers.Mux {
			layer, err := network.Host(host).Listen()
			require.NoError(t, err)
			mux, err := layers.NewMux(layers.MuxConfig{
				Listener: tls.NewListener(layer, secured),
				Dial: func(ctx context.Context, address raftwire.ServerAddress) (net.Conn, error) {
					conn, err := layer.DialContext(ctx, address)
					if err != nil {
						return nil, err
					}
					return tls.Client(conn, secured), nil
				},
				Logger: hclog.NewNullLogger(),
			})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, mux.Close()) })
			return mux
		}
		here, there := over("here"), over("there")
		serve(t, group(t, there, layers.ALPN("a")), accept)
		require.NoError(t, appendOnce(group(t, here, layers.ALPN("a")), "there"))
		secured.NextProtos = nil
		serve(t, group(t, there, layers.FirstByte(7)), accept)
		require.NoError(t, appendOnce(group(t, here, layers.FirstByte(7)), "there"))
	})
}

// The layers of a mux can carry another: keys of two bytes.
func TestAMuxOverALayerOfAMux(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		inner := func(host string) *layers.Mux {
			layer := layerOf(t, share(t, net, host), layers.FirstByte(7))
			mux, err := layers.NewMux(layers.MuxConfig{Listener: layer, Logger: hclog.NewNullLogger()})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, mux.Close()) })
			return mux
		}
		here, there := inner("here"), inner("there")
		for b := range byte(20) {
			key := layers.FirstByte(b)
			serve(t, group(t, there, key), accept)
			require.NoError(t, appendOnce(group(t, here, key), "there"))
		}
	})
}

// What was read to find the layer is not lost, and what was not is not touched:
// there is one wrapper around the connection.
func TestSortingTakesNoByteTooMany(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		there := share(t, net, "there")
		for beginning, c := range map[string]struct {
			key  layers.Key
			rest string
		}{
			"\x07\x07rest": {layers.FirstByte(7), "\x07rest"},
			"\x03rest":     {layers.Unprefixed(), "\x03rest"},
		} {
			layer := layerOf(t, there, c.key)
			require.NoError(t, connect(t, net, "there", beginning).Close())
			conn, err := layer.Accept()
			require.NoError(t, err)
			require.IsType(t, new(faultnet.Conn), conn.(interface{ NetConn() net_ }).NetConn())
			n, err := conn.Read(nil)
			require.NoError(t, err)
			require.Zero(t, n)
			rest, err := io.ReadAll(conn)
			require.NoError(t, err)
			require.Equal(t, c.rest, string(rest))
			require.NoError(t, conn.Close())
		}
	})
}

// Keys that could be confused are refused, with what to do about it.
func TestMuxRefusesKeysThatClash(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		mux := share(t, net, "a", withTLS(newSecurity()))
		refused := func(text string, keys ...layers.Key) {
			t.Helper()
			_, err := mux.Layer(keys...)
			require.ErrorContains(t, err, text)
		}
		refused("a layer needs a key")
		refused("a key is empty: make it with FirstByte, ALPN or Unprefixed", layers.FirstByte(0), layers.Key{})
		refused(`ALPN "" is no protocol`, layers.ALPN(""))
		refused("is no protocol", layers.ALPN(strings.Repeat("x", 256)))
		refused("first byte 22 could not be told from TLS", layers.FirstByte(0x16))
		refused("first byte 7 is taken", layers.FirstByte(7), layers.FirstByte(7))
		layer := layerOf(t, mux, layers.FirstByte(4), layers.ALPN("a"))
		refused(`ALPN "a" is taken`, layers.FirstByte(9), layers.ALPN("a"))
		refused("first byte 4 is taken, so that no prefix could not be told from it: use bytes from 5 on", layers.Unprefixed())
		require.NoError(t, layer.Close())
		require.NoError(t, layerOf(t, mux, layers.FirstByte(0)).Close())
		layerOf(t, mux, layers.Unprefixed(), layers.FirstByte(9))
		refused("first byte 4 could not be told from no prefix", layers.FirstByte(4))
		require.NoError(t, mux.Close())
		refused("use of closed network connection", layers.FirstByte(8))
	})
}

func TestBadMuxConfigurationEndsInAnErrorThatSaysWhatToDo(t *testing.T) {
	layer, err := faultnet.New(1).Host("a").Listen()
	require.NoError(t, err)
	defer func() { require.NoError(t, layer.Close()) }()
	for text, config := range map[string]layers.MuxConfig{
		"Listener is nil: set it":  {},
		"Timeout is -1s: use 0":    {Listener: layer, Timeout: -time.Second},
		"MaxUnsorted is -1: use 0": {Listener: layer, MaxUnsorted: -1},
	} {
		_, err := layers.NewMux(config)
		require.ErrorContains(t, err, text)
	}
}

// Without a Dial the layers only accept.
func TestMux_WithoutADialOnlyAccepts(t *testing.T) {
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		port, err := network.Host("there").Listen()
		require.NoError(t, err)
		mux, err := layers.NewMux(layers.MuxConfig{Listener: struct{ net.Listener }{port}, Logger: hclog.NewNullLogger()})
		require.NoError(t, err)
		defer func() { require.NoError(t, mux.Close()) }()
		for _, key := range []layers.Key{layers.FirstByte(7), layers.Unprefixed(), layers.ALPN("a")} {
			layer := layerOf(t, mux, key)
			_, err = layer.Dial("there", time.Second)
			require.ErrorContains(t, err, "this layer cannot dial: set MuxConfig.Dial to what reaches the port of a peer")
		}
		serve(t, transport(t, withStream(layerOf(t, mux, layers.FirstByte(8)))), accept)
		require.NoError(t, appendOnce(group(t, share(t, network, "here"), layers.FirstByte(8)), "there"))
	})
}

// A dial ends with its context, also while it says what it wants.
func TestADialThroughAMuxEndsInTime(t *testing.T) {
	for _, key := range []layers.Key{layers.FirstByte(7), layers.ALPN("a")} {
		t.Run(key.String(), func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				layer, err := net.Host("there").Listen() // accepts nothing
				require.NoError(t, err)
				defer func() { require.NoError(t, layer.Close()) }()
				net.SetBuffer(1)
				nested := func(c *layers.MuxConfig) { // fills the buffer before the key
					c.Dial = func(ctx context.Context, address raftwire.ServerAddress) (net_, error) {
						conn, err := net.Host("here").Dial(ctx, string(address))
						if err == nil {
							_, err = conn.Write([]byte{0})
						}
						return conn, err
					}
				}
				here := layerOf(t, share(t, net, "here", withTLS(newSecurity()), nested), key)
				require.Equal(t, time.Second, elapsed(func() {
					_, err = here.Dial("there", time.Second)
					requireTimeout(t, err)
				}))
			})
		})
	}
}

func TestALPNWithoutTLSSaysWhatToDo(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		here, there := share(t, net, "here"), share(t, net, "there")
		layerOf(t, there, layers.FirstByte(7))
		_, err := layerOf(t, here, layers.ALPN("a")).Dial("there", 0)
		require.ErrorContains(t, err, `ALPN "a" needs TLS: set MuxConfig.TLS, or a Dial that returns a *tls.Conn`)
	})
}

// Where nothing can bring TLS along, that is said before anybody dials.
func TestALPNOverPlainTCPIsRefused(t *testing.T) {
	const refusal = `raftwire: mux: ALPN "a" needs TLS: set MuxConfig.TLS, have a TLS layer for MuxConfig.Listener, or use FirstByte`
	dial := func(context.Context, raftwire.ServerAddress) (net.Conn, error) { return nil, nil }
	dialTLS := func(context.Context, string, string) (net.Conn, error) { return nil, nil }
	for name, c := range map[string]struct {
		listener net.Listener
		option   muxOption
		want     string
	}{
		"listener":                {listenLocal(t), func(*layers.MuxConfig) {}, refusal},
		"layer":                   {newLayer(t, raftwire.TCPConfig{Bind: "127.0.0.1:0"}), func(*layers.MuxConfig) {}, refusal},
		"TLS":                     {listenLocal(t), withTLS(newSecurity()), ""},
		"a Dial of its own":       {listenLocal(t), func(c *layers.MuxConfig) { c.Dial = dial }, ""},
		"a Dial of the layer's":   {newLayer(t, raftwire.TCPConfig{Bind: "127.0.0.1:0", Dial: dialTLS}), func(*layers.MuxConfig) {}, refusal},
		"a listener that has TLS": {tls.NewListener(listenLocal(t), newTLS()), func(c *layers.MuxConfig) { c.Dial = dial }, ""},
	} {
		config := layers.MuxConfig{Listener: c.listener, Logger: hclog.NewNullLogger()}
		c.option(&config)
		mux, err := layers.NewMux(config)
		require.NoError(t, err, name)
		if _, err = mux.Layer(layers.ALPN("a")); c.want != "" {
			require.EqualError(t, err, c.want, name)
		} else {
			require.NoError(t, err, name)
		}
		require.NoError(t, mux.Close(), name)
	}
}

func listenLocal(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return listener
}

// A stream layer without DialContext is dialled aside, as a transport does.
func TestMuxOverAStreamLayerThatCannotBeCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hanging := make(chan struct{})
		plain := &plainLayer{
			Accepts: func() (net.Conn, error) { <-hanging; return nil, net.ErrClosed },
			Dials:   func() (net.Conn, error) { <-hanging; return nil, errors.New("too late") },
		}
		mux, err := layers.NewMux(layers.MuxConfig{Listener: plain, Logger: hclog.NewNullLogger()})
		require.NoError(t, err)
		layer := layerOf(t, mux, layers.Unprefixed())
		require.Equal(t, time.Second, elapsed(func() {
			_, err := layer.Dial("there", time.Second)
			requireTimeout(t, err)
		}))
		require.LessOrEqual(t, elapsed(func() { require.NoError(t, mux.Close()) }), prompt)
		close(hanging)
		synctest.Wait()
		require.NoError(t, mux.Close())
	})
}

// Close ends what a mux holds: listener, layers, connections not yet sorted or
// not yet accepted. What was accepted stays.
func TestClosingAMuxEndsWhatItHolds(t *testing.T) {
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		mux := share(t, network, "there")
		layer := layerOf(t, mux, layers.FirstByte(7))
		silent, waiting := connect(t, network, "there", ""), connect(t, network, "there", "\x07")
		synctest.Wait()
		accepted, err := layer.Accept()
		require.NoError(t, err)
		unaccepted := connect(t, network, "there", "\x07")
		synctest.Wait()
		accepting := make(chan error)
		other := layerOf(t, mux, layers.FirstByte(8))
		go func() { _, err := other.Accept(); accepting <- err }()

		require.Zero(t, elapsed(func() { require.NoError(t, mux.Close()) }))
		require.ErrorIs(t, <-accepting, net.ErrClosed)
		requireEnd(t, silent)
		requireEnd(t, unaccepted)
		_, err = io.WriteString(waiting, "x")
		require.NoError(t, err)
		_, err = accepted.Read(make([]byte, 1))
		require.NoError(t, err)
		require.NoError(t, accepted.Close())
		_, err = network.Host("client").Dial(t.Context(), "there")
		require.ErrorContains(t, err, "refused")
		require.ErrorIs(t, layer.Close(), net.ErrClosed)
		require.NoError(t, mux.Close())
	})
}

// What is handed over belongs to the layer, which closes what it cannot take.
func TestHandoff(t *testing.T) {
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		port, err := network.Host("there").Listen()
		require.NoError(t, err)
		defer func() { require.NoError(t, port.Close()) }()
		layer := layers.NewHandoff(port.Addr(), nil)
		handoff := func() (client net.Conn, err error) {
			client = connect(t, network, "there", "")
			conn, err := port.Accept()
			require.NoError(t, err)
			return client, layer.Handoff(conn)
		}
		var held []net.Conn
		for range 1024 {
			client, err := handoff()
			require.NoError(t, err)
			held = append(held, client)
		}
		client, err := handoff()
		require.ErrorContains(t, err, "1024 connections wait for Accept, which nobody calls")
		requireEnd(t, client)
		require.NoError(t, layer.Close())
		for _, client := range held {
			requireEnd(t, client)
		}
		client, err = handoff()
		require.ErrorIs(t, err, net.ErrClosed)
		requireEnd(t, client)
	})
}

// What a Handoff was not given is missed where it is used, or at once.
func TestHandoff_SaysWhatItLacks(t *testing.T) {
	require.PanicsWithValue(t, "raftwire: NewHandoff has no addr: give it the address that peers are told",
		func() { layers.NewHandoff(nil, nil) })
	layer := layers.NewHandoff(&net.TCPAddr{}, nil)
	_, err := layer.Dial("b", 0)
	require.ErrorContains(t, err, "this layer cannot dial: give NewHandoff a DialFunc")
	require.ErrorContains(t, layer.Handoff(nil), "the connection is nil")
	require.NoError(t, layer.Close())
	_, err = layer.Accept()
	require.ErrorIs(t, err, net.ErrClosed, "nothing was handed over")
}

// Smoke, over real sockets: a plain listener, and the connection itself.
func TestMuxOverTCP(t *testing.T) {
	listener := listenLocal(t)
	mux, err := layers.NewMux(layers.MuxConfig{Listener: listener, Logger: hclog.NewNullLogger()})
	require.NoError(t, err)
	defer func() { require.NoError(t, mux.Close()) }()
	layer := layerOf(t, mux, layers.FirstByte(7))
	for _, end := range []func() (net.Conn, error){
		func() (net.Conn, error) {
			return layer.Dial(raftwire.ServerAddress(listener.Addr().String()), time.Minute)
		},
		layer.Accept,
	} {
		conn, err := end()
		require.NoError(t, err)
		if counted, ok := conn.(interface{ NetConn() net.Conn }); ok { // the accepted one
			conn = counted.NetConn()
		}
		require.IsType(t, new(net.TCPConn), conn)
		require.NoError(t, conn.Close())
	}
}

// A layer keeps its keys, whatever the caller does with the slice that they came in.
func TestALayerKeepsItsKeys(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		mux := share(t, net, "a")
		keys := []layers.Key{layers.FirstByte(7)}
		first := layerOf(t, mux, keys...)
		keys[0] = layers.FirstByte(8)
		layerOf(t, mux, keys...)
		require.NoError(t, first.Close())
		layerOf(t, mux, layers.FirstByte(7))
		_, err := mux.Layer(layers.FirstByte(8))
		require.ErrorContains(t, err, "is taken")
	})
}

// So does Refused of a Mux.
func TestMuxRefused_ThatBlocksHoldsUpNobodyElse(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		release := make(chan struct{})
		refused := 0
		layer, err := net.Host("b").Listen()
		require.NoError(t, err)
		mux, err := layers.NewMux(layers.MuxConfig{
			Listener: layer, Logger: hclog.NewNullLogger(), MaxUnsorted: 3,
			Refused: func(raftwire.RefusalEvent) { refused++; <-release },
		})
		require.NoError(t, err)
		serve(t, group(t, mux, layers.FirstByte(7)), accept)
		for range 5 {
			say(t, dialRaw(t, net, "stranger"), "GET /")
			synctest.Wait()
		}
		require.Equal(t, 5, refused)
		peer := dialRaw(t, net, "peer")
		say(t, peer, "\x07")
		require.Zero(t, elapsed(func() { introduce(t, peer) }))
		require.LessOrEqual(t, elapsed(func() { require.ErrorContains(t, mux.Close(), "a hook") }), time.Second)
		close(release)
		synctest.Wait()
		require.NoError(t, mux.Close())
	})
}
