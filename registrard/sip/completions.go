package sip

import "sync"

// completions carries answered REGISTERs from the Registrar's callbacks to the goroutines that write the responses. It holds no more than are in
// flight, so putting never waits and needs no limit of its own.
type completions struct {
	mu      sync.Mutex
	ready   sync.Cond
	queue   []*work
	head    int // queue[:head] was taken
	waiting int
	closed  bool
}

func newCompletions() *completions {
	c := &completions{}
	c.ready.L = &c.mu
	return c
}

func (c *completions) put(w *work) {
	c.mu.Lock()
	c.queue = append(c.queue, w)
	wake := c.waiting > 0
	c.mu.Unlock()
	if wake {
		c.ready.Signal()
	}
}

// completionBatch is how many responses a goroutine takes at once, so that all of them get some of a burst.
const completionBatch = 32

// get waits for works and moves some to batch; none means that it was closed and is empty.
func (c *completions) get(batch []*work) []*work {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.queue) == c.head && !c.closed {
		c.waiting++
		c.ready.Wait()
		c.waiting--
	}
	taken := c.queue[c.head:min(len(c.queue), c.head+completionBatch)]
	batch = append(batch[:0], taken...)
	clear(taken)
	if c.head += len(taken); c.head == len(c.queue) {
		c.queue, c.head = c.queue[:0], 0
	}
	return batch
}

func (c *completions) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.ready.Broadcast()
}
