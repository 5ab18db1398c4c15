// Package lab builds a cluster of several nodes on one machine: real Corosync,
// Pacemaker, dbus-daemon, IPaddr2 and fencing, each node in namespaces of its own
// with a disk of its own, joined by a switch that can lose, delay, reorder and cut.
//
// A lab is one process tree. Its supervisor is PID 1 of a PID namespace; every
// node's init is PID 1 of a PID namespace below it. All network namespaces, mounts
// and loop devices of a lab belong to processes of that tree and to nothing else, so
// killing the supervisor removes the lab, whatever state it was in. What remains are
// two directories, which Down deletes.
//
// The package is imported by the lab's command and by the cluster tests; it imports
// nothing of the product, which it only runs.
package lab
