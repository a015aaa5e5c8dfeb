package main

import (
	"fmt"
	"strconv"
	"strings"
)

// A clusterCell is what two clusters are compared in.
type clusterCell struct {
	Nodes   count   `json:"nodes"`
	Writers count   `json:"writers"` // that each have one entry under way
	Size    entries `json:"entry_bytes"`
	Window  window  `json:"window"`
	Log     choice  `json:"log"`
	Wire    choice  `json:"wire"`
}

// noCell is for trials that have no cells.
var noCell clusterCell

func (c clusterCell) String() string {
	return fmt.Sprintf("%s nodes, %s writers, %s, window %s, %s, %s", c.Nodes, c.Writers, c.Size, c.Window, c.Log, c.Wire)
}

// fileName names the profile of a node.
func (c clusterCell) fileName(rival string, node int) string {
	parts := append(c.columns(), strings.ReplaceAll(rival, "/", "-"), strconv.Itoa(node))
	return strings.Join(parts, "_") + ".pprof"
}

// cellColumns are the heads of columns.
var cellColumns = []string{"nodes", "writers", "entry", "window", "log", "wire"}

func (c clusterCell) columns() []string {
	return []string{c.Nodes.String(), c.Writers.String(), c.Size.String(), c.Window.String(), string(c.Log), string(c.Wire)}
}

// A count is of nodes or writers.
type count int

func (c count) String() string { return strconv.Itoa(int(c)) }

func parseCount(s string) (count, error) {
	n, err := strconv.ParseUint(s, 10, 12)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%q: write a number from 1 to 4095", s)
	}
	return count(n), nil
}

// parseNodes refuses what has no follower.
func parseNodes(s string) (count, error) {
	n, err := parseCount(s)
	if err != nil || n < 2 || n > 15 {
		return 0, fmt.Errorf("nodes %q: write a number from 2 to 15", s)
	}
	return n, nil
}

// An entries is how many payload bytes an entry has.
type entries int

func (e entries) String() string { return sizeText(int(e)) }

func parseEntries(s string) (entries, error) {
	n, err := parseSize(s)
	if err != nil || n > 16<<20 {
		return 0, fmt.Errorf("entry %q: write bytes up to 16M, such as 128 or 4K", s)
	}
	return entries(n), nil
}

// parseNodeWindow refuses a window that does not exist for a node.
func parseNodeWindow(s string) (window, error) {
	w, err := parseWindow(s)
	if w == streaming {
		return 0, fmt.Errorf("window %q: write sync or a number of requests in flight from 2 to 65535", s)
	}
	return w, err
}

// A choice is one of a few words.
type choice string

const (
	inMemory choice = "memory"
	onDisk   choice = "disk"
	overTCP  choice = "TCP"
	overTLS  choice = "TLS"
)

func (c choice) String() string { return string(c) }

func parseChoice(of ...choice) func(string) (choice, error) {
	return func(s string) (choice, error) {
		for _, c := range of {
			if strings.EqualFold(s, string(c)) {
				return c, nil
			}
		}
		return "", fmt.Errorf("%q: choose from %s", s, joined(of))
	}
}

func joined(of []choice) string {
	words := make([]string, len(of))
	for i, c := range of {
		words[i] = string(c)
	}
	return strings.Join(words, ", ")
}

// cells returns what a run measures. The first log and the first wire are
// measured with all sizes and windows, each of the others with the first ones.
func (o clusterOptions) cells() (cells []clusterCell) {
	cells = o.cellsOf(o.sizes, o.windows, o.logs[0], o.wires[0])
	for _, log := range o.logs[1:] {
		cells = append(cells, o.cellsOf(o.sizes[:1], o.windows[:1], log, o.wires[0])...)
	}
	for _, wire := range o.wires[1:] {
		cells = append(cells, o.cellsOf(o.sizes[:1], o.windows[:1], o.logs[0], wire)...)
	}
	return cells
}

func (o clusterOptions) cellsOf(sizes []entries, windows []window, log, wire choice) (cells []clusterCell) {
	for _, nodes := range o.nodes {
		for _, window := range windows {
			for _, size := range sizes {
				for _, writers := range o.writers {
					cells = append(cells, clusterCell{nodes, writers, size, window, log, wire})
				}
			}
		}
	}
	return cells
}
