package node_test

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"sipha/registrard/cpg"
	"sipha/registrard/cpg/cpgtest"
	"sipha/registrard/location"
	"sipha/registrard/node"
	"sipha/registrard/replica"
	"sipha/registrard/replica/wire"
	"sipha/registrard/store"
)

func aor(n int) string       { return fmt.Sprintf("sip:user%06d@example.org", n) }
func contactOf(n int) string { return fmt.Sprintf("sip:user%06d@192.0.2.9:5060", n) }

// partition cuts a node off the others.
func partition(id cpg.NodeID) func(*cpgtest.World) {
	return func(w *cpgtest.World) { w.Partition([]cpg.NodeID{id}) }
}

// heal joins what was cut.
func heal(w *cpgtest.World) { w.Heal() }

// checkedGroup holds a node to what it says: nothing is receipted or granted that is not stored.
type checkedGroup struct {
	node.Group
	i *instance
}

func (g *checkedGroup) TryMulticast(parts ...[]byte) error {
	for _, p := range parts {
		_, m, err := wire.Decode(p)
		if err != nil {
			g.i.c.Errorf("node %d sends what cannot be read: %v", g.i.id, err)
		}
		switch m := m.(type) {
		case *replica.SnapshotChunk:
			g.i.chunks.Add(1)
		case *replica.Receipt:
			if _, last, _ := g.i.db.Position(); m.Index > last.Index {
				g.i.c.Errorf("node %d receipts %d and has stored up to %d", g.i.id, m.Index, last.Index)
			}
		case *replica.Grant:
			if stored := g.i.disk.promised(); m.Epoch.Compare(stored) > 0 {
				g.i.c.Errorf("node %d grants %s and has stored %s", g.i.id, m.Epoch, stored)
			}
		}
		g.i.tapping.Lock()
		tap := g.i.tap
		g.i.tapping.Unlock()
		if tap != nil {
			if err := tap(m); err == errLost {
				return nil
			} else if err != nil {
				return err
			}
		}
	}
	return g.Group.TryMulticast(parts...)
}

// errLost is a message that the group takes and loses.
var errLost = errors.New("lost")

// onSend sets who sees what a node sends, which is not sent with an error.
func (i *instance) onSend(tap func(replica.Message) error) {
	i.tapping.Lock()
	defer i.tapping.Unlock()
	i.tap = tap
}

// RequeryQuorum is the group's.
func (g *checkedGroup) RequeryQuorum(ctx context.Context) error {
	return g.Group.(*cpgtest.Group).RequeryQuorum(ctx)
}

// faults is what a test does to a node's disk. It stays from one start of the node to the next.
type faults struct {
	mu      sync.Mutex
	write   func(store.Batch) error // before a Write; with an error it is not done
	stage   func()                  // before a snapshot is staged
	promise error
	epoch   location.Epoch // the highest that was stored
}

func (f *faults) promised() location.Epoch {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.epoch
}

// onWrite sets what comes before a Write.
func (f *faults) onWrite(do func(store.Batch) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.write = do
}

// checkedStore is a database with faults.
type checkedStore struct {
	*store.Store
	i *instance
}

func (s *checkedStore) Write(b store.Batch) error {
	f := &s.i.disk
	f.mu.Lock()
	do := f.write
	f.mu.Unlock()
	if do != nil {
		if err := do(b); err != nil {
			return err
		}
	}
	return s.Store.Write(b)
}

func (s *checkedStore) SavePromise(e location.Epoch) error {
	f := &s.i.disk
	f.mu.Lock()
	err := f.promise
	f.mu.Unlock()
	if err == nil {
		err = s.Store.SavePromise(e)
	}
	if err == nil {
		f.mu.Lock()
		f.epoch = e
		f.mu.Unlock()
	}
	return err
}

func (s *checkedStore) Stage() (*store.Staging, error) {
	f := &s.i.disk
	f.mu.Lock()
	do := f.stage
	f.mu.Unlock()
	if do != nil {
		do()
	}
	return s.Store.Stage()
}

// deliverExcept moves the network, but for what goes to one node.
func deliverExcept(w *cpgtest.World, but cpg.NodeID) {
	for moved := true; moved; {
		moved = false
		for _, s := range w.Enabled(nil) {
			if s.Kind == cpgtest.StepForm || s.Kind == cpgtest.StepDispatch || s.Kind == cpgtest.StepReceive && s.Node == but {
				continue
			}
			if _, err := w.Do(s); err == nil {
				moved = true
				break
			}
		}
	}
}
