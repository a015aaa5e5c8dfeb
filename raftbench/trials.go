package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
)

// Trials are what snapshot, idle or cluster found out: figures of each rival,
// round by round, and in each cell if there are cells. (What run measures is a
// Report.)
type Trials struct {
	Command  string   `json:"command"` // that made them
	About    string   `json:"about"`   // what was measured, and how
	Machine  Machine  `json:"machine"`
	Figures  []string `json:"figures"`            // in the order of the table
	Compared []string `json:"compared,omitempty"` // those that ratios are of; none means the first
	To       string   `json:"ratio_to"`           // the rival that ratios are to
	Results  []*Trial `json:"results"`
}

// A Trial is a rival's part, in a cell if there are cells.
type Trial struct {
	Cell   clusterCell          `json:"cell,omitzero"`
	Rival  string               `json:"rival"`
	Median sample               `json:"median"` // of each figure over the rounds
	Rounds []sample             `json:"rounds"`
	Ratios map[string]*Quotient `json:"ratios,omitempty"` // by figure
}

// A sample is figures by name. One that is not known is missing.
type sample map[string]float64

// add takes the figures of a round.
func (t *Trials) add(c clusterCell, rival string, s sample) {
	trial := t.find(c, rival)
	if trial == nil {
		trial = &Trial{Cell: c, Rival: rival}
		t.Results = append(t.Results, trial)
	}
	trial.Rounds = append(trial.Rounds, s)
}

// find returns the trial of a rival, or nil.
func (t *Trials) find(c clusterCell, rival string) *Trial {
	i := slices.IndexFunc(t.Results, func(trial *Trial) bool { return trial.Cell == c && trial.Rival == rival })
	if i < 0 {
		return nil
	}
	return t.Results[i]
}

// compared returns the figures that ratios are of.
func (t *Trials) compared() []string {
	if len(t.Compared) > 0 {
		return t.Compared
	}
	return t.Figures[:1]
}

// hasCells reports whether the results are of cells.
func (t *Trials) hasCells() bool { return t.Results[0].Cell != noCell }

func (t *Trials) check() error {
	if len(t.Results) == 0 || len(t.Figures) == 0 {
		return errors.New("it has no results")
	}
	for _, trial := range t.Results {
		if trial == nil || len(trial.Rounds) == 0 {
			return errors.New("a result has no rounds")
		}
	}
	return nil
}

// publish prints and saves what was measured, also after an interrupt or a
// failure. No file is wanted if its name is empty.
func (t *Trials) publish(out io.Writer, f format, file string) error {
	if len(t.Results) == 0 {
		return nil
	}
	t.summarize()
	if f == formatBenchfmt {
		t.writeBenchmarks(out)
	} else {
		t.writeTable(out)
	}
	if file == "" {
		return nil
	}
	return writeJSON(file, t)
}

// summarize computes medians and ratios of what was added.
func (t *Trials) summarize() {
	for _, trial := range t.Results {
		trial.Median = make(sample)
		for _, figure := range t.Figures {
			if values := trial.values(figure); len(values) > 0 {
				trial.Median[figure] = median(values)
			}
		}
		if to := t.find(trial.Cell, t.To); to != nil && trial != to {
			trial.Ratios = t.ratios(trial, to)
		}
	}
}

func (t *Trials) ratios(trial, to *Trial) map[string]*Quotient {
	ratios := make(map[string]*Quotient)
	for _, figure := range t.compared() {
		of := func(s sample) float64 { return s[figure] }
		if q := unlessNone(newQuotient(trial.Rounds, to.Rounds, of)); q != nil {
			ratios[figure] = q
		}
	}
	return ratios
}

// values returns a figure in all rounds that have it.
func (t *Trial) values(figure string) (values []float64) {
	for _, s := range t.Rounds {
		if value, known := s[figure]; known {
			values = append(values, value)
		}
	}
	return values
}

func (t *Trials) writeTable(out io.Writer) {
	if t.hasCells() {
		t.writeCells(out)
		return
	}
	fmt.Fprintf(out, "%s\n%s\nmedians over %d rounds\n\n", t.About, t.Machine, len(t.Results[0].Rounds))
	head := []string{"rival"}
	for _, figure := range t.Figures {
		head = append(head, figure, "spread")
	}
	rows := [][]string{append(head, "ratio", "95%")}
	for _, trial := range t.Results {
		row := []string{trial.Rival}
		for _, figure := range t.Figures {
			row = append(row, trial.text(figure), trial.spreadText(figure))
		}
		rows = append(rows, append(row, trial.Ratios[t.Figures[0]].columns()...))
	}
	writeAligned(out, 1, rows)
	fmt.Fprintf(out, "\nspread: over the rounds, highest minus lowest, relative to the median.\n"+
		"ratio: of %s to %s, the median of the rounds' ratios; 95%%: the interval in which it lies with\n"+
		"that confidence (none below 6 rounds).\n", t.Figures[0], t.To)
}

func (t *Trial) text(figure string) string {
	value, known := t.Median[figure]
	if !known {
		return "-"
	}
	return short(value)
}

func (t *Trial) spreadText(figure string) string { return percent(spread(t.values(figure))) }

// writeChanges writes what changed since older trials.
func (t *Trials) writeChanges(out io.Writer, older *Trials) error {
	head, left := []string{"rival", "figure", "old", "spread", "new", "spread", "change", "old ratio", "95%", "new ratio", "95%", "to"}, 2
	if t.hasCells() {
		head, left = slices.Concat(cellColumns, head), left+len(cellColumns)
	}
	rows := [][]string{head}
	for _, now := range t.Results {
		if then := older.find(now.Cell, now.Rival); then != nil {
			rows = append(rows, t.changeRows(then, now)...)
		}
	}
	if len(rows) == 1 {
		return errors.New("no rival is in both, in the same cell")
	}
	fmt.Fprintf(out, "old: %s\n     %s\nnew: %s\n     %s\n\n", older.About, older.Machine, t.About, t.Machine)
	writeAligned(out, left, rows)
	fmt.Fprint(out, "\nA change in brackets is smaller than the spread of the rounds of either run.\n")
	return nil
}

func (t *Trials) changeRows(then, now *Trial) (rows [][]string) {
	for _, figure := range t.Figures {
		a, b := then.values(figure), now.values(figure)
		if len(a) == 0 || len(b) == 0 {
			continue
		}
		var row []string
		if now.Cell != noCell {
			row = now.Cell.columns()
		}
		row = append(row, now.Rival, figure, then.text(figure), then.spreadText(figure), now.text(figure), now.spreadText(figure), change(a, b))
		if ratio := now.Ratios[figure]; ratio != nil {
			row = append(append(append(row, then.Ratios[figure].columns()...), ratio.columns()...), t.To)
		}
		rows = append(rows, row)
	}
	return rows
}
