package ocf

import (
	"strconv"
	"strings"
	"time"
)

const (
	// DefaultTimeout is the time an action has when the environment does not say: Pacemaker's default for an operation.
	DefaultTimeout = 20 * time.Second
	// timeoutMax bounds what the environment may say, so that nothing can wait for ever.
	timeoutMax = time.Hour
	// marginMax is how long before the cluster's timeout an action gives up by itself; a quarter of a short timeout is enough.
	marginMax = time.Second

	paramPrefix = "OCF_RESKEY_"
	metaPrefix  = "OCF_RESKEY_CRM_meta_"

	// DefaultReasonPrefix marks the exit reason among the lines of stderr.
	DefaultReasonPrefix = "ocf-exit-reason:"
)

// Env is what the cluster's executor hands to an action. The zero value is an action that is run by hand, without any environment.
type Env struct {
	Instance     string // name of the resource, without the ":N" of an anonymous clone's instance
	Provider     string
	Type         string
	FeatureSet   string // crm_feature_set of the cluster, such as "3.16.2"; "" outside a cluster
	CheckLevel   int    // depth of monitor or validate-all; 0 where none or nonsense is given
	ReasonPrefix string

	params map[string]string
	meta   map[string]string
}

// ParseEnv reads an environment in the form of os.Environ. Nothing in it is an error: the cluster may leave out anything, above all
// in probes and in runs by hand.
func ParseEnv(environ []string) Env {
	e := Env{ReasonPrefix: DefaultReasonPrefix, params: map[string]string{}, meta: map[string]string{}}
	for _, entry := range environ {
		name, value, ok := strings.Cut(entry, "=")
		if !ok {
			continue
		}
		switch {
		case name == "OCF_RESOURCE_INSTANCE":
			e.Instance = withoutCloneNumber(value)
		case name == "OCF_RESOURCE_PROVIDER":
			e.Provider = value
		case name == "OCF_RESOURCE_TYPE":
			e.Type = value
		case name == "OCF_RESKEY_crm_feature_set":
			e.FeatureSet = value
		case name == "OCF_CHECK_LEVEL":
			e.CheckLevel = max(0, number(value, 0))
		case name == "OCF_EXIT_REASON_PREFIX" && value != "":
			e.ReasonPrefix = value
		case strings.HasPrefix(name, metaPrefix):
			e.meta[name[len(metaPrefix):]] = value
		case strings.HasPrefix(name, paramPrefix):
			e.params[name[len(paramPrefix):]] = value
		}
	}
	return e
}

// Param gives the value of a parameter of the resource, or its default where it is unset or empty.
func (e Env) Param(name, byDefault string) string {
	if v := e.params[name]; v != "" {
		return v
	}
	return byDefault
}

// Meta gives one of the cluster's own values about the operation (CRM_meta_NAME), "" where it is unset.
func (e Env) Meta(name string) string { return e.meta[name] }

// Timeout is the time after which the cluster kills the action with all its process group.
func (e Env) Timeout() time.Duration {
	ms := number(e.meta["timeout"], 0)
	if ms <= 0 {
		return DefaultTimeout
	}
	return min(time.Duration(ms)*time.Millisecond, timeoutMax)
}

// Budget is the time that the action gives itself: less than Timeout by a margin in which it can still say why it failed.
func (e Env) Budget() time.Duration {
	t := e.Timeout()
	return t - min(marginMax, t/4)
}

// Interval is that of a recurring operation; 0 for one that is done once.
func (e Env) Interval() time.Duration {
	return time.Duration(max(0, number(e.meta["interval"], 0))) * time.Millisecond
}

// Probe tells whether a monitor asks what is there at all, as opposed to watching what should be there.
func (e Env) Probe() bool { return e.Interval() == 0 }

// Node is the cluster's name of the node that the action runs for; "" where it is not given.
func (e Env) Node() string { return e.meta["on_node"] }

// CloneMax is how many instances the clone may have; 0 where it is not given.
func (e Env) CloneMax() int { return max(0, number(e.meta["clone_max"], 0)) }

// withoutCloneNumber strips the ":N" that the instances of an anonymous clone carry.
func withoutCloneNumber(instance string) string {
	name, n, ok := strings.Cut(instance, ":")
	if ok && name != "" && number(n, -1) >= 0 {
		return name
	}
	return instance
}

// number reads a decimal number of at most nine digits.
func number(s string, otherwise int) int {
	if len(s) > 9 {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return otherwise
	}
	return n
}
