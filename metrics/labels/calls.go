package labels

// Calls keeps what belongs to the calls of a peer, by the labels kind, pipelined
// and outcome.
type Calls[V any] struct {
	slots [2][len(Outcomes)][len(Kinds)]Slot[V]
}

// Of returns the slot of three labels, by their numbers.
func (c *Calls[V]) Of(kind int, pipelined bool, outcome int) *Slot[V] {
	if pipelined {
		return &c.slots[1][outcome][kind]
	}
	return &c.slots[0][outcome][kind]
}

// Each calls f with what is kept.
func (c *Calls[V]) Each(f func(*V)) {
	for p := range c.slots {
		for o := range c.slots[p] {
			for k := range c.slots[p][o] {
				if v := c.slots[p][o][k].Get(); v != nil {
					f(v)
				}
			}
		}
	}
}
