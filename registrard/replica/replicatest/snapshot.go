package replicatest

import (
	"encoding/binary"
	"errors"
	"fmt"

	"sipha/registrard/location"
	"sipha/registrard/replica"
	"sipha/registrard/replica/wire"
)

// stream is a snapshot on its way to a joiner.
type stream struct {
	to      location.NodeID
	session uint64
	data    []byte
	sent    int
	seq     uint32 // of the next chunk
	flying  int    // chunks sent and not yet delivered
	end     replica.SnapshotChunk
	ended   bool
}

// staging is a snapshot on its way in.
type staging struct {
	session uint64
	data    []byte
}

// serve starts a stream: the content and the log as they are now.
func (p *shell) serve(a replica.Serve) {
	log := p.m.disk.written.clone()
	at, ok := log.at(p.applied)
	if !ok {
		p.s.fail("node %d is to serve a snapshot at %d, which its log does not hold", p.m.id, p.applied)
		return
	}
	at.Digest = p.state.Digest()
	st := &stream{to: a.To, session: a.Session}
	var rows uint64
	st.data, rows = encodeSnapshot(p.state, &log)
	st.end = replica.SnapshotChunk{
		To: a.To, Session: a.Session, Total: uint64(len(st.data)), End: true, Applied: at, Last: log.last(), Rows: rows,
	}
	p.streams[a.To] = st
	p.s.faults.struckTransfer(p.m, p.s.machine(a.To))
	p.pump(st)
}

// pump sends chunks, as many as may be under way.
func (p *shell) pump(st *stream) {
	size := p.s.opts.ChunkSize
	if size <= 0 || size > replica.ChunkSize {
		size = replica.ChunkSize
	}
	for st.flying < replica.ChunkWindow && !st.ended {
		n := min(size, len(st.data)-st.sent)
		chunk := replica.SnapshotChunk{To: st.to, Session: st.session, Total: uint64(len(st.data))}
		if st.sent+n == len(st.data) {
			chunk, st.ended = st.end, true
		}
		chunk.Seq, chunk.Data = st.seq, st.data[st.sent:st.sent+n]
		st.sent, st.seq, st.flying = st.sent+n, st.seq+1, st.flying+1
		p.traceAction(replica.Multicast{Message: &chunk})
		p.multicast(&chunk)
	}
}

func (p *shell) chunkDelivered(a replica.ChunkDelivered) {
	st := p.streams[a.To]
	if st == nil || st.session != a.Session {
		return
	}
	st.flying--
	if st.ended && st.flying == 0 {
		delete(p.streams, a.To)
		return
	}
	p.pump(st)
}

// stage takes a chunk. The last one has the whole verified and swapped in.
func (p *shell) stage(a replica.Stage) {
	if a.Chunk.Seq == 0 {
		p.staging = &staging{session: a.Session}
	}
	if p.staging == nil || p.staging.session != a.Session {
		p.s.fail("node %d is to stage chunk %d of a session that has not begun", p.m.id, a.Chunk.Seq)
		return
	}
	p.staging.data = append(p.staging.data, a.Chunk.Data...)
	if !a.Chunk.End {
		return
	}
	data := p.staging.data
	p.staging = nil
	db, err := decodeSnapshot(data, a.Chunk)
	if err != nil {
		p.s.trace("%-5s snapshot of no use: %v", p.m, err)
		p.step(replica.StagingFailed{Session: a.Session})
		return
	}
	db.stored = p.m.wall()
	p.swapping = true
	p.m.disk.install(db, func() {
		if p.dead {
			return
		}
		p.after(0, p.installed)
	})
}

// installed tells the core what the database holds now.
func (p *shell) installed() {
	d := p.m.disk
	p.swapping = false
	p.state = rebuild(d.synced.content)
	p.applied = d.synced.applied.Index
	d.corrupt = false
	b := d.boot()
	p.s.oracle.installed(p, b)
	p.step(replica.Installed{Boot: b})
}

// snapshotChanges is how many changes a snapshot's row holds.
const snapshotChanges = 4

// encodeSnapshot writes a content and the log's tail: ordered time, the content's changes, then the log in frames.
func encodeSnapshot(s *location.State, log *logFile) ([]byte, uint64) {
	b := binary.BigEndian.AppendUint64(nil, uint64(s.Now()))
	var group []location.Change
	var rows uint64
	put := func() {
		if len(group) > 0 {
			b = appendBlob(b, location.AppendChanges(nil, group))
			group = nil
		}
	}
	for c := range s.Rebuild() {
		rows++
		if group = append(group, c); len(group) == snapshotChanges {
			put()
		}
	}
	put()
	b = appendBlob(b, nil)
	prev, entries := log.base, log.entries
	for {
		n := min(len(entries), snapshotChanges)
		frame, err := wire.Encode(nil, 1, &replica.Tail{Prev: prev, Entries: entries[:n], More: n < len(entries)})
		if err != nil {
			panic(err) // what came in frames goes into frames
		}
		b = appendBlob(b, frame)
		if n == len(entries) {
			return b, rows
		}
		prev, entries = entries[n-1].Position, entries[n:]
	}
}

func appendBlob(b, blob []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(blob))), blob...)
}

func takeBlob(b []byte) (blob, rest []byte, err error) {
	if len(b) < 4 {
		return nil, nil, errors.New("cut short")
	}
	n := int(binary.BigEndian.Uint32(b))
	if b = b[4:]; len(b) < n {
		return nil, nil, errors.New("cut short")
	}
	return b[:n], b[n:], nil
}

// decodeSnapshot makes a database of a snapshot, and holds it against what its end says of it.
func decodeSnapshot(b []byte, end *replica.SnapshotChunk) (database, error) {
	none := func(err error) (database, error) { return database{}, err }
	if len(b) < 8 {
		return none(errors.New("cut short"))
	}
	db := database{content: location.NewState(), applied: end.Applied}
	now := location.Time(binary.BigEndian.Uint64(b))
	b = b[8:]
	var rows uint64
	for {
		blob, rest, err := takeBlob(b)
		if err != nil {
			return none(err)
		}
		if b = rest; len(blob) == 0 {
			break
		}
		changes, err := location.DecodeChanges(blob)
		if err != nil {
			return none(err)
		}
		rows += uint64(len(changes))
		db.content.Apply(now, changes)
	}
	for first := true; ; first = false {
		blob, rest, err := takeBlob(b)
		if err != nil {
			return none(err)
		}
		b = rest
		_, m, err := wire.Decode(blob)
		if err != nil {
			return none(err)
		}
		tail := m.(*replica.Tail)
		if first {
			db.log.base = tail.Prev
		}
		db.log.entries = append(db.log.entries, tail.Entries...)
		if !tail.More {
			break
		}
	}
	at, ok := db.log.at(end.Applied.Index)
	switch {
	case db.content.Digest() != end.Applied.Digest:
		return none(fmt.Errorf("digest %s, not %s", db.content.Digest(), end.Applied.Digest))
	case rows != end.Rows:
		return none(fmt.Errorf("%d rows, not %d", rows, end.Rows))
	case db.log.last() != end.Last || !ok || at.Epoch != end.Applied.Epoch:
		return none(fmt.Errorf("log from %s to %s, not to %s", db.log.base, db.log.last(), end.Last))
	}
	return db, nil
}
