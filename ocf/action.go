package ocf

// Action is what the cluster asks of an agent, by its name on the command line.
type Action string

// The actions of OCF 1.1, with those of 1.0 that managers still know.
const (
	Start       Action = "start"
	Stop        Action = "stop"
	Monitor     Action = "monitor"
	Promote     Action = "promote"
	Demote      Action = "demote"
	Notify      Action = "notify"
	Reload      Action = "reload"       // the service's own configuration has changed
	ReloadAgent Action = "reload-agent" // a parameter marked as reloadable has changed
	ValidateAll Action = "validate-all"
	MetaData    Action = "meta-data"
)

// Role is the role that a recurring action is meant for.
type Role string

// The roles of a promotable clone.
const (
	RoleAny        Role = ""
	RolePromoted   Role = "Promoted"
	RoleUnpromoted Role = "Unpromoted"
)
