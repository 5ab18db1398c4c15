package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"sipha/registrard/control"
)

func (p *program) bootstrapCommand() *cli.Command {
	return &cli.Command{
		Name: "bootstrap", Usage: "let the cluster's very first start go on with the nodes that are here",
		Flags: clientFlags(&cli.BoolFlag{Name: "force", Usage: "yes, the nodes that are missing hold no registrations"}),
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			if !c.Bool("force") {
				return failf(exitUsage, "if a node that is missing holds registrations, they are lost when it comes back: say --force if you know that none does")
			}
			if err := p.ask(c, func(ctx context.Context, client *control.Client) error { return client.Bootstrap(ctx) }); err != nil {
				return err
			}
			if c.Bool("json") {
				return writeJSON(p.out, struct{}{})
			}
			_, err := fmt.Fprintln(p.out, "the first log starts with the nodes that are here, as soon as the cluster promotes one of them")
			return err
		},
	}
}
