package cpgtest

import (
	"slices"

	"sipha/registrard/cpg"
)

// Partition cuts the network into the sides named; nodes not named are one side
// more. What was sent and not received across the cut is lost, unless somebody
// on the receiver's side has it. Rings change when they are formed anew.
func (w *World) Partition(sides ...[]cpg.NodeID) {
	for _, n := range w.nodes {
		n.side = 0
	}
	for i, side := range sides {
		for _, id := range side {
			w.node(id).side = i + 1
		}
	}
}

// Heal undoes Partition.
func (w *World) Heal() { w.Partition() }

// LoseToken loses the token of a node's ring: the ring forms anew, with the same
// nodes.
func (w *World) LoseToken(id cpg.NodeID) {
	if r := w.node(id).ring; r != nil {
		r.token = -1
	}
}

// PowerOff ends a node at once: Corosync, its processes, and what only it had.
func (w *World) PowerOff(id cpg.NodeID) {
	n := w.node(id)
	n.power = false
	for _, p := range slices.Clone(n.procs) {
		p.end(cpg.ErrClosed)
	}
	n.reset()
}

// PowerOn starts a node and its Corosync, without processes.
func (w *World) PowerOn(id cpg.NodeID) {
	n := w.node(id)
	n.power, n.corosync = true, true
}

// StopCorosync ends a node's Corosync and what only it had. Its processes get up
// to keep of the events that are queued on each of their connections, then
// cpg.ErrLibrary.
func (w *World) StopCorosync(id cpg.NodeID, keep int) {
	n := w.node(id)
	n.corosync = false
	for _, p := range n.procs {
		p.Fail()
		if len(p.groups) > keep {
			p.groups = p.groups[:keep]
		}
		if len(p.quorums) > keep {
			p.quorums = p.quorums[:keep]
		}
	}
	n.reset()
}

// StartCorosync starts a node's Corosync after StopCorosync.
func (w *World) StartCorosync(id cpg.NodeID) { w.node(id).corosync = true }

// Freeze stops a node's Corosync as SIGSTOP does: to the others the node is
// gone, and on Thaw it finds that time has passed. Its processes go on with what
// is queued; to stop a whole machine, Pause them too.
func (w *World) Freeze(id cpg.NodeID) {
	if n := w.node(id); n.power && n.corosync {
		n.frozen = true
	}
}

// Thaw ends a Freeze.
func (w *World) Thaw(id cpg.NodeID) { w.node(id).frozen = false }

// Ghost makes Corosync forget to remove a member: when its process ends or its
// node goes, all that list it now, or ever will, list it on until their own
// Corosync is restarted (a defect of Corosync up to 3.1.10).
func (w *World) Ghost(m cpg.Member) { w.ghosts[m] = true }

// TryAgain makes a node's Corosync answer every message with cpg.ErrTryAgain
// until it is called again with false.
func (w *World) TryAgain(id cpg.NodeID, on bool) { w.node(id).tryAgain = on }

// Drop makes a node's Corosync take the next count messages of its processes
// without an error, and lose them.
func (w *World) Drop(id cpg.NodeID, count int) { w.node(id).drop = count }

// DelayQuorum keeps a node's quorum notifications in their queue until it is
// called again with false.
func (w *World) DelayQuorum(id cpg.NodeID, on bool) { w.node(id).lateQuorum = on }

// LoseQuorum loses the next count quorum notifications on a node. Only
// Process.RequeryQuorum brings the state to light.
func (w *World) LoseQuorum(id cpg.NodeID, count int) { w.node(id).loseQuorums = count }

// SetQuorate makes the quorum service of a node change its mind without a change
// of the ring, as new expected votes do. The next ring counts votes again.
func (w *World) SetQuorate(id cpg.NodeID, quorate bool) {
	n := w.node(id)
	if !n.hasQuorum {
		return
	}
	q := n.quorum
	q.Quorate, q.Nodes = quorate, slices.Clone(q.Nodes)
	w.notifyQuorum(n, q)
}
