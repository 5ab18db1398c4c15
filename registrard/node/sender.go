package node

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"sipha/registrard/cpg"
	"sipha/registrard/location"
	"sipha/registrard/replica"
	"sipha/registrard/replica/wire"
)

// sender is the only one to send to the group: libcpg's senders are not safe for concurrent use, and what is sent keeps its order.
type sender struct {
	group       Group
	incarnation location.Incarnation
	queue       chan replica.Message
}

// run sends until ctx is done. "Try again" is normal during a change of the membership.
func (s *sender) run(ctx context.Context) error {
	var buf []byte
	for {
		var m replica.Message
		select {
		case m = <-s.queue:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		var err error
		if buf, err = wire.Encode(buf[:0], s.incarnation, m); err != nil {
			return fmt.Errorf("encode %T: %w", m, err)
		}
		for {
			err := s.group.TryMulticast(buf)
			if err == nil {
				break
			}
			if !errors.Is(err, cpg.ErrTryAgain) {
				return fmt.Errorf("multicast: %w", err)
			}
			select {
			case <-time.After(time.Millisecond + rand.N(3*time.Millisecond)):
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	}
}

// decode turns a message of the group into an event. What this version does not know and need not is skipped; what is damaged is
// counted and dropped: the sender finds out by itself that nobody has it.
func (l *loop) decode(m cpg.Message) replica.Event {
	inc, msg, err := wire.Decode(m.Data)
	if errors.Is(err, wire.ErrSkip) {
		return nil
	}
	if err != nil {
		if n := l.badMessages.Add(1); n&(n-1) == 0 { // the first, the second, the fourth: whoever floods does not fill the log
			l.node.opts.Log.Warn("message dropped", "from", m.From.String(), "bytes", len(m.Data), "error", err, "dropped", n)
		}
		return nil
	}
	return replica.Deliver{From: replica.Sender{Member: member(m.From), Incarnation: inc}, Message: msg}
}
