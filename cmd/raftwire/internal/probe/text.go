package probe

import (
	"cmp"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// ExitCodes are what a probe ends with. 1 and 2 are left to errors of the program and
// of its command line.
var ExitCodes = map[Result]int{
	Raft:             0,
	Unreachable:      3,
	Silent:           4,
	Refused:          5,
	Untrusted:        6,
	Foreign:          7,
	Closed:           8,
	Before17:         9,
	CoreSilent:       10,
	CoreError:        11,
	IdentityRequired: 12,
}

// WriteText writes a report for a reader, who reads it at now.
func (r *Report) WriteText(out io.Writer, now time.Time) {
	fmt.Fprintf(out, "%s: %s\n", r.Address, r.Result)
	if r.Result != Unreachable {
		line(out, "TCP", "connects in %v", r.Connect)
		r.writeTLS(out, now)
		line(out, "key", "%s", r.keys())
	}
	if i := r.Identity; i != nil {
		line(out, "identity", "node %q of cluster %q", i.Node, i.Cluster)
	}
	if n := r.Node; n != nil {
		line(out, "node", "ID %q, address %q, protocol version %d", n.ID, n.Address, n.Protocol)
		line(out, "term", "%d", n.Term)
		line(out, "round trip", "%v", n.RoundTrip)
	}
	line(out, "result", "%s", r.Detail)
	for _, note := range r.Notes {
		line(out, "note", "%s", note)
	}
}

func line(out io.Writer, name, format string, args ...any) {
	fmt.Fprintf(out, "  %-12s %s\n", name, printable(fmt.Sprintf(format, args...)))
}

// printable escapes what no terminal should get from a peer, as %q does: it could clear
// the screen, or forge a line.
func printable(text string) string {
	var b strings.Builder
	for _, r := range text {
		if strconv.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		b.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
	}
	return b.String()
}

func (r *Report) writeTLS(out io.Writer, now time.Time) {
	t := r.TLS
	if t == nil {
		line(out, "TLS", "none")
		return
	}
	line(out, "TLS", "%s, %s; client certificate: %s", cmp.Or(t.Version, "handshake not completed"), t.protocol(), cmp.Or(t.ClientCertificate, "not asked for"))
	if t.Certificate != nil {
		t.Certificate.write(out, now)
	}
}

func (t *TLS) protocol() string {
	if t.Protocol == "" {
		return "no ALPN protocol"
	}
	return fmt.Sprintf("ALPN %q", t.Protocol)
}

func (c *Certificate) write(out io.Writer, now time.Time) {
	names := strings.Join(c.Names, ", ")
	line(out, "certificate", "of %s, issued by %s", cmp.Or(names, c.Subject, "nobody"), cmp.Or(c.Issuer, "an authority without a name"))
	line(out, "", "valid until %s (%s)", c.NotAfter.UTC().Format("2006-01-02 15:04 UTC"), c.remaining(now))
	switch {
	case c.Problem != "":
		line(out, "", "does not pass: %s", c.Problem)
	case c.Checked:
		line(out, "", "passes: authority, name and dates")
	default:
		line(out, "", "not checked: give -ca")
	}
}

// remaining says how long the certificate is valid yet.
func (c *Certificate) remaining(now time.Time) string {
	const day = 24 * time.Hour
	switch left := c.NotAfter.Sub(now); {
	case now.Before(c.NotBefore):
		return "NOT YET VALID: from " + c.NotBefore.UTC().Format("2006-01-02 15:04 UTC")
	case left < 0:
		return "EXPIRED"
	case left < 2*day:
		return fmt.Sprintf("in %d hours", left/time.Hour)
	default:
		return fmt.Sprintf("in %d days", left/day)
	}
}

// keys says what keys of a Mux lie before Raft.
func (r *Report) keys() string {
	var all []string
	for _, step := range r.Via {
		if step != "tls" {
			all = append(all, "first byte "+step)
		}
	}
	if r.TLS != nil && r.TLS.Protocol != "" {
		all = append(all, r.TLS.protocol())
	}
	return cmp.Or(strings.Join(all, ", "), "none")
}
