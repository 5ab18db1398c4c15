// Command registrard, as installed below /usr/lib/ocf/resource.d/sipha, is the OCF 1.1 resource agent ocf:sipha:registrard: it starts,
// watches, promotes, demotes and stops the daemon for Pacemaker.
//
// The cluster runs it once for every action; docs/agent.md says what each action does and ends with. It asks the daemon over the system
// bus, then over the control socket, and then looks at the process itself. The agent alone writes the promotion score.
//
// Two more ways to run it are not for the cluster: "wait" is the waiter of supervise.Session, and "gone" is what a systemd unit runs
// once the daemon has ended (ExecStopPost=). Both delete the promotion score of a daemon that nobody has stopped.
package main
