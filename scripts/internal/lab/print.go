package lab

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"
)

// none stands in a table where there is nothing to tell.
const none = "-"

// Print writes the status for people: a table, and in a sentence whether all is well.
func (s *Status) Print(w io.Writer) error {
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	rows := [][]string{{"NODE", "ADDRESS", "ROLE", "STATE", "EPOCH", "COMMITTED", "DIGEST", "IN SYNC", "PACEMAKER", "NOTE"}}
	for i := range s.Nodes {
		rows = append(rows, s.Nodes[i].row(s.Lab))
	}
	for _, row := range rows {
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for line := range strings.Lines(b.String()) {
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " \n")); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "\n%s\n", strings.Join(s.summary(), "\n"))
	return err
}

func (n *NodeStatus) row(lab string) []string {
	row := []string{n.Name, n.Address, n.Role, none, none, none, none, none, n.Pacemaker, n.note(lab)}
	switch n.Role {
	case "primary", "replica":
		state := n.State
		if n.Progress != "" {
			state = n.Progress
		}
		copy(row[3:], []string{state, dash(n.Epoch), strconv.FormatUint(n.Committed, 10), fmt.Sprintf("%.12s", dash(n.Digest)), yesNo(n.Synced)})
	case "down":
		if n.Starting() {
			row[2] = "starting"
		} else {
			row[3] = dash(n.State)
		}
	}
	return row
}

// Starting reports that the node has power but is not yet a member of the cluster, or a
// member on which Pacemaker has not started registrard yet.
func (n *NodeStatus) Starting() bool {
	return n.Power && n.Role == "down" && (n.Phase != phasePacemaker || n.Pacemaker != "promoted" && n.Pacemaker != "unpromoted")
}

// note says what was done to the node's hardware, and how it is undone.
func (n *NodeStatus) note(lab string) string {
	var notes []string
	do := "scripts/lab "
	if lab != nameDefault {
		do = "LAB=" + lab + " " + do
	}
	if !n.Power {
		why := "fenced"
		if n.Held {
			why = "no power"
		}
		notes = append(notes, fmt.Sprintf("%s; %spoweron %s", why, do, n.Name))
	}
	if n.Cut {
		notes = append(notes, fmt.Sprintf("cut off; %sheal %s", do, n.Name))
	}
	if !n.Link.none() {
		notes = append(notes, fmt.Sprintf("%s; %slink %s", n.Link, do, n.Name))
	}
	return strings.Join(notes, "; ")
}

// summary says whether phones are served, what is missing, and what failed.
func (s *Status) summary() []string {
	primary, synced := s.Node(s.Primary()), 0
	var away []string
	for i := range s.Nodes {
		switch n := &s.Nodes[i]; {
		case n.Synced:
			synced++
		case !n.Power:
			away = append(away, n.Name+" is off")
		case n.Starting():
			away = append(away, n.Name+" is starting")
		case n.Role == "down":
			away = append(away, n.Name+" does not answer")
		default:
			away = append(away, n.Name+" is not in sync")
		}
	}
	var lines []string
	if primary != nil && s.Quorate && s.VIPNode == primary.Name {
		lines = append(lines, fmt.Sprintf("Phones are served at %s by %s, the primary; %d of %d nodes are in sync.", s.VIP, primary.Name, synced, len(s.Nodes)))
	} else {
		lines = append(lines, fmt.Sprintf("Phones are not served at %s at the moment: %s.", s.VIP, s.unserved()))
	}
	if len(away) > 0 {
		lines = append(lines, strings.Join(away, ", ")+".")
	}
	if primary != nil && primary.Epoch != "" {
		lines = append(lines, fmt.Sprintf("Content: %s, %s.", count(primary.Users, "user"), count(primary.Bindings, "binding")))
	}
	if !s.Fencing {
		lines = append(lines, "The fence device is not started.")
	}
	for _, f := range s.Failures {
		lines = append(lines, "Failed earlier, as Pacemaker remembers: "+f)
	}
	return lines
}

// unserved says why nobody serves.
func (s *Status) unserved() string {
	switch {
	case !s.Quorate:
		return "no partition with quorum answers"
	case s.Primary() == "":
		return "there is not exactly one primary"
	case s.VIPNode == "":
		return "no node holds the address"
	}
	return fmt.Sprintf("%s holds the address, %s is the primary", s.VIPNode, s.Primary())
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return fmt.Sprintf("%d %s", n, what)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func dash(s string) string {
	if s == "" {
		return none
	}
	return s
}
