package store

import (
	"database/sql/driver"
	"fmt"
	"strings"

	"sipha/registrard/location"
)

// tables are the statements that change the content.
type tables struct {
	refresh, put, remove, bury, forget        *statement
	userPut, userRemove, keyPut, keyRemove    *statement
	votersClear, voterPut                     *statement
	outcomePut, outcomeRemove, positionUpdate *statement
}

func newTables(db *conn) (*tables, error) {
	t := new(tables)
	for _, s := range []struct {
		to  **statement
		sql string
	}{
		{&t.refresh, "UPDATE binding SET expires=?, cseq=? WHERE aor=? AND contact=?"},
		{&t.put, "INSERT OR REPLACE INTO binding VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)"},
		{&t.remove, "DELETE FROM binding WHERE aor=? AND contact=?"},
		{&t.bury, "INSERT OR REPLACE INTO tombstone VALUES (?,?,?,?,?)"},
		{&t.forget, "DELETE FROM tombstone WHERE aor=? AND contact=? AND call_id=?"},
		{&t.userPut, "INSERT OR REPLACE INTO user VALUES (?,?,?,?,?,?)"},
		{&t.userRemove, "DELETE FROM user WHERE aor=?"},
		{&t.keyPut, "INSERT OR REPLACE INTO nonce_key VALUES (?,?,?)"},
		{&t.keyRemove, "DELETE FROM nonce_key WHERE id=?"},
		{&t.votersClear, "DELETE FROM voter"},
		{&t.voterPut, "INSERT INTO voter VALUES (?,?)"},
		{&t.outcomePut, "INSERT OR REPLACE INTO outcome VALUES (?,?,?,?,?,?)"},
		{&t.outcomeRemove, "DELETE FROM outcome WHERE node=? AND incarnation=? AND number=?"},
		{&t.positionUpdate, updateMeta},
	} {
		var err error
		if *s.to, err = db.prepare(s.sql); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// apply makes the tables follow a change, as State.Apply makes the memory. Added is that of the content before the change, and after
// it where it is a TimeChange; TimeChanges live in the row of the position alone.
func (t *tables) apply(c location.Change, added int64) error {
	switch c := c.(type) {
	case *location.BindingsChange:
		return t.bindings(c, added)
	case *location.UserChange:
		if c.Remove {
			return t.userRemove.run(string(c.User.AOR))
		}
		return t.user(&c.User)
	case *location.KeyChange:
		if c.Remove {
			return t.keyRemove.run(int64(c.Key.ID))
		}
		return t.keyPut.run(int64(c.Key.ID), c.Key.Secret[:], int64(c.Key.Created))
	case *location.VotersChange:
		if err := t.votersClear.run(); err != nil {
			return err
		}
		for _, v := range c.Voters {
			if err := t.voterPut.run(int64(v.Node), int64(v.Disk)); err != nil {
				return err
			}
		}
		return nil
	case *location.OutcomeChange:
		id := c.Outcome.ID
		if c.Remove {
			return t.outcomeRemove.run(int64(id.Node), int64(id.Incarnation), int64(id.Number))
		}
		o := &c.Outcome
		return t.outcomePut.run(int64(id.Node), int64(id.Incarnation), int64(id.Number), int64(o.Status), o.Detail, int64(o.Until)-added)
	case *location.TimeChange:
		return nil
	}
	return fmt.Errorf("change of unknown type %T", c)
}

func (t *tables) bindings(c *location.BindingsChange, added int64) error {
	aor := string(c.AOR)
	for _, contact := range c.Remove {
		if err := t.remove.run(aor, contact); err != nil {
			return err
		}
	}
	for i := range c.Put {
		b := &c.Put[i]
		if err := t.put.run(aor, b.Contact, int64(b.Expires), int64(b.CSeq), b.Params, int64(b.Q), b.CallID, strings.Join(b.Path, "\n"),
			b.Received, b.Socket, b.UserAgent, b.Instance, int64(b.RegID), int64(b.Created)); err != nil {
			return err
		}
	}
	for i := range c.Refresh {
		r := &c.Refresh[i]
		if err := t.refresh.run(int64(r.Expires), int64(r.CSeq), aor, r.Contact); err != nil {
			return err
		}
	}
	for i := range c.Bury {
		b := &c.Bury[i]
		if err := t.bury.run(aor, b.Contact, b.CallID, int64(b.CSeq), int64(b.Until)-added); err != nil {
			return err
		}
	}
	for i := range c.Forget {
		if err := t.forget.run(aor, c.Forget[i].Contact, c.Forget[i].CallID); err != nil {
			return err
		}
	}
	return nil
}

func (t *tables) user(u *location.User) error {
	hash := func(a location.Algorithm, h []byte) driver.Value {
		if u.Has&(1<<a) == 0 {
			return nil
		}
		return h
	}
	return t.userPut.run(string(u.AOR), u.Username, u.Realm,
		hash(location.MD5, u.MD5[:]), hash(location.SHA256, u.SHA256[:]), hash(location.SHA512256, u.SHA512256[:]))
}

// rows is how many rows the changes put; of a stream of changes as read gives them it is how many rows there are.
func rows(c location.Change) uint64 {
	switch c := c.(type) {
	case *location.BindingsChange:
		return uint64(len(c.Put) + len(c.Bury))
	case *location.VotersChange:
		return uint64(len(c.Voters))
	case *location.TimeChange:
		return 0
	}
	return 1
}

// read calls fn with changes that make the content out of nothing: the time first, then table by table in the order of their keys. A
// change and what it holds is used again for the next one, strings apart.
func read(db *conn, m *meta, fn func(location.Change) error) error {
	if m.grace != 0 || m.added != 0 {
		if err := fn(&location.TimeChange{Grace: m.grace, Added: m.added}); err != nil {
			return err
		}
	}
	if err := readGeneral(db, m, fn); err != nil {
		return err
	}
	user := new(location.UserChange)
	err := db.each("SELECT aor, username, realm, md5, sha256, sha512_256 FROM user ORDER BY aor", func(r []driver.Value) error {
		user.User = location.User{AOR: location.AOR(text(r[0])), Username: text(r[1]), Realm: text(r[2])}
		u := &user.User
		for _, h := range []struct {
			algorithm location.Algorithm
			to        []byte
			from      driver.Value
		}{{location.MD5, u.MD5[:], r[3]}, {location.SHA256, u.SHA256[:], r[4]}, {location.SHA512256, u.SHA512256[:], r[5]}} {
			if h.from != nil {
				u.Has |= 1 << h.algorithm
				copy(h.to, blob(h.from))
			}
		}
		return fn(user)
	})
	if err != nil {
		return err
	}
	if err := readBindings(db, fn); err != nil {
		return err
	}
	return readTombstones(db, m, fn)
}

func readGeneral(db *conn, m *meta, fn func(location.Change) error) error {
	voters := new(location.VotersChange)
	err := db.each("SELECT node, disk FROM voter ORDER BY node", func(r []driver.Value) error {
		voters.Voters = append(voters.Voters, location.Voter{Node: location.NodeID(integer(r[0])), Disk: location.DiskID(integer(r[1]))})
		return nil
	})
	if err == nil && len(voters.Voters) > 0 {
		err = fn(voters)
	}
	if err != nil {
		return err
	}
	key := new(location.KeyChange)
	err = db.each("SELECT id, secret, created FROM nonce_key ORDER BY id", func(r []driver.Value) error {
		key.Key = location.Key{ID: uint32(integer(r[0])), Created: location.Time(integer(r[2]))}
		copy(key.Key.Secret[:], blob(r[1]))
		return fn(key)
	})
	if err != nil {
		return err
	}
	outcome := new(location.OutcomeChange)
	const outcomes = "SELECT node, incarnation, number, status, detail, until FROM outcome ORDER BY node, incarnation, number"
	return db.each(outcomes, func(r []driver.Value) error {
		outcome.Outcome = location.Outcome{
			ID: location.RequestID{
				Node: location.NodeID(integer(r[0])), Incarnation: location.Incarnation(integer(r[1])), Number: uint64(integer(r[2])),
			},
			Status: uint16(integer(r[3])), Detail: text(r[4]), Until: location.Time(integer(r[5]) + m.added),
		}
		return fn(outcome)
	})
}

// readBindings gives a change for each AOR, or more where it has many bindings.
func readBindings(db *conn, fn func(location.Change) error) error {
	c := new(location.BindingsChange)
	flush := func() error {
		if len(c.Put) == 0 {
			return nil
		}
		err := fn(c)
		c.Put = c.Put[:0]
		return err
	}
	err := db.each("SELECT aor, contact, expires, cseq, params, q, call_id, path, received, socket, user_agent, instance, reg_id, created"+
		" FROM binding ORDER BY aor, contact", func(r []driver.Value) error {
		aor := location.AOR(text(r[0]))
		if aor != c.AOR || len(c.Put) == rowsPerRecord {
			if err := flush(); err != nil {
				return err
			}
			c.AOR, c.Cause = aor, location.CauseRegister
		}
		b := location.Binding{
			Contact: text(r[1]), Expires: location.Time(integer(r[2])), CSeq: uint32(integer(r[3])), Params: text(r[4]), Q: int16(integer(r[5])),
			CallID: text(r[6]), Received: text(r[8]), Socket: text(r[9]), UserAgent: text(r[10]), Instance: text(r[11]),
			RegID: uint32(integer(r[12])), Created: location.Time(integer(r[13])),
		}
		if path := text(r[7]); path != "" {
			b.Path = strings.Split(path, "\n")
		}
		c.Put = append(c.Put, b)
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}

func readTombstones(db *conn, m *meta, fn func(location.Change) error) error {
	c := new(location.BindingsChange)
	flush := func() error {
		if len(c.Bury) == 0 {
			return nil
		}
		err := fn(c)
		c.Bury = c.Bury[:0]
		return err
	}
	const tombstones = "SELECT aor, contact, call_id, cseq, until FROM tombstone ORDER BY aor, contact, call_id"
	err := db.each(tombstones, func(r []driver.Value) error {
		aor := location.AOR(text(r[0]))
		if aor != c.AOR || len(c.Bury) == rowsPerRecord {
			if err := flush(); err != nil {
				return err
			}
			c.AOR, c.Cause = aor, location.CauseRegister
		}
		c.Bury = append(c.Bury, location.Tombstone{
			Contact: text(r[1]), CallID: text(r[2]), CSeq: uint32(integer(r[3])), Until: location.Time(integer(r[4]) + m.added),
		})
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}
