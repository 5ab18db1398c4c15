package sip

import (
	"net/netip"
	"testing"
	"time"
)

func testGuard(perSecond float64, burst, sources int, trusted ...string) *guard {
	var prefixes []netip.Prefix
	for _, s := range trusted {
		prefixes = append(prefixes, netip.MustParsePrefix(s))
	}
	return newGuard(Limits{FailuresPerSecond: perSecond, FailuresBurst: burst, SourcesMax: sources}, prefixes)
}

func fails(g *guard, a netip.Addr, now time.Duration) int {
	n := 0
	for g.fail(a, now, 1) {
		if n++; n > 1000 {
			return n
		}
	}
	return n
}

func TestGuard(t *testing.T) {
	t.Parallel()
	bad, good := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	t.Run("TokensRunOutAndComeBack", func(t *testing.T) {
		t.Parallel()
		g := testGuard(10, 5, 100)
		if n := fails(g, bad, 0); n != 5 {
			t.Errorf("%d failures were answered, want 5", n)
		}
		if g.admit(bad, 0) {
			t.Error("a source without tokens is read")
		}
		if !g.admit(good, 0) {
			t.Error("another source is not read")
		}
		if !g.admit(bad, 100*time.Millisecond) {
			t.Error("no token came back in its time")
		}
		if n := fails(g, bad, 100*time.Millisecond); n != 1 {
			t.Errorf("%d tokens came back, want 1", n)
		}
		if n := fails(g, bad, time.Hour); n != 5 {
			t.Errorf("after an hour %d failures were answered, want 5", n)
		}
	})
	t.Run("SuccessGivesTheTokenBack", func(t *testing.T) {
		t.Parallel()
		g := testGuard(1, 3, 100)
		for i := range 1000 {
			if !g.admit(good, 0) || !g.fail(good, 0, 1) {
				t.Fatalf("challenge %d was not answered", i)
			}
			g.succeed(good, 0)
		}
		for range 10 {
			g.succeed(good, 0) // successes without a challenge save nothing up
		}
		if n := fails(g, good, 0); n != 3 {
			t.Errorf("%d failures were answered, want 3", n)
		}
	})
	t.Run("KnownSourceIsReadButNotAnswered", func(t *testing.T) {
		t.Parallel()
		g := testGuard(1, 3, 100)
		g.succeed(good, 0)
		fails(g, good, 0)
		if !g.admit(good, 0) {
			t.Error("a source that has succeeded is not read")
		}
		if g.fail(good, 0, 1) {
			t.Error("a failure above the limit is answered")
		}
	})
	t.Run("WrongPasswordsCostMore", func(t *testing.T) {
		t.Parallel()
		g := testGuard(1, 10, 100)
		for i, want := range []bool{true, true, false} {
			if got := g.fail(bad, 0, 4); got != want {
				t.Errorf("failure %d of 4 tokens out of 10: %v, want %v", i, got, want)
			}
		}
		if n := fails(g, bad, 0); n != 2 {
			t.Errorf("%d tokens are left, want 2", n)
		}
	})
	t.Run("TrustedIsFree", func(t *testing.T) {
		t.Parallel()
		g := testGuard(1, 3, 100, "192.0.2.2/32")
		if n := fails(g, good, 0); n <= 1000 {
			t.Errorf("%d failures of a trusted peer were answered", n)
		}
		if !g.admit(good, 0) {
			t.Error("a trusted peer is not read")
		}
	})
	t.Run("IPv6CountsBySlash64", func(t *testing.T) {
		t.Parallel()
		g := testGuard(1, 3, 100)
		fails(g, netip.MustParseAddr("2001:db8:1:2::1"), 0)
		if g.admit(netip.MustParseAddr("2001:db8:1:2:ffff::9"), 0) {
			t.Error("another address of the same /64 is read")
		}
		if !g.admit(netip.MustParseAddr("2001:db8:1:3::1"), 0) {
			t.Error("another /64 is not read")
		}
	})
	t.Run("MemoryIsBounded", func(t *testing.T) {
		t.Parallel()
		g := testGuard(1, 3, 100)
		g.succeed(good, 0)
		for i := range 10_000 {
			a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
			g.fail(a, 0, 1)
			g.succeed(a, 0)
			g.succeed(good, 0)
		}
		if n := len(g.failed.young) + len(g.failed.older) + len(g.known.young) + len(g.known.older); n > 4*100 {
			t.Errorf("%d entries are held, want at most 400", n)
		}
		fails(g, good, 0)
		if !g.admit(good, 0) {
			t.Error("a source in use was forgotten")
		}
	})
}

func TestInflight(t *testing.T) {
	t.Parallel()
	f := newInflight(2)
	src := sourceOf(netip.MustParseAddr("192.0.2.1"))
	key := f.key([]byte("call"), []byte("z9hG4bK1"), 7, src)
	others := []uint64{
		f.key([]byte("call2"), []byte("z9hG4bK1"), 7, src),
		f.key([]byte("call"), []byte("z9hG4bK2"), 7, src),
		f.key([]byte("call"), []byte("z9hG4bK1"), 8, src),
		f.key([]byte("call"), []byte("z9hG4bK1"), 7, src+1),
		f.key([]byte("callz9hG4bK1"), nil, 7, src),
	}
	for i, k := range others {
		if k == key {
			t.Errorf("request %d has the key of another", i)
		}
	}
	if again := f.key([]byte("call"), []byte("z9hG4bK1"), 7, src); again != key {
		t.Error("a retransmission has another key")
	}
}
