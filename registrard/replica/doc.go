// Package replica is the replication core: the log and the rules of Raft (voters, promises, an up-to-date claimant, commit by
// majority), carried by the total order of Corosync's closed process groups instead of per-follower messages and election timers,
// with Pacemaker choosing the claimant. docs/protocol.md states the protocol and argues why it keeps its promises.
//
// The package is pure: Core.Step takes an Event and the time as values, and returns the Actions to carry out, in order. It holds no
// goroutine, clock, random number, log line or I/O, and nothing in it depends on the order of a map. Package node carries the actions
// out; package replicatest plays every fault against it.
package replica
