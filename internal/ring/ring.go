// Package ring is a queue that reuses its memory.
package ring

// Queue is a first-in, first-out queue. The zero value is empty. It grows as
// needed and keeps its memory.
type Queue[T any] struct {
	items []T // a power of two long
	head  int
	len   int
}

// Len returns how many items are queued.
func (q *Queue[T]) Len() int { return q.len }

// At returns item i, counted from the oldest. It panics if there is none.
func (q *Queue[T]) At(i int) T {
	if i < 0 || i >= q.len {
		panic("ring: index out of range")
	}
	return q.items[q.place(i)]
}

// Push adds an item at the end.
func (q *Queue[T]) Push(item T) {
	if q.len == len(q.items) {
		q.grow()
	}
	q.items[q.place(q.len)] = item
	q.len++
}

// Pop removes the oldest item and returns it. It panics if there is none.
func (q *Queue[T]) Pop() T {
	item := q.At(0)
	var none T
	q.items[q.head] = none
	q.head = q.place(1)
	q.len--
	return item
}

// DropLast removes the newest item. It panics if there is none.
func (q *Queue[T]) DropLast() {
	_ = q.At(q.len - 1)
	var none T
	q.items[q.place(q.len-1)] = none
	q.len--
}

func (q *Queue[T]) place(i int) int { return (q.head + i) & (len(q.items) - 1) }

func (q *Queue[T]) grow() {
	items := make([]T, max(2, 2*len(q.items)))
	for i := range q.len {
		items[i] = q.items[q.place(i)]
	}
	q.items, q.head = items, 0
}
