package cpg

import (
	"cmp"
	"fmt"
)

// Limits of one multicast.
const (
	// MaxMessage is the largest message, in bytes over all parts, that Multicast
	// takes: one Totem frame over knet, so that a message is never spread over
	// several visits of the token. Corosync itself would take 1 MiB - 1024.
	MaxMessage = 60 << 10
	// MaxParts is the largest number of parts of one message. libcpg copies the
	// parts' descriptors into an array of 64, unchecked, and needs one itself.
	MaxParts = 63
	// MaxGroupName is the longest name of a group, in bytes (CPG_MAX_NAME_LENGTH).
	MaxGroupName = 128
	// MaxMembers is the largest number of processes in one group and of nodes in
	// one ring (CPG_MEMBERS_MAX).
	MaxMembers = 128
)

// Limits of what waits for a reader, unless Options say otherwise.
const (
	// DefaultQueueEvents is how many events may wait.
	DefaultQueueEvents = 1 << 16
	// DefaultQueueBytes is how many bytes of messages may wait.
	DefaultQueueBytes = 64 << 20
)

// NodeID identifies a node of the cluster: nodelist.node.N.nodeid of corosync.conf(5).
type NodeID uint32

// String returns the id in decimal, as Corosync prints it.
func (n NodeID) String() string { return fmt.Sprintf("%d", uint32(n)) }

// Member is one process in a group. The pair is unique at any moment, not over
// time: a process that comes back can have the same pid, and does after
// Corosync has been restarted under it.
type Member struct {
	Node NodeID
	PID  uint32
}

// String returns "node/pid".
func (m Member) String() string { return fmt.Sprintf("%d/%d", uint32(m.Node), m.PID) }

// Compare orders members by node, then by pid, as slices.SortFunc wants it.
func (m Member) Compare(o Member) int {
	return cmp.Or(cmp.Compare(m.Node, o.Node), cmp.Compare(m.PID, o.PID))
}

// Reason says why a process joined or left a group (cpg_reason_t).
type Reason uint8

// The reasons, with the numbers of corosync/cpg.h.
const (
	// ReasonUndefined never appears in Left or Joined.
	ReasonUndefined Reason = 0
	// ReasonJoin: the process asked to join.
	ReasonJoin Reason = 1
	// ReasonLeave: the process asked to leave.
	ReasonLeave Reason = 2
	// ReasonNodeDown: its node left the ring.
	ReasonNodeDown Reason = 3
	// ReasonNodeUp: it was in the group already, on a node that has joined the
	// ring just now. Its state may have diverged.
	ReasonNodeUp Reason = 4
	// ReasonProcDown: it ended, or lost its connection, without leaving.
	ReasonProcDown Reason = 5
)

// String returns the reason's name in corosync/cpg.h, in lower case.
func (r Reason) String() string {
	switch r {
	case ReasonUndefined:
		return "undefined"
	case ReasonJoin:
		return "join"
	case ReasonLeave:
		return "leave"
	case ReasonNodeDown:
		return "nodedown"
	case ReasonNodeUp:
		return "nodeup"
	case ReasonProcDown:
		return "procdown"
	}
	return fmt.Sprintf("reason(%d)", uint8(r))
}

// Change is one entry of a ConfChange's Left or Joined.
type Change struct {
	Member
	Reason Reason
}

// String returns "node/pid reason".
func (c Change) String() string { return c.Member.String() + " " + c.Reason.String() }

// RingID identifies a ring, that is one membership of nodes. Seq never goes
// back on a node; Corosync keeps it on disk.
type RingID struct {
	// Node is the ring's representative.
	Node NodeID
	Seq  uint64
}

// String returns the id in Corosync's own notation, hexadecimal "node.seq".
func (r RingID) String() string { return fmt.Sprintf("%x.%x", uint32(r.Node), r.Seq) }

// Event is one entry of a group's stream: Message, ConfChange, RingChange or
// Quorum. Messages, ConfChanges and RingChanges are in the group's total order;
// Quorum comes from another service and stands anywhere between them.
type Event interface{ isEvent() }

// Message is a message to the group, also from this process itself.
//
// Getting one's own message back proves its place in the order and nothing
// else: no other member need have it yet, and none ever will if this node is
// lost now.
type Message struct {
	From Member
	// Data belongs to the receiver.
	Data []byte
}

// ConfChange is a change of the group's members (cpg_confchg_fn_t). One change
// of the ring brings none to three of them, all before its RingChange: first
// Left with ReasonNodeDown, then Joined with ReasonNodeUp, then Left with
// ReasonProcDown. A process can be in the first one's Left and the second one's
// Joined. The lists of changes differ between nodes: take Members as the truth,
// but trust no member of it whose node is not in the ring.
type ConfChange struct {
	// Members are the members after the change, sorted.
	Members []Member
	Left    []Change
	Joined  []Change
}

// RingChange is a change of the ring's nodes (cpg_totem_confchg_fn_t), after
// the ConfChanges it brought. The first one follows this process's own join.
// A change of the group without a change of the ring brings none.
type RingChange struct {
	Ring  RingID
	Nodes []NodeID
}

// Quorum is a notification of the quorum service
// (quorum_v1_quorum_notification_fn_t). It can come before or after the
// RingChange with the same ring, and more than once.
type Quorum struct {
	Quorate bool
	Ring    RingID
	Nodes   []NodeID
}

func (Message) isEvent()    {}
func (ConfChange) isEvent() {}
func (RingChange) isEvent() {}
func (Quorum) isEvent()     {}
