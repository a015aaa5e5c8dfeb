package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
)

// A Report is everything a run found out.
type Report struct {
	Machine  Machine   `json:"machine"`
	Settings Settings  `json:"settings"`
	Results  []*Result `json:"results"`
	Ratios   []Ratio   `json:"ratios"` // see comparisons
}

// Settings are the options that figures depend on.
type Settings struct {
	Rounds      int     `json:"rounds"`
	SliceSecs   float64 `json:"slice_seconds"`
	TimeoutSecs float64 `json:"timeout_seconds"`
	LiveHeapMiB int     `json:"live_heap_mib"`
	MaxPool     int     `json:"max_pool"`
	Rate        float64 `json:"rate,omitempty"`   // requests a second to each follower
	Target      string  `json:"target,omitempty"` // in another process, perhaps on another machine
	TLS         bool    `json:"tls,omitempty"`    // plain TCP otherwise
}

// A Result is a rival in a cell.
type Result struct {
	Workload  workload  `json:"workload"`
	Window    window    `json:"window"`
	Followers followers `json:"followers,omitempty"`
	Rival     string    `json:"rival"`
	Median    Figures   `json:"median"` // of each figure over the rounds
	Rounds    []Figures `json:"rounds"`

	spent Spent // in all rounds
}

func newReport(opts options) *Report {
	return &Report{
		Machine: thisMachine(),
		Settings: Settings{
			Rounds:      opts.rounds,
			SliceSecs:   opts.slice.Seconds(),
			TimeoutSecs: opts.timeout.Seconds(),
			LiveHeapMiB: opts.heap,
			MaxPool:     maxPool,
			Rate:        opts.rate,
			Target:      opts.target,
			TLS:         opts.credentials != nil,
		},
	}
}

// add takes the figures of a round.
func (r *Report) add(c cell, by rival, f Figures) {
	result := r.find(c, by.name)
	if result == nil {
		result = &Result{Workload: c.workload, Window: c.window, Followers: c.followers, Rival: by.name}
		r.Results = append(r.Results, result)
	}
	result.Rounds = append(result.Rounds, f)
}

// find returns the result of a rival in a cell, or nil.
func (r *Report) find(c cell, rival string) *Result {
	for _, result := range r.Results {
		if result.cell() == c && result.Rival == rival {
			return result
		}
	}
	return nil
}

// cell counts one follower where an older report says nothing.
func (r *Result) cell() cell { return cell{r.Workload, r.Window, max(1, r.Followers)} }

// summarize computes medians and ratios of what was added.
func (r *Report) summarize() {
	for _, result := range r.Results {
		result.Median = medianFigures(result.Rounds)
		result.spent = make(Spent)
		for _, round := range result.Rounds {
			result.spent.add(round.Spent)
		}
	}
	r.Ratios = nil
	for _, pair := range comparisons {
		for _, ours := range r.Results {
			if ours.Rival != pair.rival {
				continue
			}
			if theirs := r.find(ours.cell(), pair.to); theirs != nil {
				r.Ratios = append(r.Ratios, newRatio(ours.cell(), pair, ours.Rounds, theirs.Rounds))
			}
		}
	}
}

// ratio returns the ratio in a cell, or nil.
func (r *Report) ratio(c cell, pair comparison) *Ratio {
	i := slices.IndexFunc(r.Ratios, func(ratio Ratio) bool { return ratio.cell() == c && ratio.pair() == pair })
	if i < 0 {
		return nil
	}
	return &r.Ratios[i]
}

// mainRatio returns the ratio for a rival's row of the table, or nil.
func (r *Report) mainRatio(c cell, rival string) *Ratio {
	for _, pair := range comparisons {
		if ratio := r.ratio(c, pair); ratio != nil && pair.rival == rival {
			return ratio
		}
	}
	return nil
}

// ratiosOf returns all ratios of a pair.
func (r *Report) ratiosOf(pair comparison) (ratios []Ratio) {
	for _, ratio := range r.Ratios {
		if ratio.pair() == pair {
			ratios = append(ratios, ratio)
		}
	}
	return ratios
}

func medianFigures(rounds []Figures) Figures {
	of := func(figure func(Figures) float64) float64 {
		values := make([]float64, len(rounds))
		for i, f := range rounds {
			values[i] = figure(f)
		}
		return median(values)
	}
	return Figures{
		RPCs:             of(func(f Figures) float64 { return f.RPCs }),
		Seconds:          of(func(f Figures) float64 { return f.Seconds }),
		RPCsPerSecond:    of(func(f Figures) float64 { return f.RPCsPerSecond }),
		EntriesPerSecond: of(func(f Figures) float64 { return f.EntriesPerSecond }),
		MBPerSecond:      of(func(f Figures) float64 { return f.MBPerSecond }),
		P50Micros:        of(func(f Figures) float64 { return f.P50Micros }),
		P99Micros:        of(func(f Figures) float64 { return f.P99Micros }),
		P999Micros:       of(func(f Figures) float64 { return f.P999Micros }),
		AllocsPerRPC:     of(func(f Figures) float64 { return f.AllocsPerRPC }),
		AllocBytesPerRPC: of(func(f Figures) float64 { return f.AllocBytesPerRPC }),
		CPUSecsPerMRPC:   of(func(f Figures) float64 { return f.CPUSecsPerMRPC }),
	}
}

// rates returns RPC/s of the rounds.
func (r *Result) rates() []float64 {
	rates := make([]float64, len(r.Rounds))
	for i, f := range r.Rounds {
		rates[i] = f.RPCsPerSecond
	}
	return rates
}

// ensureWritable makes sure that file can be written, unless no file is wanted.
// It leaves behind what was there before.
func ensureWritable(file string) error {
	if file == "" {
		return nil
	}
	_, missing := os.Stat(file)
	f, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	err = f.Close()
	if missing != nil {
		err = errors.Join(err, os.Remove(file))
	}
	return err
}

func writeJSON(file string, report any) error {
	text, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

// saved is what -json has written.
type saved interface {
	// check returns what is missing in a file that this program has written.
	check() error
	// summarize computes what an older version of it may not have written.
	summarize()
}

var (
	_ saved = (*Report)(nil)
	_ saved = (*Trials)(nil)
)

// readJSON returns a *Report or *Trials.
func readJSON(file string) (saved, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	r, err := parseSaved(text)
	if err != nil {
		return nil, fmt.Errorf("%s is not a report of this program: %w", file, err)
	}
	return r, nil
}

func parseSaved(text []byte) (saved, error) {
	var kind struct{ Command string }
	if err := json.Unmarshal(text, &kind); err != nil {
		return nil, err
	}
	var r saved = new(Report)
	if kind.Command != "" {
		r = new(Trials)
	}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, err
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	r.summarize()
	return r, nil
}

func (r *Report) check() error {
	if len(r.Results) == 0 {
		return errors.New("it has no results")
	}
	for _, result := range r.Results {
		if result == nil || len(result.Rounds) == 0 || slices.Min(result.rates()) <= 0 {
			return errors.New("a result has no RPC/s")
		}
	}
	return nil
}
