package main

import (
	"time"

	"sipha/ocf"
	"sipha/registrard/control"
)

const (
	agentName    = "registrard"
	provider     = "sipha"
	agentVersion = "1.0"
)

// The parameters' defaults.
const (
	configDefault       = "/etc/registrard/registrard.conf"
	binaryDefault       = "/usr/sbin/registrard"
	logDirectoryDefault = "/var/log/registrard"
)

// metadata describes the agent. The timeouts and intervals are honest minima: tools warn about a configuration below them.
func metadata() ocf.Metadata {
	return ocf.Metadata{
		Name: agentName, Version: agentVersion,
		Short: "SIP registrar that keeps every binding on every node",
		Long: `Runs one instance of registrard, a SIP registrar (RFC 3261 section 10) that replicates its bindings through Corosync CPG, as a
promotable clone. The promoted instance answers REGISTER; a virtual IP should follow it. The others hold a full copy.

Set clone option notify=false: the group's total order makes notifications needless. Set on-fail=demote for the monitor of the
Promoted role: then a failed primary is replaced before it is restarted. Fencing is needed, as for everything that holds data.

Check levels of monitor: 0 asks the daemon; 10 also sends OPTIONS to each of its listeners; 20 also waits for a commit of the group.`,
		Parameters: []ocf.Parameter{
			{
				Name: "config", Type: ocf.TypeString, Default: configDefault, UniqueGroup: "config",
				Short: "Configuration file", Long: "Absolute path of the daemon's configuration file, the same on every node.",
			},
			{
				Name: "instance", Type: ocf.TypeString, Default: control.DefaultInstance, UniqueGroup: "instance",
				Short: "Name of the instance",
				Long: `Name of the instance: letters, digits, '_' and '-', at most 32, the first a letter or '_'. It names the CPG group, the D-Bus name, the
runtime directory and, under systemd, the unit registrard@INSTANCE.service. Several instances in one cluster need different names.`,
			},
			{
				Name: "binary", Type: ocf.TypeString, Default: binaryDefault,
				Short: "The daemon", Long: "Absolute path of the daemon's binary.",
			},
			{
				Name: "rundir", Type: ocf.TypeString, Default: control.DefaultRunDirectory,
				Short: "Runtime directory",
				Long: `Absolute path of the directory, emptied at boot, that has a directory for each instance, with its control socket and what the agent
remembers between two actions.`,
			},
			{
				Name: "log", Type: ocf.TypeString, Default: "",
				Short: "Log file",
				Long: `Absolute path of the file that the daemon's output is appended to where there is no systemd; by default INSTANCE.log in
` + logDirectoryDefault + `. Under systemd the journal has it.`,
			},
			{
				Name: "args", Type: ocf.TypeString, Default: "",
				Short: "Further arguments", Long: "Further arguments of \"registrard run\", separated by blanks; each must not hold a blank itself.",
			},
		},
		Actions: []ocf.ActionSpec{
			{Action: ocf.Start, Timeout: 20 * time.Second},
			{Action: ocf.Stop, Timeout: 20 * time.Second},
			{Action: ocf.Promote, Timeout: 10 * time.Second},
			{Action: ocf.Demote, Timeout: 10 * time.Second},
			{Action: ocf.Monitor, Timeout: 10 * time.Second, Interval: 3 * time.Second, Role: ocf.RolePromoted},
			{Action: ocf.Monitor, Timeout: 10 * time.Second, Interval: 5 * time.Second, Role: ocf.RoleUnpromoted},
			{Action: ocf.Monitor, Timeout: 15 * time.Second, Interval: 31 * time.Second, Depth: 10, Role: ocf.RolePromoted},
			{Action: ocf.Monitor, Timeout: 20 * time.Second, Interval: 601 * time.Second, Depth: 20, Role: ocf.RolePromoted},
			{Action: ocf.Notify, Timeout: 5 * time.Second},
			{Action: ocf.Reload, Timeout: 10 * time.Second},
			{Action: ocf.ReloadAgent, Timeout: 10 * time.Second},
			{Action: ocf.ValidateAll, Timeout: 10 * time.Second},
			{Action: ocf.MetaData, Timeout: 5 * time.Second},
		},
	}
}

// usage says what an action does, for a person who runs the agent by hand.
func usage(action ocf.Action) string {
	switch action {
	case ocf.Start:
		return "start the daemon as a replica"
	case ocf.Stop:
		return "stop the daemon, by force if need be"
	case ocf.Monitor:
		return "tell how the daemon is (0: replica, 8: primary, 7: stopped)"
	case ocf.Promote:
		return "make the instance primary"
	case ocf.Demote:
		return "make the instance a replica"
	case ocf.Notify:
		return "do nothing: notifications are not needed"
	case ocf.Reload, ocf.ReloadAgent:
		return "make the daemon read its configuration again"
	case ocf.ValidateAll:
		return "check the parameters; with OCF_CHECK_LEVEL=10 this node, too"
	default:
		return ""
	}
}
