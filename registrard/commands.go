package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"sipha/registrard/control"
)

// commandTimeout is the time for what a command asks of the daemon, where --timeout says nothing else.
const commandTimeout = 10 * time.Second

func jsonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", Usage: "write JSON"}
}

// clientFlags are those of every command that asks the daemon.
func clientFlags(more ...cli.Flag) []cli.Flag {
	return append([]cli.Flag{
		&cli.StringFlag{Name: "instance", Usage: "ask the instance of this `NAME`", Value: control.DefaultInstance, EnvVars: []string{environmentPrefix + "INSTANCE"}},
		&cli.StringFlag{Name: "socket", Usage: "ask at this control socket's `PATH`", EnvVars: []string{environmentPrefix + "SOCKET"}},
		&cli.DurationFlag{Name: "timeout", Usage: "wait no longer than this `TIME` for the daemon", Value: commandTimeout},
		jsonFlag(),
	}, more...)
}

// ask connects to the daemon and does f within the time that the command line allows.
func (p *program) ask(c *cli.Context, f func(context.Context, *control.Client) error) error {
	ctx, cancel := context.WithTimeout(c.Context, c.Duration("timeout"))
	defer cancel()
	client, err := p.dial(ctx, c)
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }() // whatever was asked is answered
	return f(ctx, client)
}

func (p *program) dial(ctx context.Context, c *cli.Context) (*control.Client, error) {
	if path := c.String("socket"); path != "" {
		return control.Dial(ctx, path)
	}
	instance := c.String("instance")
	if instance == "" { // config --running takes it as a key of the configuration, which has no default there
		instance = control.DefaultInstance
		if name, ok := p.environment(environmentPrefix + "INSTANCE"); ok {
			instance = name
		}
	}
	if err := control.CheckInstance(instance); err != nil {
		return nil, fail(exitUsage, err)
	}
	paths := p.socketPaths(instance)
	for _, path := range paths[1:] {
		// One of the standalone places counts only where there is something, so that errors speak of the usual place.
		if _, err := os.Stat(path); err == nil {
			if _, err := os.Stat(paths[0]); errors.Is(err, os.ErrNotExist) {
				return control.Dial(ctx, path)
			}
		}
	}
	client, err := control.Dial(ctx, paths[0])
	if errors.Is(err, control.ErrUnavailable) {
		if others := instances(control.DefaultRunDirectory); len(others) > 0 && !slices.Contains(others, instance) {
			return nil, fmt.Errorf("%w (instances here: %s)", err, strings.Join(others, ", "))
		}
	}
	return client, err
}

// socketPaths are where the daemon of this name may listen: the usual place, and that of a standalone one of this user.
func (p *program) socketPaths(instance string) []string {
	return []string{
		control.SocketPath(instance),
		filepath.Join(standaloneDatabase(p.environment), standaloneRun, instance, control.SocketName),
	}
}

// instances are the names that have a control socket in dir.
func instances(dir string) []string {
	found, err := filepath.Glob(filepath.Join(dir, "*", control.SocketName))
	if err != nil {
		return nil
	}
	names := make([]string, 0, len(found))
	for _, f := range found {
		names = append(names, filepath.Base(filepath.Dir(f)))
	}
	return names
}

// noArguments refuses what is left of the command line.
func noArguments(c *cli.Context) error {
	return arguments(c, 0, 0)
}

// arguments refuses a command line with fewer or more arguments.
func arguments(c *cli.Context, low, high int) error {
	usage := strings.TrimSpace(c.Command.HelpName + " [options] " + c.Command.ArgsUsage)
	switch n := c.NArg(); {
	case n > high:
		return failf(exitUsage, "unexpected argument %q: usage: %s", c.Args().Get(high), usage)
	case n < low:
		return failf(exitUsage, "an argument is missing: usage: %s", usage)
	}
	return nil
}

// optionsFirst moves options that stand behind a command's arguments before them, which the command line library wants: people write
// both. What follows "--" stays.
func optionsFirst(app *cli.App, args []string) []string {
	if len(args) < 2 {
		return args
	}
	out, rest := args[:1:1], args[1:]
	flags, commands := app.Flags, app.Commands
	for len(rest) > 0 && len(commands) > 0 {
		i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(rest[0]) })
		if i < 0 {
			break
		}
		flags, commands = commands[i].Flags, commands[i].Subcommands
		out, rest = append(out, rest[0]), rest[1:]
	}
	var arguments []string
	for len(rest) > 0 {
		word := rest[0]
		rest = rest[1:]
		switch {
		case word == "--":
			out = append(out, word) // all options stand before it by then
			arguments, rest = append(arguments, rest...), nil
		case !strings.HasPrefix(word, "-") || word == "-":
			arguments = append(arguments, word)
		default:
			out = append(out, word)
			if takesValue(flags, word) && len(rest) > 0 {
				out, rest = append(out, rest[0]), rest[1:]
			}
		}
	}
	return append(out, arguments...)
}

// takesValue tells whether the word behind this option belongs to it.
func takesValue(flags []cli.Flag, option string) bool {
	name := strings.TrimLeft(option, "-")
	if strings.Contains(name, "=") {
		return false
	}
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			_, isBool := f.(*cli.BoolFlag)
			return !isBool
		}
	}
	return false
}
