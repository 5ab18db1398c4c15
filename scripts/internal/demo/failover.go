package demo

import (
	"context"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"sipha/scripts/internal/lab"
	"sipha/scripts/internal/sipload"
)

const (
	// RunsDefault and RunsMax say how often each fault is done.
	RunsDefault = 5
	RunsMax     = 100
	// runMax bounds one fault with everything around it.
	runMax = 3 * time.Minute
	// gapMin is the shortest interruption that is looked for, and gapWait how long. What is shorter passes unnoticed
	// until the cluster's status shows it.
	gapMin  = 150 * time.Millisecond
	gapWait = 20 * time.Second
	// group is the promotable clone in crm-config/registrard.crm.
	group = "registrard-clone"
)

// promotedMonitors are the operations in crm-config/registrard.crm that fail when a primary dies, as Pacemaker counts them.
var promotedMonitors = []string{"monitor_3000", "monitor_31000"}

// fault is something done to the primary.
type fault struct {
	key  string // on the command line
	name string
	do   func(ctx context.Context, l *lab.Lab, primary *lab.NodeStatus, to string) error
	// undo is what mending the hardware does not; nil where there is nothing to do.
	undo func(ctx context.Context, l *lab.Lab, now, was string) error
}

// faults are those that Failovers does.
var faults = []fault{
	{key: "kill", name: "kill -9 of the primary's daemon", do: func(ctx context.Context, l *lab.Lab, p *lab.NodeStatus, _ string) error {
		if p.PID <= 1 {
			return fmt.Errorf("%s does not say its daemon's process id", p.Name)
		}
		_, err := l.Exec(ctx, p.Name, "kill", "-KILL", fmt.Sprint(p.PID))
		return err
	}, undo: func(ctx context.Context, l *lab.Lab, now, was string) error {
		// Else the third run would find a node that has failed too often. crm_resource --cleanup would do more: it
		// forgets the state of every degraded instance, and has Pacemaker stop the address until it knows it again.
		for _, monitor := range promotedMonitors {
			if _, err := l.Exec(ctx, now, "attrd_updater", "--delete", "--node", was, "--name", "fail-count-registrard#"+monitor); err != nil {
				return err
			}
		}
		return nil
	}},
	{key: "poweroff", name: "power-off of the primary's node", do: func(_ context.Context, l *lab.Lab, p *lab.NodeStatus, _ string) error {
		return l.PowerOff(p.Name)
	}},
	{key: "cut", name: "the primary's node cut off", do: func(_ context.Context, l *lab.Lab, p *lab.NodeStatus, _ string) error {
		return l.Cut(p.Name)
	}},
	{
		key: "move", name: "crm_resource --move", do: func(ctx context.Context, l *lab.Lab, p *lab.NodeStatus, to string) error {
			_, err := l.Exec(ctx, p.Name, "crm_resource", "--move", "--resource", group, "--promoted", "--node", to)
			return err
		}, undo: func(ctx context.Context, l *lab.Lab, now, _ string) error {
			_, err := l.Exec(ctx, now, "crm_resource", "--clear", "--resource", group)
			return err
		},
	},
}

// Failovers does each of the named faults (kill, poweroff, cut, move; none for all of them) runs times to the lab's primary, and tells how long nobody was served: the longest time
// between two answered queries of a phone that asks every 20 ms. Everything is mended in between.
func Failovers(ctx context.Context, l *lab.Lab, runs int, names []string, out io.Writer) error {
	chosen, err := choose(names)
	if err != nil {
		return err
	}
	if runs < 1 || runs > RunsMax {
		return fmt.Errorf("%d runs: use 1 to %d", runs, RunsMax)
	}
	steps := lab.NewSteps(out)
	s, err := whole(ctx, l, steps)
	if err != nil {
		return err
	}
	phone := Alice()
	if err := importUsers(ctx, l, replica(s), []sipload.Account{phone}); err != nil {
		return fmt.Errorf("add a user: %w", err)
	}
	times := make([][]time.Duration, len(chosen))
	for run := range runs {
		for i, f := range chosen {
			took, where, err := f.measure(ctx, l, phone)
			if err != nil {
				return fmt.Errorf("%s: %w", f.name, err)
			}
			times[i] = append(times[i], took)
			steps.Say("%d/%d  %-32s  %5.2f s  %s", run+1, runs, f.name, took.Seconds(), where)
		}
	}
	if _, err := whole(ctx, l, lab.NewSteps(nil)); err != nil {
		return err
	}
	return table(out, chosen, times, len(s.Nodes), s.Nodes[0].Durable)
}

// choose returns the faults of these names.
func choose(names []string) ([]fault, error) {
	if len(names) == 0 {
		return faults, nil
	}
	var chosen []fault
	for _, f := range faults {
		if slices.Contains(names, f.key) {
			chosen = append(chosen, f)
		}
	}
	if len(chosen) != len(names) {
		return nil, fmt.Errorf("faults %v: use kill, poweroff, cut and move", names)
	}
	return chosen, nil
}

// measure does the fault once, to a whole cluster, and returns for how long nobody was served and from which node the
// primary went to which.
func (f *fault) measure(ctx context.Context, l *lab.Lab, phone sipload.Account) (took time.Duration, where string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, runMax, fmt.Errorf("not within %v", runMax))
	defer cancel()
	was, err := whole(ctx, l, lab.NewSteps(nil))
	if err != nil {
		return 0, "", err
	}
	client, err := crowd(l)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = client.Close() }() // only queries are lost
	watch := client.NewWatch(ctx, sipload.Registration{Account: phone}, watchInterval)
	defer watch.Stop()
	if err := watch.OKAfter(ctx, time.Now()); err != nil {
		return 0, "", err
	}
	primary := was.Node(was.Primary())
	begin := time.Now()
	if err := f.do(ctx, l, primary, replica(was)); err != nil {
		return 0, "", err
	}
	// The status is not looked at before the interruption is over: looking costs the cluster time.
	waiting, cancel := context.WithTimeout(ctx, gapWait)
	defer cancel()
	_ = watch.GapAfter(waiting, begin, gapMin) // without any, the status tells whether it happened
	now, err := newEpoch(ctx, l, primary.Epoch)
	if err != nil {
		return 0, "", err
	}
	if err := watch.OKAfter(ctx, time.Now()); err != nil {
		return 0, "", err
	}
	took = watch.Gap(begin)
	if f.undo != nil {
		err = f.undo(ctx, l, now, primary.Name)
	}
	return took, primary.Name + " -> " + now, err
}

// newEpoch waits until there is a primary in another epoch, which holds the virtual address.
func newEpoch(ctx context.Context, l *lab.Lab, old string) (primary string, err error) {
	for {
		s, err := l.Status(ctx)
		if err != nil {
			return "", err
		}
		if p := s.Node(s.Primary()); p != nil && p.Epoch != old && p.Serving && s.VIPNode == p.Name {
			return p.Name, nil
		}
		if err := wait(ctx, poll); err != nil {
			return "", fmt.Errorf("no new primary: %w", err)
		}
	}
}

// table writes the times, and under what conditions they were measured.
func table(out io.Writer, chosen []fault, times [][]time.Duration, nodes int, durable bool) error {
	if _, err := fmt.Fprintln(out); err != nil {
		return err
	}
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "time to the first 200, after\truns\tmedian\tmin\tmax\t")
	for i, f := range chosen {
		sorted := slices.Sorted(slices.Values(times[i]))
		fmt.Fprintf(t, "%s\t%d\t%.2f s\t%.2f s\t%.2f s\t\n", f.name, len(sorted), median(sorted).Seconds(), sorted[0].Seconds(), sorted[len(sorted)-1].Seconds())
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\n%d nodes, durable %t, Corosync's fast profile: %s; %d cores, load %s\n", nodes, durable, lab.Profile(), runtime.NumCPU(), load())
	return err
}

// median returns the middle of sorted times.
func median(sorted []time.Duration) time.Duration {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// load returns the machine's load averages, since times on a busy machine mean little.
func load() string {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	fields := strings.Fields(string(raw))
	return strings.Join(fields[:min(3, len(fields))], " ")
}
