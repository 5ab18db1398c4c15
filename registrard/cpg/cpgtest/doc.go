// Package cpgtest is a Corosync cluster in memory: rings, total order, one
// process group, quorum, and every fault of theirs that a replica must survive.
//
// It comes in two layers. World is deterministic and single-threaded, without
// goroutines, clocks or chance of its own: what happens next is a Step that the
// caller does, or lets its own random numbers choose. Cluster puts a lock around
// a World that settles by itself, for tests of code with goroutines.
//
// # A World by example
//
//	w := cpgtest.NewWorld(cpgtest.Config{Nodes: []cpg.NodeID{1, 2, 3}})
//	w.Settle(nil)                      // the nodes form their first ring
//	p, err := w.Start(1, 100)          // a process on node 1, pid 100, joins
//	for {
//		step, d, ok := w.Step(rng)     // one thing happens; rng is math/rand/v2
//		if !ok {
//			break                      // nothing can, until somebody sends or breaks something
//		}
//		if d.Process != nil {          // an event reached a process
//			handle(d.Process, d.Event, d.Err)
//		}
//	}
//	err = p.TryMulticast(data)         // at any time between steps
//	w.Partition([]cpg.NodeID{1})       // so are faults: they cost no step
//
// Instead of Step, Enabled lists what can happen, in an order that depends on the
// World alone, and Do does one of it; Form, Send, Receive and Dispatch do a named
// one, for scripts. Settle does everything, in a fixed order. Print Steps for a
// trace: with the same calls and the same random numbers it is the same.
//
// # What a World does
//
// A message goes from TryMulticast to its node's outbox. StepSend brings the
// token to a node, which gives its messages their places in the ring's order and
// has them itself at once. StepReceive brings one entry of the order to one other
// node; a node delivers to its processes' queues what it has without a gap.
// StepDispatch hands a process one event. Joins and leaves are entries of the
// same order, with the same delay.
//
// A process has two queues, FromGroup (Message, ConfChange, RingChange, in order)
// and FromQuorum (Quorum), and the steps choose between them: quorum comes before
// the ring it belongs to, or after, unless it is dispatched on purpose.
//
// When what a node hears is not its ring (a partition, a node that came or went,
// a lost token), StepForm is enabled. First the nodes that come together from one
// ring deliver what is left of it: all that any of them has, up to a gap that
// none can fill, and after it only what was sent by one of them. Then the new
// ring's order starts with two entries of its own, which have to reach a node like
// any other: the synchronisation of groups (up to three ConfChanges, NODEDOWN,
// NODEUP and PROCDOWN, then the RingChange) and that of quorum. Until both have
// come, TryMulticast says cpg.ErrTryAgain; what is in the outbox from before is
// sent in the new ring. The next ring can form before they have come, and then
// nobody hears of the one between.
//
// What follows from it, each with a test here, is what Corosync does:
//
//   - A message comes back to its sender before anybody has it. PowerOff, or
//     Partition and Form, now: nobody else ever will.
//   - Nodes that stay together deliver the same messages before the change.
//   - A message is delivered in a later view than it was sent in.
//   - Nodes that part and meet again, with no ring synchronised in between, get a
//     RingChange with the same nodes and no ConfChange, though one of them may have
//     delivered messages that the others never will. Only the ring's id tells.
//   - A message from a node none of whose processes is listed is dropped.
//   - A process that ended can be followed by one with the same node and pid.
//
// # Faults
//
// Partition, Heal, LoseToken: the network. PowerOff, PowerOn: a machine.
// StopCorosync, StartCorosync, Freeze, Thaw: Corosync. Process.Kill, Leave, Pause,
// Resume, Fail: a process; start it again with Start, also with its old pid.
// Ghost: a member that never goes away. TryAgain: a storm of refusals. Drop:
// silent loss after success. DelayQuorum, LoseQuorum, SetQuorate: the quorum
// service, with Process.RequeryQuorum as the way out. A process that does not
// dispatch runs into Config.QueueEvents and gets cpg.ErrSlowConsumer.
//
// The World keeps the order and the sets right under all of them; its own
// property tests hold it to that.
package cpgtest
