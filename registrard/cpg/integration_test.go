//go:build integration

package cpg_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sipha/registrard/cpg"
)

// prompt is how long a call may take that must not wait for Corosync.
const prompt = time.Second

// pollEvery is the pace of looking for what nothing announces.
const pollEvery = 20 * time.Millisecond

const group = "registrard:test"

func isQuorum(e cpg.Event) bool { _, ok := e.(cpg.Quorum); return ok }

// left returns a test for the ConfChange in which m goes for a reason.
func left(m cpg.Member, why cpg.Reason) func(cpg.Event) bool {
	return func(e cpg.Event) bool {
		c, ok := e.(cpg.ConfChange)
		return ok && slices.Contains(c.Left, cpg.Change{Member: m, Reason: why}) && !slices.Contains(c.Members, m)
	}
}

// joined returns a test for the ConfChange in which m comes for a reason.
func joined(m cpg.Member, why cpg.Reason) func(cpg.Event) bool {
	return func(e cpg.Event) bool {
		c, ok := e.(cpg.ConfChange)
		return ok && slices.Contains(c.Joined, cpg.Change{Member: m, Reason: why}) && slices.Contains(c.Members, m)
	}
}

// ring returns a test for the RingChange to these nodes.
func ring(nodes ...cpg.NodeID) func(cpg.Event) bool {
	return func(e cpg.Event) bool {
		r, ok := e.(cpg.RingChange)
		return ok && slices.Equal(r.Nodes, nodes)
	}
}

// quorum returns a test for the Quorum with these nodes.
func quorum(quorate bool, nodes ...cpg.NodeID) func(cpg.Event) bool {
	return func(e cpg.Event) bool {
		q, ok := e.(cpg.Quorum)
		return ok && q.Quorate == quorate && slices.Equal(q.Nodes, nodes)
	}
}

// joinAll joins one member a node and waits until each lists all.
func (l *lab) joinAll() []*member {
	l.t.Helper()
	var ms []*member
	for _, n := range l.nodes {
		ms = append(ms, n.join("a", group))
	}
	for _, m := range ms {
		m.until(func(e cpg.Event) bool {
			c, ok := e.(cpg.ConfChange)
			return ok && len(c.Members) == len(l.nodes)
		})
	}
	return ms
}

func wantCode(t *testing.T, what string, o Outcome, want cpg.Code) {
	t.Helper()
	if o.Code != want {
		t.Errorf("%s: %q, want %v", what, o.Text, want)
	}
}

func wantPrompt(t *testing.T, what string, o Outcome, limit time.Duration) {
	t.Helper()
	if o.Took > limit {
		t.Errorf("%s took %v, want at most %v", what, o.Took, limit)
	}
}

func TestFirstEventsOfAMember(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3)
	m := l.nodes[1].join("a", group)
	m.until(ring(1, 2, 3))
	m.until(isQuorum)
	m.more(0)
	want := cpg.Member{Node: 2, PID: 1}
	if m.self != want {
		t.Errorf("self is %v, want %v", m.self, want)
	}
	events := slices.DeleteFunc(slices.Clone(m.seen), isQuorum)
	change := cpg.ConfChange{
		Members: []cpg.Member{want},
		Joined:  []cpg.Change{{Member: want, Reason: cpg.ReasonJoin}},
	}
	if diff := cmp.Diff(cpg.Event(change), events[0]); diff != "" {
		t.Error(diff)
	}
	q := m.until(quorum(true, 1, 2, 3)).(cpg.Quorum)
	if r := events[1].(cpg.RingChange); r.Ring != q.Ring {
		t.Errorf("ring %v, quorum's ring %v", r.Ring, q.Ring)
	}
}

func TestOneOrderOnThreeMembers(t *testing.T) {
	t.Parallel()
	const each, size = 3000, 200
	l := newLab(t, 3)
	ms := l.joinAll()
	start := time.Now()
	done := make(chan Outcome, len(ms))
	for _, m := range ms {
		go func() { done <- m.pump(PumpArgs{Count: each, Size: size, Window: 64, Timeout: patience}) }()
	}
	for range ms {
		if o := <-done; !o.ok() {
			t.Fatalf("pump: %s", o.Text)
		}
	}
	var order []string
	for i, m := range ms {
		var got []string
		next := map[cpg.Member]int{}
		m.until(func(e cpg.Event) bool {
			if msg, ok := e.(cpg.Message); ok {
				if len(msg.Data) != size {
					t.Fatalf("%d bytes came of %d", len(msg.Data), size)
				}
				got = append(got, msg.From.String()+" "+strings.TrimSpace(string(msg.Data[:12])))
				next[msg.From]++
			}
			return len(got) == each*len(ms)
		})
		if i == 0 {
			order = got
			t.Logf("%.0f messages a second", float64(len(got))/time.Since(start).Seconds())
		} else if !slices.Equal(got, order) {
			t.Errorf("node %d saw another order", m.id)
		}
		for from, n := range next {
			if n != each {
				t.Errorf("node %d: %d messages of %v, want %d", m.id, n, from, each)
			}
		}
	}
}

func TestSizesOfMessages(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	m := l.joinAll()[0]
	for _, tt := range []struct {
		name string
		args TryArgs
		want cpg.Code
		size int
	}{
		{"OKEmpty", TryArgs{}, 0, 0},
		{"OKLargest", TryArgs{Size: cpg.MaxMessage}, 0, cpg.MaxMessage},
		{"OKMostParts", TryArgs{Parts: cpg.MaxParts}, 0, cpg.MaxParts},
		{"ErrTooBig", TryArgs{Size: cpg.MaxMessage + 1}, cpg.ErrTooBig, 0},
		{"ErrTooManyParts", TryArgs{Parts: cpg.MaxParts + 1}, cpg.ErrTooBig, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := len(m.seen)
			o := m.send(tt.args)
			wantCode(t, "send", o, tt.want)
			if tt.want != 0 {
				return
			}
			for deadline := time.Now().Add(patience); len(m.seen) == before; m.more(time.Second) {
				if time.Now().After(deadline) {
					t.Fatal("nothing came")
				}
			}
			if got := m.seen[before].(cpg.Message).Data; len(got) != tt.size {
				t.Errorf("%d bytes came, want %d", len(got), tt.size)
			}
		})
	}
}

func TestCorosyncKilledAndRestarted(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3)
	ms := l.joinAll()
	victim := ms[0]
	before := victim.resources()
	victim.corosync("SIGKILL")
	if code := victim.untilEnd(); code != cpg.ErrLibrary {
		t.Errorf("the stream ended with %v", victim.end.Text)
	}
	wantCode(t, "send without corosync", victim.send(TryArgs{}), cpg.ErrLibrary)
	wantCode(t, "leave without corosync", victim.try("leave", prompt), cpg.ErrLibrary)
	wantCode(t, "dial without corosync", victim.dial("b", DialArgs{Timeout: prompt}), cpg.ErrLibrary)
	o := victim.try("close", prompt)
	wantCode(t, "close", o, 0)
	wantPrompt(t, "close", o, 2*prompt)
	for _, m := range ms[1:] {
		m.until(left(victim.self, cpg.ReasonNodeDown))
		r := m.until(ring(2, 3)).(cpg.RingChange)
		q := m.until(quorum(true, 2, 3)).(cpg.Quorum)
		if r.Ring != q.Ring {
			t.Errorf("node %d: ring %v, quorum's ring %v", m.id, r.Ring, q.Ring)
		}
		m.forget()
	}
	victim.corosync("start")
	again := victim.node.join("again", group)
	again.until(joined(victim.self, cpg.ReasonJoin)) // with the pid it had
	for _, m := range ms[1:] {
		// Whether its corosync was back in the ring by then or alone is up to chance.
		m.until(func(e cpg.Event) bool {
			return joined(victim.self, cpg.ReasonJoin)(e) || joined(victim.self, cpg.ReasonNodeUp)(e)
		})
	}
	again.until(quorum(true, 1, 2, 3))
	if o := again.pump(PumpArgs{Count: 10, Size: 100, Window: 1}); !o.ok() {
		t.Errorf("pump after the restart: %s", o.Text)
	}
	again.do("close")
	after := victim.resources()
	if after.Goroutines > before.Goroutines || after.Descriptors > before.Descriptors {
		t.Errorf("resources leak: %+v, then %+v", before, after)
	}
}

func TestCorosyncStopped(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3)
	ms := l.joinAll()
	victim := ms[0]
	before := victim.resources()
	spare := victim.node.join("spare", "another")
	other := victim.node.join("other", "a third") // lives through it
	victim.corosync("SIGSTOP")
	o := victim.send(TryArgs{Size: 100, Times: 100_000})
	wantCode(t, "send to a stopped corosync", o, cpg.ErrTryAgain)
	wantPrompt(t, "the longest send to a stopped corosync", o, prompt)
	for _, what := range []string{"requery", "config", "leave"} {
		o := victim.try(what, prompt/4)
		wantCode(t, what, o, cpg.ErrTimeout)
		wantPrompt(t, what, o, prompt)
	}
	for range 3 { // one thread for all of them
		o := victim.dial("late", DialArgs{Timeout: prompt / 4})
		wantCode(t, "dial", o, cpg.ErrTimeout)
		wantPrompt(t, "dial", o, prompt)
	}
	for _, m := range []*member{victim, spare} {
		o := m.try("close", prompt)
		wantCode(t, "close", o, 0)
		wantPrompt(t, "close", o, 2*prompt)
	}
	// Corosync is still stopped. What hung in it must end: all but the dial, which
	// has one goroutine and fewer descriptors than a connection.
	for deadline := time.Now().Add(patience); ; <-time.After(pollEvery) {
		now := victim.resources()
		if now.Goroutines <= before.Goroutines+1 && now.Descriptors <= before.Descriptors+3 {
			break
		}
		if time.Now().After(deadline) {
			t.Errorf("resources leak: %+v, then %+v", before, now)
			break
		}
	}
	for _, m := range ms[1:] {
		m.until(left(victim.self, cpg.ReasonNodeDown))
		m.until(quorum(true, 2, 3))
		m.forget()
	}
	victim.corosync("SIGCONT")
	// Its corosync sees the others go and come, and then that its clients are gone.
	other.until(quorum(true, 1, 2, 3))
	if o := victim.dial("late", DialArgs{Timeout: patience}); !o.ok() {
		t.Errorf("dial after SIGCONT: %s", o.Text)
	}
	again := victim.node.join("again", group)
	for _, m := range ms[1:] {
		m.until(joined(again.self, cpg.ReasonJoin))
	}
}

func TestPartitionAndMergeOfRings(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3)
	ms := l.joinAll()
	for _, m := range ms {
		m.until(ring(1, 2, 3))
		m.until(quorum(true, 1, 2, 3))
		m.forget()
	}
	l.hub.run("ip link set v1 down")
	alone := ms[0]
	alone.until(left(ms[1].self, cpg.ReasonNodeDown))
	alone.until(left(ms[2].self, cpg.ReasonNodeDown))
	r := alone.until(ring(1)).(cpg.RingChange)
	q := alone.until(quorum(false, 1)).(cpg.Quorum)
	if r.Ring != q.Ring {
		t.Errorf("ring %v, quorum's ring %v", r.Ring, q.Ring)
	}
	for _, m := range ms[1:] {
		m.until(left(alone.self, cpg.ReasonNodeDown))
		m.until(quorum(true, 2, 3))
	}
	if o := alone.pump(PumpArgs{Count: 1, Size: 10, Window: 1}); !o.ok() {
		t.Errorf("a message without quorum: %s", o.Text) // CPG does not care
	}
	for _, m := range ms {
		m.forget()
	}
	l.hub.run("ip link set v1 up")
	for _, m := range ms[1:] {
		m.until(joined(alone.self, cpg.ReasonNodeUp))
		alone.until(joined(m.self, cpg.ReasonNodeUp))
	}
	for _, m := range ms {
		r := m.until(ring(1, 2, 3)).(cpg.RingChange)
		q := m.until(quorum(true, 1, 2, 3)).(cpg.Quorum)
		if r.Ring != q.Ring {
			t.Errorf("node %d: ring %v, quorum's ring %v", m.id, r.Ring, q.Ring)
		}
		for _, e := range m.seen {
			if msg, ok := e.(cpg.Message); ok && m != alone {
				t.Errorf("node %d got %v's message from the other side", m.id, msg.From)
			}
		}
	}
}

func TestSlowConsumerIsPutOut(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]cpg.Options{
		"events": {QueueEvents: 500},
		"bytes":  {QueueBytes: 500 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 2)
			fast := l.nodes[0].join("a", group)
			slow := l.nodes[1].joinWith("a", group, o, true)
			if o := fast.pump(PumpArgs{Count: 1000, Size: 1 << 10, Window: 64}); !o.ok() {
				t.Fatalf("pump: %s", o.Text)
			}
			fast.until(left(cpg.Member{Node: 2, PID: 1}, cpg.ReasonProcDown))
			slow.call("Listen", "a", &Empty{})
			if code := slow.untilEnd(); code != cpg.ErrSlowConsumer || len(slow.seen) > 0 {
				t.Errorf("%d events and %q", len(slow.seen), slow.end.Text)
			}
			wantCode(t, "send", slow.send(TryArgs{}), cpg.ErrSlowConsumer)
		})
	}
}

func TestLeaveAndRejoin(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	ms := l.joinAll()
	stays, goes := ms[0], ms[1]
	if o := goes.dial("twice", DialArgs{Timeout: patience}); !o.ok() {
		t.Fatal(o.Text)
	}
	var o Outcome
	goes.call("Join", JoinArgs{Conn: "twice", Group: group, Timeout: patience}, &o)
	wantCode(t, "a second join of one process", o, cpg.ErrExist)
	goes.call("Join", JoinArgs{Conn: "a", Group: group, Timeout: patience}, &o)
	wantCode(t, "a second join of one connection", o, cpg.ErrExist)
	goes.call("Call", CallArgs{Conn: "twice", What: "close", Timeout: patience}, &o)
	for range 3 {
		stays.forget()
		goes.do("leave")
		if code := goes.untilEnd(); code != cpg.ErrClosed {
			t.Errorf("the stream ended with %q", goes.end.Text)
		}
		events := slices.DeleteFunc(slices.Clone(goes.seen), isQuorum)
		if !left(goes.self, cpg.ReasonLeave)(events[len(events)-1]) {
			t.Errorf("the last event is %+v", events[len(events)-1])
		}
		wantCode(t, "send after leaving", goes.send(TryArgs{}), cpg.ErrClosed)
		stays.until(left(goes.self, cpg.ReasonLeave))
		goes = goes.node.join("a", group)
		stays.until(joined(goes.self, cpg.ReasonJoin))
		goes.until(joined(goes.self, cpg.ReasonJoin))
	}
	stays.forget()
	goes.do("close")
	stays.until(left(goes.self, cpg.ReasonProcDown))
}

func TestRequeryQuorum(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	m := l.joinAll()[0]
	m.until(quorum(true, 1, 2))
	for range 3 {
		m.forget()
		m.do("requery")
		m.until(quorum(true, 1, 2))
	}
}

func TestConfigOfCorosync(t *testing.T) {
	t.Parallel()
	l := newLabWith(t, 2, "two_node: 1")
	m := l.nodes[0].join("a", group)
	want := cpg.Config{
		Cluster:    "lab",
		Nodes:      []cpg.ConfigNode{{ID: 1, Name: "node1"}, {ID: 2, Name: "node2"}},
		Token:      token,
		Consensus:  token * 12 / 10,
		TwoNode:    true,
		WaitForAll: true,
		Cipher:     "aes256",
		Hash:       "sha256",
	}
	var got cpg.Config
	m.call("Config", "a", &got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	l.nodes[1].corosync("SIGKILL")
	m.until(quorum(true, 1)) // two nodes, and both were seen
	l.nodes[0].corosync("SIGKILL")
	l.nodes[0].corosync("start")
	again := l.nodes[0].join("again", group)
	again.until(quorum(false, 1)) // waits for all
	again.call("Config", "again", &got)
	if want.Waiting = true; !cmp.Equal(want, got) {
		t.Error(cmp.Diff(want, got))
	}
}

// smallStackEnv makes TestSmallStackInside the one that runs in the lab.
const smallStackEnv = "CPG_TEST_STACK"

func TestSmallStackIsRefused(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	var out string
	l.nodes[0].call("Shell", "unset "+roleEnv+"; export "+smallStackEnv+"=1; ulimit -s 1024; "+
		"exec /proc/1/exe -test.run '^TestSmallStackInside$' -test.v 2>&1", &out)
	if !strings.Contains(out, "--- PASS: TestSmallStackInside") {
		t.Error(out)
	}
}

func TestSmallStackInside(t *testing.T) {
	if os.Getenv(smallStackEnv) == "" {
		t.Skip("runs inside TestSmallStackIsRefused")
	}
	c, err := cpg.Dial(t.Context(), cpg.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Join(t.Context(), group)
	wantCode(t, "join", outcome(time.Now(), err), cpg.ErrNoStack)
}

// insideEnv names the user for TestDialInside, which runs in the lab.
const insideEnv = "CPG_TEST_DIAL"

// inside runs TestDialInside on a node behind a wrapper command and returns what
// it printed.
func (n *node) inside(wrapper string, want cpg.Code) {
	n.t.Helper()
	var out string
	n.call("Shell", fmt.Sprintf("unset %s; export %s=%d; exec %s /proc/1/exe -test.run '^TestDialInside$' -test.v 2>&1",
		roleEnv, insideEnv, want, wrapper), &out)
	if !strings.Contains(out, "--- PASS: TestDialInside") {
		n.t.Error(out)
	}
}

func TestOnlyRootsCorosyncIsTrustedAndOnlyForThoseItKnows(t *testing.T) {
	t.Parallel()
	l := newLab(t, 1)
	n := l.nodes[0]
	n.inside("setpriv --reuid=65534 --regid=65534 --clear-groups", cpg.ErrAccess)
	n.corosync("SIGTERM")
	var out string
	n.call("Shell", "chown -R 65534:65534 /run /dev/shm /etc/corosync /var/lib/corosync /var/log/corosync; chmod 1777 /dev/shm; "+
		"setpriv --reuid=65534 --regid=65534 --clear-groups corosync; echo started", &out)
	n.inside("", cpg.ErrUntrusted)
	t.Log(out)
}

func TestDialInside(t *testing.T) {
	want := os.Getenv(insideEnv)
	if want == "" {
		t.Skip("runs inside another test")
	}
	for deadline := time.Now().Add(patience); ; <-time.After(pollEvery) {
		ctx, cancel := context.WithTimeout(t.Context(), prompt)
		c, err := cpg.Dial(ctx, cpg.Options{})
		cancel()
		o := outcome(time.Now(), err)
		if fmt.Sprint(int(o.Code)) == want {
			return
		}
		if err == nil {
			c.Close()
		}
		if time.Now().After(deadline) {
			t.Fatalf("dial: %v, want code %s", err, want)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	ms := l.joinAll()
	const senders, each = 6, 500
	done := make(chan Outcome, senders)
	for range senders {
		go func() { done <- ms[0].pump(PumpArgs{Count: each, Size: 300}) }()
	}
	for range 20 {
		ms[0].do("requery")
		ms[0].do("config")
	}
	for range senders {
		if o := <-done; !o.ok() {
			t.Errorf("pump: %s", o.Text)
		}
	}
	for _, m := range ms {
		n := 0
		m.until(func(e cpg.Event) bool {
			if _, ok := e.(cpg.Message); ok {
				n++
			}
			return n == senders*each
		})
	}
	// Closing under senders: each of them is told, none hangs.
	for range senders {
		go func() { done <- ms[0].pump(PumpArgs{Count: 1 << 30, Size: 300}) }()
	}
	ms[1].until(func(e cpg.Event) bool { _, ok := e.(cpg.Message); return ok && len(ms[1].seen) > senders*each+100 })
	ms[0].do("close")
	for range senders {
		wantCode(t, "pump over a close", <-done, cpg.ErrClosed)
	}
}
