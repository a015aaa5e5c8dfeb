package dump

import (
	"bufio"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/raftwire/raftwire"
)

// printer writes lines, and counts.
type printer struct {
	out          *bufio.Writer // which remembers its first error
	noHeartbeats bool
	day          string // of the last line

	conns                               map[string]int // by what they are
	requests, answers, unanswered, gaps int
	lost                                int64
}

// print writes a line with a time and two addresses.
func (p *printer) print(at time.Time, from, to, format string, args ...any) {
	at = at.UTC()
	if day := at.Format("2006-01-02 MST"); day != p.day {
		p.day = day
		p.printf("%s\n", day)
	}
	p.printf("%s  %-21s → %-21s  %s\n", at.Format("15:04:05.000000"), from, to, fmt.Sprintf(format, args...))
}

func (p *printer) printf(format string, args ...any) { fmt.Fprintf(p.out, format, args...) }

// hides reports whether lines about r are not wanted.
func (p *printer) hides(r *request) bool { return p.noHeartbeats && r.name == "heartbeat" }

// summarize writes the last line.
func (p *printer) summarize(truncated int) {
	total := 0
	var kinds []string
	for _, kind := range slices.Sorted(maps.Keys(p.conns)) {
		total += p.conns[kind]
		kinds = append(kinds, fmt.Sprintf("%d %s", p.conns[kind], kind))
	}
	p.printf("%s", plural(total, "connection"))
	if total > 0 {
		p.printf(" (%s)", strings.Join(kinds, ", "))
	}
	p.printf(", %s, %s", plural(p.requests, "request"), plural(p.answers, "answer"))
	if p.unanswered > 0 {
		p.printf(", %d without an answer", p.unanswered)
	}
	if p.gaps > 0 {
		p.printf(", %s missing in %s", plural(p.lost, "byte"), plural(p.gaps, "gap"))
	}
	if truncated > 0 {
		p.printf(", %s cut short (capture with tcpdump -s 0)", plural(truncated, "packet"))
	}
	p.printf("\n")
}

// describe says what a request asks.
func (r *request) describe() string {
	switch m := r.command.(type) {
	case *raftwire.AppendEntriesRequest:
		if r.name == "heartbeat" {
			return fmt.Sprintf("%-15s  term %d", r.name, m.Term)
		}
		return fmt.Sprintf("%-15s  term %d  prev %s  %s  commit %d", r.name, m.Term, place(m.PrevLogEntry, m.PrevLogTerm), describeEntries(m.Entries), m.LeaderCommitIndex)
	case *raftwire.RequestVoteRequest:
		transfer := ""
		if m.LeadershipTransfer {
			transfer = "  leadership transfer"
		}
		return fmt.Sprintf("%-15s  term %d  last log %s%s", r.name, m.Term, place(m.LastLogIndex, m.LastLogTerm), transfer)
	case *raftwire.RequestPreVoteRequest:
		return fmt.Sprintf("%-15s  term %d  last log %s", r.name, m.Term, place(m.LastLogIndex, m.LastLogTerm))
	case *raftwire.InstallSnapshotRequest:
		return fmt.Sprintf("%-15s  term %d  last log %s  %s", r.name, m.Term, place(m.LastLogIndex, m.LastLogTerm), r.describeBody(m.Size))
	}
	return r.name
}

// describeBody says how far the body of a snapshot has come.
func (r *request) describeBody(size int64) string {
	text := bytesOf(size)
	if r.body < size {
		text = fmt.Sprintf("%s of %s", bytesOf(r.body), text)
	}
	text += " in " + took(r.bodyEnd.Sub(r.began))
	if r.bodyLost > 0 {
		text += fmt.Sprintf(" (%s missing in the capture)", bytesOf(r.bodyLost))
	}
	return text
}

// place names an entry of the log.
func place(index, term uint64) string { return fmt.Sprintf("%d (term %d)", index, term) }

// describeEntries says which entries there are, how large, and which of them are no
// commands.
func describeEntries(entries []*raftwire.Log) string {
	if len(entries) == 0 {
		return "no entries"
	}
	size, special := 0, make(map[string]int)
	for _, entry := range entries {
		if entry == nil {
			return "a nil entry"
		}
		size += len(entry.Data) + len(entry.Extensions)
		if entry.Type != raftwire.LogCommand {
			special[entry.Type.String()]++
		}
	}
	text := fmt.Sprintf("%s %s, %s", entriesOf(len(entries)), span(entries), bytesOf(int64(size)))
	for _, name := range slices.Sorted(maps.Keys(special)) {
		text += fmt.Sprintf(", %d %s", special[name], name)
	}
	return text
}

// span returns the first and last index of entries.
func span(entries []*raftwire.Log) string {
	first, last := entries[0].Index, entries[len(entries)-1].Index
	if first == last {
		return fmt.Sprint(first)
	}
	return fmt.Sprintf("%d-%d", first, last)
}

// title names a request in the line of its answer.
func (r *request) title() string {
	if m, ok := r.command.(*raftwire.AppendEntriesRequest); ok && len(m.Entries) > 0 && !slices.Contains(m.Entries, nil) {
		return r.name + " " + span(m.Entries)
	}
	return r.name
}

// describe says what an answer says.
func (a *answer) describe() string {
	if a.text != "" {
		return fmt.Sprintf("error %q", a.text)
	}
	var words []string
	if a.Success != nil {
		words = append(words, choose(*a.Success, "success", "FAILED"))
	}
	if a.Granted != nil {
		words = append(words, choose(*a.Granted, "granted", "not granted"))
	}
	if a.Term > 0 {
		words = append(words, fmt.Sprintf("term %d", a.Term))
	}
	if a.LastLog != nil {
		words = append(words, fmt.Sprintf("last log %d", *a.LastLog))
	}
	if a.NoRetryBackoff {
		words = append(words, "retry at once")
	}
	if len(words) == 0 {
		return "done"
	}
	return strings.Join(words, "  ")
}

func choose(condition bool, yes, no string) string {
	if condition {
		return yes
	}
	return no
}

func entriesOf(n int) string {
	if n == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", n)
}

func plural[N int | int64](n N, name string) string {
	if n == 1 {
		return "1 " + name
	}
	return fmt.Sprintf("%d %ss", n, name)
}

// took returns a duration in milliseconds, so that a column can be compared by eye.
func took(d time.Duration) string {
	return fmt.Sprintf("%.3f ms", float64(d)/float64(time.Millisecond))
}

func bytesOf(n int64) string {
	switch {
	case n < 10<<10:
		return plural(n, "byte")
	case n < 10<<20:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}
