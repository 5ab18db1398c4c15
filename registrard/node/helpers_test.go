package node_test

import (
	"fmt"

	"sipha/registrard/cpg"
	"sipha/registrard/cpg/cpgtest"
	"sipha/registrard/node"
	"sipha/registrard/replica"
)

func aor(n int) string       { return fmt.Sprintf("sip:user%06d@example.org", n) }
func contactOf(n int) string { return fmt.Sprintf("sip:user%06d@192.0.2.9:5060", n) }

// partition cuts a node off the others.
func partition(id cpg.NodeID) func(*cpgtest.World) {
	return func(w *cpgtest.World) { w.Partition([]cpg.NodeID{id}) }
}

// heal joins what was cut.
func heal(w *cpgtest.World) { w.Heal() }

// tapped is a group whose messages a test sees before they are sent. With an error they are not.
type tapped struct {
	node.Group
	sending func(data []byte) error
}

func (g *tapped) TryMulticast(parts ...[]byte) error {
	for _, p := range parts {
		if err := g.sending(p); err != nil {
			return err
		}
	}
	return g.Group.TryMulticast(parts...)
}

func isForward(m replica.Message) bool { _, ok := m.(*replica.Forward); return ok }

// deliverExcept moves the network, but for what goes to one node.
func deliverExcept(w *cpgtest.World, but cpg.NodeID) {
	for moved := true; moved; {
		moved = false
		for _, s := range w.Enabled(nil) {
			if s.Kind == cpgtest.StepForm || s.Kind == cpgtest.StepDispatch || s.Kind == cpgtest.StepReceive && s.Node == but {
				continue
			}
			if _, err := w.Do(s); err == nil {
				moved = true
				break
			}
		}
	}
}
