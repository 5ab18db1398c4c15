package replicatest

import (
	"fmt"
	"strings"

	"sipha/registrard/location"
	"sipha/registrard/replica"
)

// isTrifle tells the lines that a plain transcript leaves out.
func isTrifle(line string) bool {
	for _, t := range []string{" <- ", "-> HELLO", ": nothing", "said hello", " members ", " ring ", " quorum true"} {
		if strings.Contains(line, t) {
			return true
		}
	}
	return false
}

// traceEvent writes what a node learns, except for time, and for what its own actions bring.
func (p *shell) traceEvent(ev replica.Event) {
	if p.s.opts.Transcript == nil {
		return
	}
	switch ev := ev.(type) {
	case replica.Timer, replica.Applied, replica.Stored:
	case replica.Deliver:
		p.s.trace("%-5s <- %s %s", p.m, nodeName(ev.From.Node), describe(ev.Message))
	case replica.Membership:
		var members []string
		for _, m := range ev.Members {
			members = append(members, nodeName(m.Node))
		}
		p.s.trace("%-5s members %s", p.m, strings.Join(members, " "))
	case replica.Ring:
		p.s.trace("%-5s ring %d.%d %v", p.m, ev.ID.Node, ev.ID.Seq, ev.Nodes)
	case replica.Quorum:
		p.s.trace("%-5s quorum %v in ring %d.%d", p.m, ev.Quorate, ev.ID.Node, ev.ID.Seq)
	case replica.Propose:
		p.s.trace("%-5s proposes %s, %d bytes", p.m, kindName(ev.Kind), len(ev.Payload))
	case replica.Installed:
		p.s.trace("%-5s snapshot installed: applied %s, %d entries of the log", p.m, short(ev.Boot.Applied), len(ev.Boot.Log))
	default:
		p.s.trace("%-5s %s", p.m, strings.TrimPrefix(fmt.Sprintf("%T", ev), "replica."))
	}
}

// traceAction writes what a node does.
func (p *shell) traceAction(a replica.Action) {
	if p.s.opts.Transcript == nil {
		return
	}
	switch a := a.(type) {
	case replica.Multicast:
		p.s.trace("%-5s -> %s", p.m, describe(a.Message))
	case replica.Write:
		cut := ""
		if a.Cut > 0 {
			cut = fmt.Sprintf(" cut at %d", a.Cut)
		}
		p.s.trace("%-5s writes%s %s", p.m, cut, run(a.Entries))
	case replica.Promise:
		p.s.trace("%-5s promises %s", p.m, a.Epoch)
	case replica.Commit:
		p.s.trace("%-5s commits %s", p.m, run(a.Entries))
	case replica.Changed:
		st := p.core.Status()
		p.s.trace("%-5s is %s, score %d %s", p.m, st.State, st.Score, st.Reason)
	case replica.Note:
		p.s.trace("%-5s says: %s %s", p.m, a.Message, attributes(a.Attrs))
	case replica.Abandon, replica.RequeryQuorum:
		p.s.trace("%-5s %s", p.m, strings.TrimPrefix(fmt.Sprintf("%T", a), "replica."))
	case replica.Serve:
		p.s.trace("%-5s serves a snapshot to %s", p.m, nodeName(a.To))
	}
}

func attributes(attrs []any) string {
	var b strings.Builder
	for i := 0; i+1 < len(attrs); i += 2 {
		v := attrs[i+1]
		if pos, ok := v.(location.Position); ok {
			v = short(pos)
		}
		fmt.Fprintf(&b, "%v=%v ", attrs[i], v)
	}
	return strings.TrimSpace(b.String())
}

// run names entries that follow each other.
func run(entries []location.Entry) string {
	if len(entries) == 0 {
		return "nothing"
	}
	first, last := &entries[0], &entries[len(entries)-1]
	if len(entries) == 1 {
		return kindName(first.Kind) + " " + short(first.Position)
	}
	return fmt.Sprintf("%s to %s", short(first.Position), short(last.Position))
}

func kindName(k location.Kind) string {
	switch k {
	case location.KindChanges:
		return "changes"
	case location.KindStart:
		return "START"
	case location.KindVoters:
		return "voters"
	case location.KindTick:
		return "tick"
	}
	return fmt.Sprintf("kind %d", k)
}

func voterNames(vs []location.Voter) string {
	var names []string
	for _, v := range vs {
		names = append(names, fmt.Sprintf("%s:%d", nodeName(v.Node), v.Disk))
	}
	return strings.Join(names, " ")
}

func reasonName(r replica.Reason) string {
	switch r {
	case replica.ReasonPromised:
		return "promised"
	case replica.ReasonAhead:
		return "ahead"
	case replica.ReasonQuorum:
		return "no quorum"
	case replica.ReasonBootstrap:
		return "no bootstrap"
	}
	return fmt.Sprintf("reason %d", r)
}

// describe writes a message briefly.
func describe(m replica.Message) string {
	switch m := m.(type) {
	case *replica.Hello:
		primary := ""
		if m.Primary {
			primary = " primary"
		}
		return fmt.Sprintf("HELLO disk %d last %s committed %d promised %s voters [%s]%s", m.Disk, short(m.Last), m.Committed, m.Promised,
			voterNames(m.Voters), primary)
	case *replica.Claim:
		return fmt.Sprintf("CLAIM %s last %s voters [%s] bootstrap %v", m.Epoch, short(m.Last), voterNames(m.Voters), m.Bootstrap)
	case *replica.Grant:
		return fmt.Sprintf("GRANT %s", m.Epoch)
	case *replica.Refuse:
		return fmt.Sprintf("REFUSE %s: %s, promised %s last %s", m.Epoch, reasonName(m.Reason), m.Promised, short(m.Last))
	case *replica.Append:
		to := ""
		if m.To != 0 {
			to = " to " + nodeName(m.To)
		}
		return fmt.Sprintf("APPEND %s seq %d%s commit %d after %s: %s", m.Epoch, m.Seq, to, m.Commit, short(m.Prev), run(m.Entries))
	case *replica.Receipt:
		differs := ""
		if m.Differs {
			differs = " DIFFERS"
		}
		return fmt.Sprintf("RECEIPT %s index %d seq %d applied %d%s", m.Epoch, m.Index, m.Seq, m.Applied, differs)
	case *replica.Need:
		return fmt.Sprintf("NEED %s last %s committed %s", m.Epoch, short(m.Last), short(m.Committed))
	case *replica.Behind:
		return fmt.Sprintf("BEHIND to %s", nodeName(m.To))
	case *replica.Pull:
		return fmt.Sprintf("PULL from %s last %s", nodeName(m.From), short(m.Last))
	case *replica.Tail:
		return fmt.Sprintf("TAIL to %s after %s: %s more %v", nodeName(m.To), short(m.Prev), run(m.Entries), m.More)
	case *replica.SnapshotRequest:
		return fmt.Sprintf("SNAPSHOT-REQUEST to %s session %d", nodeName(m.Donor), m.Session)
	case *replica.SnapshotChunk:
		end := ""
		if m.End {
			end = fmt.Sprintf(" end applied %s last %s rows %d", short(m.Applied), short(m.Last), m.Rows)
		}
		return fmt.Sprintf("SNAPSHOT-CHUNK to %s session %d seq %d, %d bytes%s", nodeName(m.To), m.Session, m.Seq, len(m.Data), end)
	case *replica.SnapshotAbort:
		return fmt.Sprintf("SNAPSHOT-ABORT to %s session %d: %s", nodeName(m.Peer), m.Session, m.Reason)
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", m), "*replica.")
}
