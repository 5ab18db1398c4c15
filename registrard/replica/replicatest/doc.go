// Package replicatest plays every fault against the replication core, in simulated time, and holds it to what DESIGN.md promises.
//
// A simulation is a cluster of machines on one cpgtest.World. Each machine has a disk that tells what is written from what is synced,
// and at times a process: the real replica.Core in a shell that carries out its Actions as package replica documents them. That shell
// is the executable specification of what package node has to do; its comments say what each Action asks for. A promoter stands for
// Pacemaker, clients for the phones. One seed decides everything that happens, so that a failure can be played again.
//
// After every step an oracle, which sees all machines at once, checks the promises (P1 to P5 in docs/protocol.md): that logs match,
// that what is committed never changes and lies on the disks of a majority of the voters, that nothing is answered that a newer
// primary could contradict, that no removed binding comes back, that equal positions have equal digests, that no promise is
// forgotten. When the faults end, the cluster has a bounded time to become whole again.
//
// A failure names its scenario and seed. It is played again, with its whole transcript, by
//
//	go test ./registrard/replica/replicatest -v -run TestSeeds/NAME -scenario NAME -seed SEED
//
// and -seeds N -first SEED -all plays N seeds and only lists what went wrong.
//
// Run plays one seed. Script plays a scenario step by step, without chance, for transcripts that people can read.
package replicatest
