package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"sipha/registrard/control"
)

// Interval of status --watch.
const (
	watchIntervalDefault = time.Second
	watchIntervalMin     = 100 * time.Millisecond
)

func (p *program) statusCommand() *cli.Command {
	return &cli.Command{
		Name: "status", Usage: "tell role, position and members of the instance on this node",
		Flags: clientFlags(
			&cli.BoolFlag{Name: "watch", Usage: "tell it again and again"},
			&cli.DurationFlag{Name: "interval", Usage: "with --watch, at this `INTERVAL`", Value: watchIntervalDefault},
		),
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			if c.Bool("watch") {
				return p.watch(c)
			}
			var s control.Status
			err := p.ask(c, func(ctx context.Context, client *control.Client) (err error) {
				s, err = client.Status(ctx)
				return err
			})
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return writeJSON(p.out, s)
			}
			return writeStatus(p.out, s)
		},
	}
}

// watch tells the status until the context ends: one line for each, or with --json one object a line. A daemon that does not answer is
// part of what is watched.
func (p *program) watch(c *cli.Context) error {
	interval := c.Duration("interval")
	if interval < watchIntervalMin {
		return failf(exitUsage, "--interval %s: must be at least %s", interval, watchIntervalMin)
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		var s control.Status
		err := p.ask(c, func(ctx context.Context, client *control.Client) (err error) {
			s, err = client.Status(ctx)
			return err
		})
		if c.Context.Err() != nil {
			return nil
		}
		if errors.Is(err, control.ErrPermission) || exitCode(err) == exitUsage {
			return err
		}
		if err := p.watchLine(c.Bool("json"), s, err); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-c.Context.Done():
			return nil
		}
	}
}

func (p *program) watchLine(asJSON bool, s control.Status, err error) error {
	switch {
	case asJSON && err != nil:
		return writeJSONLine(p.out, map[string]string{"error": err.Error()})
	case asJSON:
		return writeJSONLine(p.out, s)
	}
	line := time.Now().Format(time.TimeOnly) + "  "
	if err != nil {
		line += printable(err.Error())
	} else {
		line += fmt.Sprintf("%s  epoch %s  index %d  committed %d  bindings %d  members %d  %s", roleAndState(s), orDash(s.Epoch), s.Index, s.Committed,
			s.Bindings, len(s.Members), printable(strings.Join(troubles(s), "; ")))
	}
	_, err = fmt.Fprintln(p.out, strings.TrimRight(line, " "))
	return err
}

// writeStatus shows a status to people.
func writeStatus(w io.Writer, s control.Status) error {
	t := &table{}
	t.add("Node:", fmt.Sprintf("%s (%d)", s.Node, s.NodeID))
	t.add("Instance:", fmt.Sprintf("%s, registrard %s, pid %d, up %s", s.Instance, s.Version, s.PID, time.Duration(s.UptimeS)*time.Second))
	t.add("Role:", roleAndState(s))
	t.add("Position:", fmt.Sprintf("epoch %s, index %d, committed %d, digest %.8s", orDash(s.Epoch), s.Index, s.Committed, orDash(s.Digest)))
	if s.Standalone {
		t.add("Cluster:", "none: standalone, nothing is replicated")
	} else {
		t.add("Quorum:", fmt.Sprintf("%s, ring %s", yesNo(s.Quorate), orDash(s.Ring)))
	}
	t.add("Content:", fmt.Sprintf("%d bindings of %d addresses, %d users", s.Bindings, s.AORs, s.Users))
	t.add("Promotion score:", scoreText(s.Score))
	if s.Progress != "" {
		t.add("Progress:", s.Progress)
	}
	for _, d := range troubles(s) {
		t.add("Attention:", d)
	}
	if err := t.write(w); err != nil {
		return err
	}
	voters := make(map[uint32]bool)
	for _, v := range s.Voters {
		voters[v.NodeID] = true
	}
	members := &table{}
	members.add("NODE", "NAME", "ROLE", "INDEX", "SYNCED", "VOTER")
	for _, m := range s.Members {
		members.add(strconv.FormatUint(uint64(m.NodeID), 10), m.Name, string(m.Role), strconv.FormatUint(m.Index, 10), yesNo(m.Synced), yesNo(voters[m.NodeID]))
	}
	for _, v := range s.Voters {
		if !v.Here {
			members.add(strconv.FormatUint(uint64(v.NodeID), 10), v.Name, "gone", "-", "-", "yes")
		}
	}
	if _, err := fmt.Fprintln(w); err != nil {
		return err
	}
	return members.write(w)
}

func roleAndState(s control.Status) string {
	serving := ""
	if s.Serving {
		serving = ", serving"
	}
	return fmt.Sprintf("%s (%s%s)", s.Role, s.State, serving)
}

func votersHere(s control.Status) int {
	n := 0
	for _, v := range s.Voters {
		if v.Here {
			n++
		}
	}
	return n
}

// troubles is what an operator should look at.
func troubles(s control.Status) []string {
	list := append([]string(nil), s.Degraded...)
	for _, v := range s.Voters {
		if !v.Here && s.State != control.StateDisconnected {
			list = append(list, fmt.Sprintf("voter %s is not here", v.Name))
		}
	}
	if here := votersHere(s); len(s.Voters) > 0 && here <= len(s.Voters)/2 {
		list = append(list, fmt.Sprintf("%d of %d voters are here: no majority, so no REGISTER can be answered until more are back", here, len(s.Voters)))
	}
	for _, m := range s.Members {
		if m.ConfigDiffers {
			list = append(list, fmt.Sprintf("%s has another configuration: make the files the same on all nodes", m.Name))
		}
	}
	if s.LastError != "" {
		list = append(list, s.LastError)
	}
	return list
}

func scoreText(score *int) string {
	if score == nil {
		return "none"
	}
	return strconv.Itoa(*score)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
