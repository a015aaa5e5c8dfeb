package main

// The ratios to hashicorp/raft that the project has set itself.

var barWorkloads = []workload{{1, 128}, {1, 1 << 10}, {64, 128}, {64, 1 << 10}, {64, 16 << 10}, {1, 1 << 20}}

// barRatios has a value for each of barWorkloads.
var barRatios = map[window][]float64{
	oneByOne: {2.3, 2.2, 6.5, 3.2, 1.5, 1.8},
	2:        {2.7, 2.5, 8, 3.3, 1.4, 1.7},
	16:       {6, 5.5, 12, 3.6, 1.5, 2.0},
	130:      {9, 8, 15, 4.5, 1.6, 2.2},
}

// bar returns what the ratio in a cell should be at least, or 0 for nothing.
// Hooks that do nothing have no bar: they are told by a clock that is not read
// for hooks that are not set.
func (p comparison) bar(c cell) float64 {
	switch p {
	case comparison{nameRaftwire, nameHashicorp}:
		return peerBar(c)
	case comparison{nameAdapter, nameRaftwire}:
		return 0.9
	case comparison{namePrometheus, nameRaftwire}:
		return prometheusBar(c)
	}
	return 0
}

// prometheusBar is for small messages: in large ones it costs nothing.
func prometheusBar(c cell) float64 {
	if c.workload.payload() > 1<<10 {
		return 0
	}
	return 0.95
}

func peerBar(c cell) float64 {
	if c.followers != 1 {
		return 0
	}
	for i, w := range barWorkloads {
		if ratios := barRatios[c.window]; w == c.workload && ratios != nil {
			return ratios[i]
		}
	}
	return 0
}
