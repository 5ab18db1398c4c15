package location_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"sipha/registrard/location"
)

// The first two groups are the examples of RFC 3261 section 19.1.4.
func TestEqualURI(t *testing.T) {
	t.Parallel()
	equal := [][2]string{
		{"sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"},
		{"sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"},
		{"sip:carol@chicago.com", "sip:carol@chicago.com;security=on"},
		{"sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"},
		{"sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com", "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com"},
		{"sip:alice@atlanta.com?subject=project%20x&priority=urgent", "sip:alice@atlanta.com?priority=urgent&subject=project%20x"},
		{"SIP:a@b.example", "sip:a@b.example"},
		{"sip:a:p%61ss@b.example", "sip:a:pass@b.example"},
		{"sip:a@[2001:db8::1]:5060", "sip:a@[2001:DB8:0:0::1]:5060"},
		{"sip:a%40b@c.example", "sip:a%40b@c.example"},
		{"sip:a@c.example;l%72", "sip:a@c.example;LR"},
	}
	for _, pair := range equal {
		if !location.EqualURI(pair[0], pair[1]) || !location.EqualURI(pair[1], pair[0]) {
			t.Errorf("%s and %s are taken for different", pair[0], pair[1])
		}
	}
	different := [][2]string{
		{"SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"},
		{"sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"},
		{"sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"},
		{"sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"},
		{"sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"},
		{"sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"},
		{"sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"},
		{"sip:a@b.example", "sips:a@b.example"},
		{"sip:a@b.example", "sip:a:x@b.example"},
		{"sip:a:x@b.example", "sip:a:X@b.example"},
		{"sip:a@b.example", "sip:b.example"},
		{"sip:a%2Bb@b.example", "sip:a+b@b.example"},
		{"sip:a@b.example", "sip:a@b.example;user=phone"},
		{"sip:a@b.example", "sip:a@b.example;ttl=1"},
		{"sip:a@b.example", "sip:a@b.example;method=INVITE"},
		{"sip:a@b.example", "sip:a@b.example;maddr=192.0.2.1"},
		{"sip:a@b.example;x", "sip:a@b.example;x=1"},
		{"sip:a@b.example?x=1", "sip:a@b.example?x=1&x=1"},
		{"sip:a@b.example?x=1&x=2&x=2", "sip:a@b.example?x=1&x=1&x=2"},
		{"sip:a@[2001:db8::1]", "sip:a@[2001:db8::2]"},
		{"tel:+1", "TEL:+1"},
		{"sip:a b@c.example", "sip:a%20b@c.example"},
	}
	for _, pair := range different {
		if location.EqualURI(pair[0], pair[1]) || location.EqualURI(pair[1], pair[0]) {
			t.Errorf("%s and %s are taken for equal", pair[0], pair[1])
		}
	}
}

func TestParseURI(t *testing.T) {
	t.Parallel()
	u, err := location.ParseURI("SIPS:al%20ice;x?y:se=cret@[2001:db8::7]:5061;transport=tls;lr;ob=?Route=%3Csip:x%3E&a=")
	if err != nil {
		t.Fatal(err)
	}
	want := location.URI{
		Scheme: "sips", User: "al%20ice;x?y", Password: "se=cret", HasPassword: true, Host: "[2001:db8::7]", Port: 5061,
		Params: "transport=tls;lr;ob=", Headers: "Route=%3Csip:x%3E&a=",
	}
	if u != want {
		t.Errorf("got %+v, want %+v", u, want)
	}
	for _, s := range []string{
		"sip:a@b", "sip:a@b.example.", "sip:null-%00-null@example.com", "sip:user;par=u%40example.net@example.com",
		"sip:sips%3Auser%40example.com@example.net", "sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com",
		"sip:[::ffff:192.0.2.1]", "sip:192.0.2.1:65535", "sip:+1-555@a-b.c1:1;maddr=[::1]",
	} {
		if _, err := location.ParseURI(s); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
}

func TestParseURIRefuses(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]string{
		"empty": "", "scheme alone": "sip:", "other scheme": "http://example.com", "space before host": "sip: a@b.example",
		"empty user": "sip:@b.example", "empty user, password": "sip::x@b.example", "two at": "sip:a@b@c.example",
		"space in user": "sip:a b@c.example", "quote": "sip:\"a\"@c.example", "angle": "sip:<a>@c.example", "control": "sip:a\r\n@c.example",
		"raw UTF-8": "sip:\xc3\xa9@c.example", "cut escape": "sip:a%4@c.example", "bad escape": "sip:a%zz@c.example",
		"escape at end": "sip:a@c.example;x=%4", "escaped host": "sip:a@%63.example", "no host": "sip:a@", "no host, port": "sip:a@:5060",
		"port empty": "sip:a@c.example:", "port 0": "sip:a@c.example:0", "port high": "sip:a@c.example:65536", "port long": "sip:a@c.example:005060",
		"port letters": "sip:a@c.example:50a", "open bracket": "sip:a@[::1", "bracket rest": "sip:a@[::1]x", "zone": "sip:a@[fe80::1%25eth0]",
		"IPv4 in brackets": "sip:a@[192.0.2.1]", "IPv6 bare": "sip:a@2001:db8::1", "IPv4 high": "sip:a@256.0.0.1", "IPv4 short": "sip:a@192.0.2",
		"dots": "sip:a@b..example", "dot first": "sip:a@.example", "dot alone": "sip:a@.", "hyphen first": "sip:a@-b.example", "hyphen last": "sip:a@b-",
		"hyphen before dot": "sip:a@b-.example", "top label of digits": "sip:a@b.1", "underscore": "sip:a@b_c.example", "empty param": "sip:a@b.example;;lr",
		"param last": "sip:a@b.example;", "param without name": "sip:a@b.example;=x", "param twice": "sip:a@b.example;lr;LR", "param space": "sip:a@b.example;x=a b",
		"empty header": "sip:a@b.example?", "header without value": "sip:a@b.example?x", "header last": "sip:a@b.example?x=1&", "header semicolon": "sip:a@b.example?x=1;y",
		"hyphen ends the top": "sip:a@b.c-.", "too long": "sip:" + strings.Repeat("a", location.URIBytesMax) + "@b.example", "host too long": "sip:a@" + strings.Repeat("a.", 130) + "b",
	} {
		if u, err := location.ParseURI(s); !errors.Is(err, location.ErrURI) {
			t.Errorf("%s: %q is taken, as %+v", name, s, u)
		}
	}
}

// What a URI costs rises with the square of its parts.
func TestParseURIBoundsParts(t *testing.T) {
	t.Parallel()
	params, headers := "sip:a@b.example", "sip:a@b.example?"
	for i := range location.URIPartsMax {
		params += fmt.Sprintf(";p%d", i)
		headers += fmt.Sprintf("h%d=&", i)
	}
	headers = strings.TrimSuffix(headers, "&")
	for _, most := range []string{params, headers} {
		if _, err := location.ParseURI(most); err != nil {
			t.Errorf("%s is refused: %v", most, err)
		}
	}
	for _, more := range []string{params + ";q", headers + "&q="} {
		if _, err := location.ParseURI(more); !errors.Is(err, location.ErrURI) {
			t.Errorf("%s is taken", more)
		}
		if location.EqualURI(more, strings.ToUpper(more)) {
			t.Errorf("%s equals another", more)
		}
	}
}

func TestParseAOR(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]location.AOR{
		"sip:alice@example.org":                               "sip:alice@example.org",
		"SIP:Alice:secret@Example.ORG:5060;transport=udp?a=b": "sip:Alice@example.org",
		"sips:alice@example.org.":                             "sips:alice@example.org",
		"sip:%61l%69ce@example.org":                           "sip:alice@example.org",
		"sip:a%3bb%40c%2f@example.org":                        "sip:a;b%40c/@example.org",
		"sip:null-%00-null@example.com":                       "sip:null-%00-null@example.com",
		"sip:%c3%a9@example.org":                              "sip:%C3%A9@example.org",
		"sip:a@[2001:DB8:0::1]:5060":                          "sip:a@[2001:db8::1]",
	} {
		got, err := location.ParseAOR(in)
		if err != nil || got != want {
			t.Errorf("ParseAOR(%s) = %s, %v; want %s", in, got, err, want)
			continue
		}
		if again, err := location.ParseAOR(string(got)); err != nil || again != got {
			t.Errorf("%s is not canonical: %s, %v", got, again, err)
		}
		if got.Host() == "" || got.User() == "" || !strings.HasSuffix(string(got), got.User()+"@"+got.Host()) {
			t.Errorf("%s has user %q and host %q", got, got.User(), got.Host())
		}
	}
	for _, in := range []string{"sip:example.org", "alice@example.org", "tel:+15551234", "sip:a@"} {
		if got, err := location.ParseAOR(in); err == nil {
			t.Errorf("ParseAOR(%s) = %s", in, got)
		}
	}
}

func FuzzURI(f *testing.F) {
	f.Add("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp")
	f.Add("sip:a:p@[::1]:1;x=%3b?y=z", "sips:b@1.2.3.4")
	f.Fuzz(func(t *testing.T, a, b string) {
		if location.EqualURI(a, b) != location.EqualURI(b, a) {
			t.Fatalf("EqualURI(%q, %q) is not symmetric", a, b)
		}
		u, err := location.ParseURI(a)
		if err != nil {
			return
		}
		if !u.Equal(&u) {
			t.Fatalf("%q does not equal itself", a)
		}
		aor, err := location.ParseAOR(a)
		if err != nil {
			return
		}
		if again, err := location.ParseAOR(string(aor)); err != nil || again != aor {
			t.Fatalf("%q makes %q, which makes %q, %v", a, aor, again, err)
		}
	})
}
