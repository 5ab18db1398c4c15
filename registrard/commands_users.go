package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"

	"sipha/registrard/control"
	"sipha/registrard/location"
	"sipha/registrard/sip/digest"
)

// passwordBytesMax is the longest password.
const passwordBytesMax = 1024

func (p *program) usersCommand() *cli.Command {
	return &cli.Command{
		Name: "users", Usage: "say who may register",
		Subcommands: []*cli.Command{
			{
				Name: "add", Usage: "add a user; the password is asked for, or read from standard input", ArgsUsage: "ADDRESS", Action: p.usersAdd,
				Flags: clientFlags(
					&cli.StringFlag{Name: "username", Usage: "digest `USERNAME`, where it is not the one in the address"},
					&cli.StringFlag{Name: "realm", Usage: "digest `REALM`, where it is not the domain's"},
					&cli.StringFlag{Name: "password-file", Usage: "read the password from the first line of this `FILE`"},
					&cli.StringFlag{Name: "password", Usage: "the `PASSWORD` itself: everybody on this machine can see it meanwhile"},
					&cli.BoolFlag{Name: "replace", Usage: "take the place of a user who is there already"},
				),
			},
			{
				Name: "remove", Usage: "remove a user; what is registered runs out by itself", ArgsUsage: "ADDRESS", Action: p.usersRemove,
				Flags: clientFlags(),
			},
			{
				Name: "list", Usage: "list all users", Action: p.usersList,
				Flags: clientFlags(&cli.BoolFlag{Name: "csv", Usage: "write CSV"}),
			},
			{
				Name: "import", Usage: "add or replace users from CSV: user,domain,password or user,domain,md5:HASH,sha-256:HASH; - for standard input",
				ArgsUsage: "FILE", Action: p.usersImport,
				Flags: clientFlags(&cli.BoolFlag{Name: "check", Usage: "only check the file"}),
			},
		},
	}
}

func (p *program) usersAdd(c *cli.Context) error {
	if err := arguments(c, 1, 1); err != nil {
		return err
	}
	aor, err := parseAddress(c.Args().First())
	if err != nil {
		return err
	}
	policy, err := p.userPolicy(c)
	if err != nil {
		return err
	}
	u, err := policy.user(aor)
	if err != nil {
		return err
	}
	if name := c.String("username"); name != "" {
		u.Username = name
	}
	if realm := c.String("realm"); realm != "" {
		u.Realm = realm
	}
	password, err := p.password(c)
	if err != nil {
		return err
	}
	if err := digest.SetPassword(&u, password); err != nil {
		return fail(exitUsage, err)
	}
	err = p.ask(c, func(ctx context.Context, client *control.Client) error {
		return client.AddUser(ctx, control.NewUser(u), c.Bool("replace"))
	})
	if errors.Is(err, control.ErrExists) {
		return failf(exitRefused, "%s is there already: give another, or use --replace", aor)
	}
	if err != nil {
		return err
	}
	if c.Bool("json") {
		return writeJSON(p.out, map[string]string{"added": string(aor)})
	}
	_, err = fmt.Fprintf(p.out, "added %s\n", printable(string(aor)))
	return err
}

// password takes it from where the command line says, else from standard input: with a prompt where that is a terminal.
func (p *program) password(c *cli.Context) (string, error) {
	if c.IsSet("password") && c.IsSet("password-file") {
		return "", failf(exitUsage, "either --password or --password-file")
	}
	if c.IsSet("password") {
		_, _ = fmt.Fprintln(p.err, "registrard: warning: a password on the command line can be seen by everybody on this machine; use --password-file") // only a warning
		return checkPassword(c.String("password"))
	}
	if path := c.String("password-file"); path != "" && path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return "", fail(exitData, fmt.Errorf("password file: %w", err))
		}
		defer func() { _ = f.Close() }() // only read
		return readPassword(f)
	}
	if f, ok := p.in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return p.promptPassword(f)
	}
	return readPassword(p.in)
}

func (p *program) promptPassword(terminal *os.File) (string, error) {
	var entered [2]string
	for i, prompt := range []string{"Password: ", "Once more: "} {
		if _, err := fmt.Fprint(p.err, prompt); err != nil {
			return "", err
		}
		b, err := term.ReadPassword(int(terminal.Fd()))
		_, _ = fmt.Fprintln(p.err) // the newline that was typed was not shown
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		entered[i] = string(b)
	}
	if entered[0] != entered[1] {
		return "", failf(exitData, "the two passwords differ: try again")
	}
	return checkPassword(entered[0])
}

// readPassword takes the first line.
func readPassword(r io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(r, passwordBytesMax+2)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the password: %w", err)
	}
	return checkPassword(strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r"))
}

func checkPassword(s string) (string, error) {
	switch {
	case s == "":
		return "", failf(exitData, "the password is empty: give one on standard input, or with --password-file")
	case len(s) > passwordBytesMax:
		return "", failf(exitData, "the password has more than %d bytes", passwordBytesMax)
	case !utf8.ValidString(s):
		return "", failf(exitData, "the password is not UTF-8")
	}
	return s, nil
}

// userPolicy is what the daemon's configuration says of users.
type userPolicy struct {
	domains []string
	realms  []string // "DOMAIN=REALM"
}

// userPolicy asks the daemon, so that hashes are made over the realm that it offers.
func (p *program) userPolicy(c *cli.Context) (userPolicy, error) {
	var list []control.Setting
	err := p.ask(c, func(ctx context.Context, client *control.Client) (err error) {
		list, err = client.Config(ctx)
		return err
	})
	if err != nil {
		return userPolicy{}, err
	}
	var u userPolicy
	for _, s := range list {
		switch s.Key {
		case "registrard.domains":
			u.domains, err = parseList(s.Value)
		case "auth.realms":
			u.realms, err = parseList(s.Value)
		}
		if err != nil {
			return u, fmt.Errorf("the daemon's %s: %w", s.Key, err)
		}
	}
	return u, nil
}

// parseList takes a list as formatValue writes it.
func parseList(value string) ([]string, error) {
	var v struct{ List []string }
	_, err := toml.Decode("List = "+value, &v)
	return v.List, err
}

// user is the user of an address, without a password yet.
func (u userPolicy) user(aor location.AOR) (location.User, error) {
	domain := aor.Host()
	c := Config{Domains: u.domains, Realms: u.realms}
	for _, d := range u.domains {
		if d == domain {
			name, err := url.PathUnescape(aor.User())
			if err != nil {
				return location.User{}, fmt.Errorf("%s: %w", aor, err)
			}
			return location.User{AOR: aor, Username: name, Realm: c.realm(domain)}, nil
		}
	}
	return location.User{}, failf(exitData, "%s: %s is none of the registrar's domains (%s): correct it, or add the domain to the configuration",
		aor, domain, strings.Join(u.domains, ", "))
}

func (p *program) usersRemove(c *cli.Context) error {
	if err := arguments(c, 1, 1); err != nil {
		return err
	}
	aor, err := parseAddress(c.Args().First())
	if err != nil {
		return err
	}
	err = p.ask(c, func(ctx context.Context, client *control.Client) error { return client.RemoveUser(ctx, aor) })
	if err != nil {
		return notFound(err, "there is no user %s: see registrard users list", aor)
	}
	if c.Bool("json") {
		return writeJSON(p.out, map[string]string{"removed": string(aor)})
	}
	_, err = fmt.Fprintf(p.out, "removed %s\n", printable(string(aor)))
	return err
}

func (p *program) usersList(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	out, err := newListing(c, p.out, []string{"aor", "username", "realm", "algorithms"})
	if err != nil {
		return err
	}
	err = eachPage(p, c, func(ctx context.Context, client *control.Client, after location.AOR) ([]control.User, location.AOR, error) {
		return client.Users(ctx, after, 0)
	}, func(page []control.User) error {
		for _, u := range page {
			if err := out.object(u); err != nil {
				return err
			}
			if err := out.row(string(u.AOR), u.Username, u.Realm, strings.Join(u.Algorithms, " ")); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return out.close()
}

func (p *program) usersImport(c *cli.Context) error {
	if err := arguments(c, 1, 1); err != nil {
		return err
	}
	policy, err := p.userPolicy(c)
	if err != nil {
		return err
	}
	name := c.Args().First()
	var in io.Reader = p.in
	if name == "-" {
		name = "standard input"
	} else {
		f, err := os.Open(name)
		if err != nil {
			return fail(exitData, err)
		}
		defer func() { _ = f.Close() }() // only read
		in = f
		// A file can be read twice: nothing is stored before all of it is right.
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			if err := readUsers(name, f, policy, func([]control.User) error { return nil }); err != nil {
				return err
			}
			if _, err := f.Seek(0, io.SeekStart); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	checkOnly, n := c.Bool("check"), 0
	err = readUsers(name, in, policy, func(users []control.User) error {
		if !checkOnly {
			if err := p.ask(c, func(ctx context.Context, client *control.Client) error { return client.ImportUsers(ctx, users) }); err != nil {
				return err
			}
		}
		n += len(users)
		return nil
	})
	if err != nil {
		if n > 0 && !checkOnly {
			return fail(exitCode(err), fmt.Errorf("%w (the first %d users are stored; it does no harm to import them again)", err, n))
		}
		return err
	}
	return p.imported(c, n, checkOnly)
}

func (p *program) imported(c *cli.Context, n int, checkOnly bool) error {
	what := "imported"
	if checkOnly {
		what = "checked"
	}
	if c.Bool("json") {
		return writeJSON(p.out, map[string]int{what: n})
	}
	_, err := fmt.Fprintf(p.out, "%s %d users\n", what, n)
	return err
}

// isHeader tells whether a row is the head of a table rather than a user.
func isHeader(row []string) bool {
	return len(row) >= 2 && strings.EqualFold(strings.TrimSpace(row[0]), "user") && strings.EqualFold(strings.TrimSpace(row[1]), "domain")
}

// withoutBOM drops the byte order mark that spreadsheets put first.
func withoutBOM(r io.Reader) io.Reader {
	b := bufio.NewReader(r)
	if mark, err := b.Peek(3); err == nil && bytes.Equal(mark, []byte("\xef\xbb\xbf")) {
		_, _ = b.Discard(3) // they are in the buffer
	}
	return b
}
