package cpgtest_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sipha/registrard/cpg"
	"sipha/registrard/cpg/cpgtest"
)

// scene is a World with one process a node, at rest, and what each was told.
type scene struct {
	t  *testing.T
	w  *cpgtest.World
	ps map[cpg.NodeID]*cpgtest.Process
	// told are the events of each process as lines, errors too.
	told map[*cpgtest.Process][]string
}

func newScene(t *testing.T, cfg cpgtest.Config) *scene {
	t.Helper()
	s := &scene{
		t: t, w: cpgtest.NewWorld(cfg),
		ps: map[cpg.NodeID]*cpgtest.Process{}, told: map[*cpgtest.Process][]string{},
	}
	s.w.Settle(nil)
	for _, id := range s.w.Nodes() {
		s.start(id, 100)
	}
	s.settle()
	s.forget()
	return s
}

func (s *scene) start(id cpg.NodeID, pid uint32) *cpgtest.Process {
	s.t.Helper()
	p, err := s.w.Start(id, pid)
	if err != nil {
		s.t.Fatal(err)
	}
	s.ps[id] = p
	return p
}

func (s *scene) forget() { clear(s.told) }

// settle lets all happen; every process takes what its group said, then what
// the quorum service said.
func (s *scene) settle() {
	s.w.Settle(nil)
	for _, id := range s.w.Nodes() {
		for _, p := range s.w.Processes(id) {
			for src := cpgtest.FromGroup; src <= cpgtest.FromQuorum; src++ {
				for d, err := s.w.Dispatch(p, src); err == nil; d, err = s.w.Dispatch(p, src) {
					s.take(d)
				}
			}
		}
	}
}

func (s *scene) take(d cpgtest.Delivery) {
	if d.Process == nil {
		return
	}
	line := ""
	switch e := d.Event.(type) {
	case cpg.Message:
		line = fmt.Sprintf("%q from %v", e.Data, e.From)
	case cpg.ConfChange:
		line = fmt.Sprintf("members %v left %v joined %v", e.Members, e.Left, e.Joined)
	case cpg.RingChange:
		line = fmt.Sprintf("ring %v", e.Nodes)
	case cpg.Quorum:
		line = fmt.Sprintf("quorate %v %v", e.Quorate, e.Nodes)
	case nil:
		line = d.Err.Error()
	}
	s.told[d.Process] = append(s.told[d.Process], line)
}

func (s *scene) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) send(id cpg.NodeID, text string) {
	s.t.Helper()
	s.must(s.ps[id].TryMulticast([]byte(text)))
}

// want checks what a node's process was told.
func (s *scene) want(id cpg.NodeID, lines ...string) {
	s.t.Helper()
	if diff := cmp.Diff(lines, s.told[s.ps[id]]); diff != "" {
		s.t.Errorf("node %d was told (-want +got):\n%s", id, diff)
	}
}

func three() cpgtest.Config { return cpgtest.Config{Nodes: []cpg.NodeID{3, 1, 2}} }

func TestFirstEvents(t *testing.T) {
	t.Parallel()
	s := newScene(t, three())
	s.ps[1].Kill()
	s.settle()
	s.forget()
	s.start(1, 100)
	s.settle()
	s.want(1,
		"members [1/100 2/100 3/100] left [] joined [1/100 join]",
		"ring [1 2 3]",
		"quorate true [1 2 3]")
	s.want(2, "members [1/100 2/100 3/100] left [] joined [1/100 join]")
}

func TestSenderHasItsMessageFirstAndAlone(t *testing.T) {
	t.Parallel()
	s := newScene(t, three())
	s.send(1, "m")
	s.must(s.w.Send(1, 1))
	d, err := s.w.Dispatch(s.ps[1], cpgtest.FromGroup)
	s.must(err)
	s.take(d)
	s.want(1, `"m" from 1/100`)
	s.w.PowerOff(1)
	s.settle()
	for _, id := range []cpg.NodeID{2, 3} {
		s.want(id,
			"members [2/100 3/100] left [1/100 nodedown] joined []",
			"ring [2 3]",
			"quorate true [2 3]")
	}
}

func TestWhoStaysTogetherHasTheSame(t *testing.T) {
	t.Parallel()
	s := newScene(t, three())
	s.send(1, "m")
	s.must(s.w.Send(1, 1))
	s.must(s.w.Receive(2)) // and 3 has not
	s.w.PowerOff(1)
	s.settle()
	for _, id := range []cpg.NodeID{2, 3} {
		s.want(id,
			`"m" from 1/100`,
			"members [2/100 3/100] left [1/100 nodedown] joined []",
			"ring [2 3]",
			"quorate true [2 3]")
	}
}

func TestGapThatNobodyCanFill(t *testing.T) {
	t.Parallel()
	s := newScene(t, three())
	s.send(1, "lost")
	s.must(s.w.Send(1, 1))
	s.send(2, "kept")
	s.must(s.w.Send(2, 1)) // 2 cannot deliver it before "lost"
	if n := s.ps[2].Queued(cpgtest.FromGroup); n != 0 {
		t.Fatalf("%d events over a gap", n)
	}
	s.w.PowerOff(1)
	s.settle()
	for _, id := range []cpg.NodeID{2, 3} {
		s.want(id,
			`"kept" from 2/100`,
			"members [2/100 3/100] left [1/100 nodedown] joined []",
			"ring [2 3]",
			"quorate true [2 3]")
	}
}

// After a gap only those are heard who are still there.
func TestGapHidesWhatItsSenderSentLater(t *testing.T) {
	t.Parallel()
	s := newScene(t, three())
	s.send(1, "lost")
	s.send(1, "after it")
	s.must(s.w.Send(1, 2))
	for _, step := range s.w.Enabled(nil) {
		if step.Kind == cpgtest.StepReceive && step.Node == 2 {
			step.Position++
			_, err := s.w.Do(step)
			s.must(err)
		}
	}
	s.w.PowerOff(1)
	s.settle()
	s.want(2,
		"members [2/100 3/100] left [1/100 nodedown] joined []",
		"ring [2 3]",
		"quorate true [2 3]")
}

func TestMessageIsDeliveredInALaterView(t *testing.T) {
	t.Parallel()
	s := newScene(t, three())
	s.send(2, "queued")
	s.w.PowerOff(1)
	s.must(s.w.Form(2, 3))
	if err := s.ps[2].TryMulticast([]byte("x")); !errors.Is(err, cpg.ErrTryAgain) {
		t.Errorf("a message while the ring synchronises: %v", err)
	}
	s.settle()
	s.want(3,
		"members [2/100 3/100] left [1/100 nodedown] joined []",
		"ring [2 3]",
		`"queued" from 2/100`,
		"quorate true [2 3]")
}

func TestPartitionAndMerge(t *testing.T) {
	t.Parallel()
	s := newScene(t, three())
	s.w.Partition([]cpg.NodeID{1})
	s.settle()
	s.want(1,
		"members [1/100] left [2/100 nodedown 3/100 nodedown] joined []",
		"ring [1]",
		"quorate false [1]")
	s.forget()
	s.w.Heal()
	s.settle()
	s.want(1,
		"members [1/100 2/100 3/100] left [] joined [2/100 nodeup 3/100 nodeup]",
		"ring [1 2 3]",
		"quorate true [1 2 3]")
	s.want(2,
		"members [1/100 2/100 3/100] left [] joined [1/100 nodeup]",
		"ring [1 2 3]",
		"quorate true [1 2 3]")
}

// Nobody hears of the ring between when it did not last: who was away for that
// long is in left and in joined.
func TestShortPartitionIsDownAndUpAtOnce(t *testing.T) {
	t.Parallel()
	s := newScene(t, three())
	s.w.Partition([]cpg.NodeID{1})
	s.must(s.w.Form(1))
	s.must(s.w.Form(2, 3))
	s.w.Heal()
	s.settle()
	s.want(2,
		"members [2/100 3/100] left [1/100 nodedown] joined []",
		"members [1/100 2/100 3/100] left [] joined [1/100 nodeup]",
		"ring [1 2 3]",
		"quorate true [1 2 3]")
	s.want(1,
		"members [1/100] left [2/100 nodedown 3/100 nodedown] joined []",
		"members [1/100 2/100 3/100] left [] joined [2/100 nodeup 3/100 nodeup]",
		"ring [1 2 3]",
		"quorate true [1 2 3]")
}

func TestHiddenSeparation(t *testing.T) {
	t.Parallel()
	s := newScene(t, three())
	s.send(1, "mine alone")
	s.must(s.w.Send(1, 1))
	s.w.Partition([]cpg.NodeID{1})
	s.must(s.w.Form(1))
	s.must(s.w.Form(2, 3))
	s.w.Heal()
	s.must(s.w.Form(1, 2, 3)) // would say who was away, but the token is lost
	s.w.LoseToken(1)
	s.settle()
	s.want(1, `"mine alone" from 1/100`, "ring [1 2 3]", "quorate true [1 2 3]")
	s.want(2, "ring [1 2 3]", "quorate true [1 2 3]")
}

// Only one side saw the process end, and then nobody saw the sides part.
func TestThirdConfChangeIsForZombies(t *testing.T) {
	t.Parallel()
	s := newScene(t, three())
	s.ps[1].Kill()
	s.must(s.w.Send(1, 1))
	s.w.Partition([]cpg.NodeID{1})
	s.must(s.w.Form(1))
	s.must(s.w.Form(2, 3))
	s.w.Heal()
	s.must(s.w.Form(1, 2, 3))
	s.w.LoseToken(1)
	s.settle()
	s.want(2,
		"members [2/100 3/100] left [1/100 procdown] joined []",
		"ring [1 2 3]",
		"quorate true [1 2 3]")
}

func TestTwoProcessesOnOneNode(t *testing.T) {
	t.Parallel()
	s := newScene(t, three())
	rival := s.start(1, 200)
	s.settle()
	s.forget()
	s.must(rival.TryMulticast([]byte("m")))
	s.settle()
	for _, p := range append(s.w.Processes(1), s.w.Processes(3)...) {
		if got := s.told[p]; len(got) != 1 || got[0] != `"m" from 1/200` {
			t.Errorf("%v was told %v", p.Self(), got)
		}
	}
}

func TestProcessEndsAndComesBackWithItsPID(t *testing.T) {
	t.Parallel()
	s := newScene(t, three())
	s.send(1, "last words")
	s.ps[1].Kill()
	if _, err := s.w.Start(1, 100); !errors.Is(err, cpg.ErrTryAgain) {
		t.Errorf("a second join before the end of the first: %v", err)
	}
	s.settle()
	s.want(2,
		`"last words" from 1/100`,
		"members [2/100 3/100] left [1/100 procdown] joined []")
	s.forget()
	s.start(1, 100)
	if _, err := s.w.Start(1, 100); !errors.Is(err, cpg.ErrExist) {
		t.Errorf("a second process of one pid: %v", err)
	}
	s.settle()
	s.want(2, "members [1/100 2/100 3/100] left [] joined [1/100 join]")
}

func TestLeaverHearsItsOwnLeaveLast(t *testing.T) {
	t.Parallel()
	s := newScene(t, three())
	s.must(s.ps[1].Leave())
	if err := s.ps[1].TryMulticast(nil); !errors.Is(err, cpg.ErrNotExist) {
		t.Errorf("a message after leaving: %v", err)
	}
	s.settle()
	s.send(2, "m")
	s.settle()
	s.want(1,
		"members [2/100 3/100] left [1/100 leave] joined []",
		(&cpg.Error{Op: "cpg_dispatch", Code: cpg.ErrClosed}).Error())
	s.forget()
	s.start(1, 100)
	s.settle()
	s.want(2, "members [1/100 2/100 3/100] left [] joined [1/100 join]")
}

func TestCorosyncStopsUnderItsProcesses(t *testing.T) {
	t.Parallel()
	s := newScene(t, three())
	s.send(1, "one")
	s.send(1, "two")
	s.must(s.w.Send(1, 2))
	s.w.StopCorosync(1, 1)
	s.settle()
	s.want(1, `"one" from 1/100`, (&cpg.Error{Op: "cpg_dispatch", Code: cpg.ErrLibrary}).Error())
	if err := s.ps[1].TryMulticast(nil); !errors.Is(err, cpg.ErrLibrary) {
		t.Errorf("a message without corosync: %v", err)
	}
	if _, err := s.w.Start(1, 100); !errors.Is(err, cpg.ErrLibrary) {
		t.Errorf("a start without corosync: %v", err)
	}
	s.w.StartCorosync(1)
	if _, err := s.w.Start(1, 100); !errors.Is(err, cpg.ErrTryAgain) {
		t.Errorf("a start before the first ring: %v", err)
	}
	s.settle()
	s.forget()
	s.start(1, 100)
	s.settle()
	s.want(2, "members [1/100 2/100 3/100] left [] joined [1/100 join]")
}

func TestFrozenCorosyncFindsTheOthersGoneAndBack(t *testing.T) {
	t.Parallel()
	s := newScene(t, three())
	s.w.Freeze(1)
	s.settle()
	s.want(1)
	s.want(2, "members [2/100 3/100] left [1/100 nodedown] joined []", "ring [2 3]", "quorate true [2 3]")
	s.forget()
	s.w.Thaw(1)
	s.settle()
	s.want(1,
		"members [1/100] left [2/100 nodedown 3/100 nodedown] joined []",
		"members [1/100 2/100 3/100] left [] joined [2/100 nodeup 3/100 nodeup]",
		"ring [1 2 3]",
		"quorate true [1 2 3]")
}

func TestGhostStays(t *testing.T) {
	t.Parallel()
	ghost := cpg.Member{Node: 1, PID: 100}
	for _, how := range []string{"process", "node"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, three())
			s.w.Ghost(ghost)
			if how == "process" {
				s.ps[1].Kill()
			} else {
				s.w.PowerOff(1)
			}
			s.settle()
			s.w.LoseToken(2)
			s.settle()
			for _, id := range []cpg.NodeID{2, 3} {
				if !slices.Contains(s.w.Members(id), ghost) {
					t.Errorf("node %d has let go of the ghost", id)
				}
			}
			s.w.StopCorosync(2, 0)
			s.w.StopCorosync(3, 0)
			s.w.PowerOff(1)
			for _, id := range s.w.Nodes() {
				s.w.PowerOn(id)
				s.w.StartCorosync(id)
			}
			s.settle()
			if m := s.w.Members(2); len(m) != 0 {
				t.Errorf("members %v after every corosync was restarted", m)
			}
		})
	}
}

func TestRefusalsAndSilentLoss(t *testing.T) {
	t.Parallel()
	s := newScene(t, cpgtest.Config{Nodes: []cpg.NodeID{1, 2}, OutboxMessages: 3})
	s.w.TryAgain(1, true)
	if err := s.ps[1].TryMulticast(nil); !errors.Is(err, cpg.ErrTryAgain) {
		t.Errorf("in a storm: %v", err)
	}
	s.w.TryAgain(1, false)
	s.w.Drop(1, 2)
	for _, text := range []string{"a", "b", "c", "d", "e"} {
		s.send(1, text)
	}
	if err := s.ps[1].TryMulticast(nil); !errors.Is(err, cpg.ErrTryAgain) {
		t.Errorf("with a full outbox: %v", err)
	}
	if err := s.ps[1].TryMulticast(make([]byte, cpg.MaxMessage+1)); !errors.Is(err, cpg.ErrTooBig) {
		t.Errorf("too big: %v", err)
	}
	s.settle()
	s.want(2, `"c" from 1/100`, `"d" from 1/100`, `"e" from 1/100`)
}

func TestSlowConsumer(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]cpgtest.Config{
		"events": {Nodes: []cpg.NodeID{1, 2}, QueueEvents: 5},
		"bytes":  {Nodes: []cpg.NodeID{1, 2}, QueueBytes: 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t, cfg)
			s.ps[2].Pause()
			for range 6 {
				s.send(1, "x")
				s.settle()
			}
			if err := s.ps[2].Err(); !errors.Is(err, cpg.ErrSlowConsumer) {
				t.Fatalf("after too much: %v", err)
			}
			s.ps[2].Resume()
			s.settle()
			s.want(2, (&cpg.Error{Op: "cpg_dispatch", Code: cpg.ErrSlowConsumer}).Error())
			if got := s.told[s.ps[1]]; got[len(got)-1] != "members [1/100] left [2/100 procdown] joined []" {
				t.Errorf("the others were told %v", got)
			}
		})
	}
}

func TestQuorumBeforeAfterAndMissing(t *testing.T) {
	t.Parallel()
	s := newScene(t, three())
	s.w.DelayQuorum(2, true)
	s.w.LoseQuorum(3, 1)
	s.w.PowerOff(1)
	s.settle()
	group := []string{"members [2/100 3/100] left [1/100 nodedown] joined []", "ring [2 3]"}
	s.want(2, group...)
	s.want(3, group...)
	s.w.DelayQuorum(2, false)
	s.ps[3].RequeryQuorum()
	s.settle()
	s.want(2, append(group, "quorate true [2 3]")...)
	s.want(3, append(group, "quorate true [2 3]")...)
	s.forget()
	s.w.PowerOn(1)
	s.must(s.w.Form(1, 2, 3))
	s.w.Settle(nil)
	for s.ps[2].Queued(cpgtest.FromQuorum) > 0 {
		d, err := s.w.Dispatch(s.ps[2], cpgtest.FromQuorum)
		s.must(err)
		s.take(d)
	}
	s.settle()
	s.want(2, "quorate true [1 2 3]", "ring [1 2 3]")
	s.forget()
	s.w.SetQuorate(2, false)
	s.settle()
	s.want(2, "quorate false [1 2 3]")
}

func TestTwoNodesWaitForAll(t *testing.T) {
	t.Parallel()
	s := newScene(t, cpgtest.Config{Nodes: []cpg.NodeID{1, 2}, TwoNode: true})
	quorate := func(want bool) {
		t.Helper()
		if q, ok := s.w.Quorum(1); !ok || q.Quorate != want {
			t.Errorf("quorate %v, want %v", q.Quorate, want)
		}
	}
	s.w.PowerOff(2)
	s.settle()
	quorate(true)
	s.w.PowerOff(1)
	s.w.PowerOn(1)
	s.settle()
	quorate(false)
	s.w.PowerOn(2)
	s.settle()
	quorate(true)
}

func TestImpossibleStepsAreRefused(t *testing.T) {
	t.Parallel()
	s := newScene(t, three())
	s.w.Partition([]cpg.NodeID{1})
	for name, err := range map[string]error{
		"form across a cut":   s.w.Form(1, 2),
		"form of nothing":     s.w.Form(),
		"send of nothing":     s.w.Send(1, 1),
		"receive of nothing":  s.w.Receive(1),
		"dispatch of nothing": func() error { _, err := s.w.Dispatch(s.ps[1], cpgtest.FromGroup); return err }(),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// The token cannot cross a cut: whoever it does not reach cannot deliver even
// its own messages before a new ring has formed.
func TestTokenStopsAtACut(t *testing.T) {
	t.Parallel()
	s := newScene(t, three())
	s.send(1, "a")
	s.send(2, "b")
	s.must(s.w.Send(1, 1))
	s.w.Partition([]cpg.NodeID{1})
	if err := s.w.Send(2, 1); err == nil {
		t.Error("the token crossed the cut")
	}
	s.settle()
	s.want(2,
		"members [2/100 3/100] left [1/100 nodedown] joined []",
		"ring [2 3]",
		`"b" from 2/100`,
		"quorate true [2 3]")
}
