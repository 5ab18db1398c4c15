// Package queue hands batches from one side to a reader that may be slow: in
// order, bounded in items and in bytes, with an error at the end.
package queue

import (
	"context"
	"sync"
)

// Queue is a bounded queue of T. It is safe for concurrent use.
type Queue[T any] struct {
	maxItems, maxBytes int

	mu    sync.Mutex
	items []T
	bytes int
	err   error
	wake  chan struct{} // one token: something to read, or the end
}

// New returns an empty queue that holds at most so many items, and at most so
// many bytes as the writer counts them.
func New[T any](maxItems, maxBytes int) *Queue[T] {
	return &Queue[T]{maxItems: maxItems, maxBytes: maxBytes, wake: make(chan struct{}, 1)}
}

// Put appends items that count for bytes, all or none. It reports false when
// they would go over a limit, or after Fail or Close.
func (q *Queue[T]) Put(bytes int, items ...T) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil || len(q.items)+len(items) > q.maxItems || q.bytes+bytes > q.maxBytes {
		return false
	}
	q.items = append(q.items, items...)
	q.bytes += bytes
	q.signal()
	return true
}

// Fail ends the queue: what is in it can still be read, then err. The first
// error stands.
func (q *Queue[T]) Fail(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err == nil {
		q.err = err
		q.signal()
	}
}

// Close ends the queue and drops what is in it; err stands from now on.
func (q *Queue[T]) Close(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.err, q.items, q.bytes = err, nil, 0
	q.signal()
}

// Err returns the error that ended the queue, or nil.
func (q *Queue[T]) Err() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.err
}

// Next takes all that is in the queue, at least one item; the slice belongs to
// the caller. It waits until there is something, the queue has ended and is
// empty, or ctx is done.
func (q *Queue[T]) Next(ctx context.Context) ([]T, error) {
	for {
		if items, err := q.take(); len(items) > 0 || err != nil {
			return items, err
		}
		select {
		case <-q.wake:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (q *Queue[T]) take() ([]T, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) == 0 {
		if q.err != nil {
			q.signal() // for whoever else waits
		}
		return nil, q.err
	}
	items := q.items
	q.items, q.bytes = nil, 0
	if q.err != nil {
		q.signal()
	}
	return items, nil
}

func (q *Queue[T]) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}
