// Package supervise starts one daemon, finds it again in a later run of the agent, tells how it ended, and ends it for certain. It
// knows two ways: as a unit of systemd (Unit), and without any service manager in a session and cgroup of its own (Session).
//
// A resource agent is a new process for every action, so what it knows lies in a Directory under /run: which process it is (by pid and
// start time: a pid alone may be somebody else's by now, and a name finds other instances and other namespaces), how it ended, whether
// it was promoted. In a Session a waiter, a small process that outlives the agent, is the daemon's parent: it learns the exit status,
// and acts at once when the daemon dies without having been stopped.
//
// The package knows nothing of OCF or of the cluster, and imports nothing of ours.
package supervise
