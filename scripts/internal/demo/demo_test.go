package demo

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"sipha/scripts/internal/lab"
	"sipha/scripts/internal/sipload"
)

func TestWords(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 12345: "12,345", 1234567: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("%d: %q", n, got)
		}
	}
	for want, words := range map[string][]string{"": nil, "a": {"a"}, "a and b": {"a", "b"}, "a, b and c": {"a", "b", "c"}} {
		if got := and(words); got != want {
			t.Errorf("%v: %q", words, got)
		}
	}
}

func TestMedian(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		times []time.Duration
		want  time.Duration
	}{{[]time.Duration{7}, 7}, {[]time.Duration{2, 4}, 3}, {[]time.Duration{1, 5, 100}, 5}} {
		if got := median(tc.times); got != tc.want {
			t.Errorf("%v: %v", tc.times, got)
		}
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	if all, err := choose(nil); err != nil || len(all) != len(faults) {
		t.Errorf("no names: %d faults, %v", len(all), err)
	}
	if two, err := choose([]string{"cut", "kill"}); err != nil || len(two) != 2 || two[0].key != "kill" || two[1].key != "cut" {
		t.Errorf("two names: %v, %v", two, err)
	}
	if _, err := choose([]string{"kill", "flood"}); err == nil {
		t.Error("an unknown fault was taken")
	}
}

// A node tells its way back in words, whatever it does.
func TestStage(t *testing.T) {
	t.Parallel()
	on := lab.Machine{Power: true}
	for want, n := range map[string]lab.NodeStatus{
		"starts, and joins the cluster":           {Role: "down", Pacemaker: "offline", Machine: on},
		"starts registrard":                       {Role: "replica", State: "disconnected", Machine: on},
		"is syncing":                              {Role: "replica", State: "syncing", Machine: on},
		"syncing 41 %":                            {Role: "replica", State: "syncing", Progress: "syncing 41 %", Machine: on},
		"is in sync: a replica, at index 123,456": {Role: "replica", State: "synced", Synced: true, Index: 123456, Machine: on},
	} {
		if got := stage(&n); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestSameDigest(t *testing.T) {
	t.Parallel()
	s := &lab.Status{Nodes: []lab.NodeStatus{{Digest: "a"}, {Digest: "a"}, {Digest: "a"}}}
	if !sameDigest(s) {
		t.Error("equal digests differ")
	}
	s.Nodes[2].Digest = "b"
	if sameDigest(s) {
		t.Error("different digests are equal")
	}
}

// The story's parts share no phone that they should not share: who removed a contact does not refresh it afterwards.
func TestPhones(t *testing.T) {
	t.Parallel()
	for _, n := range []int{PhonesMin, 11, 999, PhonesDefault} {
		s := &story{accounts: sipload.Accounts(n, Domain)}
		part := make(map[string]string)
		for name, accounts := range map[string][]sipload.Account{"refreshed": s.refreshed(), "removed": s.removed(), "busy": s.busy()} {
			if len(accounts) == 0 {
				t.Errorf("%d phones: none %s", n, name)
			}
			for _, a := range accounts {
				if part[a.User] != "" {
					t.Fatalf("%d phones: %s is %s and %s", n, a.User, part[a.User], name)
				}
				part[a.User] = name
			}
		}
	}
}

// What is broken is told, and makes the demo fail.
func TestSummaryOfBroken(t *testing.T) {
	t.Parallel()
	s := &story{
		accounts: sipload.Accounts(PhonesMin, Domain), ledger: sipload.NewLedger(),
		was: &lab.Status{Nodes: []lab.NodeStatus{{Name: "node1", Role: "primary"}}}, end: &lab.Status{Nodes: []lab.NodeStatus{{Name: "node1", Role: "primary", Digest: "d"}}},
	}
	var out bytes.Buffer
	s.out = &out
	if err := s.summary(); err != nil || !strings.Contains(out.String(), "all as answered") {
		t.Errorf("nothing broken: %v\n%s", err, &out)
	}
	s.broken = []string{"sip:u1@example.org: it is lost"}
	out.Reset()
	if err := s.summary(); !errors.Is(err, ErrBroken) || !strings.Contains(err.Error(), "it is lost") || !strings.Contains(out.String(), "1 NOT AS ANSWERED") {
		t.Errorf("one broken: %v\n%s", err, &out)
	}
}
