package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/raftwire/raftwire/cmd/raftwire/internal/probe"
)

const aboutProbe = `Usage: raftwire probe [flags] HOST:PORT

Says what answers there: TCP, TLS with whose certificate, the key of a Mux, Raft, and
of a Raft node its ID, address, term and round-trip time. A raftwire node with an
Identity also says its cluster. The probe asks with one pre-vote in term 0. That changes
no term, vote or log, but the node's observers run, and it may log a WARN. Without -via,
TLS is tried first: a node without TLS logs that as a refused connection.

Ends with:
   0  raft               the Raft core answers
   1                     a file cannot be read
   2                     the command line is wrong
   3  unreachable        nothing accepts connections
   4  silent             connections are accepted, and nothing is answered
   5  tls-refused        TLS is spoken, and this client is refused
   6  tls-untrusted      the core answers, but the certificate does not pass the check of -ca
   7  foreign            something else answers, for example HTTP
   8  closed             connections are closed without an answer
   9  before-1.7         hashicorp/raft before 1.7, which has no pre-vote
  10  core-silent        the port speaks Raft, and its core does not answer
  11  core-error         the core answers with an error
  12  identity-required  the node requires an Identity of its peers, and does not ask its core

Flags:
`

type probeFlags struct {
	via, alpn, serverName, ca, cert, key string
	timeout                              time.Duration
	json                                 bool
}

func (f *probeFlags) define(flags *flag.FlagSet) {
	flags.StringVar(&f.via, "via", "", "what lies between TCP and Raft, outermost first: a `list` of tls and first bytes\nof a Mux, or none; tls,11 is such a byte inside TLS (default: TLS if it is spoken)")
	flags.StringVar(&f.alpn, "alpn", "", "`protocols` that TLS offers, with commas: the key of a Mux")
	flags.StringVar(&f.serverName, "server-name", "", "`name` that the certificate should have, in place of HOST")
	flags.StringVar(&f.ca, "ca", "", "PEM `file` of CAs, to check the certificate with")
	flags.StringVar(&f.cert, "cert", "", "PEM `file` with the certificate to show")
	flags.StringVar(&f.key, "key", "", "PEM `file` with its private key (default: the file of -cert)")
	flags.DurationVar(&f.timeout, "timeout", 5*time.Second, "limit of each step: connecting, a handshake, an answer")
	flags.BoolVar(&f.json, "json", false, "print JSON")
}

func runProbe(args []string, out io.Writer) (int, error) {
	var given probeFlags
	flags := flag.NewFlagSet("probe", flag.ContinueOnError)
	given.define(flags)
	address, err := parse(flags, args, aboutProbe, out)
	if err != nil {
		return exitUsage, err
	}
	config, err := given.config(address)
	if err != nil {
		return exitUsage, err
	}
	if err := given.load(config); err != nil {
		return exitFailed, err
	}
	report := probe.Run(*config)
	if !given.json {
		report.WriteText(out, time.Now())
		return probe.ExitCodes[report.Result], nil
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return probe.ExitCodes[report.Result], encoder.Encode(report)
}

// config returns what was asked for, without the files.
func (f *probeFlags) config(address string) (*probe.Config, error) {
	config := &probe.Config{Address: address, ServerName: f.serverName, Timeout: f.timeout}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("%q is not HOST:PORT: %w", address, err)
	}
	if host == "" && f.ca != "" && f.serverName == "" {
		return nil, fmt.Errorf("%q has no host to check the certificate for: give -server-name", address)
	}
	if f.timeout <= 0 {
		return nil, fmt.Errorf("-timeout %v: give a positive duration", f.timeout)
	}
	if f.key != "" && f.cert == "" {
		return nil, errors.New("-key is given without -cert")
	}
	if f.alpn != "" {
		config.Protocols = strings.Split(f.alpn, ",")
		for _, protocol := range config.Protocols {
			if n := len(protocol); n == 0 || n > 255 {
				return nil, fmt.Errorf("-alpn: a protocol has 1 to 255 bytes, not %d", n)
			}
		}
	}
	if f.via != "" {
		via, err := probe.ParseVia(f.via)
		if err != nil {
			return nil, fmt.Errorf("-via: %w", err)
		}
		config.Via = via
	}
	return config, nil
}

// load reads the files.
func (f *probeFlags) load(config *probe.Config) error {
	if f.ca != "" {
		roots, err := readRoots(f.ca)
		if err != nil {
			return fmt.Errorf("-ca: %w", err)
		}
		config.Roots = roots
	}
	if f.cert == "" {
		return nil
	}
	key := f.key
	if key == "" {
		key = f.cert
	}
	certificate, err := tls.LoadX509KeyPair(f.cert, key)
	if err != nil {
		return fmt.Errorf("-cert: %w", err)
	}
	config.Certificate = &certificate
	return nil
}

// readRoots reads a file of CAs. Each that begins a line must be whole: without one of the
// CAs, a good node would be called untrusted.
func readRoots(file string) (*x509.CertPool, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	roots, whole := x509.NewCertPool(), 0
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		whole++
		ca, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d in %s: %w", whole, file, err)
		}
		roots.AddCert(ca)
	}
	begun := bytes.Count(append([]byte("\n"), text...), []byte("\n-----BEGIN CERTIFICATE-----"))
	switch {
	case whole < begun:
		return nil, fmt.Errorf("%s has %d certificates, and %d of them are damaged or cut off", file, begun, begun-whole)
	case whole == 0:
		return nil, fmt.Errorf("%s holds no certificate in PEM", file)
	}
	return roots, nil
}
