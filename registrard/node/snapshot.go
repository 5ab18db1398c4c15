package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"sipha/registrard/location"
	"sipha/registrard/replica"
)

// serveKey names a snapshot that is streamed from here.
type serveKey struct {
	to      location.NodeID
	session uint64
}

// serve is one such stream: a goroutine of its own reads, and the loop tells it what has been delivered.
type serve struct {
	delivered chan struct{}
	stop      context.CancelFunc
}

// serve begins to stream the content to a joiner.
func (l *loop) serve(a replica.Serve) {
	ctx, cancel := context.WithCancel(context.Background())
	s := &serve{delivered: make(chan struct{}, replica.ChunkWindow), stop: cancel}
	key := serveKey{a.To, a.Session}
	for old := range l.serves {
		if old.to == a.To {
			l.stopServing(old)
		}
	}
	l.serves[key] = s
	l.beside.Go(func() {
		defer cancel()
		began := time.Now()
		size, err := l.stream(ctx, key, s)
		log := l.node.opts.Log.With("to", uint32(a.To), "bytes", size, "took", time.Since(began))
		switch {
		case err == nil:
			log.Info("snapshot sent")
		case ctx.Err() == nil:
			log.Warn("snapshot ended", "error", err)
			l.send(ctx, &replica.SnapshotAbort{Peer: a.To, Session: a.Session, Reason: "the donor cannot go on"})
		}
	})
}

// stream sends the chunks, at most ChunkWindow of them ahead of their delivery, so that live traffic goes on between them.
func (l *loop) stream(ctx context.Context, key serveKey, s *serve) (size uint64, err error) {
	snap, err := l.node.opts.Store.Snapshot()
	if err != nil {
		return 0, fmt.Errorf("open a snapshot: %w", err)
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	end := snap.End()
	began := l.node.mono()
	for seq := uint32(0); ; seq++ {
		if seq >= replica.ChunkWindow {
			if err := s.wait(ctx); err != nil {
				return size, err
			}
		}
		if err := pause(ctx, began+time.Duration(float64(size)/StreamRate*float64(time.Second))-l.node.mono()); err != nil {
			return size, err
		}
		data, err := snap.Next(replica.ChunkSize)
		if err != nil && !errors.Is(err, io.EOF) {
			return size, fmt.Errorf("read a snapshot: %w", err)
		}
		size += uint64(len(data))
		m := &replica.SnapshotChunk{To: key.to, Session: key.session, Seq: seq, Data: data, Total: end.Bytes}
		if errors.Is(err, io.EOF) {
			m.End, m.Applied, m.Last, m.Rows = true, end.Applied, end.Last, end.Rows
		}
		l.send(ctx, m)
		if m.End {
			return size, nil
		}
	}
}

// pause waits, at most until ctx is done.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// wait returns when one more chunk has been delivered.
func (s *serve) wait(ctx context.Context) error {
	t := time.NewTimer(ServeTimeout)
	defer t.Stop()
	select {
	case <-s.delivered:
		return nil
	case <-t.C:
		return errors.New("no chunk was delivered in time")
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// send queues a message from beside the loop.
func (l *loop) send(ctx context.Context, m replica.Message) {
	select {
	case l.sender.queue <- m:
	case <-ctx.Done():
	}
}

func (l *loop) chunkDelivered(a replica.ChunkDelivered) {
	if s := l.serves[serveKey{a.To, a.Session}]; s != nil {
		select {
		case s.delivered <- struct{}{}:
		default: // never more than ChunkWindow are on their way
		}
	}
}

func (l *loop) stopServing(key serveKey) {
	if s := l.serves[key]; s != nil {
		delete(l.serves, key)
		s.stop()
	}
}
