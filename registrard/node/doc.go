// Package node is the shell around the replication core: one loop that feeds it the events of the group, the clock and the disk, and
// carries out its actions; group commit; and the answers to those who ask. DESIGN.md says why it is as it is.
//
// The loop alone touches the core, the overlay of what is in flight, and (behind a lock that readers share) the content. Beside it run
// a reader of the group, a sender to it, a writer of the disk, and one goroutine for each snapshot that is served. The way of a
// REGISTER is Node.Register, location.Decide, Core.Step (Propose), the group, Core.Step (Deliver), the disk (log), receipts,
// Core.Step (Commit), the content, and the caller's done.
package node
