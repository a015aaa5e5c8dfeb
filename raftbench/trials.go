package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
)

// Trials are what snapshot or idle found out: figures of each rival, round by
// round. (What run measures has cells besides, and is a Report.)
type Trials struct {
	Command string   `json:"command"` // that made them
	About   string   `json:"about"`   // what was measured, and how
	Machine Machine  `json:"machine"`
	Figures []string `json:"figures"`  // in the order of the table
	To      string   `json:"ratio_to"` // the rival that ratios of the first figure are to
	Results []*Trial `json:"results"`
}

// A Trial is a rival's part.
type Trial struct {
	Rival  string    `json:"rival"`
	Median sample    `json:"median"` // of each figure over the rounds
	Rounds []sample  `json:"rounds"`
	Ratio  *Quotient `json:"ratio,omitempty"`
}

// A sample is figures by name. One that is not known is missing.
type sample map[string]float64

// add takes the figures of a round.
func (t *Trials) add(rival string, s sample) {
	trial := t.find(rival)
	if trial == nil {
		trial = &Trial{Rival: rival}
		t.Results = append(t.Results, trial)
	}
	trial.Rounds = append(trial.Rounds, s)
}

// find returns the trial of a rival, or nil.
func (t *Trials) find(rival string) *Trial {
	i := slices.IndexFunc(t.Results, func(trial *Trial) bool { return trial.Rival == rival })
	if i < 0 {
		return nil
	}
	return t.Results[i]
}

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
func (t *Trials) publish(out io.Writer, file string) error {
	if len(t.Results) == 0 {
		return nil
	}
	t.summarize()
	t.writeTable(out)
	if file == "" {
		return nil
	}
	return writeJSON(file, t)
}

// summarize computes medians and ratios of what was added.
func (t *Trials) summarize() {
	first := func(s sample) float64 { return s[t.Figures[0]] }
	to := t.find(t.To)
	for _, trial := range t.Results {
		trial.Median = make(sample)
		for _, figure := range t.Figures {
			if values := trial.values(figure); len(values) > 0 {
				trial.Median[figure] = median(values)
			}
		}
		if to != nil && trial != to {
			trial.Ratio = unlessNone(newQuotient(trial.Rounds, to.Rounds, first))
		}
	}
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
		rows = append(rows, append(row, trial.Ratio.columns()...))
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
	rows := [][]string{{"rival", "figure", "old", "spread", "new", "spread", "change", "old ratio", "95%", "new ratio", "95%", "to"}}
	for _, now := range t.Results {
		if then := older.find(now.Rival); then != nil {
			rows = append(rows, t.changeRows(then, now)...)
		}
	}
	if len(rows) == 1 {
		return errors.New("no rival is in both")
	}
	fmt.Fprintf(out, "old: %s\n     %s\nnew: %s\n     %s\n\n", older.About, older.Machine, t.About, t.Machine)
	writeAligned(out, 2, rows)
	fmt.Fprint(out, "\nA change in brackets is smaller than the spread of the rounds of either run.\n")
	return nil
}

func (t *Trials) changeRows(then, now *Trial) (rows [][]string) {
	for i, figure := range t.Figures {
		a, b := then.values(figure), now.values(figure)
		if len(a) == 0 || len(b) == 0 {
			continue
		}
		row := []string{now.Rival, figure, then.text(figure), then.spreadText(figure), now.text(figure), now.spreadText(figure), change(a, b)}
		if i == 0 && now.Ratio != nil {
			row = append(append(append(row, then.Ratio.columns()...), now.Ratio.columns()...), t.To)
		}
		rows = append(rows, row)
	}
	return rows
}
