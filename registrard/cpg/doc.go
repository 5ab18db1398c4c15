// Package cpg binds Corosync's closed process groups, its quorum service and
// what of its configuration map a replica needs.
//
// It owns the connection to Corosync and makes one ordered stream of what comes
// out of it: messages and changes of the group in their total order, with the
// ring and the quorum among them. It promises that nothing here blocks longer
// than the caller's context, also while Corosync is stopped; that Close never
// hangs; and that the events that wait for a slow reader are bounded in number
// and in bytes. It imports nothing of ours.
//
// Package local is a group of one, without Corosync. Package cpgtest is a whole
// cluster in memory. Their groups have the methods of Group with the same
// meaning:
//
//	Self() Member
//	Next(ctx) ([]Event, error)
//	TryMulticast(parts ...[]byte) error
//	Close() error
//
// # What a group promises, and what not
//
// Members of one ring see one order of messages, joins and leaves, without
// gaps, each sender's messages in the order sent. Nodes that go together from
// one ring to the next have seen the same set of messages of the first. That is
// all. In particular
//
//   - a sender gets its own message back before anybody else has it,
//   - a nil error of TryMulticast does not mean that the message will come,
//   - a message is delivered in the view that its receivers are in, which need
//     not be the one it was sent in,
//   - nothing is stored, and
//   - nodes whose ring changed several times in quick succession can meet again
//     without a ConfChange that says so: only the RingChange's new id does.
package cpg
