package main

import (
	"context"
	"io"
	"math"
	"net/http"
	"sync"
	"time"

	"github.com/raftwire/raftwire/internal/scrape"
)

// record is a story in scrapes.
type record struct {
	begun  time.Time
	nodes  []*node
	looks  []look
	mu     sync.Mutex // protects following
	events []event
}

// look is a scrape of every node, nil of one that did not answer.
type look struct {
	at      float64 // seconds
	figures []scrape.Series
}

// event is what happened at a time, in seconds.
type event struct {
	at   float64
	what string
}

func newRecord(c *cluster) *record { return &record{begun: time.Now(), nodes: c.nodes} }

func (r *record) now() float64 { return time.Since(r.begun).Seconds() }

func (r *record) note(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, event{r.now(), what})
}

// scrapeUntil scrapes once a second until ctx ends.
func (r *record) scrapeUntil(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.looks = append(r.looks, r.look(ctx))
		case <-ctx.Done():
			return
		}
	}
}

func (r *record) look(ctx context.Context) look {
	l := look{at: r.now(), figures: make([]scrape.Series, len(r.nodes))}
	var all sync.WaitGroup
	for i, n := range r.nodes {
		all.Go(func() { l.figures[i], _ = n.scrape(ctx) })
	}
	all.Wait()
	return l
}

// scrape asks a node for its metrics.
func (n *node) scrape(ctx context.Context) (scrape.Series, error) {
	ctx, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.http+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	return scrape.Parse(string(text))
}

// panel is a part of the picture: lines over the same time.
type panel struct {
	title string
	log   bool // the axis is logarithmic
	lines []line
}

type line struct {
	name   string
	points []point
}

// point is a value at a time, in seconds.
type point struct{ at, value float64 }

const (
	calls       = "raftwire_call_duration_seconds"
	callsCount  = calls + "_count"
	appends     = `kind="AppendEntries"`
	heartbeats  = `kind="Heartbeat"`
	votes       = `kind="RequestVote"`
	preVotes    = `kind="RequestPreVote"`
	refusals    = "raftwire_connections_refused_total"
	inboundOpen = "raftwire_inbound_connections"
)

// panelsOf returns what the picture shows of a record.
func panelsOf(r *record) []panel {
	return []panel{
		{title: "Requests per second, by kind", log: true, lines: []line{
			{"AppendEntries", r.rate(callsCount, appends)},
			{"Heartbeat", r.rate(callsCount, heartbeats)},
			{"RequestPreVote", r.rate(callsCount, preVotes)},
			{"RequestVote", r.rate(callsCount, votes)},
		}},
		{title: "Latency of requests that were answered, p99 over 5 s, in ms", log: true, lines: []line{
			{"AppendEntries", r.p99(appends, `outcome="ok"`)},
			{"Heartbeat", r.p99(heartbeats, `outcome="ok"`)},
		}},
		{title: "Open inbound connections", lines: r.each(func(s scrape.Series) float64 { return s.Sum(inboundOpen) })},
		{title: "Trouble: events per second", lines: []line{
			{"foreign connections refused", r.rate(refusals, `reason="Foreign"`)},
			{"requests failed", r.rate(callsCount, `outcome="failed"`)},
			{"requests timed out", r.rate(callsCount, `outcome="timeout"`)},
		}},
	}
}

// since adds up by how much the figures of each node have grown in so many
// seconds before a look. A node that did not answer at both ends is left out.
func (r *record) since(i, seconds int, of func(scrape.Series) float64) (sum float64) {
	now, before := r.looks[i], r.looks[i-seconds]
	for n := range r.nodes {
		if now.figures[n] != nil && before.figures[n] != nil {
			sum += of(now.figures[n].Since(before.figures[n]))
		}
	}
	return sum
}

func (r *record) rate(name string, labels ...string) (points []point) {
	for i := 1; i < len(r.looks); i++ {
		grown := r.since(i, 1, func(s scrape.Series) float64 { return s.Sum(name, labels...) })
		points = append(points, point{r.looks[i].at, grown / (r.looks[i].at - r.looks[i-1].at)})
	}
	return points
}

// p99 is that of all nodes together, in ms.
func (r *record) p99(labels ...string) (points []point) {
	const window = 5
	for i := window; i < len(r.looks); i++ {
		together := make(scrape.Series)
		r.since(i, window, func(s scrape.Series) float64 {
			for series, value := range s {
				together[series] += value
			}
			return 0
		})
		if v := together.Quantile(0.99, calls, labels...); !math.IsNaN(v) {
			points = append(points, point{r.looks[i].at, v * 1000})
		}
	}
	return points
}

// each returns a line for each node, with a gap where it did not answer.
func (r *record) each(of func(scrape.Series) float64) (lines []line) {
	for n := range r.nodes {
		l := line{name: "node " + r.nodes[n].name}
		for _, look := range r.looks {
			if look.figures[n] != nil {
				l.points = append(l.points, point{look.at, of(look.figures[n])})
			} else {
				l.points = append(l.points, point{look.at, math.NaN()})
			}
		}
		lines = append(lines, l)
	}
	return lines
}
