package message

import (
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sipha/registrard/location"
)

// update writes the responses of testdata/golden anew.
var update = flag.Bool("update", false, "write golden files")

// TestGolden answers testdata/golden/*.request, as they come over the wire, and compares with *.response.
func TestGolden(t *testing.T) {
	bindings := []location.Binding{
		{Contact: "sip:alice@192.0.2.30;transport=tcp", Params: `;+sip.instance="<urn:uuid:1>";reg-id=2`, Q: 1000, Expires: 3_600_000},
		{Contact: "sip:alice@[2001:db8::7]", Q: 5, Expires: 60_999},
		{Contact: "sip:alice@192.0.2.31?Subject=x", Params: ";audio", Q: 0, Expires: 1},
		{Contact: "tel:+15551234", Q: -1, Expires: 0},
	}
	challenge := AppendHeader(nil, "WWW-Authenticate", `Digest realm="example.org", nonce="n", algorithm=SHA-256, qop="auth"`)
	tests := map[string]Response{
		"behind_nat":         {Status: 200, Tag: []byte("a1"), Source: phone, Bindings: bindings},
		"challenge":          {Status: 401, Tag: []byte("a1"), Source: phone, Headers: challenge},
		"edge_proxy":         {Status: 200, Tag: []byte("a1"), Source: server, Bindings: bindings[:1]},
		"tortuous":           {Status: 423, Tag: []byte("a1"), Source: phone, MinExpires: 60},
		"ipv6":               {Status: 503, Tag: []byte("a1"), Source: netipV6, RetryAfter: 5},
		"in_dialog":          {Status: 481, Tag: []byte("a1"), Source: phone},
		"malformed_via":      {Status: 400, Reason: "Malformed Via", Tag: []byte("a1"), Source: phone},
		"required_extension": {Status: 420, Tag: []byte("a1"), Source: phone},
	}
	requests, err := filepath.Glob("testdata/golden/*.request")
	if err != nil || len(requests) != len(tests) {
		t.Errorf("%d requests for %d responses, %v", len(requests), len(tests), err)
	}
	for name, r := range tests {
		t.Run(name, func(t *testing.T) {
			b, err := os.ReadFile(filepath.Join("testdata/golden", name+".request"))
			if err != nil {
				t.Fatal(err)
			}
			var m Message
			if err := m.Parse(b, Datagram); err != nil && name != "malformed_via" {
				t.Fatal(err)
			}
			if r.Status == 420 {
				r.Headers = AppendHeader(nil, "Unsupported", string(m.AppendUnsupported(nil, "path")))
			}
			got, err := m.AppendResponse([]byte("before"), &r)
			if err != nil {
				t.Fatal(err)
			}
			got = got[len("before"):]
			file := filepath.Join("testdata/golden", name+".response")
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)); diff != "" {
				t.Errorf("response (-want +got):\n%s", diff)
			}
			if _, err := parse(string(got), Stream); err != nil && name != "malformed_via" {
				t.Errorf("own response: %v", err)
			}
		})
	}
}
