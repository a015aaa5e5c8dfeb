package main

import (
	"encoding/json"
	"flag"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/raftwire/raftwire"
	"github.com/raftwire/raftwire/cmd/raftwire/internal/probe"
	"github.com/raftwire/raftwire/internal/testca"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

// Every test closes what it opened, and nothing may be left.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ran runs a command line.
func ran(args ...string) (out string, code int, err error) {
	var b strings.Builder
	code, err = run(args, &b)
	return b.String(), code, err
}

// freePort returns an address at which nothing listens.
func freePort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	return listener.Addr().String()
}

func TestHelp_ListsCommandsAndTheirFlags(t *testing.T) {
	for args, want := range map[string]string{
		"help":       "raftwire probe [flags] HOST:PORT",
		"-h":         "raftwire dump [flags] FILE.pcap",
		"help probe": "-server-name name",
		"probe -h":   "10  core-silent",
		"help dump":  "-no-heartbeats",
	} {
		out, code, err := ran(strings.Fields(args)...)
		require.NoError(t, err, args)
		require.Zero(t, code, args)
		require.Contains(t, out, want, args)
	}
}

func TestHelp_TellsTheExitCodesOfProbe(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	for result, code := range probe.ExitCodes {
		number := strconv.Itoa(code)
		require.Regexp(t, `\n +`+number+"  "+regexp.QuoteMeta(string(result))+" +[a-zA-Z]", aboutProbe)
		require.Contains(t, string(readme), "| "+number+" | `"+string(result)+"` |")
	}
}

func TestReadme_ListsEveryFlag(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	flags := flag.NewFlagSet("probe", flag.ContinueOnError)
	new(probeFlags).define(flags)
	new(dumpFlags).define(flags)
	flags.VisitAll(func(f *flag.Flag) { require.Contains(t, string(readme), "`-"+f.Name, f.Name) })
}

func TestCommandLine_SaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	none := filepath.Join(dir, "none.pem")
	noPEM := filepath.Join(dir, "no.pem")
	require.NoError(t, os.WriteFile(noPEM, []byte("no PEM"), 0o600))
	damaged := filepath.Join(dir, "damaged.pem")
	whole, err := os.ReadFile(testca.WriteFiles(dir, testca.New().Issue(), testca.New()).CA())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(damaged, slices.Concat([]byte("# -----BEGIN CERTIFICATE-----\n"), whole, whole[:len(whole)/2]), 0o600))
	for _, test := range []struct {
		args, says string
		code       int
	}{
		{"prob", `unknown command "prob"`, exitUsage},
		{"probe", "takes one argument, not 0", exitUsage},
		{"probe a:1 b:2", "takes one argument, not 2", exitUsage},
		{"probe a:1 -tls", "flag provided but not defined: -tls", exitUsage},
		{"probe example.com", "not HOST:PORT", exitUsage},
		{"probe a:1 -timeout 0s", "-timeout 0s", exitUsage},
		{"probe a:1 -via ssl", "-via: ", exitUsage},
		{"probe a:1 -alpn raft,", "-alpn: a protocol has 1 to 255 bytes, not 0", exitUsage},
		{"probe a:1 -alpn " + strings.Repeat("x", 256), "-alpn: a protocol has 1 to 255 bytes, not 256", exitUsage},
		{"probe :1 -ca " + none, "\":1\" has no host to check the certificate for: give -server-name", exitUsage},
		{"probe a:1 -key " + none, "-key is given without -cert", exitUsage},
		{"probe a:1 -ca " + none, "none.pem", exitFailed},
		{"probe a:1 -ca " + noPEM, "holds no certificate", exitFailed},
		{"probe a:1 -ca " + damaged, "has 2 certificates, and 1 of them are damaged or cut off", exitFailed},
		{"probe a:1 -cert " + none, "none.pem", exitFailed},
		{"dump a.pcap -port 65536", "-port 65536", exitUsage},
		{"dump " + none, "none.pem", exitFailed},
		{"dump " + noPEM, "no.pem: neither pcap nor pcapng", exitFailed},
	} {
		_, code, err := ran(strings.Fields(test.args)...)
		require.ErrorContains(t, err, test.says, test.args)
		require.Equal(t, test.code, code, test.args)
	}
	out, code, err := ran()
	require.NoError(t, err)
	require.Equal(t, exitUsage, code)
	require.Equal(t, manual, out)
}

func TestProbe_EndsWithTheCodeOfItsResult(t *testing.T) {
	node, err := raftwire.NewTCPTransport("127.0.0.1:0", nil, 3, 0, io.Discard)
	require.NoError(t, err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range 2 {
			rpc := <-node.Consumer()
			rpc.Respond(&raftwire.RequestPreVoteResponse{Term: 7}, nil)
		}
	}()
	files := testca.WriteFiles(t.TempDir(), testca.New().Issue(), testca.New())

	out, code, err := ran("probe", "-via", "none", string(node.LocalAddr()), "-timeout", "1m", "-cert", files.Cert(), "-key", files.Key(), "-ca", files.CA())
	require.NoError(t, err)
	require.Zero(t, code)
	require.Contains(t, out, "  term         7\n")

	out, code, err = ran("probe", "-json", "-timeout", "1m", string(node.LocalAddr()))
	require.NoError(t, err)
	require.Zero(t, code)
	var report struct{ Node struct{ Term int } }
	require.NoError(t, json.Unmarshal([]byte(out), &report))
	require.Equal(t, 7, report.Node.Term)

	<-ended
	require.NoError(t, node.Close())
	node, err = raftwire.NewTCPTransportWithConfig("127.0.0.1:0", nil, &raftwire.NetworkTransportConfig{
		Identity: raftwire.Identity{Cluster: "eu", Node: "n1", Require: true}, Logger: hclog.NewNullLogger(),
	})
	require.NoError(t, err)
	out, code, err = ran("probe", "-json", "-via", "none", "-timeout", "1m", string(node.LocalAddr()))
	require.NoError(t, err)
	require.Equal(t, 12, code)
	require.Contains(t, out, `"cluster": "eu"`)
	require.NoError(t, node.Close())

	out, code, err = ran("probe", freePort(t))
	require.NoError(t, err)
	require.Equal(t, 3, code)
	require.Contains(t, out, ": unreachable\n")
}
