package node_test

import (
	"fmt"

	"sipha/registrard/cpg"
	"sipha/registrard/cpg/cpgtest"
)

func aor(n int) string       { return fmt.Sprintf("sip:user%06d@example.org", n) }
func contactOf(n int) string { return fmt.Sprintf("sip:user%06d@192.0.2.9:5060", n) }

// partition cuts a node off the others.
func partition(id cpg.NodeID) func(*cpgtest.World) {
	return func(w *cpgtest.World) { w.Partition([]cpg.NodeID{id}) }
}

// heal joins what was cut.
func heal(w *cpgtest.World) { w.Heal() }
