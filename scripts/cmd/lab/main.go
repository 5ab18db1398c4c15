// Command lab makes and drives clusters of several nodes on one machine; see docs/lab.md.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"sipha/scripts/internal/demo"
	"sipha/scripts/internal/lab"

	"golang.org/x/sys/unix"
)

const usage = `usage: scripts/lab COMMAND

  up [--nodes N] [--fence-action off|reboot] [--bare]
                               bring a cluster up (2 to 5 nodes); bare: without registrard
  down                         remove it, whatever state it is in
  status [--json]              nodes, roles, positions, virtual address
  vip                          the virtual address
  exec NODE CMD...             run a command in a node (node1..., or client)
  poweroff NODE                take the power: unsynced data is lost
  poweron NODE                 give it back
  cut NODE                     take a node off the network
  heal NODE                    bring it back
  link NODE [--delay D] [--loss P] [--reorder P] [--one-way in|out]
                               spoil a node's link; without options, mend it
  logs NODE [-f]               what a node's daemons logged
  demo [--phones N]            phones, a power cut, and the check that nothing is lost
  demo-user                    a user, alice, and a registered phone of hers
  failover [--runs N] [--fault kill|poweroff|cut|move]
                               how long nobody is served after each fault

LAB=name chooses one of several labs.
`

// Exit statuses of the command; exec passes on its command's.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 64 // EX_USAGE of sysexits.h

	signalled = 128 // plus the signal, as shells say it
)

var errUsage = errors.New("usage")

func main() {
	if filepath.Base(os.Args[0]) == lab.FenceAgent {
		os.Exit(lab.FenceMain(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return exitUsage
	}
	err := command(ctx, args[0], args[1:], stdout, stderr)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return exitOK
	case args[0] == "exec" && errors.As(err, &exit):
		if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() {
			return signalled + int(s.Signal())
		}
		return exit.ExitCode()
	case errors.Is(err, errUsage), errors.Is(err, flag.ErrHelp):
		fmt.Fprintf(stderr, "%v\n\n%s", err, usage)
		return exitUsage
	}
	fmt.Fprintln(stderr, "lab:", err)
	return exitError
}

func command(ctx context.Context, name string, args []string, stdout, stderr io.Writer) error {
	if name == "node-init" {
		return lab.NodeInitStage1(os.Getenv("LAB_SELF"))
	}
	if name == "node-init2" {
		return lab.NodeInit(context.Background())
	}
	l, err := lab.Open("")
	if err != nil {
		return err
	}
	c := &cli{lab: l, stdout: stdout, stderr: stderr}
	switch name {
	case "supervise":
		return lab.Supervise(context.Background(), l, slog.New(slog.NewTextHandler(stderr, nil)))
	case "up":
		return c.up(ctx, args)
	case "down":
		return l.Down(ctx)
	case "status":
		return c.status(ctx, args)
	case "vip":
		_, err := fmt.Fprintln(stdout, lab.VIP())
		return err
	case "exec":
		if len(args) < 2 {
			return errUsage
		}
		return l.Run(ctx, args[0], args[1:]...)
	case "poweroff":
		return oneNode(args, l.PowerOff)
	case "poweron":
		return oneNode(args, l.PowerOn)
	case "cut":
		return oneNode(args, l.Cut)
	case "heal":
		return oneNode(args, l.Heal)
	case "link":
		return c.link(args)
	case "logs":
		return c.logs(args)
	case "demo":
		return c.demo(ctx, args)
	case "demo-user":
		if len(args) > 0 {
			return errUsage
		}
		return demo.User(ctx, l, stdout)
	case "failover":
		return c.failover(ctx, args)
	case "help", "-h", "--help":
		_, err := io.WriteString(stdout, usage)
		return err
	}
	return fmt.Errorf("%w: unknown command %q", errUsage, name)
}

func oneNode(args []string, do func(string) error) error {
	if len(args) != 1 {
		return errUsage
	}
	return do(args[0])
}

type cli struct {
	lab            *lab.Lab
	stdout, stderr io.Writer
}

func (c *cli) flags(name string) *flag.FlagSet {
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	f.SetOutput(io.Discard)
	return f
}

func (c *cli) up(ctx context.Context, args []string) error {
	f := c.flags("up")
	o := lab.UpOptions{Progress: c.stdout}
	f.IntVar(&o.Nodes, "nodes", 0, "")
	f.StringVar(&o.FenceAction, "fence-action", "off", "")
	f.IntVar(&o.DiskMiB, "disk", lab.DiskMiBDefault, "")
	f.BoolVar(&o.Bare, "bare", false, "")
	f.StringVar(&o.Product.Registrard, "registrard", "", "")
	f.StringVar(&o.Product.Agent, "agent", "", "")
	f.StringVar(&o.Product.Config, "config", "", "")
	f.StringVar(&o.Product.DBusPolicy, "dbus-policy", "", "")
	f.Func("crm", "", func(path string) error {
		o.Product.CRM = append(o.Product.CRM, path)
		return nil
	})
	if err := f.Parse(args); err != nil || f.NArg() > 0 {
		return fmt.Errorf("%w: up: %v %v", errUsage, err, f.Args())
	}
	return c.lab.Up(ctx, o)
}

func (c *cli) status(ctx context.Context, args []string) error {
	f := c.flags("status")
	asJSON := f.Bool("json", false, "")
	if err := f.Parse(args); err != nil || f.NArg() > 0 {
		return errUsage
	}
	s, err := c.lab.Status(ctx)
	if err != nil {
		return err
	}
	if *asJSON {
		e := json.NewEncoder(c.stdout)
		e.SetIndent("", "  ")
		return e.Encode(s)
	}
	return s.Print(c.stdout)
}

func (c *cli) demo(ctx context.Context, args []string) error {
	f := c.flags("demo")
	phones := f.Int("phones", demo.PhonesDefault, "")
	if err := f.Parse(args); err != nil || f.NArg() > 0 {
		return errUsage
	}
	return demo.Story(ctx, c.lab, *phones, c.stdout)
}

func (c *cli) failover(ctx context.Context, args []string) error {
	f := c.flags("failover")
	runs := f.Int("runs", demo.RunsDefault, "")
	var names []string
	f.Func("fault", "", func(name string) error {
		names = append(names, name)
		return nil
	})
	if err := f.Parse(args); err != nil || f.NArg() > 0 {
		return errUsage
	}
	return demo.Failovers(ctx, c.lab, *runs, names, c.stdout)
}

func (c *cli) link(args []string) error {
	if len(args) == 0 {
		return errUsage
	}
	f := c.flags("link")
	var faults lab.Faults
	f.DurationVar(&faults.Delay, "delay", 0, "")
	f.Func("loss", "", percent(&faults.Loss))
	f.Func("reorder", "", percent(&faults.Reorder))
	f.StringVar(&faults.OneWay, "one-way", "", "")
	if err := f.Parse(args[1:]); err != nil || f.NArg() > 0 {
		return fmt.Errorf("%w: link: %v %v", errUsage, err, f.Args())
	}
	return c.lab.Link(args[0], faults)
}

// percent parses 10 and 10%.
func percent(to *float64) func(string) error {
	return func(s string) (err error) {
		*to, err = strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64)
		return err
	}
}

func (c *cli) logs(args []string) error {
	if len(args) == 0 || len(args) > 2 || len(args) == 2 && args[1] != "-f" {
		return errUsage
	}
	dir := c.lab.LogDir(args[0])
	var files []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && strings.HasSuffix(path, ".log") {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("logs of %s: %w", args[0], err)
	}
	tailArgs := []string{"tail", "-v", "-n", "+1"}
	if len(args) == 2 {
		tailArgs = []string{"tail", "-v", "-n", "20", "-F"}
	}
	tail, err := exec.LookPath("tail")
	if err != nil {
		return err
	}
	return unix.Exec(tail, append(append(tailArgs, "--"), files...), os.Environ())
}
