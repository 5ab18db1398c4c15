package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"sipha/registrard/control"
	"sipha/registrard/location"
)

func (p *program) contactsCommand() *cli.Command {
	return &cli.Command{
		Name: "contacts", Usage: "list, show and remove what is registered",
		Subcommands: []*cli.Command{
			{
				Name: "list", Usage: "list all contacts", Action: p.contactsList,
				Flags: clientFlags(&cli.BoolFlag{Name: "csv", Usage: "write CSV"}),
			},
			{Name: "show", Usage: "show the contacts of one address in full", ArgsUsage: "ADDRESS", Flags: clientFlags(), Action: p.contactsShow},
			{
				Name: "remove", Usage: "remove one contact of an address, or all of them", ArgsUsage: "ADDRESS CONTACT", Action: p.contactsRemove,
				Flags: clientFlags(&cli.BoolFlag{Name: "all", Usage: "remove all contacts of the address"}),
			},
		},
	}
}

// parseAddress takes an address-of-record as people write it: the scheme may be left out.
func parseAddress(text string) (location.AOR, error) {
	uri := text
	if at, colon := strings.Index(text, "@"), strings.Index(text, ":"); colon < 0 || at >= 0 && at < colon {
		uri = "sip:" + text
	}
	aor, err := location.ParseAOR(uri)
	if err != nil {
		return "", failf(exitUsage, "%q is no address: write it as alice@example.org", text)
	}
	return aor, nil
}

// eachPage asks for a list page by page; each page has a time of its own.
func eachPage[T any](p *program, c *cli.Context, ask func(context.Context, *control.Client, location.AOR) ([]T, location.AOR, error), do func([]T) error) error {
	after := location.AOR("")
	for {
		var records []T
		err := p.ask(c, func(ctx context.Context, client *control.Client) (err error) {
			records, after, err = ask(ctx, client, after)
			return err
		})
		if err != nil {
			return err
		}
		if err := do(records); err != nil {
			return err
		}
		if after == "" {
			return nil
		}
	}
}

func (p *program) contactsList(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	out, err := newListing(c, p.out, []string{"aor", "contact", "expires_s", "q", "received", "user_agent"})
	if err != nil {
		return err
	}
	err = eachPage(p, c, func(ctx context.Context, client *control.Client, after location.AOR) ([]control.Registration, location.AOR, error) {
		return client.Contacts(ctx, after, 0)
	}, func(page []control.Registration) error {
		for _, r := range page {
			if err := out.object(r); err != nil {
				return err
			}
			for _, b := range r.Contacts {
				if err := out.row(string(r.AOR), b.URI, strconv.FormatInt(b.ExpiresS, 10), qText(b.Q), b.Received, b.UserAgent); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return out.close()
}

func (p *program) contactsShow(c *cli.Context) error {
	if err := arguments(c, 1, 1); err != nil {
		return err
	}
	aor, err := parseAddress(c.Args().First())
	if err != nil {
		return err
	}
	var r control.Registration
	err = p.ask(c, func(ctx context.Context, client *control.Client) (err error) {
		r, err = client.Registration(ctx, aor)
		return err
	})
	if err != nil {
		return notFound(err, "%s has no contacts", aor)
	}
	if c.Bool("json") {
		return writeJSON(p.out, r)
	}
	t := &table{}
	t.add("Address:", string(r.AOR))
	for _, b := range r.Contacts {
		t.add("")
		t.add("Contact:", b.URI+b.Params)
		t.add("Expires:", fmt.Sprintf("in %s", time.Duration(b.ExpiresS)*time.Second))
		t.add("Registered:", time.UnixMilli(b.CreatedMS).UTC().Format(time.RFC3339))
		t.add("q:", orDash(qText(b.Q)))
		t.add("Call-ID, CSeq:", fmt.Sprintf("%s, %d", b.CallID, b.CSeq))
		t.add("Received from:", fmt.Sprintf("%s at %s", b.Received, b.Socket))
		t.add("User-Agent:", orDash(b.UserAgent))
		if b.Instance != "" {
			t.add("Instance:", fmt.Sprintf("%s, reg-id %d", b.Instance, b.RegID))
		}
		for _, path := range b.Path {
			t.add("Path:", path)
		}
	}
	return t.write(p.out)
}

func (p *program) contactsRemove(c *cli.Context) error {
	all := c.Bool("all")
	if all && c.NArg() > 1 {
		return failf(exitUsage, "either a contact or --all")
	}
	if err := arguments(c, 1, 2); err != nil {
		return err
	}
	if !all && c.NArg() < 2 {
		return failf(exitUsage, "name the contact to remove, as contacts show gives it, or say --all")
	}
	aor, err := parseAddress(c.Args().First())
	if err != nil {
		return err
	}
	contact := c.Args().Get(1)
	if !all && contact == "" {
		return failf(exitUsage, "the contact is empty: name it, or say --all")
	}
	var n int
	err = p.ask(c, func(ctx context.Context, client *control.Client) (err error) {
		n, err = client.RemoveContact(ctx, aor, contact)
		return err
	})
	if err != nil {
		return notFound(err, "%s has no such contact: see registrard contacts show %[1]s", aor)
	}
	if c.Bool("json") {
		return writeJSON(p.out, map[string]int{"removed": n})
	}
	_, err = fmt.Fprintf(p.out, "removed %d\n", n)
	return err
}

func qText(q *float64) string {
	if q == nil {
		return ""
	}
	return strconv.FormatFloat(*q, 'f', -1, 64)
}
