package layers_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/raftwire/raftwire/layers"
	"github.com/stretchr/testify/require"
)

const day = 24 * time.Hour

// Whatever layers a transport has over TLS, its Stats tell when the certificate and its
// CA expire.
func TestStats_TellWhenCertificateAndCAExpire(t *testing.T) {
	layerOver := func(t *testing.T, config layers.MuxConfig) raftwire.StreamLayer {
		config.Logger = hclog.NewNullLogger()
		mux, err := layers.NewMux(config)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, mux.Close()) })
		return layerOf(t, mux, layers.FirstByte(7))
	}
	for name, stack := range map[string]func(*testing.T, *layers.TLS) raftwire.StreamLayer{
		"TLS":                       func(_ *testing.T, secured *layers.TLS) raftwire.StreamLayer { return secured },
		"a program's own around it": func(_ *testing.T, secured *layers.TLS) raftwire.StreamLayer { return struct{ *layers.TLS }{secured} },
		"FromListener":              func(_ *testing.T, secured *layers.TLS) raftwire.StreamLayer { return layers.FromListener(secured, nil) },
		"a layer of a Mux with a Dial": func(t *testing.T, secured *layers.TLS) raftwire.StreamLayer {
			return layerOver(t, layers.MuxConfig{Listener: secured, Dial: secured.DialContext})
		},
		"a layer of a Mux over one of a Mux": func(t *testing.T, secured *layers.TLS) raftwire.StreamLayer {
			return layerOver(t, layers.MuxConfig{Listener: layerOver(t, layers.MuxConfig{Listener: secured})})
		},
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
				ca := testca.New(expiringIn(300 * day))
				secured := secureLayer(t, network, "b", secure(ca.Issue(expiringIn(30*day)), ca))
				requireExpiry(t, transport(t, withStream(stack(t, secured))), 30*day, 300*day)
			})
		})
	}
}

func TestStats_TellOfTheCertificateOfAMux(t *testing.T) {
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		ca := testca.New(expiringIn(300 * day))
		own := ca.Issue(expiringIn(30 * day))
		security := secure(nil)
		security.Load = func() (*tls.Certificate, *x509.CertPool, error) { return own, testca.Pool(ca), nil }
		security.ReloadInterval = -1 // own changes
		mux := share(t, network, "b", withTLS(security))
		b := group(t, mux, layers.ALPN("raft"))
		requireExpiry(t, b, 30*day, 300*day)
		own = ca.Issue(expiringIn(60 * day))
		require.NoError(t, mux.Reload())
		requireExpiry(t, b, 60*day, 300*day)
	})
}

func requireExpiry(t *testing.T, of *raftwire.NetworkTransport, certificate, ca time.Duration) {
	t.Helper()
	stats := of.Stats()
	require.Equal(t, certificate, time.Until(stats.CertificateExpires))
	require.Equal(t, ca, time.Until(stats.CAExpires))
}

func TestStats_TellOfNoCertificateWithoutTLS(t *testing.T) {
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		for name, layer := range map[string]raftwire.StreamLayer{
			"a listener":         must(network.Host("a").Listen()),
			"a layer of a Mux":   layerOf(t, share(t, network, "b"), layers.Unprefixed()),
			"FromListener":       layers.FromListener(must(network.Host("c").Listen()), nil),
			"handed connections": layers.NewHandoff(&net.TCPAddr{}, nil),
		} {
			stats := transport(t, withStream(layer)).Stats()
			require.Zero(t, stats.CertificateExpires, name)
			require.Zero(t, stats.CAExpires, name)
		}
	})
}

// Of the certificates that are shown the first to expire counts. A CA counts as long as
// some chain to it holds; the others in the file do not.
func TestTLSExpires_IsWhenTrustEnds(t *testing.T) {
	forServers, forClients := usedFor(x509.ExtKeyUsageServerAuth), usedFor(x509.ExtKeyUsageClientAuth)
	pair := func(security layers.TLSConfig, client *tls.Certificate) layers.TLSConfig {
		security.LoadClient = func() (*tls.Certificate, error) { return client, nil }
		return security
	}
	for name, c := range map[string]struct {
		secured         func() layers.TLSConfig
		certificate, ca time.Duration // 0: the time is zero
	}{
		"the CA beside others, old and new": {func() layers.TLSConfig {
			ca := testca.New(expiringIn(300 * day))
			return secure(ca.Issue(expiringIn(30*day)), testca.New(expiringIn(day)), ca, testca.New(expiringIn(900*day)))
		}, 30 * day, 300 * day},
		"a CA that was renewed with the same key": {func() layers.TLSConfig {
			ca := testca.New(expiringIn(day))
			return secure(ca.Issue(expiringIn(30*day)), ca, ca.Renew(expiringIn(300*day)))
		}, 30 * day, 300 * day},
		"a CA that was renewed with the same key, to begin tomorrow": {func() layers.TLSConfig {
			ca := testca.New(expiringIn(2 * day))
			tomorrow := func(x *x509.Certificate) { x.NotBefore = time.Now().Add(day) }
			return secure(ca.Issue(expiringIn(30*day)), ca, ca.Renew(tomorrow, expiringIn(300*day)))
		}, 30 * day, 300 * day},
		"an intermediate CA that expires first": {func() layers.TLSConfig {
			ca := testca.New(expiringIn(300 * day))
			return secure(ca.Intermediate(expiringIn(20*day)).Issue(expiringIn(30*day)), ca)
		}, 30 * day, 20 * day},
		"a root that expires before the intermediate CA": {func() layers.TLSConfig {
			ca := testca.New(expiringIn(20 * day))
			return secure(ca.Intermediate(expiringIn(300*day)).Issue(expiringIn(30*day)), ca)
		}, 30 * day, 20 * day},
		"a certificate that is its own CA": {func() layers.TLSConfig {
			ca := testca.New(expiringIn(30 * day))
			own := ca.Issue(expiringIn(40 * day))
			return secure(own, &testca.Authority{Certificate: must(x509.ParseCertificate(own.Certificate[0]))})
		}, 40 * day, 40 * day},
		"a certificate for clients that expires first": {func() layers.TLSConfig {
			ca, other := testca.New(expiringIn(300*day)), testca.New(expiringIn(200*day))
			return pair(secure(ca.Issue(forServers, expiringIn(40*day)), ca, other), other.Issue(forClients, expiringIn(30*day)))
		}, 30 * day, 200 * day},
		"a certificate for servers that expires first": {func() layers.TLSConfig {
			ca, other := testca.New(expiringIn(100*day)), testca.New(expiringIn(200*day))
			return pair(secure(ca.Issue(forServers, expiringIn(30*day)), ca, other), other.Issue(forClients, expiringIn(40*day)))
		}, 30 * day, 100 * day},
		"a certificate of a CA that is not trusted": {func() layers.TLSConfig {
			return secure(testca.New().Issue(expiringIn(30*day)), testca.New())
		}, 30 * day, 0},
		"a CA that has expired, signed as well by one that is not trusted": {func() layers.TLSConfig {
			ca := testca.New(expiringIn(-time.Minute))
			own := ca.Issue(expiringIn(30 * day))
			own.Certificate = append(own.Certificate, testca.New().Cross(ca))
			return secure(own, ca)
		}, 30 * day, -time.Minute},
		"a CA that has expired": {func() layers.TLSConfig {
			ca := testca.New(expiringIn(-time.Minute))
			return secure(ca.Issue(expiringIn(30*day)), ca)
		}, 30 * day, -time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
				layer := secureLayer(t, network, "b", c.secured())
				defer layer.Close()
				certificate, ca := layer.Expires()
				require.Equal(t, c.certificate, time.Until(certificate))
				if c.ca == 0 {
					require.Zero(t, ca)
				} else {
					require.Equal(t, c.ca, time.Until(ca))
				}
			})
		})
	}
}

const (
	ownExpires = "renew this node's own certificate: peers refuse it once it has expired"
	caExpires  = "replace the CA of this node's own certificate: peers refuse both once the CA has expired"
)

// The log warns a week before a certificate expires, or at a quarter of its lifetime if
// that is later; then each day, and at the end.
func TestTLSExpiry_IsWarnedOfInTime(t *testing.T) {
	for name, c := range map[string]struct {
		lifetime, interval time.Duration
		warned             []time.Duration // before the end
	}{
		"a year":                       {365 * day, -1, []time.Duration{7 * day, 6 * day, 5 * day, 4 * day, 3 * day, 2 * day, day, 0, -day}},
		"two days":                     {2 * day, -1, []time.Duration{day / 2, 0, -day}},
		"a day":                        {day, -1, []time.Duration{day / 4, 0, -day}},
		"an hour":                      {time.Hour, -1, []time.Duration{time.Hour / 4, 0, -day}},
		"an hour, looked at each 7 s":  {time.Hour, 7 * time.Second, []time.Duration{time.Hour / 4, 0, -day}},
		"an hour, looked at each hour": {time.Hour, time.Hour, []time.Duration{time.Hour / 4, 0, -day}},
	} {
		t.Run(name, func(t *testing.T) {
			for text, names := range map[string]string{ownExpires: "certificate=node", caExpires: `certificate="test CA"`} {
				log := newTimedLog("[WARN]  " + text)
				onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
					short := func(x *x509.Certificate) {
						x.NotBefore, x.NotAfter = time.Now(), time.Now().Add(c.lifetime)
					}
					security := secure(nil)
					security.ServerName = ""
					if text == ownExpires {
						ca := testca.New()
						security.Load = secure(ca.Issue(short, named("node")), ca).Load
					} else {
						ca := testca.New(short)
						security.Load = secure(ca.Issue(), ca).Load
					}
					security.ReloadInterval, security.Logger = c.interval, logTo(log)
					layer := secureLayer(t, network, "b", security)
					defer layer.Close()
					end := time.Now().Add(c.lifetime)
					pause(c.lifetime + day + time.Minute)
					synctest.Wait()
					require.Equal(t, c.warned, log.before(end))
				})
				require.Contains(t, log.String(), "[WARN]  "+text+": local=b "+names+` expires="2000-`)
			}
		})
	}
}

// What is renewed in time, after two thirds of its lifetime as cert-manager does or
// earlier, is in no warning, however short it lives.
func TestTLSExpiry_IsNotWarnedOfWhereCertificatesAreRenewed(t *testing.T) {
	for name, lifetime := range map[string]time.Duration{"an hour": time.Hour, "a day": day, "90 days": 90 * day} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
				fresh := func(x *x509.Certificate) { x.NotBefore, x.NotAfter = time.Now(), time.Now().Add(lifetime) }
				var ca *testca.Authority
				var own *tls.Certificate
				security := secure(nil)
				security.Load = func() (*tls.Certificate, *x509.CertPool, error) {
					if own == nil || time.Since(own.Leaf.NotBefore) >= lifetime*2/3 {
						ca = testca.New(fresh)
						own = ca.Issue(fresh)
						own.Leaf = must(x509.ParseCertificate(own.Certificate[0]))
					}
					return own, testca.Pool(ca), nil
				}
				security.ReloadInterval, security.Logger = lifetime/60, logTo(&log)
				layer := secureLayer(t, network, "b", security)
				defer layer.Close()
				pause(10 * lifetime)
			})
			require.Contains(t, log.String(), "reloaded")
			require.NotContains(t, log.String(), "[WARN]")
		})
	}
}

// Another certificate that expires soon is in the log at once. One that comes again and
// again, or always another, does not fill the log.
func TestTLSExpiry_IsWarnedOfAgainWhenTheCertificateChanges(t *testing.T) {
	log := newTimedLog("[WARN]  " + ownExpires)
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		ca, start := testca.New(), time.Now()
		short := func(x *x509.Certificate) { x.NotBefore, x.NotAfter = start.Add(-300*day), start.Add(3*day) }
		own := ca.Issue(short)
		security := secure(nil)
		security.Load = func() (*tls.Certificate, *x509.CertPool, error) { return own, testca.Pool(ca), nil }
		security.ReloadInterval, security.Logger = -1, logTo(log)
		layer := secureLayer(t, network, "b", security)
		defer layer.Close()
		reload := func() {
			require.NoError(t, layer.Reload())
			synctest.Wait()
		}
		pause(time.Hour)
		reload() // the same
		pause(time.Hour)
		own = ca.Issue(short)
		reload()
		for range 600 {
			pause(time.Second)
			own = ca.Issue(short)
			reload()
		}
		own = ca.Issue()
		reload()
		pause(30 * day)
		synctest.Wait()
		require.Equal(t, []time.Duration{0, 2 * time.Hour, 2*time.Hour + 5*time.Minute, 2*time.Hour + 10*time.Minute}, log.after(start))
	})
}

// A load that hangs delays a warning by five minutes at the most.
func TestTLSExpiry_IsWarnedOfWhileALoadHangs(t *testing.T) {
	log := newTimedLog("[WARN]  " + ownExpires)
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		slow := newSlowLoad()
		slow.ca = testca.New()
		start := time.Now()
		own := slow.ca.Issue(func(x *x509.Certificate) { x.NotBefore, x.NotAfter = start, start.Add(day) })
		security := slow.secure(log)
		security.Load = func() (*tls.Certificate, *x509.CertPool, error) {
			_, cas, err := slow.load()
			return own, cas, err
		}
		layer := secureLayer(t, network, "b", security)
		defer layer.Close()
		defer close(slow.hung)
		slow.hangs.Store(true)
		pause(18*time.Hour + 5*time.Minute)
		synctest.Wait()
		require.Len(t, log.after(start), 1)
	})
}

// A CA without a common name is named by its subject.
func TestTLSExpiry_NamesACAByItsSubject(t *testing.T) {
	var log bytes.Buffer
	onFakeTime(t, func(t *testing.T, network *faultnet.Network) {
		ca := testca.New(expiringIn(time.Minute), func(x *x509.Certificate) {
			x.Subject = pkix.Name{Organization: []string{"SPIRE"}, SerialNumber: "4711"}
		})
		security := secure(ca.Issue(), ca)
		security.Logger = logTo(&log)
		layer := secureLayer(t, network, "b", security)
		defer layer.Close()
		synctest.Wait()
	})
	require.Contains(t, log.String(), caExpires+`: local=b certificate="SERIALNUMBER=4711,O=SPIRE" expires=`)
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
