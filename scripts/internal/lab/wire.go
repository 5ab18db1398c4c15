package lab

import (
	"container/heap"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Directions of a link, as the node sees them.
const (
	Both = ""
	In   = "in"  // towards the node
	Out  = "out" // from the node
)

const (
	// wireQueueMax is how many frames a link holds in one direction; the next is dropped.
	wireQueueMax = 16384
	// wireFrameMax is the largest frame that is carried (the MTU is 1500).
	wireFrameMax = 2048
	// reorderHoldMin is the least time by which a reordered frame is held back.
	reorderHoldMin = 5 * time.Millisecond
	// DelayMax bounds the delay of a link.
	DelayMax = time.Minute
)

// Faults is what a link does to the frames that pass it.
type Faults struct {
	Delay   time.Duration `json:"delay,omitempty"`   // added in each direction
	Loss    float64       `json:"loss,omitempty"`    // per cent of frames lost
	Reorder float64       `json:"reorder,omitempty"` // per cent of frames that later ones overtake
	// OneWay is In or Out: the faults act in that direction only; without any other
	// fault, nothing passes in that direction.
	OneWay string `json:"one_way,omitempty"`
}

func (f Faults) none() bool { return f == Faults{} }

// Validate reports a fault that no link can have.
func (f Faults) Validate() error {
	switch {
	case f.Delay < 0 || f.Delay > DelayMax:
		return fmt.Errorf("delay %v: use 0 to %v", f.Delay, DelayMax)
	case f.Loss < 0 || f.Loss > 100:
		return fmt.Errorf("loss %v: use 0 to 100 per cent", f.Loss)
	case f.Reorder < 0 || f.Reorder > 100:
		return fmt.Errorf("reorder %v: use 0 to 100 per cent", f.Reorder)
	case f.OneWay != Both && f.OneWay != In && f.OneWay != Out:
		return fmt.Errorf("one-way %q: use in or out", f.OneWay)
	}
	return nil
}

// plan decides the fate of one frame: whether it passes, and how long it is held.
// u and v are uniform in [0,1).
func (f Faults) plan(direction string, u, v float64) (pass bool, hold time.Duration) {
	if f.OneWay != Both && f.OneWay != direction {
		return true, 0
	}
	if f.Delay == 0 && f.Loss == 0 && f.Reorder == 0 {
		return f.OneWay == Both, 0
	}
	if u*100 < f.Loss {
		return false, 0
	}
	hold = f.Delay
	if v*100 < f.Reorder {
		hold += max(f.Delay, reorderHoldMin)
	}
	return true, hold
}

// wire is a userspace link between two TAP devices, with one queue in each direction.
type wire struct {
	a, b *os.File // a towards the node, b towards the switch
	out  *lane    // a to b
	in   *lane    // b to a
	done sync.WaitGroup
}

// lane is one direction of a wire.
type lane struct {
	direction string
	dst       *os.File
	log       *slog.Logger

	mu      sync.Mutex
	wake    chan struct{}
	faults  Faults
	queue   frames
	serial  uint64
	closed  bool
	dropped uint64
}

func newWire(tapA, tapB string, f Faults, log *slog.Logger) (*wire, error) {
	a, err := openTAP(tapA)
	if err != nil {
		return nil, err
	}
	b, err := openTAP(tapB)
	if err != nil {
		return nil, errors.Join(err, a.Close())
	}
	w := &wire{a: a, b: b}
	w.out = &lane{direction: Out, dst: b, faults: f, wake: make(chan struct{}, 1), log: log}
	w.in = &lane{direction: In, dst: a, faults: f, wake: make(chan struct{}, 1), log: log}
	for _, run := range []func(){
		func() { w.out.read(a) }, func() { w.in.read(b) }, w.out.write, w.in.write,
	} {
		w.done.Go(run)
	}
	return w, nil
}

// openTAP creates a TAP device that disappears when the file is closed.
func openTAP(name string) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	req, err := unix.NewIfreq(name)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return nil, errors.Join(fmt.Errorf("create TAP %s: %w", name, err), unix.Close(fd))
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (w *wire) set(f Faults) {
	w.out.set(f)
	w.in.set(f)
}

// faults returns what the wire does now.
func (w *wire) faults() Faults {
	w.out.mu.Lock()
	defer w.out.mu.Unlock()
	return w.out.faults
}

// discard throws away what is queued in both directions: it was in the node's
// interface, or on its cable, when the power went.
func (w *wire) discard() {
	w.out.discard()
	w.in.discard()
}

func (w *wire) close() error {
	w.out.close()
	w.in.close()
	err := errors.Join(w.a.Close(), w.b.Close())
	w.done.Wait()
	return err
}

func (l *lane) set(f Faults) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.faults = f
}

func (l *lane) discard() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = nil
}

func (l *lane) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.poke()
}

func (l *lane) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// read takes frames from a TAP device until it is closed.
func (l *lane) read(src *os.File) {
	buf := make([]byte, wireFrameMax)
	for {
		n, err := src.Read(buf)
		if err != nil {
			if !errors.Is(err, os.ErrClosed) {
				l.log.Error("link read", "direction", l.direction, "err", err)
			}
			return
		}
		l.push(buf[:n], time.Now())
	}
}

func (l *lane) push(data []byte, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	pass, hold := l.faults.plan(l.direction, rand.Float64(), rand.Float64())
	if !pass {
		return
	}
	if len(l.queue) >= wireQueueMax {
		l.dropped++
		return
	}
	l.serial++
	heap.Push(&l.queue, frame{due: now.Add(hold), serial: l.serial, data: append([]byte(nil), data...)})
	l.poke()
}

// write sends each frame when its time has come.
func (l *lane) write() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		data, wait, closed := l.next(time.Now())
		switch {
		case closed:
			return
		case data != nil:
			// A frame that the device refuses is a frame lost; that is what links do.
			_, _ = l.dst.Write(data)
			continue
		case wait > 0:
			timer.Reset(wait)
		}
		select {
		case <-timer.C:
		case <-l.wake:
		}
	}
}

// next returns a frame that is due, or how long to wait for the first (0: for a push).
func (l *lane) next(now time.Time) (data []byte, wait time.Duration, closed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(l.queue) == 0 {
		return nil, 0, l.closed
	}
	if wait = l.queue[0].due.Sub(now); wait > 0 {
		return nil, wait, false
	}
	return heap.Pop(&l.queue).(frame).data, 0, false
}

type frame struct {
	due    time.Time
	serial uint64 // keeps the order of frames that are due at the same time
	data   []byte
}

// frames is a heap (container/heap), the earliest due first.
type frames []frame

func (q frames) Len() int { return len(q) }
func (q frames) Less(i, j int) bool {
	if q[i].due.Equal(q[j].due) {
		return q[i].serial < q[j].serial
	}
	return q[i].due.Before(q[j].due)
}
func (q frames) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *frames) Push(x any)   { *q = append(*q, x.(frame)) }
func (q *frames) Pop() any {
	last := len(*q) - 1
	f := (*q)[last]
	(*q)[last] = frame{}
	*q = (*q)[:last]
	return f
}

// String returns the faults as the options of link.
func (f Faults) String() string {
	var parts []string
	if f.Delay != 0 {
		parts = append(parts, "delay "+f.Delay.String())
	}
	if f.Loss != 0 {
		parts = append(parts, fmt.Sprintf("loss %g%%", f.Loss))
	}
	if f.Reorder != 0 {
		parts = append(parts, fmt.Sprintf("reorder %g%%", f.Reorder))
	}
	if f.OneWay != Both {
		parts = append(parts, "one-way "+f.OneWay)
	}
	return strings.Join(parts, " ")
}
