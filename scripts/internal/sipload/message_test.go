package sipload

import (
	"slices"
	"testing"
)

const example = "SIP/2.0 200 OK\r\nv: SIP/2.0/UDP 192.0.2.200:5060;branch=z9hG4bKabc;rport=5060\r\n" +
	"m: \"a, b\" <sip:u@192.0.2.1;x=1,2>;q=0.5;expires=60, <sip:v@192.0.2.2>;+sip.instance=\"<urn:a;b>\";expires=3600\r\nContact: <sip:w@192.0.2.3>\r\n" +
	"CSeq: 7 REGISTER\r\nRetry-After: 5 (soon)\r\nl: 0\r\n\r\n"

func TestParseResponse(t *testing.T) {
	t.Parallel()
	r, err := parseResponse([]byte(example))
	if err != nil {
		t.Fatal(err)
	}
	if r.status != 200 || r.branch != "z9hG4bKabc" || r.cseq != "7 REGISTER" || r.seconds("retry-after") != 5 {
		t.Errorf("parsed %+v", r)
	}
	got, err := r.contacts()
	want := []Contact{
		{URI: "sip:u@192.0.2.1;x=1,2", Expires: 60, Q: "0.5"}, {URI: "sip:v@192.0.2.2", Expires: 3600, Params: `;+sip.instance="<urn:a;b>"`},
		{URI: "sip:w@192.0.2.3"},
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("contacts %+v, %v, want %+v", got, err, want)
	}
}

func TestParseResponseRefuses(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{"", "REGISTER sip:a SIP/2.0\r\n\r\n", "SIP/2.0 20x OK\r\n\r\n", "SIP/2.0 99 no\r\n\r\n", "SIP/2.0 200 OK\r\nno colon\r\n\r\n"} {
		if _, err := parseResponse([]byte(raw)); err == nil {
			t.Errorf("%q was taken", raw)
		}
	}
}

func FuzzParseResponse(f *testing.F) {
	f.Add([]byte(example))
	f.Add([]byte("SIP/2.0 401 Unauthorized\r\nWWW-Authenticate: Digest realm=\"a\\\"b\", nonce=\"n\"\r\n\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := parseResponse(raw)
		if err != nil {
			return
		}
		contacts, err := r.contacts()
		if err != nil {
			return
		}
		for _, c := range contacts {
			if again, err := parseContact("<" + c.URI + ">"); err != nil || again.URI != c.URI {
				t.Errorf("contact %q became %q, %v", c.URI, again.URI, err)
			}
		}
		for _, v := range r.headers["www-authenticate"] {
			_, _ = parseChallenge(v)
		}
	})
}
