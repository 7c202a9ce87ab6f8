package sqs

import "container/heap"

// queueHeap is a priority queue whose members know their place in it, so that any of them can be
// removed or moved in logarithmic time.
type queueHeap[T any] struct {
	items []T
	less  func(a, b T) bool
	place func(T) *int // where a member keeps its index; absent is -1
}

// Len is part of heap.Interface, as are Less, Swap, Push and Pop.
func (h *queueHeap[T]) Len() int { return len(h.items) }

// Less is part of heap.Interface.
func (h *queueHeap[T]) Less(i, j int) bool { return h.less(h.items[i], h.items[j]) }

// Swap is part of heap.Interface.
func (h *queueHeap[T]) Swap(i, j int) {
	h.items[i], h.items[j] = h.items[j], h.items[i]
	*h.place(h.items[i]), *h.place(h.items[j]) = i, j
}

// Push is part of heap.Interface.
func (h *queueHeap[T]) Push(x any) {
	item := x.(T)
	*h.place(item) = len(h.items)
	h.items = append(h.items, item)
}

// Pop is part of heap.Interface.
func (h *queueHeap[T]) Pop() any {
	last := len(h.items) - 1
	item := h.items[last]
	var none T
	h.items[last] = none
	h.items = h.items[:last]
	*h.place(item) = -1
	return item
}

// first gives the member that goes first.
func (h *queueHeap[T]) first() (T, bool) {
	if len(h.items) == 0 {
		var none T
		return none, false
	}
	return h.items[0], true
}

// put adds the member, or moves it to where it belongs now.
func (h *queueHeap[T]) put(item T) {
	if i := *h.place(item); i >= 0 {
		heap.Fix(h, i)
		return
	}
	heap.Push(h, item)
}

// take removes the member if it is there.
func (h *queueHeap[T]) take(item T) {
	if i := *h.place(item); i >= 0 {
		heap.Remove(h, i)
	}
}
