package node

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"sipha/registrard/location"
	"sipha/registrard/replica"
	"sipha/registrard/store"
)

// errDisk wraps what ends the daemon because of its disk.
var errDisk = errors.New("disk")

// errStalled is a disk that does not come back.
var errStalled = errors.New("an operation on the database does not end; see to the disk, then restart")

// disk is the one writer of the database. It takes what the loop asks for in order, puts everything that waits into one transaction
// with one sync, and tells how far it has come.
type disk struct {
	node *Node

	queued chan struct{} // one token: there is something in the queue, or nothing more will come
	room   chan struct{} // one token: something was taken out of the queue
	told   chan struct{} // one token: there are results
	ended  chan struct{} // closed when it works no more

	mu      sync.Mutex
	queue   []diskOp
	bytes   int // of the queue
	closed  bool
	results []diskResult
	err     error         // why it ended
	busy    bool          // an operation is under way
	began   time.Duration // when it began
	limit   time.Duration // that it may take

	// Of the goroutine that runs.
	staging *store.Staging
	session uint64 // of staging
}

// diskOp is something to do. Exactly one part is set.
type diskOp struct {
	write   *replica.Write
	promise *replica.Promise
	entries []location.Entry // committed, with their changes
	changes [][]location.Change
	stage   *replica.Stage
	settle  chan struct{}
	aside   *asideOp
}

// asideOp sets the database aside; done is closed when the rest says what came of it.
type asideOp struct {
	reason    string
	done      chan struct{}
	recovered *store.Recovered
	err       error
}

// size is what the operation counts for in the queue's limit of bytes.
func (op *diskOp) size() int {
	n := 0
	if op.write != nil {
		for i := range op.write.Entries {
			n += len(op.write.Entries[i].Payload)
		}
	}
	for i := range op.entries {
		n += len(op.entries[i].Payload)
	}
	if op.stage != nil {
		n += len(op.stage.Chunk.Data)
	}
	return n
}

// limit is how long the operation may take.
func (op *diskOp) limit() time.Duration {
	if op.stage != nil || op.aside != nil {
		return DiskInstallMax
	}
	return DiskStallMax
}

// diskResult tells the loop. Exactly one part is set.
type diskResult struct {
	stored    uint64 // writes up to this one are stored
	installed *store.Recovered
	failed    uint64 // session of a snapshot that is of no use
}

func newDisk(n *Node) *disk {
	token := func() chan struct{} { return make(chan struct{}, 1) }
	return &disk{node: n, queued: token(), room: token(), told: token(), ended: make(chan struct{})}
}

// signal leaves a token.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// put queues an operation. The queue is bounded by what the core has in flight, and by limits of its own; when it is full all the same,
// the loop waits, and with it the group is slowed down. The error wraps errDisk: nothing can be stored any more.
func (d *disk) put(op diskOp) error {
	if d.offer(op) {
		return nil
	}
	look := time.NewTicker(diskLookInterval)
	defer look.Stop()
	for !d.offer(op) {
		select {
		case <-d.room:
		case <-look.C:
			if err := d.stalled(); err != nil {
				return err
			}
		case <-d.ended:
			return d.why()
		}
	}
	return nil
}

// offer queues an operation if there is room.
func (d *disk) offer(op diskOp) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || d.err != nil || len(d.queue) >= DiskQueueMax || d.bytes >= DiskQueueBytes {
		return false
	}
	d.queue = append(d.queue, op)
	d.bytes += op.size()
	signal(d.queued)
	return true
}

// why says why the disk works no more.
func (d *disk) why() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		return fmt.Errorf("%w: %w", errDisk, ErrClosed)
	}
	return d.err
}

// stalled says that the operation under way takes too long; nil when it does not.
func (d *disk) stalled() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err != nil {
		return d.err
	}
	if !d.busy || d.node.mono()-d.began < d.limit {
		return nil
	}
	return fmt.Errorf("%w: %w", errDisk, errStalled)
}

// take returns what the disk has told since it was last asked.
func (d *disk) take() ([]diskResult, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	rs := d.results
	d.results = nil
	return rs, d.err
}

// tell leaves a result for the loop. How far it is stored is told once, however often it moves on before somebody looks.
func (d *disk) tell(r diskResult) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n := len(d.results); r.stored > 0 && n > 0 && d.results[n-1].stored > 0 {
		d.results[n-1] = r
	} else {
		d.results = append(d.results, r)
	}
	signal(d.told)
}

// settle waits until everything that was asked for is done, at the end of a session, and forgets what it would have told. It returns
// the content that has replaced ours in the meantime, if one has.
func (d *disk) settle() (*store.Recovered, error) {
	done := make(chan struct{})
	if err := d.put(diskOp{settle: done}); err != nil {
		return nil, err
	}
	if err := d.wait(done); err != nil {
		return nil, err
	}
	rs, err := d.take()
	var installed *store.Recovered
	for _, r := range rs {
		if r.installed != nil {
			installed = r.installed
		}
	}
	return installed, err
}

// wait returns when done is closed, or the disk will not close it any more.
func (d *disk) wait(done <-chan struct{}) error {
	look := time.NewTicker(diskLookInterval)
	defer look.Stop()
	for {
		select {
		case <-done:
			return nil
		case <-d.ended:
			select {
			case <-done: // at the same time
				return nil
			default:
				return d.why()
			}
		case <-look.C:
			if err := d.stalled(); err != nil {
				return err
			}
		}
	}
}

// setAside sets the database aside between two sessions.
func (d *disk) setAside(reason string) (*store.Recovered, error) {
	op := &asideOp{reason: reason, done: make(chan struct{})}
	if err := d.put(diskOp{aside: op}); err != nil {
		return nil, err
	}
	if err := d.wait(op.done); err != nil {
		return nil, err
	}
	return op.recovered, op.err
}

// close lets the disk end once it has done what was asked for.
func (d *disk) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	signal(d.queued)
}

// run works until it is closed. A disk that fails ends the daemon: nothing may be receipted any more.
func (d *disk) run() error {
	defer close(d.ended)
	for {
		ops, more := d.next()
		switch {
		case len(ops) > 0:
			if err := d.do(ops); err != nil {
				return err
			}
		case more:
			<-d.queued
		default:
			d.discard()
			return nil
		}
	}
}

// next takes the next operation out of the queue, with as many that follow it as fit into one transaction: up to one of another kind,
// or the next cut. More tells whether anything may come after what is returned.
func (d *disk) next() (ops []diskOp, more bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.queue) == 0 {
		return nil, !d.closed
	}
	n, entries := 0, 0
	for n < len(d.queue) && entries < writesMax {
		op := &d.queue[n]
		goes := op.entries != nil || op.write != nil && (n == 0 || op.write.Cut == 0)
		if n > 0 && !goes {
			break
		}
		n++
		d.bytes -= op.size()
		if !goes {
			break
		}
		if entries += len(op.entries); op.write != nil {
			entries += len(op.write.Entries)
		}
	}
	ops = d.queue[:n:n]
	if d.queue = d.queue[n:]; len(d.queue) == 0 {
		d.queue = nil
	}
	d.busy, d.began, d.limit = true, d.node.mono(), ops[0].limit()
	signal(d.room)
	return ops, true
}

// writesMax is after how many entries a transaction takes no further operation.
const writesMax = 1024

// do does operations that next has put together.
func (d *disk) do(ops []diskOp) error {
	err := d.work(ops)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.busy = false
	if err != nil {
		d.err = fmt.Errorf("%w: %w", errDisk, err)
		signal(d.told)
		return d.err
	}
	return nil
}

func (d *disk) work(ops []diskOp) error {
	op := &ops[0]
	switch {
	case op.write != nil || op.entries != nil:
		return d.write(ops)
	case op.promise != nil:
		if err := d.node.opts.Store.SavePromise(op.promise.Epoch); err != nil {
			return fmt.Errorf("store the promise: %w", err)
		}
		d.tell(diskResult{stored: op.promise.Seq})
	case op.stage != nil:
		return d.stage(op.stage)
	case op.settle != nil:
		d.discard()
		close(op.settle)
	case op.aside != nil:
		d.aside(op.aside)
	}
	return nil
}

// write does one transaction.
func (d *disk) write(ops []diskOp) error {
	var b store.Batch
	var seq uint64
	for i := range ops {
		op := &ops[i]
		if w := op.write; w != nil {
			b.Cut = max(b.Cut, w.Cut) // only the first one cuts
			b.Append = append(b.Append, w.Entries...)
			seq = w.Seq
		}
		for k := range op.entries {
			b.Apply = append(b.Apply, store.Committed{Position: op.entries[k].Position, Time: op.entries[k].Time, Changes: op.changes[k]})
		}
	}
	began := d.node.mono()
	if err := d.node.opts.Store.Write(b); err != nil {
		return fmt.Errorf("write to the database: %w", err)
	}
	if o := d.node.opts.Observe; o != nil && seq > 0 {
		o.Synced(d.node.mono() - began)
	}
	if seq > 0 {
		d.tell(diskResult{stored: seq})
	}
	return nil
}

// boot turns what the store has found into what the core wants to know.
func boot(r *store.Recovered, wall int64) replica.Boot {
	b := replica.Boot{
		Disk: r.Disk, Promised: r.Promised, Applied: r.Applied, Time: r.Time, Voters: r.Voters, Log: r.Log,
	}
	if !r.StoredAt.IsZero() {
		b.StoredAgo = max(time.UnixMilli(wall).Sub(r.StoredAt), 0)
	}
	return b
}
