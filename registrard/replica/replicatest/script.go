package replicatest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"sipha/registrard/cpg"
	"sipha/registrard/location"
)

// scriptMark stands between a command of a script and what came of it.
const scriptMark = "----"

// untilLimit is how long a script's until waits, in simulated time.
const untilLimit = 30 * time.Second

// Script plays a scenario and returns it with what happened. A scenario is text: comments (#), and commands, one a line, each
// followed by a line of four dashes, what happened, and an empty line. What happened is replaced. Commands are
//
//	nodes N [keep=ENTRIES] [chunk=BYTES]   machines, switched on, without processes; what each disk's log keeps; size of chunks
//	start [NODE...]          processes begin on all machines, or these
//	run DURATION             time passes
//	until serving NODE       time passes until the node serves
//	until whole              until one node serves and all others have all that it has
//	until state NODE STATE   until the node is in this state
//	promote NODE, demote NODE
//	off NODE..., on NODE..., kill NODE, pause NODE, resume NODE, lag NODE DURATION
//	part NODE... [| NODE...], heal
//	register PHONE NODE, remove PHONE NODE, query PHONE NODE   a phone asks a node, and waits for its answer
//	corrupt NODE             the content changes by itself
//	status                   what the nodes tell of themselves
//
// The oracle watches as in Run. The error is its, or that of a command that makes no sense.
func Script(text string) (string, error) {
	var out strings.Builder
	sc := &script{phones: map[int]*phone{}}
	lines := strings.Split(text, "\n")
	for i := 0; i < len(lines); i++ {
		line := strings.TrimSpace(lines[i])
		if line == "" || strings.HasPrefix(line, "#") {
			out.WriteString(lines[i])
			if i < len(lines)-1 {
				out.WriteString("\n")
			}
			continue
		}
		if i+1 < len(lines) && lines[i+1] == scriptMark {
			for i++; i+1 < len(lines) && strings.TrimSpace(lines[i+1]) != ""; i++ {
				continue // what happened the last time
			}
		}
		sc.log.Reset()
		if err := sc.do(strings.Fields(line)); err != nil {
			return "", fmt.Errorf("line %d: %s: %w", i+1, line, err)
		}
		fmt.Fprintf(&out, "%s\n%s\n%s", line, scriptMark, sc.log.String())
		if sc.s.err != nil {
			return out.String(), fmt.Errorf("line %d: %s: %w", i+1, line, sc.s.err)
		}
	}
	return out.String(), nil
}

type script struct {
	s      *Sim
	log    bytes.Buffer
	phones map[int]*phone
}

// do carries out a command.
func (sc *script) do(words []string) error {
	command, args := words[0], words[1:]
	if command == "nodes" {
		return sc.nodes(args)
	}
	if sc.s == nil {
		return fmt.Errorf("there are no nodes yet")
	}
	switch command {
	case "run":
		return sc.run(args)
	case "until":
		return sc.until(args)
	case "part":
		return sc.part(args)
	case "heal":
		sc.s.world.Heal()
		return nil
	case "register", "remove", "query":
		return sc.ask(command, args)
	case "status":
		sc.status()
		return nil
	case "lag":
		return sc.lag(args)
	}
	return sc.each(command, args)
}

func (sc *script) nodes(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("how many?")
	}
	opts := Options{Phones: -1, Transcript: &sc.log, Plain: true}
	var err error
	if opts.Nodes, err = strconv.Atoi(args[0]); err != nil || opts.Nodes < 1 || opts.Nodes > 9 {
		return fmt.Errorf("%q is no number of nodes", args[0])
	}
	for _, arg := range args[1:] {
		name, value, _ := strings.Cut(arg, "=")
		n, err := strconv.Atoi(value)
		switch {
		case err != nil:
			return fmt.Errorf("%q: %w", arg, err)
		case name == "keep":
			opts.LogKeep = n
		case name == "chunk":
			opts.ChunkSize = n
		default:
			return fmt.Errorf("no such option: %s", name)
		}
	}
	sc.s = newSim(rand.New(rand.NewPCG(1, 1)), opts)
	return nil
}

// node finds a machine by its name, n1 and so on.
func (sc *script) node(name string) (*machine, error) {
	n, err := strconv.Atoi(strings.TrimPrefix(name, "n"))
	if err != nil || n < 1 || n > len(sc.s.machines) {
		return nil, fmt.Errorf("%q is no node", name)
	}
	return sc.s.machines[n-1], nil
}

// each does the same to all nodes named.
func (sc *script) each(command string, args []string) error {
	if command == "start" && len(args) == 0 {
		for _, m := range sc.s.machines {
			args = append(args, m.String())
		}
	}
	if len(args) == 0 {
		return fmt.Errorf("which node?")
	}
	for _, arg := range args {
		m, err := sc.node(arg)
		if err != nil {
			return err
		}
		if err := sc.one(command, m); err != nil {
			return err
		}
	}
	return nil
}

func (sc *script) one(command string, m *machine) error {
	switch command {
	case "start":
		m.startSoon(startRetry)
		return nil
	case "off":
		m.cutPower()
		return nil
	case "on":
		m.powerOn()
		return nil
	}
	p := m.shell
	if p == nil {
		return fmt.Errorf("%s runs no process", m)
	}
	switch command {
	case "kill":
		m.kill("killed")
	case "promote":
		sc.s.promoter.promote(m)
	case "demote":
		sc.s.promoter.demote(m)
	case "pause":
		p.pause()
	case "resume":
		p.resume()
	case "corrupt":
		sc.s.faults.corrupt(m)
	default:
		return fmt.Errorf("no such command")
	}
	return nil
}

func (sc *script) run(args []string) error {
	d, err := time.ParseDuration(strings.Join(args, ""))
	if err != nil {
		return err
	}
	sc.s.runUntil(sc.s.now+d, nil)
	return nil
}

func (sc *script) lag(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("which node, how long?")
	}
	m, err := sc.node(args[0])
	if err != nil {
		return err
	}
	d, err := time.ParseDuration(args[1])
	m.lags = sc.s.now + d
	return err
}

func (sc *script) until(args []string) error {
	done := func() bool { return sc.s.unwhole() == "" }
	switch {
	case len(args) == 1 && args[0] == "whole":
	case len(args) == 2 && args[0] == "serving", len(args) == 3 && args[0] == "state":
		m, err := sc.node(args[1])
		if err != nil {
			return err
		}
		done = func() bool {
			p := m.shell
			return p != nil && (len(args) == 2 && p.status.Serving || len(args) == 3 && string(p.status.State) == args[2])
		}
	default:
		return fmt.Errorf("until what?")
	}
	sc.s.runUntil(sc.s.now+untilLimit, done)
	if !done() && sc.s.err == nil {
		return fmt.Errorf("not within %v: %s", untilLimit, sc.s.unwhole())
	}
	return nil
}

func (sc *script) part(args []string) error {
	sides := [][]cpg.NodeID{nil}
	for _, arg := range args {
		if arg == "|" {
			sides = append(sides, nil)
			continue
		}
		m, err := sc.node(arg)
		if err != nil {
			return err
		}
		sides[len(sides)-1] = append(sides[len(sides)-1], cpg.NodeID(m.id))
	}
	sc.s.world.Partition(sides...)
	return nil
}

// askLimit is how long a script's phone waits for an answer.
const askLimit = 2 * time.Second

func (sc *script) ask(command string, args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("which phone, which node?")
	}
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return fmt.Errorf("%q is no phone", args[0])
	}
	m, err := sc.node(args[1])
	if err != nil {
		return err
	}
	ph := sc.phones[n]
	if ph == nil {
		ph = sc.s.newPhone(n)
		ph.manual = true
		sc.phones[n] = ph
	}
	kind := map[string]opKind{"register": opPut, "remove": opRemove, "query": opQuery}[command]
	ph.said = ""
	o := ph.newOp(kind)
	ph.send(o, m)
	sc.s.runUntil(sc.s.now+askLimit, func() bool { return ph.said != "" })
	if ph.said == "" {
		ph.said = "no answer"
	}
	if !o.done {
		fmt.Fprintf(&sc.log, "p%-4d %s: %s\n", ph.index, o, ph.said)
	}
	o.done = true
	return nil
}

// status writes what the nodes tell of themselves.
func (sc *script) status() {
	for _, m := range sc.s.machines {
		p := m.shell
		if p == nil {
			fmt.Fprintf(&sc.log, "%-5s off\n", m)
			continue
		}
		st := p.core.Status()
		found := 0
		for _, ph := range sc.s.phones {
			if b := p.state.Bindings(ph.aor); containsContact(b, ph.contact) {
				found++
			}
		}
		fmt.Fprintf(&sc.log, "%-5s %-9s score %-4d epoch %s log to %s applied %d voters [%s], %d bindings, digest %s\n", m, st.State, st.Score,
			st.Epoch, short(st.Last), st.Applied, voterNames(st.Voters), found, st.Digest.String()[:8])
	}
}

func containsContact(bs []location.Binding, contact string) bool {
	for i := range bs {
		if bs[i].Contact == contact {
			return true
		}
	}
	return false
}
