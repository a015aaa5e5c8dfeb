package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

// With -with, two builds of this program are compared: each measures raftwire in
// a process of its own, in turn with the other. Neither is the process that asks,
// so that both have the same surroundings.

// otherBuild follows the name of a rival that the other build measures.
const otherBuild = "@other"

// A build is a process that measures what it is asked for.
type build struct{ *process }

// A buildQuestion asks for one measurement.
type buildQuestion struct {
	Rival     string        `json:"rival"`
	Workload  workload      `json:"workload"`
	Window    window        `json:"window"`
	Followers followers     `json:"followers"`
	Rate      float64       `json:"rate"`
	Slice     time.Duration `json:"slice_ns"`
	Timeout   time.Duration `json:"timeout_ns"`
	Heap      int           `json:"heap_mib"`
	TLS       bool          `json:"tls"`
	Profile   bool          `json:"profile"`
}

type buildAnswer struct {
	Figures Figures `json:"figures"`
	Error   string  `json:"error,omitempty"`
}

// startBuild starts an executable that has the command measure.
func startBuild(ctx context.Context, executable string) (*build, error) {
	p, err := startProcess(ctx, executable, "measure")
	if err != nil {
		return nil, fmt.Errorf("-with: %w", err)
	}
	return &build{p}, nil
}

// measure asks the build.
func (b *build) measure(q buildQuestion) (Figures, error) {
	var a buildAnswer
	if err := b.ask(q, &a); err != nil {
		return Figures{}, fmt.Errorf("%w, or has no command \"measure\"", err)
	}
	if a.Error != "" {
		return Figures{}, errors.New(a.Error)
	}
	return a.Figures, nil
}

// measuredBy returns r as measured by a build.
func (r rival) measuredBy(b *build, suffix string) rival {
	return rival{name: r.name + suffix, takes: r.takes, open: r.open, build: b, asks: r.name}
}

// compareBuilds makes of the rivals those that two builds measure.
func compareBuilds(rivals []rival, this, other *build) (both []rival) {
	for _, r := range rivals {
		if r.isOurs() {
			both = append(both, r.measuredBy(this, ""), r.measuredBy(other, otherBuild))
		}
	}
	return both
}

// isOurs reports whether r is raftwire, perhaps with something added to it.
func (r rival) isOurs() bool { return r.isTransport() && r.name != nameHashicorp }

// startBoth starts this program and another build of it; end ends them.
func startBoth(ctx context.Context, other string) (this, that *build, end func() error, err error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, nil, err
	}
	if that, err = startBuild(ctx, other); err != nil {
		return nil, nil, nil, err
	}
	if this, err = startBuild(ctx, self); err != nil {
		return nil, nil, nil, errors.Join(err, that.end())
	}
	return this, that, func() error { return errors.Join(this.end(), that.end()) }, nil
}

const aboutMeasure = `Measures what it is asked for on standard input, a line of JSON for each measurement, and
answers on standard output. The program starts itself so for -with. Flags:
`

// serveQuestions is the command measure.
func serveQuestions(ctx context.Context, args []string, out io.Writer) error {
	if err := parseFlags(newFlagSet("measure"), args, aboutMeasure, out); err != nil {
		return err
	}
	return answerQuestions(ctx, os.Stdin, out)
}

func answerQuestions(ctx context.Context, in io.Reader, out io.Writer) error {
	asked := asked{contents: make(map[workload]*content)}
	return answerAll(in, out, func(q buildQuestion) (a buildAnswer) {
		var err error
		if a.Figures, err = asked.measure(ctx, q); err != nil {
			a.Error = err.Error()
		}
		return a
	})
}

// asked is what a build keeps from one question to the next.
type asked struct {
	contents    map[workload]*content
	ballast     any
	heap        int
	credentials *credentials
}

func (k *asked) measure(ctx context.Context, q buildQuestion) (Figures, error) {
	r, err := parseRival(q.Rival)
	if err != nil {
		return Figures{}, err
	}
	if k.heap != q.Heap {
		k.ballast, k.heap = liveHeap(q.Heap), q.Heap
	}
	if q.TLS && k.credentials == nil {
		if k.credentials, err = newCredentials(newSecret()); err != nil {
			return Figures{}, err
		}
	}
	if k.contents[q.Workload] == nil {
		k.contents[q.Workload] = newContent(q.Workload)
	}
	s := setup{content: k.contents[q.Workload], window: q.Window, followers: q.Followers, rate: q.Rate, timeout: q.Timeout}
	if q.TLS {
		s.credentials = k.credentials
	}
	return measure(ctx, r, q.Workload, s, q.Slice, q.Profile)
}

// checkWith refuses what two builds cannot be compared in.
func (o options) checkWith() error {
	switch {
	case o.with == "":
		return nil
	case o.target != "":
		return errors.New("-with: it measures both ends on this machine, so leave -target out")
	case !slices.ContainsFunc(o.rivals, rival.isOurs):
		return errors.New("-with: it compares raftwire, so name raftwire, hashicorpraft, raftwire+hooks or raftwire+prometheus in -rivals")
	}
	return nil
}
