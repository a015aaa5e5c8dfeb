package layers_test

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"weak"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/raftwire/raftwire/layers"
	"github.com/stretchr/testify/require"
)

// slowLoad is a Load that may hang.
type slowLoad struct {
	ca     *testca.Authority
	serial atomic.Int64 // of the certificate
	hangs  atomic.Bool
	hung   chan struct{} // closed to let what hangs go on
	begun  atomic.Int32
}

func newSlowLoad() *slowLoad { return &slowLoad{ca: testca.New(), hung: make(chan struct{})} }

// load reads the certificate as a file is read: at its beginning.
func (l *slowLoad) load() (*tls.Certificate, *x509.CertPool, error) {
	l.begun.Add(1)
	certificate := l.ca.Issue(serial(l.serial.Load()))
	if l.hangs.Load() {
		<-l.hung
	}
	return certificate, testca.Pool(l.ca), nil
}

func (l *slowLoad) secure(log io.Writer) layers.TLSConfig {
	security := secure(nil)
	security.Load, security.Logger = l.load, logTo(log)
	return security
}

// A store that does not answer holds up neither calls nor Close: what is in use
// stays in use, Reload gives up, and the log says since when.
func TestTLSLoad_BlocksNothing(t *testing.T) {
	var log bytes.Buffer
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		slow := newSlowLoad()
		layer := secureLayer(t, network, "b", slow.secure(&log))
		b := raftwire.NewNetworkTransportWithConfig(config(withStream(layer), withPool(0)))
		serve(t, b, accept)
		c, _ := listenTLS(t, network, "c", secure(slow.ca.Issue(), slow.ca), withPool(0))
		serve(t, c, accept)

		slow.hangs.Store(true)
		pause(time.Minute)
		require.Zero(t, elapsed(func() {
			require.NoError(t, appendOnce(c, "b"))
			require.NoError(t, appendOnce(b, "c"))
		}))
		var err error
		require.Equal(t, 10*time.Second, elapsed(func() { err = layer.Reload() }))
		requireTimeout(t, err)
		require.ErrorContains(t, err, "raftwire: TLS: loading them is under way since 2000-01-01T00:00:01Z (1m9s): look at what TLSConfig.Load waits for")
		require.NoError(t, appendOnce(c, "b"))
		pause(time.Hour)
		require.EqualValues(t, 2, slow.begun.Load(), "one load at a time")

		reloaded := make(chan error, 1)
		go func() { reloaded <- layer.Reload() }()
		synctest.Wait()
		require.Zero(t, elapsed(func() {
			require.NoError(t, b.Close())
			require.ErrorIs(t, <-reloaded, net.ErrClosed, "a Reload under way")
		}))
		require.ErrorIs(t, layer.Reload(), net.ErrClosed)
		close(slow.hung)
	})
	warning := "[WARN]  cannot look for new TLS certificates, going on with those in use: local=b error=\"loading them is under way since 2000-01-01T00:00:01Z (10s): look at what TLSConfig.Load waits for\"\n"
	require.Contains(t, log.String(), warning)
	require.LessOrEqual(t, strings.Count(log.String(), "[WARN]"), 13, log.String())
	require.NotContains(t, log.String(), "reloaded", "after Close")
}

// What takes long is used when it is there, without a call.
func TestTLSLoad_IsUsedWhenItIsOver(t *testing.T) {
	var log bytes.Buffer
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		slow := newSlowLoad()
		security := slow.secure(&log)
		security.LoadTimeout = time.Minute
		listenTLS(t, net, "b", security)
		slow.serial.Store(2)
		slow.hangs.Store(true)
		pause(59 * time.Second)
		require.Zero(t, serialOf(t, net, slow.ca, "b"))
		slow.hangs.Store(false)
		close(slow.hung)
		synctest.Wait()
		require.EqualValues(t, 2, serialOf(t, net, slow.ca, "b"))
	})
	require.NotContains(t, log.String(), "[WARN]")
}

// A look that began before a call of Reload may have seen what was there before:
// Reload returns when another one is over.
func TestTLSReload_LoadsWhatIsThereNow(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		slow := newSlowLoad()
		_, layer := listenTLS(t, net, "b", slow.secure(io.Discard))
		slow.hangs.Store(true)
		pause(time.Second)
		synctest.Wait()
		slow.serial.Store(2)
		reloaded := make(chan error, 1)
		go func() { reloaded <- layer.Reload() }()
		pause(4500 * time.Millisecond) // between two looks, each of which may begin a load
		slow.hangs.Store(false)
		close(slow.hung)
		require.NoError(t, <-reloaded)
		require.EqualValues(t, 2, serialOf(t, net, slow.ca, "b"))
		require.EqualValues(t, 3, slow.begun.Load())
	})
}

// A load that never returns does not keep what belongs to its layer.
func TestTLSLoad_HoldsNothingOfAClosedLayer(t *testing.T) {
	slow := newSlowLoad()
	defer close(slow.hung)
	layer, kept := layerThatKeeps(t, slow)
	slow.hangs.Store(true)
	requireTimeout(t, layer.Reload())
	require.NoError(t, layer.Close())
	layer = nil
	for range 100 {
		runtime.GC()
		if kept.Value() == nil {
			return
		}
	}
	t.Fatal("a load under way still holds what the layer held")
}

// layerThatKeeps returns a layer with what it keeps alive.
func layerThatKeeps(t *testing.T, slow *slowLoad) (*layers.TLS, weak.Pointer[[1 << 20]byte]) {
	kept := new([1 << 20]byte)
	security := slow.secure(io.Discard)
	security.ReloadInterval, security.LoadTimeout = -1, time.Millisecond
	security.Authorize = func(*layers.TLSPeer) error {
		kept[0]++
		return nil
	}
	return secureLayer(t, faultnet.New(1), "b", security), weak.Make(kept)
}

// Nothing is loaded any more once the layer is closed.
func TestTLSLoad_EndsWithClose(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		slow := newSlowLoad()
		layer := secureLayer(t, net, "b", slow.secure(io.Discard))
		pause(3500 * time.Millisecond)
		require.EqualValues(t, 4, slow.begun.Load())
		require.NoError(t, layer.Close())
		pause(time.Hour)
		require.EqualValues(t, 4, slow.begun.Load())
	})
}

// A file that is broken is an error in the log within ReloadInterval, and not only when
// somebody connects: so is the next one. Handshakes go on with what was there before.
func TestTLSFiles_AreReportedWhenTheyBreak(t *testing.T) {
	for name, c := range brokenFiles {
		t.Run(name, func(t *testing.T) {
			log := newTimedLog(cannotReload)
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				ca, start := testca.New(), time.Now()
				own := ca.Issue(serial(1))
				f := newFiles(t, own, ca)
				security := f.secure()
				security.ReloadInterval, security.Logger = time.Minute, logTo(log)
				listenTLS(t, net, "b", security)
				for range 3 {
					c.spoil(t, f, ca)
					pause(time.Minute)
					synctest.Wait()
					require.EqualValues(t, 1, serialOf(t, net, ca, "b"))
					mend(t, f, own, ca)
					pause(time.Minute)
					synctest.Wait()
				}
				require.Equal(t, []time.Duration{time.Minute, 3 * time.Minute, 5 * time.Minute}, log.after(start))
			})
			require.Equal(t, 3, strings.Count(log.String(), c.text), log.String())
			require.NotContains(t, log.String(), "reloaded", "they are what they were")
		})
	}
}

const cannotReload = "[ERROR] cannot reload TLS certificates, going on with those in use: local=b error="

// A certificate that expires in its file is an error, too.
func TestTLSFiles_AreReportedWhenTheyExpire(t *testing.T) {
	log := newTimedLog(cannotReload)
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		ca, start := testca.New(), time.Now()
		f := newFiles(t, ca.Issue(expiringIn(time.Hour)), ca)
		security := f.secure()
		security.Logger = logTo(log)
		listenTLS(t, net, "b", security)
		pause(time.Hour + time.Minute)
		synctest.Wait()
		require.Equal(t, []time.Duration{time.Hour + time.Second}, log.after(start))
	})
	require.Contains(t, log.String(), "expired at 2000-01-01 01:00:00 +0000 UTC: renew it")
}

// A failure that lasts does not fill the log, whatever its text.
func TestTLSFailures_AreLoggedWithinReason(t *testing.T) {
	var log bytes.Buffer
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		ca := testca.New()
		var fails atomic.Bool // Load runs on a goroutine of the layer
		var loads atomic.Int64
		security := secure(nil)
		security.Logger = logTo(&log)
		security.Load = func() (*tls.Certificate, *x509.CertPool, error) {
			load := loads.Add(1)
			if fails.Load() {
				return nil, nil, fmt.Errorf("no vault: request %d", load)
			}
			return ca.Issue(), testca.Pool(ca), nil
		}
		_, layer := listenTLS(t, net, "b", security)
		fails.Store(true)
		require.ErrorContains(t, layer.Reload(), "no vault: request 2")
		pause(time.Hour)
	})
	lines := strings.Count(log.String(), "\n")
	require.Greater(t, lines, 3)
	require.LessOrEqual(t, lines, 60, log.String())
}

// Panics of Load reach the caller of the constructor.
func TestTLSLoad_PanicsInTheConstructor(t *testing.T) {
	security := secure(nil)
	security.Load = func() (*tls.Certificate, *x509.CertPool, error) { panic("no vault") }
	inner, err := faultnet.New(1).Host("b").Listen()
	require.NoError(t, err)
	require.PanicsWithValue(t, "no vault", func() { _, _ = layers.NewTLS(inner, security) })
}

// A key in an HSM is a handle, which ends with its session. Load brings another one for
// the same certificate, which is used without a line in the log.
func TestTLSLoad_MayBringAnotherHandleOfTheKey(t *testing.T) {
	var log bytes.Buffer
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		ca := testca.New()
		own := ca.Issue(serial(1))
		var ended atomic.Int64 // the last session that has
		var sessions int64
		security := secure(nil)
		security.Logger = logTo(&log)
		security.Load = func() (*tls.Certificate, *x509.CertPool, error) {
			sessions++
			fresh := *own
			fresh.PrivateKey = sessionKey{own.PrivateKey.(crypto.Signer), sessions, &ended}
			return &fresh, testca.Pool(ca), nil
		}
		listenTLS(t, net, "b", security)
		for last := range int64(3) {
			ended.Store(last)
			require.EqualValues(t, 1, serialOf(t, net, ca, "b"))
			pause(time.Second)
			synctest.Wait()
		}
	})
	require.NotContains(t, log.String(), "reloaded")
}

// sessionKey is a key for as long as its session lasts.
type sessionKey struct {
	crypto.Signer
	session int64
	ended   *atomic.Int64
}

func (k sessionKey) Sign(random io.Reader, digest []byte, options crypto.SignerOpts) ([]byte, error) {
	if k.session <= k.ended.Load() {
		return nil, errors.New("the session has ended")
	}
	return k.Signer.Sign(random, digest, options)
}

// Many CAs issue a certificate for servers and another one for clients. A node
// shows each where it is meant to be shown.
func TestTLSConfig_TakesACertificateForEachSide(t *testing.T) {
	forServers, forClients := usedFor(x509.ExtKeyUsageServerAuth), usedFor(x509.ExtKeyUsageClientAuth)
	for name, secured := range map[string]func(t *testing.T, ca *testca.Authority) (_ layers.TLSConfig, renew func()){
		"files": func(t *testing.T, ca *testca.Authority) (layers.TLSConfig, func()) {
			server, client := newFiles(t, ca.Issue(forServers, serial(1)), ca), newFiles(t, ca.Issue(forClients, serial(2)), ca)
			security := server.secure()
			security.ClientCertFile, security.ClientKeyFile = client.Cert(), client.Key()
			return security, func() { client.Certify(ca.Issue(forClients, serial(3))) }
		},
		"functions": func(_ *testing.T, ca *testca.Authority) (layers.TLSConfig, func()) {
			var number atomic.Int64
			number.Store(2)
			security := secure(ca.Issue(forServers, serial(1)), ca)
			security.LoadClient = func() (*tls.Certificate, error) { return ca.Issue(forClients, serial(number.Load())), nil }
			return security, func() { number.Store(3) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				ca := testca.New()
				security, renew := secured(t, ca)
				security.Logger, security.ReloadInterval = logTo(&log), time.Hour
				a, _ := listenTLS(t, net, "a", security, withPool(0))
				serve(t, a, accept)
				var seen int64
				watching := secure(ca.Issue(), ca)
				watching.Authorize = func(p *layers.TLSPeer) error {
					seen = p.Certificate().SerialNumber.Int64()
					return nil
				}
				b, _ := listenTLS(t, net, "b", watching, withPool(0))
				serve(t, b, accept)

				require.NoError(t, appendOnce(b, "a"))
				require.EqualValues(t, 1, seen)
				require.NoError(t, appendOnce(a, "b"))
				require.EqualValues(t, 2, seen)
				renew()
				pause(time.Hour)
				synctest.Wait()
				require.NoError(t, appendOnce(a, "b"))
				require.EqualValues(t, 3, seen)
			})
			require.NotContains(t, log.String(), "[WARN]")
			require.Contains(t, log.String(), `TLS certificates reloaded: local=a certificate="server.dc1.consul, to dial server.dc1.consul" expires=`)
		})
	}
}

// What is wrong with either certificate is told apart.
func TestTLSConfig_SaysWhichCertificateIsWrong(t *testing.T) {
	ca := testca.New()
	forServers, forClients := usedFor(x509.ExtKeyUsageServerAuth), usedFor(x509.ExtKeyUsageClientAuth)
	files := func(server, client func(*x509.Certificate)) layers.TLSConfig {
		s, c := newFiles(t, ca.Issue(server), ca), newFiles(t, ca.Issue(client), ca)
		security := s.secure()
		security.ClientCertFile, security.ClientKeyFile = c.Cert(), c.Key()
		return security
	}
	loading := func(client *tls.Certificate, err error) layers.TLSConfig {
		security := secure(ca.Issue(forServers), ca)
		security.LoadClient = func() (*tls.Certificate, error) { return client, err }
		return security
	}
	with := func(c layers.TLSConfig, change func(*layers.TLSConfig)) layers.TLSConfig {
		change(&c)
		return c
	}
	good := files(forServers, forClients)
	for text, c := range map[string]layers.TLSConfig{
		"lacks the extended key usage serverAuth: it is shown to peers that dial this node":   files(forClients, forClients),
		"lacks the extended key usage clientAuth: it is shown to peers that this node dials":  files(forServers, forServers),
		"so have it issued for both, or have a second certificate for TLSConfig.ClientCertFi": newFiles(t, ca.Issue(forServers), ca).secure(),
		"TLSConfig.ClientCertFile": files(forServers, expiringIn(-time.Minute)),
		"\" with ClientKeyFile \"": with(good, func(c *layers.TLSConfig) { c.ClientKeyFile = c.KeyFile }),
		"of TLSConfig.ClientCertFile and ClientKeyFile only one is set: set both":                 with(good, func(c *layers.TLSConfig) { c.ClientKeyFile = "" }),
		"Load is set, and so are files: use one or the other":                                     with(loading(nil, nil), func(c *layers.TLSConfig) { c.ClientCertFile, c.ClientKeyFile = "a", "b" }),
		"TLSConfig.LoadClient is set, and Load is not":                                            with(good, func(c *layers.TLSConfig) { c.LoadClient = loading(nil, nil).LoadClient }),
		"TLSConfig.LoadTimeout is -1s: use 0 for the default":                                     with(good, func(c *layers.TLSConfig) { c.LoadTimeout = -time.Second }),
		"what TLSConfig.LoadClient returned: no certificate: peers verify each other":             loading(nil, nil),
		"what TLSConfig.LoadClient returned: the certificate \"server.dc1.consul\" lacks the ext": loading(ca.Issue(forServers), nil),
		"TLSConfig.LoadClient: no vault":                                                          loading(nil, errors.New("no vault")),
	} {
		t.Run(text, func(t *testing.T) {
			_, err := layers.NewTLSTransport("127.0.0.1:0", nil, c, config())
			require.ErrorContains(t, err, "raftwire: ")
			require.ErrorContains(t, err, text)
		})
	}
}

// Peers that are dialled look at the certificate for clients: it needs the name.
func TestTLSConfig_WarnsOfAClientCertificateWithoutTheName(t *testing.T) {
	var log bytes.Buffer
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		ca := testca.New()
		security := secure(ca.Issue(), ca)
		security.Logger = logTo(&log)
		security.LoadClient = func() (*tls.Certificate, error) { return ca.Issue(named("another")), nil }
		listenTLS(t, net, "a", security)
	})
	require.Equal(t, 1, strings.Count(log.String(), "[WARN]"), log.String())
	require.Contains(t, log.String(), `peers that ask for it will refuse this node: local=a certificate=another`+"\n")
}

// A nil pointer is no key, whatever its type.
func TestTLSLoad_RefusesATypedNilKey(t *testing.T) {
	ca := testca.New()
	certificate := ca.Issue()
	certificate.PrivateKey = (*nilKey)(nil)
	_, err := layers.NewTLSTransport("127.0.0.1:0", nil, secure(certificate, ca), config())
	require.ErrorContains(t, err, "no private key for the certificate")
}

type nilKey struct{}
