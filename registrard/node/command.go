package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"sipha/registrard/location"
	"sipha/registrard/replica"
)

// Command is an operator's edit. Exactly one of its parts is set. It is decided by the primary; on another node it is forwarded.
type Command struct {
	RemoveContact *RemoveContact `json:"remove_contact,omitempty"`
	PutUsers      *PutUsers      `json:"put_users,omitempty"`
	RemoveUser    *location.AOR  `json:"remove_user,omitempty"`
	Probe         *location.AOR  `json:"probe,omitempty"` // registers and removes nothing: only passes through the group
}

// RemoveContact removes one contact of an AOR, or all of them where Contact is "".
type RemoveContact struct {
	AOR     location.AOR `json:"aor"`
	Contact string       `json:"contact"`
}

// PutUsers stores users, all or none; without Replace none of them may be there already.
type PutUsers struct {
	Users   []location.User `json:"users"`
	Replace bool            `json:"replace"`
}

// UsersPerCommand is how many users one PutUsers carries at the most, so that it fits into one message.
const UsersPerCommand = 64

// commandReq is a command on its way through the loop.
type commandReq struct {
	ctx      context.Context // of who waits for it
	cmd      *Command
	id       location.RequestID
	encoded  []byte
	deadline time.Time
	sent     time.Duration // when it was last forwarded
	outcome  location.Outcome
	result   chan outcomeOrError // takes one without blocking
}

type outcomeOrError struct {
	outcome location.Outcome
	err     error
}

func (r *commandReq) end(err error) { r.result <- outcomeOrError{r.outcome, err} }

// Do carries out a command on the primary, wherever that is, and returns its outcome: Status as in SIP (200, 400, 404, 409) and a
// detail. It is tried again until ctx is done, CommandTimeout at the most; it is never done twice. With ErrUnknown, ErrTimeout or
// ErrNoPrimary it may be done all the same, or be done yet.
func (n *Node) Do(ctx context.Context, cmd *Command) (location.Outcome, error) {
	encoded, err := json.Marshal(cmd)
	if err != nil {
		return location.Outcome{}, fmt.Errorf("encode the command: %w", err)
	}
	if len(encoded) > ForwardBytesMax {
		return location.Outcome{}, fmt.Errorf("the command has %d bytes, more than %d: split it", len(encoded), ForwardBytesMax)
	}
	ctx, cancel := context.WithTimeout(ctx, CommandTimeout)
	defer cancel()
	deadline, _ := ctx.Deadline()
	id := location.RequestID{Node: n.self, Incarnation: n.incarnation, Number: n.nextID.Add(1)}
	maybe := ErrNoPrimary // what is said when time is over
	for {
		r := &commandReq{ctx: ctx, cmd: cmd, id: id, encoded: encoded, deadline: deadline, result: make(chan outcomeOrError, 1)}
		err := n.ask(r)
		if err == nil {
			select {
			case res := <-r.result:
				if res.err == nil {
					return res.outcome, nil
				}
				err = res.err
			case <-ctx.Done():
				return location.Outcome{}, maybe
			}
		}
		switch {
		case errors.Is(err, ErrClosed):
			return location.Outcome{}, err
		case errors.Is(err, ErrUnknown), errors.Is(err, ErrTimeout):
			maybe = err
		}
		pause := time.NewTimer(ForwardRetry / 2)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			if maybe == ErrNoPrimary {
				return location.Outcome{}, fmt.Errorf("%w (%w)", ErrNoPrimary, err)
			}
			return location.Outcome{}, maybe
		}
	}
}

// command decides a command of this node's own operator.
func (l *loop) command(r *commandReq, w waiter) {
	if o, done := l.overlay.Outcome(r.id); done {
		r.outcome = o
		l.rest(w) // an earlier try of the same command
		return
	}
	changes, o := l.effects(r.cmd, l.ordered())
	if r.outcome = o; len(changes) == 0 {
		l.rest(w)
		return
	}
	l.add(w, l.withOutcome(r.id, changes, &r.outcome)...)
}

// withOutcome adds to changes the row that keeps the command from being done twice.
func (l *loop) withOutcome(id location.RequestID, changes []location.Change, o *location.Outcome) []location.Change {
	o.ID, o.Until = id, l.ordered()+location.Time(OutcomeLife/time.Millisecond)
	return append(changes, &location.OutcomeChange{Outcome: *o})
}

// effects returns what a command does to the content, and its outcome. What no replica could take in is refused: it would be in every
// log for good.
func (l *loop) effects(cmd *Command, now location.Time) ([]location.Change, location.Outcome) {
	changes, o := l.decideCommand(cmd, now)
	if len(o.Detail) > DetailMax {
		o.Detail = o.Detail[:DetailMax]
	}
	payload := location.AppendChanges(nil, changes)
	if len(payload) > replica.AppendSize {
		return nil, location.Outcome{Status: 400, Detail: "too much for one command: split it"}
	}
	if _, err := location.DecodeChanges(payload); err != nil {
		return nil, location.Outcome{Status: 400, Detail: err.Error()}
	}
	return changes, o
}

func (l *loop) decideCommand(cmd *Command, now location.Time) ([]location.Change, location.Outcome) {
	switch {
	case !cmd.single():
	case cmd.RemoveContact != nil:
		contact := cmd.RemoveContact.Contact
		if contact == "" {
			contact = location.StarContact
		}
		change := location.Remove(l.overlay, cmd.RemoveContact.AOR, contact, now, &l.node.opts.Policy)
		if change == nil {
			return nil, location.Outcome{Status: 404, Detail: "no such contact"}
		}
		return []location.Change{change}, location.Outcome{Status: 200, Detail: strconv.Itoa(len(change.Remove))}
	case cmd.PutUsers != nil:
		return l.putUsers(cmd.PutUsers)
	case cmd.RemoveUser != nil:
		u, ok := l.overlay.User(*cmd.RemoveUser)
		if !ok {
			return nil, location.Outcome{Status: 404, Detail: "no such user"}
		}
		return []location.Change{&location.UserChange{Remove: true, User: location.User{AOR: u.AOR}}}, location.Outcome{Status: 200}
	case cmd.Probe != nil:
		return nil, location.Outcome{Status: 200}
	}
	return nil, location.Outcome{Status: 400, Detail: "unknown command: this node may be older than the one that sent it"}
}

// single tells whether exactly one part is set.
func (c *Command) single() bool {
	n := 0
	for _, set := range []bool{c.RemoveContact != nil, c.PutUsers != nil, c.RemoveUser != nil, c.Probe != nil} {
		if set {
			n++
		}
	}
	return n == 1
}

func (l *loop) putUsers(cmd *PutUsers) ([]location.Change, location.Outcome) {
	changes := make([]location.Change, 0, len(cmd.Users)+1)
	for i := range cmd.Users {
		if _, ok := l.overlay.User(cmd.Users[i].AOR); ok && !cmd.Replace {
			return nil, location.Outcome{Status: 409, Detail: string(cmd.Users[i].AOR) + " is there already"}
		}
		changes = append(changes, &location.UserChange{User: cmd.Users[i]})
	}
	return changes, location.Outcome{Status: 200, Detail: strconv.Itoa(len(changes))}
}
