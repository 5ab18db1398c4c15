package node

import (
	"context"
	"fmt"
	"time"

	"sipha/registrard/location"
	"sipha/registrard/replica"
	"sipha/registrard/store"
)

// disk is the one writer of the database. It takes what the loop asks for in order, puts everything that waits into one transaction
// with one sync, and tells how far it has come.
type disk struct {
	node   *Node
	queue  chan diskOp
	done   chan diskDone
	failed chan error

	// Of the goroutine that runs.
	staging *store.Staging
	session uint64
}

// diskOp is something to do. Exactly one part is set.
type diskOp struct {
	write   *replica.Write
	promise *replica.Promise
	entries []location.Entry // committed, with their changes
	changes [][]location.Change
	stage   *replica.Stage
	aside   string
	settle  chan struct{}
	answer  chan asideDone
}

// diskDone tells the loop.
type diskDone struct {
	seq       uint64 // writes up to this one are stored
	installed *store.Recovered
	failed    uint64 // session of a snapshot that is of no use
}

func newDisk(n *Node) *disk {
	return &disk{node: n, queue: make(chan diskOp, DiskQueueMax), done: make(chan diskDone, DiskQueueMax), failed: make(chan error, 1)}
}

// put queues an operation. The queue is bounded by what the core has in flight; when it is full all the same, the loop waits, and
// with it the group is slowed down.
func (d *disk) put(op diskOp) { d.queue <- op }

func (d *disk) write(a replica.Write)     { d.put(diskOp{write: &a}) }
func (d *disk) promise(a replica.Promise) { d.put(diskOp{promise: &a}) }
func (d *disk) stage(a replica.Stage)     { d.put(diskOp{stage: &a}) }
func (d *disk) apply(entries []location.Entry, changes [][]location.Change) {
	d.put(diskOp{entries: entries, changes: changes})
}

// settle waits until everything that was asked for is done, at the end of a session, and forgets what it would have told.
func (d *disk) settle(ctx context.Context) {
	wait := make(chan struct{})
	d.put(diskOp{settle: wait})
	for {
		select {
		case <-d.done:
		case <-wait:
			for len(d.done) > 0 {
				<-d.done
			}
			return
		case <-ctx.Done():
			return
		}
	}
}

// run works until ctx is done. A disk that fails ends the daemon: nothing may be receipted any more.
func (d *disk) run(ctx context.Context) error {
	for {
		select {
		case op := <-d.queue:
			if err := d.work(op); err != nil {
				d.failed <- err
				return err
			}
		case <-ctx.Done():
			return d.rest()
		}
	}
}

// rest does what was asked for before the end.
func (d *disk) rest() error {
	for len(d.queue) > 0 {
		if err := d.work(<-d.queue); err != nil {
			return err
		}
	}
	return nil
}

// work does one operation, with as many of the kind that follow it as fit into one transaction.
func (d *disk) work(op diskOp) error {
	switch {
	case op.write != nil || op.entries != nil:
		return d.writes(op)
	case op.promise != nil:
		if err := d.node.opts.Store.SavePromise(op.promise.Epoch); err != nil {
			return fmt.Errorf("store the promise: %w", err)
		}
		d.done <- diskDone{seq: op.promise.Seq}
	case op.stage != nil:
		d.staged(op.stage)
	case op.settle != nil:
		d.discard()
		close(op.settle)
	case op.answer != nil:
		r, err := d.aside(op.aside)
		op.answer <- asideDone{r, err}
	}
	return nil
}

// writes puts everything that waits into one transaction: up to the next operation of another kind, or the next cut.
func (d *disk) writes(op diskOp) error {
	var b store.Batch
	var seq uint64
	var next *diskOp
	for {
		if w := op.write; w != nil {
			if w.Cut > 0 {
				b.Cut = w.Cut
			}
			b.Append = append(b.Append, w.Entries...)
			seq = w.Seq
		}
		for i := range op.entries {
			b.Apply = append(b.Apply, store.Committed{Position: op.entries[i].Position, Time: op.entries[i].Time, Changes: op.changes[i]})
		}
		if len(b.Append) >= writesMax || len(b.Apply) >= writesMax {
			break
		}
		select {
		case more := <-d.queue:
			if more.entries == nil && (more.write == nil || more.write.Cut > 0) {
				next = &more
			} else {
				op = more
				continue
			}
		default:
		}
		break
	}
	began := time.Now()
	if err := d.node.opts.Store.Write(b); err != nil {
		return fmt.Errorf("write to the database: %w", err)
	}
	if o := d.node.opts.Observe; o != nil {
		o.Synced(time.Since(began))
	}
	if seq > 0 {
		d.done <- diskDone{seq: seq}
	}
	if next != nil {
		return d.work(*next)
	}
	return nil
}

// writesMax is how many entries one transaction takes.
const writesMax = 1024

// staged takes in a chunk of a snapshot. A snapshot that is of no use is no fault of the disk: another donor is asked.
func (d *disk) staged(a *replica.Stage) {
	err := d.stageChunk(a)
	if err != nil {
		d.node.opts.Log.Error("snapshot of no use", "error", err)
		d.discard()
		d.done <- diskDone{failed: a.Session}
	}
}

func (d *disk) stageChunk(a *replica.Stage) error {
	if a.Chunk.Seq == 0 {
		d.discard()
		g, err := d.node.opts.Store.Stage()
		if err != nil {
			return fmt.Errorf("begin staging: %w", err)
		}
		d.staging, d.session = g, a.Session
	}
	if d.staging == nil || d.session != a.Session {
		return nil // the rest of one that has failed
	}
	if len(a.Chunk.Data) > 0 {
		if err := d.staging.Write(a.Chunk.Data); err != nil {
			return fmt.Errorf("stage chunk %d: %w", a.Chunk.Seq, err)
		}
	}
	if !a.Chunk.End {
		return nil
	}
	r, err := d.staging.Finish(store.SnapshotEnd{Applied: a.Chunk.Applied, Last: a.Chunk.Last, Rows: a.Chunk.Rows})
	if err != nil {
		return fmt.Errorf("finish staging: %w", err)
	}
	d.staging = nil
	d.done <- diskDone{installed: r}
	return nil
}

// discard forgets a snapshot that was being staged.
func (d *disk) discard() {
	if d.staging == nil {
		return
	}
	if err := d.staging.Discard(); err != nil {
		d.node.opts.Log.Warn("discarding a snapshot", "error", err)
	}
	d.staging = nil
}

// aside sets the database aside, in the disk's goroutine.
func (d *disk) aside(reason string) (*store.Recovered, error) {
	path, r, err := d.node.opts.Store.SetAside(reason)
	if err == nil {
		d.node.opts.Log.Error("database set aside; starting anew from the others", "path", path, "reason", reason)
	}
	return r, err
}

type asideDone struct {
	recovered *store.Recovered
	err       error
}

// setAside sets the database aside between two sessions.
func (d *disk) setAside(ctx context.Context, reason string) error {
	answer := make(chan asideDone, 1)
	d.put(diskOp{aside: reason, answer: answer})
	select {
	case a := <-answer:
		if a.err == nil {
			d.node.install(a.recovered)
			d.node.boot = boot(a.recovered, d.node.now().Wall)
		}
		return a.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// stored tells the core how far the disk has come.
func (l *loop) stored(done diskDone) {
	switch {
	case done.installed != nil:
		l.node.install(done.installed)
		l.overlay = location.NewOverlay(l.node.state)
		l.step(replica.Installed{Boot: boot(done.installed, l.node.now().Wall)})
	case done.failed > 0:
		l.step(replica.StagingFailed{Session: done.failed})
	default:
		l.step(replica.Stored{Seq: done.seq})
	}
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
