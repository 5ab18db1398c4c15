package wire

import (
	"fmt"
	"strings"

	"sipha/registrard/replica"
)

// Limits of what a message may hold, beside replica's AppendSize, ChunkSize and VotersMax.
const (
	// NameMax is the longest name of a node, in bytes; Corosync takes 255.
	NameMax = 255
	// EntriesMax is how many entries one Append or Tail carries: package replica fills one with entries of at least 64 bytes, payload
	// and all, up to AppendSize.
	EntriesMax = replica.AppendSize / 64
	// ReasonMax is the longest reason of a SnapshotAbort, in bytes. A longer one is cut.
	ReasonMax = 255
	// RequestMax is the largest forwarded request, in bytes.
	RequestMax = 48 << 10
)

// Types of message, as they stand in the prefix. A number is never used again for something else.
const (
	typeHello uint8 = 1 + iota
	typeClaim
	typeGrant
	typeRefuse
	typeAppend
	typeReceipt
	typeNeed
	typeBehind
	typePull
	typeTail
	typeSnapshotRequest
	typeSnapshotChunk
	typeSnapshotAbort
	typeForward
	typeEnd
)

// mustUnderstand tells the types that a member must not skip and stay in the group: the log, and the rule of who may write it.
func mustUnderstand(t uint8) bool { return t == typeClaim || t == typeAppend }

// newMessage returns an empty message of a type, nil when there is none.
func newMessage(t uint8) replica.Message {
	switch t {
	case typeHello:
		return new(replica.Hello)
	case typeClaim:
		return new(replica.Claim)
	case typeGrant:
		return new(replica.Grant)
	case typeRefuse:
		return new(replica.Refuse)
	case typeAppend:
		return new(replica.Append)
	case typeReceipt:
		return new(replica.Receipt)
	case typeNeed:
		return new(replica.Need)
	case typeBehind:
		return new(replica.Behind)
	case typePull:
		return new(replica.Pull)
	case typeTail:
		return new(replica.Tail)
	case typeSnapshotRequest:
		return new(replica.SnapshotRequest)
	case typeSnapshotChunk:
		return new(replica.SnapshotChunk)
	case typeSnapshotAbort:
		return new(replica.SnapshotAbort)
	case typeForward:
		return new(replica.Forward)
	}
	return nil
}

// body walks a message's fields and returns its type.
func (c *codec) body(m replica.Message) uint8 {
	switch m := m.(type) {
	case *replica.Hello:
		c.hello(m)
		return typeHello
	case *replica.Claim:
		c.epoch(&m.Epoch)
		c.position(&m.Last)
		c.voters(&m.Voters)
		c.bool(&m.Bootstrap)
		return typeClaim
	case *replica.Grant:
		c.epoch(&m.Epoch)
		c.disk(&m.Disk)
		return typeGrant
	case *replica.Refuse:
		c.epoch(&m.Epoch)
		c.u8((*uint8)(&m.Reason))
		c.epoch(&m.Promised)
		c.position(&m.Last)
		return typeRefuse
	case *replica.Append:
		c.append(m)
		return typeAppend
	case *replica.Receipt:
		c.receipt(m)
		return typeReceipt
	case *replica.Need:
		c.epoch(&m.Epoch)
		c.position(&m.Last)
		c.position(&m.Committed)
		return typeNeed
	case *replica.Behind:
		c.epoch(&m.Epoch)
		c.node(&m.To)
		return typeBehind
	case *replica.Pull:
		c.node(&m.From)
		c.position(&m.Last)
		c.position(&m.Committed)
		return typePull
	case *replica.Tail:
		c.node(&m.To)
		c.position(&m.Prev)
		c.entries(&m.Entries, m.Prev)
		c.bool(&m.More)
		return typeTail
	}
	return c.transfer(m)
}

// transfer walks the messages of snapshots and forwarded requests.
func (c *codec) transfer(m replica.Message) uint8 {
	switch m := m.(type) {
	case *replica.SnapshotRequest:
		c.node(&m.Donor)
		c.u64(&m.Session)
		return typeSnapshotRequest
	case *replica.SnapshotChunk:
		c.node(&m.To)
		c.u64(&m.Session)
		c.u32(&m.Seq)
		c.bytes(&m.Data, replica.ChunkSize, "bytes of a snapshot")
		c.u64(&m.Total)
		c.bool(&m.End)
		c.position(&m.Applied)
		c.position(&m.Last)
		c.u64(&m.Rows)
		return typeSnapshotChunk
	case *replica.SnapshotAbort:
		c.node(&m.Peer)
		c.u64(&m.Session)
		reason := m.Reason
		if !c.reading && len(reason) > ReasonMax {
			reason = strings.ToValidUTF8(reason[:ReasonMax], "")
		}
		c.string(&reason, ReasonMax, "bytes of a reason")
		if c.reading {
			m.Reason = reason
		}
		return typeSnapshotAbort
	case *replica.Forward:
		c.node(&m.ID.Node)
		c.incarnation(&m.ID.Incarnation)
		c.u64(&m.ID.Number)
		c.time(&m.Deadline)
		c.bytes(&m.Request, RequestMax, "bytes of a request")
		return typeForward
	}
	c.fail(fmt.Errorf("%w: type %T", ErrInvalid, m))
	return 0
}

func (c *codec) hello(m *replica.Hello) {
	c.u16(&m.VersionMin)
	c.u16(&m.VersionMax)
	c.string(&m.Name, NameMax, "bytes of a node's name")
	c.disk(&m.Disk)
	c.u64(&m.ConfigHash)
	c.u16(&m.Expected)
	c.ring(&m.Ring)
	c.position(&m.Last)
	c.u64(&m.Committed)
	c.epoch(&m.Promised)
	c.voters(&m.Voters)
	c.bool(&m.Primary)
	c.i64(&m.Wall)
}

func (c *codec) append(m *replica.Append) {
	c.epoch(&m.Epoch)
	c.u64(&m.Seq)
	c.node(&m.To)
	c.u64(&m.Commit)
	c.position(&m.Prev)
	c.entries(&m.Entries, m.Prev)
	c.bool(&m.More)
}

func (c *codec) receipt(m *replica.Receipt) {
	c.epoch(&m.Epoch)
	c.disk(&m.Disk)
	c.u64(&m.Index)
	c.u64(&m.Seq)
	c.ring(&m.Ring)
	c.u64(&m.Applied)
	c.digest(&m.Digest)
	c.bool(&m.Differs)
}
