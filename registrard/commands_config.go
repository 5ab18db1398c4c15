package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"sipha/registrard/control"
)

// configFlags are the flags of the commands that read the configuration: one for each key, and those that say where it is.
func configFlags(more ...cli.Flag) []cli.Flag {
	flags := append([]cli.Flag{
		&cli.StringFlag{Name: "config", Usage: "read the configuration from this `FILE` (default: " + defaultConfigFile + ")", EnvVars: []string{environmentPrefix + "CONFIG"}},
		&cli.BoolFlag{Name: "standalone", Usage: "run one node by itself, without Corosync: nothing is replicated"},
	}, more...)
	defaults := newConfig()
	for _, s := range settings() {
		category := "configuration, over [" + s.section + "]"
		usage := fmt.Sprintf("%s (default: %s)", strings.ReplaceAll(s.doc, "`", "'"), formatValue(s.at(defaults)))
		if _, ok := s.at(defaults).(*bool); ok {
			flags = append(flags, &cli.BoolFlag{Name: s.flagName(), Category: category, Usage: usage})
		} else {
			flags = append(flags, &cli.StringFlag{Name: s.flagName(), Category: category, Usage: usage})
		}
	}
	return flags
}

// source tells loadConfig where a command line wants the configuration from.
func (p *program) source(c *cli.Context) configSource {
	return configSource{
		file: c.String("config"), standalone: c.Bool("standalone"), environment: p.environment,
		flag: func(name string) (string, bool) {
			if !c.IsSet(name) {
				return "", false
			}
			return fmt.Sprint(c.Value(name)), true
		},
	}
}

// loadConfig reads the configuration; of several errors each gets a line of its own, before the last one that sums them up.
func (p *program) loadConfig(c *cli.Context) (*Config, error) {
	config, err := loadConfig(p.source(c))
	var list configErrors
	if errors.As(err, &list) && len(list) > 1 {
		for _, e := range list {
			if _, err := fmt.Fprintf(p.err, "registrard: %s\n", lastLine(e)); err != nil {
				return nil, err
			}
		}
	}
	return config, err
}

func (p *program) configCommand() *cli.Command {
	return &cli.Command{
		Name: "config", Usage: "check the configuration, and show what run would take from file, environment and flags",
		Flags: configFlags(
			&cli.BoolFlag{Name: "running", Usage: "show what the running daemon has in force instead"},
			&cli.StringFlag{Name: "socket", Usage: "with --running, ask at this control socket's `PATH`", EnvVars: []string{environmentPrefix + "SOCKET"}},
			&cli.DurationFlag{Name: "timeout", Usage: "with --running, wait no longer than this `TIME`", Value: commandTimeout},
			jsonFlag(),
		),
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			list, err := p.configuration(c)
			if err != nil {
				return err
			}
			if c.Bool("json") {
				return writeJSON(p.out, list)
			}
			return writeConfig(p.out, list)
		},
	}
}

func (p *program) configuration(c *cli.Context) (list []control.Setting, err error) {
	if !c.Bool("running") {
		config, err := p.loadConfig(c)
		if err != nil {
			return nil, err
		}
		return config.list(), nil
	}
	err = p.ask(c, func(ctx context.Context, client *control.Client) (err error) {
		list, err = client.Config(ctx)
		return err
	})
	return list, err
}

// writeConfig writes settings as a file that could be read again, each with its origin behind it.
func writeConfig(w io.Writer, list []control.Setting) error {
	t := &table{}
	section := ""
	for _, s := range list {
		of, name, _ := strings.Cut(s.Key, ".")
		if of != section {
			if section != "" {
				t.rows = append(t.rows, []string{""})
			}
			section = of
			t.rows = append(t.rows, []string{"[" + section + "]"})
		}
		t.add(name+" = "+s.Value, "# "+s.Origin)
	}
	return t.write(w)
}
