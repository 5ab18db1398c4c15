package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"

	"sipha/registrard/control"
	"sipha/registrard/location"
	"sipha/registrard/node"
	"sipha/registrard/replica"
)

// replicaNode is what the service asks of the node: *node.Node.
type replicaNode interface {
	Status() node.Status
	Promote(context.Context) error
	Bootstrap(context.Context) error
	Demote(context.Context) error
	Do(context.Context, *node.Command) (location.Outcome, error)
	View(func(*location.State))
	Now() location.Time
}

// service is what the control API asks: the node, put into an operator's words.
type service struct {
	node    replicaNode
	node0   nodeIdentity
	version string
	started time.Time
	names   map[location.NodeID]string // configured names, for voters that are not here
	load    func() (*Config, error)    // reads the configuration again
	level   func(*Config) error        // puts a new log level in force
	counts  *metrics
	bus     func() bool // whether the object is on the bus; nil: it is not to be

	mu      sync.Mutex
	config  *Config
	restart []string // keys whose new values wait for a restart
}

// nodeIdentity is who this node is in the cluster.
type nodeIdentity struct {
	id   location.NodeID
	name string
}

var _ control.Service = (*service)(nil)

// Status implements control.Service.
func (s *service) Status() control.Status {
	n := s.node.Status()
	s.mu.Lock()
	c, restart := s.config, s.restart
	s.mu.Unlock()
	out := control.Status{
		Node: s.node0.name, NodeID: uint32(s.node0.id), Instance: c.Instance, PID: os.Getpid(), Version: s.version,
		UptimeS: uint64(time.Since(s.started) / time.Second), Durable: c.Durable, Standalone: c.Standalone, ConfigHash: fmt.Sprintf("%016x", c.Hash()),
		Index: n.Last.Index, Committed: n.Committed, Digest: n.Digest.String(), Synced: n.Synced, Serving: n.Serving, Quorate: n.Quorate,
		Bindings: uint64(n.Counts.Bindings), AORs: uint64(n.Counts.AORs), Users: uint64(n.Counts.Users),
		LastError: n.LastError, Voters: []control.Voter{}, Members: []control.Member{}, Degraded: []string{},
	}
	out.Role, out.State = roleOf(n), stateOf(n)
	if n.Last.Epoch.Number > 0 {
		out.Epoch = n.Last.Epoch.String()
	}
	if n.Ring != (replica.RingID{}) {
		out.Ring = fmt.Sprintf("%d.%x", n.Ring.Node, n.Ring.Seq)
	}
	out.Complete = n.Voter && out.State != control.StateWaiting && n.State != replica.StateDiffers
	if n.Score != replica.ScoreNone {
		score := n.Score
		out.Score = &score
	}
	if n.Total > 0 && n.State == replica.StateSyncing {
		out.Progress = fmt.Sprintf("syncing %d %%", min(100, 100*n.Progress/n.Total))
	}
	if n.Reason != "" && out.LastError == "" && (out.State == control.StateFailed || n.State == replica.StateDiffers) {
		out.LastError = n.Reason
	}
	s.members(&out, n)
	s.degraded(&out, restart)
	return out
}

// members fills in who is there, and who should be.
func (s *service) members(out *control.Status, n node.Status) {
	here := make(map[location.NodeID]bool)
	for _, m := range n.Members {
		if !m.Here {
			continue
		}
		here[m.Node] = true
		role := control.RoleReplica
		if m.Node == n.Primary {
			role = control.RolePrimary
		}
		out.Members = append(out.Members, control.Member{
			NodeID: uint32(m.Node), Name: s.name(m.Node, m.Name), Role: role, Index: m.Index, Synced: m.Voter && !m.Differs && m.Index >= n.Committed,
			ConfigDiffers: m.ConfigHash != s.config.Hash(),
		})
	}
	slices.SortFunc(out.Members, func(a, b control.Member) int { return int(int64(a.NodeID) - int64(b.NodeID)) })
	names := make(map[location.NodeID]string)
	for _, m := range n.Members {
		names[m.Node] = m.Name
	}
	for _, v := range n.Voters {
		out.Voters = append(out.Voters, control.Voter{NodeID: uint32(v.Node), Name: s.name(v.Node, names[v.Node]), Here: here[v.Node]})
	}
}

// name is what a node is called: by itself, else in Corosync's node list, else by its number.
func (s *service) name(id location.NodeID, own string) string {
	if own != "" {
		return own
	}
	if name := s.names[id]; name != "" {
		return name
	}
	return strconv.FormatUint(uint64(id), 10)
}

// degraded names what is not as it should be on this node though the role is served. A voter that is away is not its fault: Voters tells.
func (s *service) degraded(out *control.Status, restart []string) {
	if s.bus != nil && !s.bus() {
		out.Degraded = append(out.Degraded, "not on the system bus")
	}
	for _, key := range restart {
		out.Degraded = append(out.Degraded, fmt.Sprintf("%s has changed in the configuration: restart to put it in force", key))
	}
}

// roleOf tells a primary, also one that cannot serve just now, from a replica.
func roleOf(n node.Status) control.Role {
	switch n.State {
	case replica.StateServing, replica.StateSuspended:
		return control.RolePrimary
	case replica.StateFailed:
		if n.Promoted {
			return control.RolePrimary
		}
	}
	return control.RoleReplica
}

func stateOf(n node.Status) control.State {
	if n.Link == node.LinkDisconnected {
		return control.StateDisconnected
	}
	switch n.State {
	case replica.StateAlone, replica.StateSuspended:
		return control.StateSuspended
	case replica.StateWaiting:
		return control.StateWaiting
	case replica.StateBehind, replica.StateDiffers:
		return control.StateBehind
	case replica.StateSyncing:
		return control.StateSyncing
	case replica.StateSynced:
		return control.StateSynced
	case replica.StateClaiming:
		return control.StateClaiming
	case replica.StateServing:
		return control.StatePrimary
	case replica.StateFailed:
		return control.StateFailed
	}
	return control.StateJoining
}

// Promote implements control.Service.
func (s *service) Promote(ctx context.Context) error { return nodeError(s.node.Promote(ctx)) }

// Demote implements control.Service.
func (s *service) Demote(ctx context.Context) error { return nodeError(s.node.Demote(ctx)) }

// Bootstrap implements control.Service.
func (s *service) Bootstrap(ctx context.Context) error {
	if n := s.node.Status(); n.State != replica.StateWaiting {
		return &control.Error{
			Code: control.CodeInvalid, Message: "there is nothing to start: this node is " + string(n.State),
			Hint: "bootstrap is for the very first start, on a node whose state is waiting",
		}
	}
	return nodeError(s.node.Bootstrap(ctx))
}

// Config implements control.Service.
func (s *service) Config() []control.Setting {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.config.list()
}

// Reload implements control.Service.
func (s *service) Reload(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.reload()
	s.counts.Reloaded(err)
	if err != nil {
		return &control.Error{Code: control.CodeInvalid, Message: "configuration not reloaded: " + err.Error()}
	}
	return nil
}

func (s *service) reload() error {
	next, err := s.load()
	if err != nil {
		return err
	}
	if err := s.level(next); err != nil {
		return err
	}
	config := *s.config // what Status holds must not change under it
	config.origins = next.origins
	s.restart = config.reload(next)
	s.config = &config
	return nil
}

// Contacts implements control.Service.
func (s *service) Contacts(ctx context.Context, after location.AOR, limit int) ([]control.Registration, error) {
	var found []control.Registration
	for ctx.Err() == nil {
		now, read := s.node.Now(), 0
		s.node.View(func(state *location.State) {
			for _, aor := range state.AORs(after, limit) {
				read++
				after = aor
				if r := control.NewRegistration(aor, state.Bindings(aor), now); len(r.Contacts) > 0 && len(found) < limit {
					found = append(found, r)
				}
				if len(found) == limit {
					return
				}
			}
		})
		if read < limit || len(found) == limit {
			return found, nil
		}
	}
	return nil, ctx.Err()
}

// Registration implements control.Service.
func (s *service) Registration(_ context.Context, aor location.AOR) (control.Registration, error) {
	var r control.Registration
	now := s.node.Now()
	s.node.View(func(state *location.State) { r = control.NewRegistration(aor, state.Bindings(aor), now) })
	if len(r.Contacts) == 0 {
		return r, &control.Error{Code: control.CodeNotFound, Message: string(aor) + " has no contacts"}
	}
	return r, nil
}

// RemoveContact implements control.Service.
func (s *service) RemoveContact(ctx context.Context, aor location.AOR, contact string) (int, error) {
	detail, err := s.do(ctx, &node.Command{RemoveContact: &node.RemoveContact{AOR: aor, Contact: contact}})
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(detail)
	if err != nil {
		return 0, fmt.Errorf("outcome of contacts.remove: %w", err)
	}
	return n, nil
}

// Users implements control.Service.
func (s *service) Users(ctx context.Context, after location.AOR, limit int) ([]location.User, error) {
	var found []location.User
	for ctx.Err() == nil {
		read := 0
		s.node.View(func(state *location.State) {
			for _, aor := range state.AORs(after, limit) {
				read++
				after = aor
				if u, ok := state.User(aor); ok {
					found = append(found, u)
				}
				if len(found) == limit {
					return
				}
			}
		})
		if read < limit || len(found) == limit {
			return found, nil
		}
	}
	return nil, ctx.Err()
}

// PutUsers implements control.Service. More users than fit into one command go in several.
func (s *service) PutUsers(ctx context.Context, users []location.User, replace bool) error {
	if !replace && len(users) > node.UsersPerCommand {
		return &control.Error{Code: control.CodeTooLarge, Message: fmt.Sprintf("%d users at a time, over %d", len(users), node.UsersPerCommand), Hint: "import them"}
	}
	for part := range slices.Chunk(users, node.UsersPerCommand) {
		if _, err := s.do(ctx, &node.Command{PutUsers: &node.PutUsers{Users: part, Replace: replace}}); err != nil {
			return err
		}
	}
	return nil
}

// RemoveUser implements control.Service.
func (s *service) RemoveUser(ctx context.Context, aor location.AOR) error {
	_, err := s.do(ctx, &node.Command{RemoveUser: &aor})
	return err
}

// do has the primary carry out a command, and returns the detail of its outcome.
func (s *service) do(ctx context.Context, cmd *node.Command) (string, error) {
	o, err := s.node.Do(ctx, cmd)
	if err != nil {
		return "", nodeError(err)
	}
	switch o.Status {
	case 200:
		return o.Detail, nil
	case 404:
		return "", &control.Error{Code: control.CodeNotFound, Message: o.Detail}
	case 409:
		return "", &control.Error{Code: control.CodeExists, Message: o.Detail}
	case 400:
		return "", &control.Error{Code: control.CodeInvalid, Message: o.Detail}
	}
	return "", fmt.Errorf("the primary answered %d: %s", o.Status, o.Detail)
}

// nodeError puts the node's errors into the control API's.
func nodeError(err error) error {
	if err == nil {
		return nil
	}
	for _, e := range []struct {
		is   error
		code control.Code
		hint string
	}{
		{node.ErrNoPrimary, control.CodeNotPrimary, "see crm_mon for why no node is promoted, and registrard status"},
		{node.ErrNotServing, control.CodeNotPrimary, "see registrard status"},
		{node.ErrOverloaded, control.CodeBusy, "try again"},
		{node.ErrUnknown, control.CodeTimeout, "it may be done: look, then try again"},
		{node.ErrTimeout, control.CodeTimeout, "it may be done: look, then try again"},
		{node.ErrClosed, control.CodeShuttingDown, ""},
	} {
		if errors.Is(err, e.is) {
			return &control.Error{Code: e.code, Message: err.Error(), Hint: e.hint}
		}
	}
	return err
}
