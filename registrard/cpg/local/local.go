// Package local is a group of one: no Corosync, no network, always quorate. It
// lets a single registrard run by itself with nothing else changed.
package local

import (
	"context"
	"os"
	"time"

	"sipha/registrard/cpg"
	"sipha/registrard/cpg/internal/queue"
)

// op is the operation that errors name.
const op = "multicast to oneself"

// defaultNode is the node's id where Options name none.
const defaultNode cpg.NodeID = 1

// Options of a group of one. The zero value is good.
type Options struct {
	// Node is the node's id; 1 when zero.
	Node cpg.NodeID
	// QueueEvents and QueueBytes bound what waits for Next; the defaults are
	// those of package cpg. Beyond them TryMulticast says cpg.ErrTryAgain.
	QueueEvents int
	QueueBytes  int
}

// Group is a group with one member. It is safe for concurrent use.
type Group struct {
	self  cpg.Member
	ring  cpg.RingID
	queue *queue.Queue[cpg.Event]
}

// Join makes a group of one. Its first events are the member's own ConfChange,
// the RingChange of its node alone, and a Quorum that is quorate. The ring's
// number is the time, so that it grows from one start to the next.
func Join(o Options) *Group {
	if o.Node == 0 {
		o.Node = defaultNode
	}
	if o.QueueEvents <= 0 {
		o.QueueEvents = cpg.DefaultQueueEvents
	}
	if o.QueueBytes <= 0 {
		o.QueueBytes = cpg.DefaultQueueBytes
	}
	self := cpg.Member{Node: o.Node, PID: uint32(os.Getpid())}
	ring := cpg.RingID{Node: o.Node, Seq: uint64(max(0, time.Now().UnixMilli()))}
	first := []cpg.Event{
		cpg.ConfChange{
			Members: []cpg.Member{self},
			Joined:  []cpg.Change{{Member: self, Reason: cpg.ReasonJoin}},
		},
		cpg.RingChange{Ring: ring, Nodes: []cpg.NodeID{o.Node}},
		quorum(ring),
	}
	g := &Group{self: self, ring: ring, queue: queue.New[cpg.Event](max(o.QueueEvents, len(first)), o.QueueBytes)}
	g.queue.Put(0, first...)
	return g
}

// quorum is what the quorum service of one node always says.
func quorum(ring cpg.RingID) cpg.Quorum {
	return cpg.Quorum{Quorate: true, Ring: ring, Nodes: []cpg.NodeID{ring.Node}}
}

// RequeryQuorum brings another Quorum event.
func (g *Group) RequeryQuorum(ctx context.Context) error {
	return cpg.Retry(ctx, func() error { return g.put(0, quorum(g.ring)) })
}

// Self returns the only member.
func (g *Group) Self() cpg.Member { return g.self }

// Next returns all events that wait, in order, at least one; it waits for it
// until ctx is done or the group is closed.
func (g *Group) Next(ctx context.Context) ([]cpg.Event, error) { return g.queue.Next(ctx) }

// TryMulticast queues a message for Next; the parts are copied. The errors:
// cpg.ErrTooBig; cpg.ErrTryAgain while too much waits for Next; cpg.ErrClosed.
func (g *Group) TryMulticast(parts ...[]byte) error {
	data, err := cpg.Gather(op, parts...)
	if err != nil {
		return err
	}
	return g.put(len(data), cpg.Message{From: g.self, Data: data})
}

func (g *Group) put(bytes int, e cpg.Event) error {
	if g.queue.Put(bytes, e) {
		return nil
	}
	if err := g.queue.Err(); err != nil {
		return err
	}
	return &cpg.Error{Op: op, Code: cpg.ErrTryAgain}
}

// Multicast is TryMulticast, repeated while it says cpg.ErrTryAgain.
func (g *Group) Multicast(ctx context.Context, parts ...[]byte) error {
	return cpg.Retry(ctx, func() error { return g.TryMulticast(parts...) })
}

// Close ends the group: Next and TryMulticast say cpg.ErrClosed.
func (g *Group) Close() error {
	g.queue.Close(&cpg.Error{Op: "group", Code: cpg.ErrClosed})
	return nil
}
