// Package ocf is what every resource agent needs of the Open Cluster Framework's Resource Agent API, version 1.1: actions and exit
// codes, the environment that the cluster's executor hands over, the metadata document, the exit reason, the promotion score, and a
// dispatcher that keeps the agent's promises to the cluster (Run).
//
// It promises that an agent built on it ends by itself before the cluster's timeout kills it, that a panic is a soft error and not
// the hard error that Go's own exit status 2 would mean, that meta-data needs neither environment nor rights, and that an exit
// reason is one line that the cluster does not cut in the middle.
//
// It knows nothing of any particular resource and imports nothing of ours.
//
// Source: ClusterLabs/OCF-spec ra/1.1/resource-agent-api.md; what Pacemaker makes of each exit code: lib/pengine/unpack.c and
// lib/services/services_linux.c of Pacemaker 2.1.
package ocf
