package lab

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"text/tabwriter"
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
	Name   string `json:"name"`
	Role   string `json:"role"` // primary, replica, down (registrard does not answer), off
	State  string `json:"state"`
	Epoch  string `json:"epoch"`
	Index  uint64 `json:"index"`
	Digest string `json:"digest"`
	Synced bool   `json:"synced"`

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
	var said struct {
		Role, State, Epoch, Digest string
		Index                      uint64
		Synced                     bool
	}
	if err := json.Unmarshal(out, &said); err != nil {
		n.State = err.Error()
		return
	}
	n.Role, n.State, n.Epoch, n.Digest, n.Index, n.Synced = said.Role, said.State, said.Epoch, said.Digest, said.Index, said.Synced
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

// Print writes the status for people.
func (s *Status) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NODE\tADDRESS\tROLE\tSTATE\tEPOCH\tINDEX\tDIGEST\tSYNCED\tPACEMAKER\tNOTE")
	for i := range s.Nodes {
		n := &s.Nodes[i]
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%.12s\t%t\t%s\t%s\n", n.Name, n.Address, n.Role, dash(n.State), dash(n.Epoch),
			n.Index, dash(n.Digest), n.Synced, n.Pacemaker, n.note())
	}
	if err := t.Flush(); err != nil {
		return err
	}
	holder := s.VIPNode
	if holder == "" {
		holder = "nobody"
	}
	fmt.Fprintf(w, "virtual address %s on %s, quorate %t, fencing %t\n", s.VIP, holder, s.Quorate, s.Fencing)
	for _, f := range s.Failures {
		fmt.Fprintln(w, "failed action:", f)
	}
	return nil
}

func (n *NodeStatus) note() string {
	note := ""
	if n.Cut {
		note += "cut "
	}
	if n.Held {
		note += "powered off by hand "
	}
	if !n.Link.none() {
		note += n.Link.String()
	}
	return note
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
