package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/urfave/cli/v2"

	"sipha/agent/supervise"
	"sipha/ocf"
)

func main() {
	// A Go program that dies of a panic exits with 2, which for the cluster is OCF_ERR_ARGS and bans the node. With this it dies of
	// SIGABRT, which is a soft error.
	debug.SetTraceback("crash")
	os.Exit(run(context.Background(), os.Args, os.Environ(), os.Stdout, ocf.NewLockedWriter(os.Stderr)))
}

// run does one action and returns the exit status.
func run(ctx context.Context, args, environ []string, stdout, stderr io.Writer) int {
	env := ocf.ParseEnv(environ)
	log := newLog(stderr, environ)
	code := ocf.ErrUnimplemented
	app := &cli.App{
		Name: agentName, Usage: "OCF 1.1 resource agent ocf:" + provider + ":" + agentName + "; run by Pacemaker, which sets its environment",
		ArgsUsage: "ACTION", HideVersion: true, HideHelpCommand: true, Writer: stdout, ErrWriter: stderr,
		Commands:       append(actionCommands(env, log, environ, stdout, stderr, &code), hiddenCommands(log, &code)...),
		ExitErrHandler: func(*cli.Context, error) {}, // by default it exits by itself
		Action: func(c *cli.Context) error {
			if c.NArg() == 0 {
				code = ocf.ErrArgs
				return cli.ShowAppHelp(c)
			}
			ocf.WriteReason(stderr, env.ReasonPrefix, "no such action: "+c.Args().First())
			return nil
		},
	}
	if hasHelp(args) {
		code = ocf.Success
	}
	if err := app.RunContext(ctx, args); err != nil {
		var e *ocf.Error
		if errors.As(err, &e) {
			return int(e.Code)
		}
		ocf.WriteReason(stderr, env.ReasonPrefix, err.Error())
		return int(ocf.ErrArgs)
	}
	return int(code)
}

// actionCommands makes a command of every action that the metadata advertises.
func actionCommands(env ocf.Env, log *slog.Logger, environ []string, stdout, stderr io.Writer, code *ocf.ExitCode) []*cli.Command {
	handlers := map[ocf.Action]func(*resource, context.Context) (ocf.ExitCode, error){
		ocf.Start: (*resource).start, ocf.Stop: (*resource).stop, ocf.Monitor: (*resource).monitor,
		ocf.Promote: (*resource).promote, ocf.Demote: (*resource).demote, ocf.Notify: (*resource).notify,
		ocf.Reload: (*resource).reload, ocf.ReloadAgent: (*resource).reload, ocf.ValidateAll: (*resource).validateAll,
	}
	commands := []*cli.Command{{
		Name: string(ocf.MetaData), Usage: "describe the agent, in XML", SkipFlagParsing: true,
		Action: func(*cli.Context) error {
			*code = ocf.Success
			return metadata().Encode(stdout)
		},
	}}
	for _, action := range []ocf.Action{
		ocf.Start, ocf.Stop, ocf.Monitor, ocf.Promote, ocf.Demote, ocf.Notify, ocf.Reload, ocf.ReloadAgent, ocf.ValidateAll,
	} {
		do := handlers[action]
		commands = append(commands, &cli.Command{
			Name: string(action), Usage: usage(action), SkipFlagParsing: true, // further arguments are ignored (OCF 1.1)
			Action: func(c *cli.Context) error {
				log := log.With("action", string(action))
				*code = ocf.Run(c.Context, env, log, stderr, func(ctx context.Context) (ocf.ExitCode, error) {
					return do(newResource(env, environ, log), ctx)
				})
				return nil
			},
		})
	}
	return commands
}

// hiddenCommands are run by the agent itself and by systemd.
func hiddenCommands(log *slog.Logger, code *ocf.ExitCode) []*cli.Command {
	directory := &cli.StringFlag{Name: "directory", Usage: "the instance's runtime directory", Required: true}
	attach := &cli.BoolFlag{Name: "attach", Usage: "wait for the daemon that is running"}
	return []*cli.Command{
		{
			Name: "wait", Usage: "be the waiter of a daemon", Hidden: true, Flags: []cli.Flag{directory, attach},
			Action: func(c *cli.Context) error {
				*code = ocf.Success
				return wait(supervise.Directory{Path: c.String("directory")}, c.Bool("attach"), log)
			},
		},
		{
			Name: "gone", Usage: "act upon the end of a daemon that systemd has started", Hidden: true, Flags: []cli.Flag{directory},
			Action: func(c *cli.Context) error {
				*code = ocf.Success
				return gone(c.Context, supervise.Directory{Path: c.String("directory")}, log)
			},
		},
	}
}

// newLog writes what the agent does to stderr, which Pacemaker puts into its log. Pacemaker adds the time.
func newLog(stderr io.Writer, environ []string) *slog.Logger {
	level := slog.LevelInfo
	for _, e := range environ {
		if e == "OCF_TRACE_RA=1" || e == "HA_debug=1" {
			level = slog.LevelDebug
		}
	}
	return slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

func hasHelp(args []string) bool {
	return len(args) > 1 && (args[1] == "--help" || args[1] == "-h")
}
