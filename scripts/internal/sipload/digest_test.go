package sipload

import (
	"strings"
	"testing"
)

// The example of RFC 7616 section 3.9.1.
func TestAuthorizationOfRFC7616(t *testing.T) {
	t.Parallel()
	for algorithm, want := range map[string]string{
		MD5:    "8ca523f5e9506fed4657c9700eebdbec",
		SHA256: "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1",
	} {
		header := `Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm=` + algorithm +
			`, nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v", opaque="FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"`
		c, err := parseChallenge(header)
		if err != nil {
			t.Fatal(err)
		}
		a := Account{User: "Mufasa", Password: "Circle of Life"}
		got := c.authorization(a, "GET", "/dir/index.html", "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ", 1)
		if !strings.Contains(got, `response="`+want+`"`) {
			t.Errorf("%s: %s, want response %s", algorithm, got, want)
		}
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	offers := []string{`Digest realm="a", nonce="1", algorithm=SHA-512-256, qop="auth"`, `Digest realm="a",nonce="2",algorithm=SHA-256,qop="auth"`, `Digest realm="a", nonce="3", algorithm=MD5`}
	for _, tc := range []struct{ want, nonce string }{{"", "2"}, {SHA256, "2"}, {MD5, "3"}} {
		c, err := choose(offers, tc.want)
		if err != nil || c.nonce != tc.nonce {
			t.Errorf("choose %q: nonce %q, %v, want %q", tc.want, c.nonce, err, tc.nonce)
		}
	}
	if _, err := choose(offers[:1], ""); err == nil {
		t.Error("an unknown algorithm was chosen")
	}
	if _, err := choose(offers[:2], MD5); err == nil {
		t.Error("another algorithm than the wanted one was chosen")
	}
}
