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
	cmd      *Command
	id       location.RequestID
	encoded  []byte
	deadline time.Time
	sent     time.Time
	result   chan outcomeOrError
}

type outcomeOrError struct {
	outcome location.Outcome
	err     error
}

// finish tells the caller, once.
func (r *commandReq) finish(o location.Outcome, err error) {
	select {
	case r.result <- outcomeOrError{o, err}:
	default:
	}
}

// forwards are the commands of this node that wait for the primary, and those of others that have come here.
type forwards struct {
	waiting map[location.RequestID]*commandReq
	came    []replica.Forwarded
}

// Do carries out a command on the primary, wherever that is, and returns its outcome: Status as in SIP (200, 400, 404, 409) and a
// detail. It is sent again until ctx is done; it is never done twice.
func (n *Node) Do(ctx context.Context, cmd *Command) (location.Outcome, error) {
	encoded, err := json.Marshal(cmd)
	if err != nil {
		return location.Outcome{}, fmt.Errorf("encode the command: %w", err)
	}
	if len(encoded) > ForwardBytesMax {
		return location.Outcome{}, fmt.Errorf("the command has %d bytes, more than %d: split it", len(encoded), ForwardBytesMax)
	}
	number := n.nextID.Add(1)
	deadline, ok := ctx.Deadline()
	if most := time.Now().Add(OutcomeLife / 2); !ok || deadline.After(most) {
		deadline = most
	}
	for {
		r := &commandReq{cmd: cmd, id: location.RequestID{Node: n.self, Incarnation: n.incarnation, Number: number}, encoded: encoded, deadline: deadline, result: make(chan outcomeOrError, 1)}
		select {
		case n.inbox <- r:
		case <-n.closed:
			return location.Outcome{}, ErrClosed
		case <-ctx.Done():
			return location.Outcome{}, ErrNoPrimary
		}
		var res outcomeOrError
		select {
		case res = <-r.result:
		case <-n.closed:
			return location.Outcome{}, ErrClosed
		case <-ctx.Done():
			return location.Outcome{}, ErrNoPrimary
		}
		// Nothing was decided: there was no primary, or this one was on its way out.
		again := errors.Is(res.err, ErrNotServing) || errors.Is(res.err, ErrOverloaded) || errors.Is(res.err, ErrUnknown)
		if !again {
			return res.outcome, res.err
		}
		if time.Now().Add(ForwardRetry).After(deadline) {
			return location.Outcome{}, fmt.Errorf("%w (%w)", ErrNoPrimary, res.err)
		}
		select {
		case <-time.After(ForwardRetry / 2):
		case <-ctx.Done():
			return location.Outcome{}, ErrNoPrimary
		}
	}
}

// forwardOut sends a command to the primary, and again until its outcome comes back as a committed row.
func (l *loop) forwardOut(r *commandReq) {
	if len(l.forward.waiting) >= ForwardMax {
		r.finish(location.Outcome{}, ErrOverloaded)
		return
	}
	l.forward.waiting[r.id] = r
	l.sendForward(r)
}

func (l *loop) sendForward(r *commandReq) {
	r.sent = time.Now()
	left := location.Time(time.Until(r.deadline) / time.Millisecond)
	m := &replica.Forward{ID: r.id, Deadline: l.core.OrderedTime(l.node.now()) + left, Request: r.encoded}
	l.act(replica.Multicast{Message: m})
}

// forwardTick sends again what has no outcome yet, and gives up on what is out of time.
func (l *loop) forwardTick() {
	now := time.Now()
	for id, r := range l.forward.waiting {
		switch {
		case now.After(r.deadline):
			delete(l.forward.waiting, id)
			r.finish(location.Outcome{}, ErrNoPrimary)
		case now.Sub(r.sent) >= ForwardRetry:
			l.sendForward(r)
		}
	}
}

// outcomes tells those of our commands whose outcome was just committed.
func (l *loop) outcomes(changes []location.Change) {
	for _, c := range changes {
		o, ok := c.(*location.OutcomeChange)
		if !ok || o.Remove {
			continue
		}
		if r := l.forward.waiting[o.Outcome.ID]; r != nil {
			delete(l.forward.waiting, o.Outcome.ID)
			r.finish(o.Outcome, nil)
		}
	}
}

// forwarded decides what other nodes have sent, once.
func (l *loop) forwarded() {
	came := l.forward.came
	l.forward.came = nil
	for _, f := range came {
		now := l.core.OrderedTime(l.node.now())
		if _, done := l.overlay.Outcome(f.Forward.ID); done || !l.leading() || !l.core.Accepting() || !l.core.Room() || now > f.Forward.Deadline {
			continue // it is sent again where that may help
		}
		var cmd Command
		if err := json.Unmarshal(f.Forward.Request, &cmd); err != nil {
			l.node.opts.Log.Warn("forwarded command dropped", "node", uint32(f.From.Node), "error", err)
			continue
		}
		changes, o := l.effects(&cmd, now)
		o.ID, o.Until = f.Forward.ID, now+location.Time(OutcomeLife/time.Millisecond)
		l.add(nil, append(changes, &location.OutcomeChange{Outcome: o})...)
	}
}

// command decides a command of this node's own operator.
func (l *loop) command(r *commandReq) {
	now := l.core.OrderedTime(l.node.now())
	o, done := l.overlay.Outcome(r.id)
	tell := func(err error) { r.finish(o, err) }
	if done {
		l.rest(tell) // an earlier try of the same command
		return
	}
	var changes []location.Change
	if changes, o = l.effects(r.cmd, now); len(changes) == 0 {
		l.rest(tell)
		return
	}
	o.ID, o.Until = r.id, now+location.Time(OutcomeLife/time.Millisecond)
	l.add(tell, append(changes, &location.OutcomeChange{Outcome: o})...)
}

// effects returns what a command does to the content, and its outcome.
func (l *loop) effects(cmd *Command, now location.Time) ([]location.Change, location.Outcome) {
	switch {
	case cmd.RemoveContact != nil:
		return l.removeContact(cmd.RemoveContact, now)
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

func (l *loop) removeContact(cmd *RemoveContact, now location.Time) ([]location.Change, location.Outcome) {
	change := &location.BindingsChange{AOR: cmd.AOR, Cause: location.CauseOperator}
	life := location.Time(l.node.opts.Policy.TombstoneLife)
	for _, b := range l.overlay.Bindings(cmd.AOR) {
		if cmd.Contact != "" && !location.EqualURI(b.Contact, cmd.Contact) {
			continue
		}
		change.Remove = append(change.Remove, b.Contact)
		change.Bury = append(change.Bury, location.Tombstone{Contact: b.Contact, CallID: b.CallID, CSeq: b.CSeq, Until: now + life})
	}
	if len(change.Remove) == 0 {
		return nil, location.Outcome{Status: 404, Detail: "no such contact"}
	}
	return []location.Change{change}, location.Outcome{Status: 200, Detail: strconv.Itoa(len(change.Remove))}
}

func (l *loop) putUsers(cmd *PutUsers) ([]location.Change, location.Outcome) {
	changes := make([]location.Change, 0, len(cmd.Users))
	for i := range cmd.Users {
		if _, ok := l.overlay.User(cmd.Users[i].AOR); ok && !cmd.Replace {
			return nil, location.Outcome{Status: 409, Detail: string(cmd.Users[i].AOR) + " is there already"}
		}
		changes = append(changes, &location.UserChange{User: cmd.Users[i]})
	}
	return changes, location.Outcome{Status: 200, Detail: strconv.Itoa(len(changes))}
}
