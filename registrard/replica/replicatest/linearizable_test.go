package replicatest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"sipha/registrard/location"
)

// input is what a phone asks, output what it is told.
type input struct {
	aor     location.AOR
	contact string // of a change; "" for a query
	cseq    uint32
	kind    opKind
}

// held is what the model knows of a contact: the highest CSeq carried out, and whether the contact is bound by it.
type held struct {
	cseq  uint32
	bound bool
}

// registrar is the whole of a registrar without failures: a change is carried out unless one with a higher CSeq was before it, and a
// query tells what is bound. A 200 to a change is two things: the change, at some time until then, and a query by the copy of the
// request that was answered.
var registrar = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		var aors []location.AOR
		var parts [][]porcupine.Operation
		for _, op := range history {
			i := slices.Index(aors, op.Input.(input).aor)
			if i < 0 {
				i = len(aors)
				aors, parts = append(aors, op.Input.(input).aor), append(parts, nil)
			}
			parts[i] = append(parts[i], op)
		}
		return parts
	},
	Init: func() any { return "" },
	Step: func(state, in, out any) (bool, any) {
		known := parseHeld(state.(string))
		i := in.(input)
		if i.kind == opQuery {
			return out == nil || bindingsOf(known) == out.(string), state
		}
		if h := known[i.contact]; i.cseq > h.cseq {
			known[i.contact] = held{i.cseq, i.kind == opPut}
		}
		return true, formatHeld(known)
	},
	DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v -> %v", in, out) },
}

func parseHeld(s string) map[string]held {
	m := map[string]held{}
	for f := range strings.FieldsSeq(s) {
		var h held
		var contact string
		if _, err := fmt.Sscanf(f, "%d/%t/%s", &h.cseq, &h.bound, &contact); err != nil {
			panic(err)
		}
		m[contact] = h
	}
	return m
}

func formatHeld(m map[string]held) string {
	var fields []string
	for contact, h := range m {
		fields = append(fields, fmt.Sprintf("%d/%t/%s", h.cseq, h.bound, contact))
	}
	slices.Sort(fields)
	return strings.Join(fields, " ")
}

func bindingsOf(m map[string]held) string {
	var fields []string
	for contact, h := range m {
		if h.bound {
			fields = append(fields, fmt.Sprintf("%s/%d", contact, h.cseq))
		}
	}
	slices.Sort(fields)
	return strings.Join(fields, " ")
}

// operations makes porcupine's history of a simulation, without the addresses-of-record where bindings run out.
func operations(s *Sim) []porcupine.Operation {
	var ops []porcupine.Operation
	end := int64(s.now + time.Hour)
	for _, ph := range s.phones {
		if s.expires(ph.aor) {
			continue
		}
		for _, o := range ph.ops {
			returned := end // it may be carried out at any time from now on
			if o.acked > 0 {
				returned = int64(o.acked)
			}
			ops = append(ops, porcupine.Operation{
				ClientId: ph.index, Input: input{ph.aor, ph.contact, o.cseq, o.kind}, Call: int64(o.sent), Return: returned,
			})
		}
	}
	for i, r := range s.oracle.history {
		aor := r.op.phone.aor
		if s.expires(aor) {
			continue
		}
		var told []string
		for _, b := range r.bindings {
			told = append(told, fmt.Sprintf("%s/%d", b.Contact, b.CSeq))
		}
		slices.Sort(told)
		ops = append(ops, porcupine.Operation{
			ClientId: len(s.phones) + i, Input: input{aor: aor, kind: opQuery}, Output: strings.Join(told, " "),
			Call: int64(r.invoked), Return: int64(r.returned),
		})
	}
	return ops
}

// expires tells whether a phone of the address-of-record lets its binding run out.
func (s *Sim) expires(aor location.AOR) bool {
	return slices.ContainsFunc(s.phones, func(ph *phone) bool { return ph.aor == aor && ph.brief })
}

const linearizableSeeds = 120

func TestAnswersAreLinearizable(t *testing.T) {
	t.Parallel()
	opts := Options{Faults: Faults{Kill: 0.5, PowerCut: 0.3, Partition: 0.6, Pause: 0.6, Freeze: 0.2, Drop: 0.3, Promoter: 0.6}}
	seeds, checked := linearizableSeeds, 0
	if testing.Short() {
		seeds /= 6
	}
	for seed := range uint64(seeds) {
		s := play(seed, opts)
		if s.err != nil {
			t.Fatalf("seed %d: %v", seed, s.err)
		}
		ops := operations(s)
		checked += len(ops)
		if !porcupine.CheckOperations(registrar, ops) {
			t.Fatalf("seed %d: the answers are not those of one registrar", seed)
		}
	}
	if checked < 20*seeds {
		t.Errorf("only %d operations in %d seeds", checked, seeds)
	}
}

// The model itself can say no.
func TestStaleAnswerIsNotLinearizable(t *testing.T) {
	ops := []porcupine.Operation{
		{Input: input{"a", "c", 1, opPut}, Call: 0, Return: 10},
		{ClientId: 1, Input: input{aor: "a", kind: opQuery}, Output: "", Call: 20, Return: 30},
	}
	if porcupine.CheckOperations(registrar, ops) {
		t.Error("an answer that misses an answered binding was taken for right")
	}
	ops[1].Output = "c/1"
	if !porcupine.CheckOperations(registrar, ops) {
		t.Error("a right answer was not taken for right")
	}
}
