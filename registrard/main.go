// Command registrard is the registrar's daemon, and what its operator asks of it. docs/cli.md describes the commands and their exit
// codes, docs/configuration.md the configuration.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/urfave/cli/v2"
)

// version is set when a release is built: -ldflags "-X main.version=1.2.3".
var version = ""

func main() {
	// A Go panic exits with 2, which the resource agent's world takes for wrong arguments; an abort cannot be mistaken (signal(7)).
	debug.SetTraceback("crash")
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, os.Args, streams{os.Stdin, os.Stdout, os.Stderr}, os.LookupEnv)
	stop()
	os.Exit(code)
}

// streams are what a command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// program is what the commands share.
type program struct {
	streams
	environment func(string) (string, bool)
}

// run runs one command line and returns its exit code. The last line on the error stream says what was wrong, and what to do.
func run(ctx context.Context, args []string, s streams, environment func(string) (string, bool)) int {
	p := &program{streams: s, environment: environment}
	app := p.app()
	err := app.RunContext(ctx, optionsFirst(app, args))
	if err != nil {
		_, _ = fmt.Fprintf(s.err, "registrard: %s\n", lastLine(err)) // there is nowhere left to say that this failed
	}
	return exitCode(err)
}

// buildVersion is the version that was built in, or what the Go toolchain knows of the source.
func buildVersion() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	if v == "" || v == "(devel)" {
		v = "devel"
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" && len(s.Value) >= 12 {
				v += "-" + s.Value[:12]
			}
		}
	}
	return v
}

func (p *program) app() *cli.App {
	app := &cli.App{
		Name: "registrard", HelpName: "registrard", Usage: "a SIP registrar that keeps registrations on every node of a cluster",
		Reader: p.in, Writer: p.out, ErrWriter: p.err, HideVersion: true, HideHelpCommand: true, EnableBashCompletion: true,
		// Errors come back from RunContext; nothing below run writes them or exits.
		ExitErrHandler:  func(*cli.Context, error) {},
		OnUsageError:    usageError,
		CommandNotFound: nil,
		Action: func(c *cli.Context) error {
			if c.Args().Present() {
				return failf(exitUsage, "unknown command %q%s: see registrard --help", c.Args().First(), suggest(c.Args().First(), p.commandNames(), "%q"))
			}
			return fail(exitUsage, fmt.Errorf("no command: see registrard --help"))
		},
		Commands: []*cli.Command{p.runCommand(), p.statusCommand(), p.contactsCommand(), p.usersCommand(), p.configCommand(), p.bootstrapCommand(), p.versionCommand()},
	}
	for _, c := range app.Commands {
		prepare(c)
	}
	return app
}

// prepare gives a command, and those below it, what all commands have.
func prepare(c *cli.Command) {
	c.HideHelpCommand = true
	c.OnUsageError = usageError
	if len(c.Subcommands) > 0 {
		names := make([]string, 0, len(c.Subcommands))
		for _, s := range c.Subcommands {
			names = append(names, s.Name)
			prepare(s)
		}
		name := c.Name
		c.Action = func(c *cli.Context) error {
			if !c.Args().Present() {
				return failf(exitUsage, "%s: no command: one of %v: see registrard %s --help", name, names, name)
			}
			return failf(exitUsage, "%s: unknown command %q%s: see registrard %s --help", name, c.Args().First(), suggest(c.Args().First(), names, "%q"), name)
		}
	}
}

func (p *program) commandNames() []string {
	return []string{"run", "status", "contacts", "users", "config", "version"}
}

func usageError(c *cli.Context, err error, _ bool) error {
	name := "registrard"
	if c.Command != nil && c.Command.Name != "" && c.Command.Name != name {
		name = c.Command.HelpName
	}
	return failf(exitUsage, "%w: see %s --help", err, name)
}

func (p *program) versionCommand() *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "tell the version", Flags: []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			if c.Bool("json") {
				return writeJSON(p.out, map[string]string{"version": buildVersion()})
			}
			_, err := fmt.Fprintf(p.out, "registrard %s\n", buildVersion())
			return err
		},
	}
}
