package replicatest

import (
	"fmt"
	"time"

	"sipha/registrard/location"
)

// phone is a client: one contact of one address-of-record, which it registers, refreshes, removes and asks for, one request after the
// other. It may send a request again, to the same node or another, and copies of it may arrive much later.
type phone struct {
	s       *Sim
	index   int
	aor     location.AOR
	contact string
	callID  string
	brief   bool // its registrations run out after seconds
	ops     []*op
	nodes   int    // the node it believes to be the primary
	manual  bool   // a script says what it does
	said    string // the last answer
}

// op is one REGISTER of a phone, or a query.
type op struct {
	phone   *phone
	kind    opKind
	cseq    uint32
	expires int64         // seconds
	agent   string        // what changes besides the expiry
	sent    time.Duration // first
	acked   time.Duration // with a 2xx; 0: not
	result  []location.Binding
	done    bool // acked, refused or given up
}

type opKind uint8

const (
	opPut opKind = iota
	opRemove
	opQuery
)

// attempt is one copy of an op on its way.
type attempt struct {
	op   *op
	sent time.Duration
}

// Habits of phones.
const (
	thinkUsual   = 400 * time.Millisecond // between two ops; at times less
	answerWait   = 500 * time.Millisecond // for an answer, before the request is sent again
	attemptsMax  = 4
	netUsual     = 3 * time.Millisecond // a request or an answer is under way
	lateMax      = 20 * time.Second     // a duplicate is under way
	lostOdds     = 0.03                 // of an answer
	lateOdds     = 0.06                 // of a duplicate that comes late
	wrongOdds    = 0.1                  // of a request to any node
	longExpires  = 3600
	briefExpires = 3
)

// newPhones makes phones, two to an address-of-record.
func (s *Sim) newPhones(n int) {
	for i := range n {
		ph := s.newPhone(i)
		ph.brief = i%4 == 3
		s.after(s.between(0, 2*s.think), ph.next)
	}
}

func (s *Sim) newPhone(i int) *phone {
	ph := &phone{
		s: s, index: i, aor: location.AOR(fmt.Sprintf("sip:user%d@example.org", i/2)),
		contact: fmt.Sprintf("sip:phone%d@192.0.2.%d:5060", i, i+1), callID: fmt.Sprintf("call-%d", i),
	}
	s.phones = append(s.phones, ph)
	return ph
}

// next begins another op.
func (ph *phone) next() {
	s := ph.s
	kind := opQuery
	switch draw := s.rng.IntN(20); {
	case draw < 11:
		kind = opPut
	case draw < 15:
		kind = opRemove
	}
	o := ph.newOp(kind)
	if kind == opPut && s.chance(0.2) {
		o.agent = "agent/2" // not just a refresh
	}
	s.trace("p%-4d %s", ph.index, o)
	ph.attempt(o, 1)
	if s.chance(lateOdds) {
		s.after(s.between(answerWait, lateMax), func() { ph.send(o, ph.anyNode()) })
	}
}

// newOp makes an op that has yet to be sent.
func (ph *phone) newOp(kind opKind) *op {
	o := &op{phone: ph, kind: kind, sent: ph.s.now, agent: "agent/1"}
	if kind == opQuery {
		return o
	}
	o.cseq = uint32(len(ph.ops) + 1)
	ph.ops = append(ph.ops, o)
	switch {
	case kind == opRemove:
	case ph.brief:
		o.expires = briefExpires
	default:
		o.expires = longExpires
	}
	return o
}

// attempt sends an op, and again when no answer comes.
func (ph *phone) attempt(o *op, n int) {
	s := ph.s
	ph.send(o, ph.target())
	s.after(answerWait+s.between(0, answerWait), func() {
		switch {
		case o.done:
		case n < attemptsMax:
			ph.attempt(o, n+1)
		default:
			ph.finish(o)
		}
	})
}

// finish goes on to the next op. Once the faults are over, one answer is enough.
func (ph *phone) finish(o *op) {
	if o.done {
		return
	}
	o.done = true
	if f := ph.s.faults; !ph.manual && (!f.calm || !ph.answeredSince(f.calmFrom)) {
		ph.s.after(ph.s.between(ph.s.think/10, 2*ph.s.think), ph.next)
	}
}

// target is the node that has the address of the service: the primary's, most of the time.
func (ph *phone) target() *machine {
	s := ph.s
	if s.chance(wrongOdds) {
		return ph.anyNode()
	}
	for i := range s.machines {
		m := s.machines[(ph.nodes+i)%len(s.machines)]
		if m.shell != nil && m.shell.status.Serving {
			ph.nodes = (ph.nodes + i) % len(s.machines)
			return m
		}
	}
	return ph.anyNode()
}

func (ph *phone) anyNode() *machine { return pick(ph.s.rng, ph.s.machines) }

// request is the op as the registrar sees it.
func (o *op) request() *location.Request {
	ph := o.phone
	r := &location.Request{AOR: ph.aor, CallID: ph.callID, CSeq: o.cseq, Expires: o.expires, UserAgent: o.agent, Received: "udp:192.0.2.1:5060"}
	if o.kind != opQuery {
		r.Contacts = []location.Contact{{URI: ph.contact, Q: -1, Expires: -1}}
	}
	return r
}

// send brings a copy of the op to a node, and the answer back.
func (ph *phone) send(o *op, m *machine) {
	s := ph.s
	a := &attempt{op: o, sent: s.now}
	s.after(s.between(netUsual/10, netUsual), func() {
		p := m.shell
		if p == nil {
			return
		}
		p.whenAwake(func() {
			arrived := s.now
			p.register(o.request(), func(ans location.Answer, ok bool) {
				if ok && ans.Status == statusOK {
					s.oracle.answered(p, a, arrived, ans)
				}
				if !s.chance(lostOdds) {
					s.after(s.between(netUsual/10, netUsual), func() { ph.answer(a, ans, ok) })
				}
			})
		})
	})
}

// answer takes the answer to one copy of an op.
func (ph *phone) answer(a *attempt, ans location.Answer, ok bool) {
	o := a.op
	switch {
	case !ok:
		ph.said = "503"
		return // it is sent again in a while
	case o.done && o.acked > 0:
		return
	case ans.Status == statusOK:
		if o.acked == 0 {
			o.acked = ph.s.now
			ph.s.oracle.acked(a, ans)
		}
		o.result = ans.Bindings
		ph.said = "200" + describeBindings(ans.Bindings)
	default:
		ph.said = fmt.Sprintf("%d %s", ans.Status, ans.Reason)
	}
	ph.s.trace("p%-4d %s: %s", ph.index, o, ph.said)
	ph.finish(o)
}

// String describes the op.
func (o *op) String() string {
	switch o.kind {
	case opPut:
		return fmt.Sprintf("register cseq %d for %d s %s", o.cseq, o.expires, o.agent)
	case opRemove:
		return fmt.Sprintf("remove cseq %d", o.cseq)
	}
	return "query"
}

func describeBindings(bs []location.Binding) string {
	out := ""
	for _, b := range bs {
		out += fmt.Sprintf(" %s cseq %d", b.Contact, b.CSeq)
	}
	return out
}
