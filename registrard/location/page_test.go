package location_test

import (
	"fmt"
	"slices"
	"testing"

	"sipha/registrard/location"
)

func TestAORsPageByPage(t *testing.T) {
	t.Parallel()
	s := location.NewState()
	var want []location.AOR
	for n := range 3000 {
		aor := location.AOR(fmt.Sprintf("sip:u%d@example.org", n*7919%3000))
		s.Apply(0, []location.Change{&location.UserChange{User: location.User{AOR: aor}}})
		want = append(want, aor)
	}
	s.Apply(0, []location.Change{&location.UserChange{Remove: true, User: location.User{AOR: want[5]}}})
	want = slices.Delete(want, 5, 6)
	slices.Sort(want)
	for _, limit := range []int{1, 7, 512, 5000} {
		var got []location.AOR
		for page := s.AORs("", limit); len(page) > 0; page = s.AORs(page[len(page)-1], limit) {
			if len(page) > limit {
				t.Fatalf("a page of %d has %d", limit, len(page))
			}
			got = append(got, page...)
			if limit == 1 && len(got) == 20 {
				break
			}
		}
		if !slices.Equal(got, want[:len(got)]) || limit > 1 && len(got) != len(want) {
			t.Errorf("pages of %d differ: %d AORs, want %d", limit, len(got), len(want))
		}
	}
	for c := range s.Rebuild() {
		if c.(*location.UserChange).User.AOR != want[0] {
			t.Error("Rebuild does not begin with the first")
		}
		break
	}
}

// Outcomes end by their time, whatever order they were recorded in, and one that was recorded anew ends with its new time.
func TestOutcomesEnd(t *testing.T) {
	t.Parallel()
	s := location.NewState()
	o := location.NewOverlay(s)
	record := func(n uint64, until location.Time) {
		s.Apply(0, []location.Change{&location.OutcomeChange{Outcome: location.Outcome{ID: location.RequestID{Number: n}, Until: until}}})
		o.Reset()
	}
	record(1, 500)
	record(2, 300)
	record(3, 300)
	record(4, 100)
	record(4, 400)
	ended := func(now location.Time, limit int) []uint64 {
		var ids []uint64
		for _, c := range o.Expired(now, &policy, limit) {
			if c := c.(*location.OutcomeChange); c.Remove {
				ids = append(ids, c.Outcome.ID.Number)
			}
		}
		return ids
	}
	if got := ended(299, 9); got != nil {
		t.Errorf("too early: %v", got)
	}
	if got := ended(300, 1); !slices.Equal(got, []uint64{2}) {
		t.Errorf("the first: %v", got)
	}
	if got := ended(300, 9); !slices.Equal(got, []uint64{2, 3}) {
		t.Errorf("at 300: %v", got)
	}
	for _, c := range o.Expired(300, &policy, 9) {
		o.Add(c)
	}
	if got := ended(450, 9); !slices.Equal(got, []uint64{4}) {
		t.Errorf("with some in flight: %v", got)
	}
	o.Reset() // lost
	if got := ended(500, 9); !slices.Equal(got, []uint64{2, 3, 4, 1}) {
		t.Errorf("after the batch was lost: %v", got)
	}
}

func TestOrderOfPositions(t *testing.T) {
	t.Parallel()
	rising := []location.Position{
		{}, {Index: 1}, {Epoch: location.Epoch{Number: 1}}, {Epoch: location.Epoch{Number: 1}, Index: 9},
		{Epoch: location.Epoch{Number: 1, Node: 1}}, {Epoch: location.Epoch{Number: 1, Node: 1, Incarnation: 5}},
		{Epoch: location.Epoch{Number: 1, Node: 2}}, {Epoch: location.Epoch{Number: 2}},
	}
	for i, p := range rising {
		for j, q := range rising {
			if got, want := p.Compare(q), compare(i, j); got != want {
				t.Errorf("%s to %s is %d, want %d", p, q, got, want)
			}
		}
	}
	p := location.Position{Epoch: location.Epoch{Number: 7, Node: 2}, Index: 42, Digest: location.Digest{0xab, 0xcd}}
	if p.String() != "7.2/42/abcd0000" {
		t.Errorf("a position is %s", p)
	}
}

func compare(i, j int) int {
	switch {
	case i < j:
		return -1
	case i > j:
		return 1
	}
	return 0
}
