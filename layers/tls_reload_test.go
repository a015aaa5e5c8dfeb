package layers_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/faultnet"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/raftwire/raftwire/layers"
	"github.com/stretchr/testify/require"
)

// A new certificate is used by the first handshake after ReloadInterval,
// without a call. Nothing happens to connections that stand.
func TestCertificateFilesAreReloaded(t *testing.T) {
	for interval, expected := range map[time.Duration]time.Duration{0: time.Second, time.Minute: time.Minute, -1: 0} {
		t.Run(fmt.Sprint(interval), func(t *testing.T) {
			var log bytes.Buffer
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				ca := testca.New()
				f := newFiles(t, ca.Issue(serial(1)), ca)
				security := f.secure()
				security.ReloadInterval, security.Logger = interval, logTo(&log)
				_, b := listenTLS(t, net, "b", security)
				sees := func() int64 { return serialOf(t, net, ca, "b") }

				require.EqualValues(t, 1, sees())
				f.Certify(ca.Issue(serial(2)))
				pause(expected - 1)
				require.EqualValues(t, 1, sees())
				if interval < 0 {
					pause(24 * time.Hour)
					require.EqualValues(t, 1, sees())
					require.NoError(t, b.Reload())
				} else {
					pause(1)
					synctest.Wait() // the files are read
				}
				require.EqualValues(t, 2, sees())
				pause(time.Hour)
				require.EqualValues(t, 2, sees())
			})
			require.Equal(t, 1, strings.Count(log.String(), "TLS certificates reloaded: local=b"), log.String())
		})
	}
}

// What Load returns is used in the same way.
func TestLoadIsAskedAgain(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		ca := testca.New()
		var number, loads atomic.Int64 // Load runs on a goroutine of the layer
		number.Store(1)
		security := secure(nil)
		security.Load = func() (*tls.Certificate, *x509.CertPool, error) {
			loads.Add(1)
			return ca.Issue(serial(number.Load())), testca.Pool(ca), nil
		}
		listenTLS(t, net, "b", security)
		require.EqualValues(t, 1, loads.Load())
		number.Store(2)
		require.EqualValues(t, 1, serialOf(t, net, ca, "b"))
		pause(time.Second)
		synctest.Wait()
		require.EqualValues(t, 2, serialOf(t, net, ca, "b"))
		require.EqualValues(t, 2, loads.Load())
	})
}

// brokenFiles are ways to break files, and what the log says of them.
var brokenFiles = map[string]struct {
	spoil func(t *testing.T, f files, ca *testca.Authority)
	text  string
}{
	"a key of another certificate": {func(t *testing.T, f files, ca *testca.Authority) {
		spoil(t, f.Cert(), testca.PEM("CERTIFICATE", ca.Issue().Certificate...))
	}, "private key does not match public key"},
	"a certificate that has expired": {func(t *testing.T, f files, ca *testca.Authority) {
		f.Certify(ca.Issue(expiringIn(-time.Minute)))
	}, "expired at"},
	"a part of a certificate": {func(t *testing.T, f files, _ *testca.Authority) {
		cutOff(t, f.Cert())
	}, "failed to find any PEM data in certificate input"},
	"a part of a key": {func(t *testing.T, f files, _ *testca.Authority) {
		cutOff(t, f.Key())
	}, "failed to find any PEM data in key input"},
	"a part of a chain": {func(t *testing.T, f files, ca *testca.Authority) {
		f.Certify(ca.Intermediate().Issue())
		cutOff(t, f.Cert())
	}, "the file of certificates is damaged or cut off after 1"},
	"a part of a list of CAs": {func(t *testing.T, f files, ca *testca.Authority) {
		f.Trust(ca, testca.New())
		cutOff(t, f.CA())
	}, "damaged or cut off after 1 certificates"},
	"damage between whole certificates": {func(t *testing.T, f files, ca *testca.Authority) {
		f.Certify(ca.Intermediate().Intermediate().Issue())
		change(t, f.Cert(), func(blocks []string) { blocks[1] = blocks[1][:100] + "\n" })
	}, "the file of certificates is damaged or cut off after 1"},
	"damage between whole CAs": {func(t *testing.T, f files, ca *testca.Authority) {
		f.Trust(testca.New(), testca.New(), ca)
		change(t, f.CA(), func(blocks []string) { blocks[1] = strings.Replace(blocks[1], "MII", "%II", 1) })
	}, "damaged or cut off after 1 certificates"},
	"CAs of files without a newline at the end": {func(t *testing.T, f files, ca *testca.Authority) {
		f.Trust(testca.New(), testca.New(), ca)
		change(t, f.CA(), func(blocks []string) { blocks[0] = strings.TrimSpace(blocks[0]) })
	}, "damaged or cut off after 0 certificates"},
	"a CA that is indented": {func(t *testing.T, f files, ca *testca.Authority) {
		f.Trust(ca, testca.New())
		change(t, f.CA(), func(blocks []string) { blocks[1] = "  " + strings.ReplaceAll(blocks[1], "\n", "\n  ") })
	}, "damaged or cut off after 1 certificates"},
	"a CA after a mark of UTF-8": {func(t *testing.T, f files, ca *testca.Authority) {
		f.Trust(testca.New(), ca)
		change(t, f.CA(), func(blocks []string) { blocks[0] = "\ufeff" + blocks[0] })
	}, "damaged or cut off after 0 certificates"},
	"no CA":   {func(t *testing.T, f files, _ *testca.Authority) { spoil(t, f.CA(), nil) }, "holds no certificate"},
	"no file": {func(t *testing.T, f files, _ *testca.Authority) { require.NoError(t, os.Remove(f.Cert())) }, "no such file"},
	"a file that cannot be read": {func(t *testing.T, f files, _ *testca.Authority) {
		require.NoError(t, os.Remove(f.Key()))
		require.NoError(t, os.Mkdir(f.Key(), 0o700)) // root may read what others may not
	}, "is a directory"},
}

// cutOff leaves a file as who writes it without a rename leaves it for a moment.
func cutOff(t *testing.T, path string) {
	t.Helper()
	all, err := os.ReadFile(path)
	require.NoError(t, err)
	spoil(t, path, all[:len(all)-100])
}

// change changes the blocks of a PEM file.
func change(t *testing.T, path string, blocks func([]string)) {
	t.Helper()
	const end = "-----END CERTIFICATE-----\n"
	all, err := os.ReadFile(path)
	require.NoError(t, err)
	list := strings.SplitAfter(string(all), end)
	blocks(list)
	spoil(t, path, []byte(strings.Join(list, "")))
}

// Whatever stands beside whole certificates does not matter.
func TestTLSFiles_MayHaveMoreThanCertificates(t *testing.T) {
	ca := testca.New()
	for name, c := range map[string]func(blocks []string){
		"comments":                          func(blocks []string) { blocks[0] = "# begin\n" + blocks[0] + "# -----END\n" },
		"text without a newline at the end": func(blocks []string) { blocks[2] = "end" },
		"what openssl prints": func(blocks []string) {
			blocks[0] = " 0 s:CN = a:b\n   i:CN = c\n" + blocks[0] + "---\n"
		},
		"line ends of Windows": func(blocks []string) {
			for i := range blocks {
				blocks[i] = strings.ReplaceAll(blocks[i], "\n", "\r\n")
			}
		},
		"no newline at the end":   func(blocks []string) { blocks[1] = strings.TrimSpace(blocks[1]) },
		"spaces at ends of lines": func(blocks []string) { blocks[0] = strings.ReplaceAll(blocks[0], "\n", " \t\n") },
		"a certificate in a comment": func(blocks []string) {
			old := testca.PEM("CERTIFICATE", ca.Certificate.Raw)
			blocks[1] += "#" + strings.ReplaceAll(string(old), "\n", "\n#")
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFiles(t, ca.Intermediate().Issue(), testca.New(), ca)
			for _, path := range []string{f.Cert(), f.CA()} {
				change(t, path, c)
			}
			pair, err := tls.LoadX509KeyPair(f.Cert(), f.Key())
			require.NoError(t, err)
			require.Len(t, pair.Certificate, 2)
			node, err := layers.NewTLSTransport("127.0.0.1:0", nil, f.secure(), config())
			require.NoError(t, err)
			require.NoError(t, node.Close())
		})
	}
}

// A certificate's file may hold its key and parameters.
func TestTLSFiles_MayBeOne(t *testing.T) {
	ca := testca.New()
	f := newFiles(t, ca.Intermediate().Issue(), ca)
	all := testca.PEM("DH PARAMETERS", []byte("parameters"))
	for _, path := range []string{f.Key(), f.Cert()} {
		part, err := os.ReadFile(path)
		require.NoError(t, err)
		all = append(all, part...)
	}
	spoil(t, f.Cert(), append(all, testca.PEM("DH PARAMETERS", []byte("parameters"))...))
	security := f.secure()
	security.KeyFile = f.Cert()
	node, err := layers.NewTLSTransport("127.0.0.1:0", nil, security, config())
	require.NoError(t, err)
	require.NoError(t, node.Close())
}

// mend replaces whatever stands in place of the files.
func mend(t *testing.T, f files, certificate *tls.Certificate, ca *testca.Authority) {
	t.Helper()
	for _, path := range []string{f.Cert(), f.Key(), f.CA()} {
		require.NoError(t, os.RemoveAll(path))
	}
	f.Certify(certificate)
	f.Trust(ca)
}

// What cannot be used leaves what is in use alone, and is in the log once. When
// it is mended it is used.
func TestBrokenFilesChangeNothing(t *testing.T) {
	for name, c := range brokenFiles {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
				ca := testca.New()
				f := newFiles(t, ca.Issue(serial(1)), ca)
				security := f.secure()
				security.Logger = logTo(&log)
				b, layer := listenTLS(t, net, "b", security)
				serve(t, b, accept)
				c.spoil(t, f, ca)
				for range 10 {
					pause(time.Second)
					require.EqualValues(t, 1, serialOf(t, net, ca, "b"))
				}
				require.ErrorContains(t, layer.Reload(), c.text)
				require.EqualValues(t, 1, serialOf(t, net, ca, "b"))
				mend(t, f, ca.Issue(serial(2)), ca)
				pause(time.Second)
				synctest.Wait()
				require.EqualValues(t, 2, serialOf(t, net, ca, "b"))
			})
			require.Equal(t, 1, strings.Count(log.String(), "cannot reload TLS certificates, going on with those in use: local=b"), log.String())
			require.Contains(t, log.String(), c.text)
		})
	}
}

// The cluster moves to another CA, and each node to a certificate of it, while
// requests are under way on connections old and new: none fails, and no
// connection is dropped.
func TestRotationOfTheCAFailsNoRequest(t *testing.T) {
	onFakeTime(t, func(t *testing.T, net *faultnet.Network) {
		before, after := testca.New(), testca.New()
		hosts := []string{"a", "b", "c"}
		var nodes []*raftwire.NetworkTransport
		var disks []files
		for _, host := range hosts {
			f := newFiles(t, before.Issue(), before)
			disks = append(disks, f)
			node, _ := listenTLS(t, net, host, f.secure(), withPool(1))
			serve(t, node, accept)
			nodes = append(nodes, node)
			for _, other := range hosts {
				net.Link(host, other).SetLatency(10 * time.Millisecond)
			}
		}
		p := openPipeline(t, nodes[0], "b")
		load := startLoad(nodes, hosts)

		steps := []func(f files){
			func(f files) { f.Trust(before, after) },
			func(f files) { f.Certify(after.Issue()) },
			func(f files) { f.Trust(after) },
		}
		for _, step := range steps {
			for _, f := range disks {
				step(f)
				pause(1500 * time.Millisecond) // beyond ReloadInterval
			}
		}
		load.stop(t)
		send(t, p, 1)
		require.NoError(t, (<-p.Consumer()).Error())
		stranger, _ := listenTLS(t, net, "d", secure(before.Issue(), before, after))
		require.Error(t, appendOnce(stranger, "b"), "the old CA is still trusted")
	})
}

// load is requests from each node to each other, two at a time where one
// connection is kept: so some are reused, and some are made for each request.
type load struct {
	done    chan struct{}
	workers sync.WaitGroup
	mu      sync.Mutex // protects following
	count   int
	errs    []error
}

func startLoad(nodes []*raftwire.NetworkTransport, hosts []string) *load {
	l := &load{done: make(chan struct{})}
	for i, node := range nodes {
		for j, host := range hosts {
			for range 2 {
				if i != j {
					l.workers.Go(func() { l.run(node, raftwire.ServerAddress(host)) })
				}
			}
		}
	}
	return l
}

func (l *load) run(node *raftwire.NetworkTransport, target raftwire.ServerAddress) {
	for {
		select {
		case <-l.done:
			return
		default:
			l.note(appendOnce(node, target))
		}
	}
}

func (l *load) note(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count++
	if err != nil {
		l.errs = append(l.errs, err)
	}
}

func (l *load) stop(t *testing.T) {
	t.Helper()
	close(l.done)
	l.workers.Wait()
	require.Empty(t, l.errs)
	require.Greater(t, l.count, 1000)
}
