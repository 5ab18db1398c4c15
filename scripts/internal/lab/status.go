package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// statusAskMax bounds each question that Status asks a node.
const statusAskMax = 3 * time.Second

// Status is the state of the whole lab.
type Status struct {
	Lab      string       `json:"lab"`
	VIP      netip.Addr   `json:"vip"`
	VIPNode  string       `json:"vip_node"` // "" when nobody holds it
	DC       string       `json:"dc"`
	Quorate  bool         `json:"quorate"`
	Fencing  bool         `json:"fencing"`
	Nodes    []NodeStatus `json:"nodes"`
	Failures []string     `json:"failures"`
}

// NodeStatus is one node: first what registrard says, then Pacemaker, then the hardware.
type NodeStatus struct {
	Name    string `json:"name"`
	Role    string `json:"role"` // primary, replica, down (registrard does not answer), off
	State   string `json:"state"`
	Epoch   string `json:"epoch"`
	Index   uint64 `json:"index"`
	Digest  string `json:"digest"` // of the content up to Committed
	Synced  bool   `json:"synced"`
	Serving bool   `json:"serving"`
	// Committed is the last entry that is applied; Index is the last one in the log.
	Committed uint64 `json:"committed"`
	Durable   bool   `json:"durable"`
	Progress  string `json:"progress"`
	PID       int    `json:"pid"` // in the node
	Bindings  int    `json:"bindings"`
	Users     int    `json:"users"`

	Pacemaker string `json:"pacemaker"` // promoted, unpromoted, stopped, offline, unclean, pending, unknown
	Address   string `json:"address"`
	Machine
}

// Status asks every node. It fails only when the lab is not up.
func (l *Lab) Status(ctx context.Context) (*Status, error) {
	cfg, err := l.Config()
	if err != nil {
		return nil, err
	}
	machines, err := l.Machines()
	if err != nil {
		return nil, err
	}
	s := &Status{Lab: l.name, VIP: VIP(), Failures: []string{}}
	for _, m := range machines {
		if m.Name != Client {
			s.Nodes = append(s.Nodes, NodeStatus{Name: m.Name, Role: "off", Pacemaker: "unknown", Address: Addr(m.Name).String(), Machine: m})
		}
	}
	var all sync.WaitGroup
	all.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, statusAskMax)
		defer cancel()
		v, err := l.bestView(ctx, machines)
		if err != nil {
			return // the nodes' rows say that they do not answer
		}
		s.VIPNode, s.DC, s.Quorate, s.Fencing = v.vip(), v.Summary.DC.Name, v.Summary.DC.Quorum, v.fencing()
		s.Failures = append(s.Failures, v.failures()...)
		for i := range s.Nodes {
			s.Nodes[i].Pacemaker = v.node(s.Nodes[i].Name)
		}
	})
	if cfg.Product {
		for i := range s.Nodes {
			if s.Nodes[i].Power {
				all.Go(func() { l.askRegistrard(ctx, &s.Nodes[i]) })
			}
		}
	}
	all.Wait()
	if !cfg.Product {
		s.rolesOfPacemaker()
	}
	return s, nil
}

// askRegistrard fills in what the node's daemon says of itself.
func (l *Lab) askRegistrard(ctx context.Context, n *NodeStatus) {
	ctx, cancel := context.WithTimeout(ctx, statusAskMax)
	defer cancel()
	n.Role = "down"
	out, err := l.Exec(ctx, n.Name, "registrard", "status", "--json")
	if err != nil {
		n.State = "no answer"
		return
	}
	said := struct {
		Role, State, Epoch, Digest, Progress string
		Index, Committed                     uint64
		Synced, Serving, Durable             bool
		PID, Bindings, Users                 int
	}{}
	if err := json.Unmarshal(out, &said); err != nil {
		n.State = err.Error()
		return
	}
	n.Role, n.State, n.Epoch, n.Digest, n.Index, n.Synced = said.Role, said.State, said.Epoch, said.Digest, said.Index, said.Synced
	n.Serving, n.Durable, n.Progress, n.PID, n.Bindings, n.Users, n.Committed = said.Serving, said.Durable, said.Progress, said.PID, said.Bindings, said.Users, said.Committed
}

// rolesOfPacemaker is for a lab without the product.
func (s *Status) rolesOfPacemaker() {
	for i := range s.Nodes {
		n := &s.Nodes[i]
		switch {
		case !n.Power:
		case n.Pacemaker == "promoted":
			n.Role, n.Synced = "primary", true
		case n.Pacemaker == "unpromoted":
			n.Role, n.Synced = "replica", true
		default:
			n.Role = "down"
		}
	}
}

// Node returns one node's row, or nil.
func (s *Status) Node(name string) *NodeStatus {
	for i := range s.Nodes {
		if s.Nodes[i].Name == name {
			return &s.Nodes[i]
		}
	}
	return nil
}

// Primary returns the name of the only primary, or "" when there is none, or more than one.
func (s *Status) Primary() string {
	primary := ""
	for i := range s.Nodes {
		if s.Nodes[i].Role == "primary" {
			if primary != "" {
				return ""
			}
			primary = s.Nodes[i].Name
		}
	}
	return primary
}

// Missing says what keeps the lab from being whole: one instance promoted, all others in
// sync, fencing ready; "" when nothing does.
func (s *Status) Missing() string {
	for i := range s.Nodes {
		n := &s.Nodes[i]
		switch {
		case !n.Power:
			return n.Name + " has no power"
		case n.Phase != phasePacemaker:
			return fmt.Sprintf("%s: its start is at %q", n.Name, n.Phase)
		case n.Pacemaker != "promoted" && n.Pacemaker != "unpromoted":
			return fmt.Sprintf("%s: pacemaker says %s", n.Name, n.Pacemaker)
		case n.Role != "primary" && n.Role != "replica":
			return fmt.Sprintf("%s: registrard is %s (%s)", n.Name, n.Role, n.State)
		case !n.Synced:
			return fmt.Sprintf("%s: not in sync (%s)", n.Name, n.State)
		}
	}
	switch {
	case !s.Quorate:
		return "no quorum"
	case s.Primary() == "":
		return "not exactly one primary"
	case !s.Fencing:
		return "the fence device is not started"
	case s.VIPNode != s.Primary():
		return fmt.Sprintf("the virtual address is on %q, the primary is %s", s.VIPNode, s.Primary())
	}
	return ""
}
