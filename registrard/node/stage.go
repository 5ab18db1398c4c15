package node

import (
	"errors"
	"fmt"

	"sipha/registrard/location"
	"sipha/registrard/replica"
	"sipha/registrard/store"
)

// stage takes in a chunk of a snapshot. A snapshot that is of no use is no fault of the disk: another donor is asked.
func (d *disk) stage(a *replica.Stage) error {
	err := d.stageChunk(a)
	if err == nil {
		return nil
	}
	if !errors.Is(err, store.ErrSequence) && !errors.Is(err, store.ErrDamaged) && !errors.Is(err, location.ErrEncoding) {
		return err
	}
	d.node.opts.Log.Error("snapshot of no use", "error", err)
	d.discard()
	d.tell(diskResult{failed: a.Session})
	return nil
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
	d.tell(diskResult{installed: r})
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
func (d *disk) aside(op *asideOp) {
	defer close(op.done)
	var path string
	path, op.recovered, op.err = d.node.opts.Store.SetAside(op.reason)
	if op.err == nil {
		d.node.opts.Log.Error("database set aside; starting anew from the others", "path", path, "reason", op.reason)
	}
}
