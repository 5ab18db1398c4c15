package lab

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"strings"
)

// view is what Pacemaker says of itself, seen from one node: the parts of crm_mon's XML
// output that the lab uses.
type view struct {
	From    string `xml:"-"`
	Summary struct {
		DC struct {
			Present bool   `xml:"present,attr"`
			Name    string `xml:"name,attr"`
			Quorum  bool   `xml:"with_quorum,attr"`
		} `xml:"current_dc"`
	} `xml:"summary"`
	Nodes []struct {
		Name    string `xml:"name,attr"`
		Online  bool   `xml:"online,attr"`
		Pending bool   `xml:"pending,attr"`
		Unclean bool   `xml:"unclean,attr"`
		Standby bool   `xml:"standby,attr"`
	} `xml:"nodes>node"`
	Clones []struct {
		ID         string     `xml:"id,attr"`
		MultiState bool       `xml:"multi_state,attr"`
		Resources  []resource `xml:"resource"`
	} `xml:"resources>clone"`
	Resources []resource `xml:"resources>resource"`
	Failures  []struct {
		Op     string `xml:"op_key,attr"`
		Node   string `xml:"node,attr"`
		Status string `xml:"exitstatus,attr"`
		Code   int    `xml:"exitcode,attr"`
		Reason string `xml:"exitreason,attr"`
	} `xml:"failures>failure"`
}

type resource struct {
	ID     string `xml:"id,attr"`
	Agent  string `xml:"resource_agent,attr"`
	Role   string `xml:"role,attr"`
	Active bool   `xml:"active,attr"`
	Nodes  []struct {
		Name string `xml:"name,attr"`
	} `xml:"node"`
}

// on reports whether the resource is active on the node.
func (r *resource) on(node string) bool {
	for _, n := range r.Nodes {
		if n.Name == node && r.Active {
			return true
		}
	}
	return false
}

// crmMon asks one node.
func (l *Lab) crmMon(ctx context.Context, node string) (*view, error) {
	out, err := l.Exec(ctx, node, "crm_mon", "--one-shot", "--output-as=xml")
	if err != nil {
		return nil, err
	}
	v := &view{From: node}
	if err := xml.Unmarshal(out, v); err != nil {
		return nil, fmt.Errorf("crm_mon on %s: %w", node, err)
	}
	return v, nil
}

// bestView asks the powered nodes until one answers from a quorate partition; without
// such a one, any answer will do.
func (l *Lab) bestView(ctx context.Context, machines []Machine) (*view, error) {
	var any *view
	var errs []error
	for _, m := range machines {
		if m.Name == Client || m.Phase != phasePacemaker {
			continue
		}
		v, err := l.crmMon(ctx, m.Name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if v.Summary.DC.Present && v.Summary.DC.Quorum {
			return v, nil
		}
		any = v
	}
	if any == nil {
		return nil, errors.Join(append(errs, errors.New("pacemaker answers on no node"))...)
	}
	return any, nil
}

// node returns what Pacemaker says of a node: promoted, unpromoted, stopped, offline,
// unclean, pending or standby.
func (v *view) node(name string) string {
	for _, n := range v.Nodes {
		switch {
		case n.Name != name:
		case n.Unclean:
			return "unclean"
		case !n.Online:
			return "offline"
		case n.Pending:
			return "pending"
		default:
			return v.role(name)
		}
	}
	return "unknown"
}

func (v *view) role(node string) string {
	for _, c := range v.Clones {
		for i := range c.Resources {
			if c.MultiState && c.Resources[i].on(node) {
				return strings.ToLower(c.Resources[i].Role)
			}
		}
	}
	return "stopped"
}

// vip returns the node that holds the virtual address, or "".
func (v *view) vip() string {
	for i := range v.Resources {
		if r := &v.Resources[i]; strings.HasSuffix(r.Agent, ":IPaddr2") && r.Active && len(r.Nodes) > 0 {
			return r.Nodes[0].Name
		}
	}
	return ""
}

// fencing reports whether a fence device is started.
func (v *view) fencing() bool {
	for i := range v.Resources {
		if r := &v.Resources[i]; strings.HasPrefix(r.Agent, "stonith:") && r.Active {
			return true
		}
	}
	return false
}

// Exit codes of OCF 1.1 that crm_mon lists as failures: a degraded resource works.
const (
	ocfDegraded         = 190
	ocfDegradedPromoted = 191
)

// failures returns Pacemaker's failed actions, one line each.
func (v *view) failures() []string {
	var lines []string
	for _, f := range v.Failures {
		if f.Code == ocfDegraded || f.Code == ocfDegradedPromoted {
			continue
		}
		lines = append(lines, strings.TrimSpace(fmt.Sprintf("%s on %s: %s %s", f.Op, f.Node, f.Status, f.Reason)))
	}
	return lines
}
