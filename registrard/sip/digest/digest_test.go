package digest

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"sipha/registrard/location"
)

const life = 5 * time.Minute

// directory holds users by AOR.
type directory map[location.AOR]location.User

func (d directory) User(a location.AOR) (location.User, bool) {
	u, ok := d[a]
	return u, ok
}

func user(t testing.TB, aor location.AOR, username, realm, password string) location.User {
	t.Helper()
	u := location.User{AOR: aor, Username: username, Realm: realm}
	if err := SetPassword(&u, password); err != nil {
		t.Fatal(err)
	}
	return u
}

// answer makes the credentials of a phone: a plain second implementation of the client's side.
func answer(t testing.TB, a location.Algorithm, username, realm, password, method, uri, nonce, nc string) Credentials {
	t.Helper()
	h := func(s string) string { return string(appendHash(nil, a, []byte(s))) }
	response := h(h(username+":"+realm+":"+password) + ":" + nonce + ":" + nc + ":c0ffee:auth:" + h(method+":"+uri))
	c, err := Parse([]byte(fmt.Sprintf(`Digest username="%s", realm="%s", nonce="%s", uri="%s", response="%s", algorithm=%s, cnonce="c0ffee", qop=auth, nc=%s`,
		username, realm, nonce, uri, response, AlgorithmName(a), nc)))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestVectors holds the examples of RFC 7616 section 3.9 (the second with erratum 4897) and RFC 2617 section 3.5.
func TestVectors(t *testing.T) {
	for name, tt := range map[string]struct {
		username, password, header string
	}{
		"RFC 7616 MD5": {"Mufasa", "Circle of Life", `Digest username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html", algorithm=MD5,
			nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", nc=00000001, cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", qop=auth,
			response="8ca523f5e9506fed4657c9700eebdbec", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"`},
		"RFC 7616 SHA-256": {"Mufasa", "Circle of Life", `Digest username="Mufasa", realm="http-auth@example.org", uri="/dir/index.html", algorithm=SHA-256,
			nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", nc=00000001, cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", qop=auth,
			response="753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"`},
		"RFC 7616 SHA-512-256": {"J\u00e4s\u00f8n Doe", "Secret, or not?", "Digest username=\"J\u00e4s\u00f8n Doe\"," + ` realm="api@example.org", uri="/doe.json", algorithm=SHA-512-256,
			nonce="5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK", nc=00000001, cnonce="NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v", qop=auth,
			response="3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5", opaque="HRPCssKJSGjCrkzDg8OhwpzCiGPChXYjwrI2QmXDnsOS", userhash=false`},
		"RFC 2617": {"Mufasa", "Circle Of Life", `Digest username="Mufasa", realm="testrealm@host.com", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", uri="/dir/index.html",
			qop=auth, nc=00000001, cnonce="0a4f113b", response="6629fae49393a05397450978507c4ef1", opaque="5ccc069c403ebaf9f0171e9517f40e41"`},
	} {
		t.Run(name, func(t *testing.T) {
			// A folded header comes with its folds made spaces.
			c, err := Parse([]byte(strings.ReplaceAll(tt.header, "\n\t\t\t", "   ")))
			if err != nil {
				t.Fatal(err)
			}
			u := user(t, "", tt.username, string(c.Realm), tt.password)
			stored, ok := ha1(&u, c.Algorithm)
			if !ok || string(c.Username) != tt.username || c.Count != 1 {
				t.Fatalf("got %q, count %d", c.Username, c.Count)
			}
			if !matches(&c, []byte("GET"), stored) {
				t.Error("response does not match")
			}
			if matches(&c, []byte("PUT"), stored) {
				t.Error("response matches another method")
			}
		})
	}
}

func TestMACIsHMAC(t *testing.T) {
	for _, realm := range []string{"", "example.org", strings.Repeat("r", MaxFieldBytes)} {
		secret := [32]byte{1, 2, 3, 250}
		head := bytes.Repeat([]byte{7}, nonceHead)
		h := hmac.New(sha256.New, secret[:])
		h.Write(head)
		h.Write([]byte(realm))
		if got := mac(&secret, head, realm); !bytes.Equal(got[:], h.Sum(nil)) {
			t.Errorf("realm of %d bytes: not the HMAC", len(realm))
		}
	}
}

func TestNonce(t *testing.T) {
	keys := []location.Key{{ID: 1, Secret: [32]byte{1}}, {ID: 2, Secret: [32]byte{2}}}
	now := location.Time(1_700_000_000_000)
	nonce := appendNonce(nil, "example.org", &keys[1], now, 42)
	if other := appendNonce(nil, "example.org", &keys[1], now, 43); bytes.Equal(nonce, other) {
		t.Error("random does not count")
	}
	check := func(name string, want nonceState, nonce []byte, realm string, keys []location.Key, now location.Time) {
		t.Helper()
		if got := checkNonce(nonce, []byte(realm), keys, now, life); got != want {
			t.Errorf("%s: got %d, want %d", name, got, want)
		}
	}
	ms := location.Time(life.Milliseconds())
	ahead := location.Time(AheadMax.Milliseconds())
	check("at once", nonceGood, nonce, "example.org", keys, now)
	check("at the end of its life", nonceGood, nonce, "example.org", keys, now+ms)
	check("after its life", nonceStale, nonce, "example.org", keys, now+ms+1)
	check("from a clock ahead", nonceGood, nonce, "example.org", keys, now-ahead)
	check("from too far ahead", nonceStale, nonce, "example.org", keys, now-ahead-1)
	check("other realm", nonceForeign, nonce, "example.com", keys, now)
	check("key gone", nonceStale, nonce, "example.org", keys[:1], now)
	check("empty", nonceForeign, nil, "example.org", keys, now)
	for i := range nonce {
		forged := bytes.Clone(nonce)
		if forged[i]++; forged[i] == '{' || forged[i] == ':' || forged[i] == '[' {
			forged[i] = 'A'
		}
		if got := checkNonce(forged, []byte("example.org"), keys, now, life); got == nonceGood {
			t.Errorf("nonce with character %d changed is good", i)
		}
	}
}

func TestChallenge(t *testing.T) {
	key := location.Key{ID: 7}
	got := string(AppendChallenge([]byte("x"), "example.org", []location.Algorithm{location.SHA256, location.MD5}, &key, 1, 2, true))
	nonce := string(appendNonce(nil, "example.org", &key, 1, 2))
	want := `xWWW-Authenticate: Digest realm="example.org", nonce="` + nonce + `", algorithm=SHA-256, qop="auth", stale=true` + "\r\n" +
		`WWW-Authenticate: Digest realm="example.org", nonce="` + nonce + `", algorithm=MD5, qop="auth", stale=true` + "\r\n"
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestVerify(t *testing.T) {
	keys := []location.Key{{ID: 1, Secret: [32]byte{9}}}
	now := location.Time(1_700_000_000_000)
	fresh := string(appendNonce(nil, "example.org", &keys[0], now, 1))
	old := string(appendNonce(nil, "example.org", &keys[0], now-location.Time(life.Milliseconds())-1, 1))
	elsewhere := string(appendNonce(nil, "example.com", &keys[0], now, 1))
	onlyMD5 := user(t, "sip:old@example.org", "old", "example.org", "pw")
	onlyMD5.Has = 1 << location.MD5
	v := Verifier{
		Algorithms: []location.Algorithm{location.SHA256, location.MD5}, Life: life,
		Users: directory{
			"sip:alice@example.org": user(t, "sip:alice@example.org", "alice", "example.org", "secret"),
			"sip:bob@example.org":   user(t, "sip:bob@example.org", "bob@example.org", "example.org", "secret"),
			"sip:carol@example.org": user(t, "sip:carol@example.org", "device-17", "example.org", "secret"),
			"sip:old@example.org":   onlyMD5,
		},
	}
	const uri = "sip:example.org"
	for name, tt := range map[string]struct {
		to                      location.AOR
		algorithm               location.Algorithm
		username, password, uri string
		nonce                   string
		want                    Verdict
	}{
		"SHA-256":                  {"sip:alice@example.org", location.SHA256, "alice", "secret", uri, fresh, Accepted},
		"MD5":                      {"sip:alice@example.org", location.MD5, "alice", "secret", uri, fresh, Accepted},
		"algorithm not offered":    {"sip:alice@example.org", location.SHA512256, "alice", "secret", uri, fresh, Denied},
		"username is the AOR":      {"sip:bob@example.org", location.SHA256, "bob@example.org", "secret", uri, fresh, Accepted},
		"other form of username":   {"sip:bob@example.org", location.SHA256, "bob", "secret", uri, fresh, Denied},
		"username of its own":      {"sip:carol@example.org", location.SHA256, "device-17", "secret", uri, fresh, Accepted},
		"user part for that":       {"sip:carol@example.org", location.SHA256, "carol", "secret", uri, fresh, Denied},
		"wrong password":           {"sip:alice@example.org", location.SHA256, "alice", "Secret", uri, fresh, Denied},
		"unknown user":             {"sip:mallory@example.org", location.SHA256, "mallory", "secret", uri, fresh, Denied},
		"somebody else":            {"sip:alice@example.org", location.SHA256, "bob@example.org", "secret", uri, fresh, Forbidden},
		"somebody else, unknown":   {"sip:mallory@example.org", location.SHA256, "alice", "secret", uri, fresh, Forbidden},
		"somebody else, password":  {"sip:alice@example.org", location.SHA256, "bob@example.org", "wrong", uri, fresh, Denied},
		"stale":                    {"sip:alice@example.org", location.SHA256, "alice", "secret", uri, old, Stale},
		"stale and wrong":          {"sip:alice@example.org", location.SHA256, "alice", "wrong", uri, old, Denied},
		"nonce of another realm":   {"sip:alice@example.org", location.SHA256, "alice", "secret", uri, elsewhere, Denied},
		"nonce of nobody":          {"sip:alice@example.org", location.SHA256, "alice", "secret", uri, "abc", Denied},
		"uri with port":            {"sip:alice@example.org", location.SHA256, "alice", "secret", "sip:EXAMPLE.org:5060;transport=udp", fresh, Accepted},
		"uri of another domain":    {"sip:alice@example.org", location.SHA256, "alice", "secret", "sip:example.com", fresh, Mismatched},
		"no hash of the algorithm": {"sip:old@example.org", location.SHA256, "old", "pw", uri, fresh, Denied},
		"hash of the algorithm":    {"sip:old@example.org", location.MD5, "old", "pw", uri, fresh, Accepted},
	} {
		t.Run(name, func(t *testing.T) {
			c := answer(t, tt.algorithm, tt.username, "example.org", tt.password, "REGISTER", tt.uri, tt.nonce, "00000001")
			r := Request{Method: []byte("REGISTER"), URI: []byte(uri), Realm: "example.org", To: tt.to}
			if got := v.Verify(&c, &r, keys, now); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
			r.Realm = "example.com"
			if got := v.Verify(&c, &r, keys, now); got != Denied {
				t.Errorf("with another realm: got %d", got)
			}
		})
	}
}

// TestNoHashIsNoPassword sees to it that the zeros which stand for a missing user or hash open nothing.
func TestNoHashIsNoPassword(t *testing.T) {
	keys := []location.Key{{ID: 1, Secret: [32]byte{9}}}
	nonce := string(appendNonce(nil, "example.org", &keys[0], 5, 1))
	c := answer(t, location.MD5, "nobody", "example.org", "", "REGISTER", "sip:example.org", nonce, "00000001")
	h := func(s string) string { return string(appendHash(nil, location.MD5, []byte(s))) }
	c.Response = []byte(h(strings.Repeat("0", 32) + ":" + nonce + ":00000001:c0ffee:auth:" + h("REGISTER:sip:example.org")))
	hashless := location.User{AOR: "sip:hashless@example.org", Username: "hashless", Realm: "example.org"}
	v := Verifier{Algorithms: []location.Algorithm{location.MD5}, Life: life, Users: directory{hashless.AOR: hashless}}
	for _, name := range []string{"nobody", "hashless"} {
		c.Username = []byte(name)
		r := Request{Method: []byte("REGISTER"), URI: []byte("sip:example.org"), Realm: "example.org", To: location.AOR("sip:" + name + "@example.org")}
		if got := v.Verify(&c, &r, keys, 5); got != Denied {
			t.Errorf("%s: got %d", name, got)
		}
	}
}

func TestReplay(t *testing.T) {
	keys := []location.Key{{ID: 1, Secret: [32]byte{9}}}
	nonce := string(appendNonce(nil, "example.org", &keys[0], 5, 1))
	alice := user(t, "sip:alice@example.org", "alice", "example.org", "secret")
	v := Verifier{Algorithms: []location.Algorithm{location.SHA256}, Life: life, Users: directory{alice.AOR: alice}, Counter: NewWindow(8)}
	for i, tt := range []struct {
		nc   string
		id   uint64
		want Verdict
	}{
		{"00000001", 1, Accepted},
		{"00000001", 1, Accepted}, // a retransmission
		{"00000001", 2, Stale},    // the same credentials in another request
		{"00000003", 3, Accepted},
		{"00000002", 4, Accepted}, // overtaken on its way
		{"00000002", 4, Stale},
		{"00000050", 5, Accepted},
		{"00000004", 6, Stale}, // further back than is remembered
	} {
		c := answer(t, location.SHA256, "alice", "example.org", "secret", "REGISTER", "sip:example.org", nonce, tt.nc)
		r := Request{Method: []byte("REGISTER"), URI: []byte("sip:example.org"), Realm: "example.org", To: alice.AOR, ID: tt.id}
		if got := v.Verify(&c, &r, keys, 5); got != tt.want {
			t.Errorf("step %d: got %d, want %d", i, got, tt.want)
		}
	}
}

func TestWindowIsBounded(t *testing.T) {
	w := NewWindow(10)
	for i := range 1000 {
		if !w.Use([]byte{byte(i), byte(i >> 8)}, 1, 1) {
			t.Fatalf("nonce %d is not new", i)
		}
		if n := len(w.current) + len(w.previous); n > 20 {
			t.Fatalf("remembers %d nonces", n)
		}
	}
	if w.Use([]byte{byte(999 & 0xff), byte(999 >> 8)}, 1, 2) {
		t.Error("forgot the last nonce")
	}
}

func TestParseRefuses(t *testing.T) {
	const good = `Digest username="a", realm="r", nonce="n", uri="sip:r", response="00000000000000000000000000000000", cnonce="c", qop=auth, nc=00000001`
	if _, err := Parse([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, s := range map[string]string{
		"empty":               ``,
		"scheme alone":        `Digest`,
		"scheme without room": `Digestusername="a"`,
		"no username":         strings.Replace(good, `username="a", `, ``, 1),
		"empty username":      strings.Replace(good, `"a"`, `""`, 1),
		"two usernames":       good + `, username="b"`,
		"two algorithms":      good + `, algorithm=MD5, algorithm=MD5`,
		"no qop":              strings.Replace(good, `qop=auth, `, ``, 1),
		"auth-int":            strings.Replace(good, `qop=auth`, `qop=auth-int`, 1),
		"no nc":               strings.Replace(good, `, nc=00000001`, ``, 1),
		"short nc":            strings.Replace(good, `nc=00000001`, `nc=1`, 1),
		"no hexadecimal nc":   strings.Replace(good, `nc=00000001`, `nc=0000000g`, 1),
		"no cnonce":           strings.Replace(good, `cnonce="c", `, ``, 1),
		"unknown algorithm":   good + `, algorithm=SHA-1`,
		"session algorithm":   good + `, algorithm=MD5-sess`,
		"hash of another":     good + `, algorithm=SHA-256`,
		"userhash":            good + `, userhash=true`,
		"open quote":          good + `, opaque="x`,
		"quoted-pair":         strings.Replace(good, `"a"`, `"a\""`, 1),
		"control character":   strings.Replace(good, `"a"`, "\"a\x00\"", 1),
		"trailing comma":      good + `,`,
		"two commas":          strings.Replace(good, `, uri`, `,, uri`, 1),
		"no value":            good + `, opaque=`,
		"text after quotes":   strings.Replace(good, `"a"`, `"a"b`, 1),
		"long field":          strings.Replace(good, `"a"`, `"`+strings.Repeat("a", MaxFieldBytes+1)+`"`, 1),
		"long uri":            strings.Replace(good, `"sip:r"`, `"sip:`+strings.Repeat("a", MaxURIBytes)+`"`, 1),
		"many parameters":     good + strings.Repeat(`, x=y`, MaxParams),
	} {
		if c, err := Parse([]byte(s)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %v, %+v", name, err, c)
		}
	}
	if _, err := Parse([]byte(`NoOneKnowsThisScheme opaque-data=here`)); !errors.Is(err, ErrScheme) {
		t.Errorf("other scheme: got %v", err)
	}
	for name, s := range map[string]string{
		"quoted qop":      strings.Replace(good, `qop=auth`, `qop="auth"`, 1),
		"other case":      strings.Replace(good, `Digest username`, `DIGEST USERNAME`, 1),
		"unknown field":   good + `, charset=UTF-8`,
		"no white space":  strings.ReplaceAll(good, `, `, `,`),
		"more of it":      strings.ReplaceAll(good, `, `, "\t ,  "),
		"upper-case hash": strings.Replace(good, `response="0`, `response="A`, 1),
	} {
		if _, err := Parse([]byte(s)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSetHA1(t *testing.T) {
	want := user(t, "sip:a@r", "a", "r", "pw")
	got := location.User{AOR: "sip:a@r", Username: "a", Realm: "r"}
	for _, a := range []location.Algorithm{location.MD5, location.SHA256, location.SHA512256} {
		if err := SetHA1(&got, a, string(appendHash(nil, a, []byte("a:r:pw")))); err != nil {
			t.Fatal(err)
		}
	}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for name, err := range map[string]error{
		"short":    SetHA1(&got, location.SHA256, "00"),
		"no hash":  SetHA1(&got, location.MD5, strings.Repeat("x", 32)),
		"username": SetPassword(&location.User{Username: `a"`, Realm: "r"}, ""),
		"colon":    SetPassword(&location.User{Username: `a:b`, Realm: "r"}, ""),
		"realm":    SetPassword(&location.User{Username: "a"}, ""),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`Digest username="a", realm="r", nonce="n", uri="sip:r", response="00000000000000000000000000000000", cnonce="c", qop=auth, nc=00000001`))
	f.Add([]byte(`NoOneKnowsThisScheme opaque-data=here`))
	f.Add([]byte("digest\tnc = 0000000A , qop=\"auth\",x=y"))
	users := directory{"sip:a@r": user(f, "sip:a@r", "a", "r", "pw")}
	v := Verifier{Algorithms: []location.Algorithm{location.MD5, location.SHA256}, Life: life, Users: users, Counter: NewWindow(16)}
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := Parse(b)
		if err != nil {
			if !errors.Is(err, ErrScheme) && !errors.Is(err, ErrMalformed) {
				t.Fatalf("error of no kind: %v", err)
			}
			return
		}
		if len(c.Username) == 0 || len(c.Realm) == 0 || len(c.Nonce) == 0 || len(c.Response) != 2*size(c.Algorithm) {
			t.Fatalf("accepted without what is required: %+v", c)
		}
		r := Request{Method: []byte("REGISTER"), URI: c.URI, Realm: string(c.Realm), To: "sip:a@r"}
		if got := v.Verify(&c, &r, nil, 0); got == Accepted {
			t.Fatal("accepted without a key")
		}
	})
}

func benchmarkVerify(b testing.TB) func() {
	keys := []location.Key{{ID: 1, Secret: [32]byte{9}}}
	nonce := string(appendNonce(nil, "example.org", &keys[0], 5, 1))
	alice := user(b, "sip:alice@example.org", "alice", "example.org", "secret")
	v := Verifier{Algorithms: []location.Algorithm{location.SHA256}, Life: life, Users: directory{alice.AOR: alice}}
	header := []byte(`Digest username="alice", realm="example.org", nonce="` + nonce + `", uri="sip:example.org", response="` +
		string(answer(b, location.SHA256, "alice", "example.org", "secret", "REGISTER", "sip:example.org", nonce, "00000001").Response) +
		`", algorithm=SHA-256, cnonce="c0ffee", qop=auth, nc=00000001`)
	r := Request{Method: []byte("REGISTER"), URI: []byte("sip:example.org"), Realm: "example.org", To: alice.AOR}
	return func() {
		c, err := Parse(header)
		if err != nil {
			b.Fatal(err)
		}
		if got := v.Verify(&c, &r, keys, 5); got != Accepted {
			b.Fatalf("got %d", got)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	f := benchmarkVerify(b)
	b.ReportAllocs()
	for b.Loop() {
		f()
	}
}

func BenchmarkChallenge(b *testing.B) {
	key := location.Key{ID: 1}
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		buf = AppendChallenge(buf[:0], "example.org", []location.Algorithm{location.SHA256, location.MD5}, &key, 1, 2, false)
	}
}

func TestAllocations(t *testing.T) {
	if n := testing.AllocsPerRun(100, benchmarkVerify(t)); n > 0 {
		t.Errorf("verification allocates %v times", n)
	}
	key := location.Key{ID: 1}
	buf := make([]byte, 0, 1024)
	algorithms := []location.Algorithm{location.SHA256, location.MD5}
	if n := testing.AllocsPerRun(100, func() {
		buf = AppendChallenge(buf[:0], "example.org", algorithms, &key, 1, 2, false)
	}); n > 0 {
		t.Errorf("a challenge allocates %v times", n)
	}
}
