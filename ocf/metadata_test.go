package ocf_test

import (
	"bytes"
	"encoding/xml"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sipha/ocf"
)

func sample() ocf.Metadata {
	return ocf.Metadata{
		Name: "sample", Version: "1.2", Short: "A <sample> & more", Long: "Two\nlines.",
		Parameters: []ocf.Parameter{
			{Name: "config", Type: ocf.TypeString, Default: "/etc/a&b", Short: "File", Long: "The file.", UniqueGroup: "config", Reloadable: true},
			{Name: "count", Type: ocf.TypeInteger, Short: "Count", Long: "How many.", Required: true},
		},
		Actions: []ocf.ActionSpec{
			{Action: ocf.Start, Timeout: 20 * time.Second},
			{Action: ocf.Monitor, Timeout: 5 * time.Second, Interval: 3 * time.Second, Role: ocf.RolePromoted},
			{Action: ocf.Monitor, Timeout: 5 * time.Second, Interval: 31 * time.Second, Depth: 10, Role: ocf.RoleUnpromoted},
			{Action: ocf.ReloadAgent, Timeout: 5 * time.Second},
			{Action: ocf.MetaData, Timeout: 5 * time.Second},
		},
	}
}

func encode(t *testing.T, m ocf.Metadata) string {
	t.Helper()
	var b bytes.Buffer
	if err := m.Encode(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestMetadata reads the document back with names of its own, so that a slip in the encoder's structures shows.
func TestMetadata(t *testing.T) {
	t.Parallel()
	text := encode(t, sample())
	var got struct {
		Name    string `xml:"name,attr"`
		Agent   string `xml:"version,attr"`
		Version string `xml:"version"`
		Short   string `xml:"shortdesc"`
		Params  []struct {
			Name       string `xml:"name,attr"`
			Required   string `xml:"required,attr"`
			Unique     string `xml:"unique-group,attr"`
			Reloadable string `xml:"reloadable,attr"`
			Content    struct {
				Type    string `xml:"type,attr"`
				Default string `xml:"default,attr"`
			} `xml:"content"`
		} `xml:"parameters>parameter"`
		Actions []struct {
			Name     string `xml:"name,attr"`
			Timeout  string `xml:"timeout,attr"`
			Interval string `xml:"interval,attr"`
			Depth    string `xml:"depth,attr"`
			Role     string `xml:"role,attr"`
		} `xml:"actions>action"`
	}
	if err := xml.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	if got.Name != "sample" || got.Agent != "1.2" || got.Version != "1.1" || got.Short != "A <sample> & more" {
		t.Errorf("head: %+v", got)
	}
	if p := got.Params; len(p) != 2 || p[0].Unique != "config" || p[0].Reloadable != "1" || p[0].Required != "" || p[0].Content.Default != "/etc/a&b" ||
		p[1].Required != "1" || p[1].Content.Type != "integer" {
		t.Errorf("parameters: %+v", p)
	}
	if a := got.Actions; len(a) != 5 || a[0].Depth != "" || a[1].Depth != "0" || a[1].Interval != "3s" || a[1].Role != "Promoted" || a[2].Depth != "10" {
		t.Errorf("actions: %+v", a)
	}
}

// TestMetadataSchemas holds the document against the two schemas that clusters check with: the DTD of resource-agents (OCF 1.0) and the
// schema of OCF 1.1 that pcs ships.
func TestMetadataSchemas(t *testing.T) {
	t.Parallel()
	lint, err := exec.LookPath("xmllint")
	if err != nil {
		t.Skip("xmllint is not installed (package libxml2-utils)")
	}
	text := encode(t, sample())
	t.Run("DTD", func(t *testing.T) { validate(t, text, "/usr/share/resource-agents/ra-api-1.dtd", lint, "--valid") })
	t.Run("RNG", func(t *testing.T) {
		validate(t, text, "/usr/share/pcs/data/ocf-1.1.rng", lint, "--relaxng", "/usr/share/pcs/data/ocf-1.1.rng")
	})
	t.Run("a missing element fails", func(t *testing.T) {
		cmd := exec.Command(lint, "--noout", "--valid", "-")
		cmd.Dir = "/usr/share/resource-agents"
		cmd.Stdin = strings.NewReader(strings.Replace(text, "<version>1.1</version>", "", 1))
		if _, err := os.Stat(cmd.Dir); err == nil && cmd.Run() == nil {
			t.Error("the check cannot fail")
		}
	})
}

func validate(t *testing.T, text, schema, lint string, args ...string) {
	t.Helper()
	if _, err := os.Stat(schema); err != nil {
		t.Skipf("%s is not installed", schema)
	}
	cmd := exec.Command(lint, append([]string{"--noout"}, append(args, "-")...)...)
	cmd.Dir = filepath.Dir("/usr/share/resource-agents/ra-api-1.dtd")
	if _, err := os.Stat(cmd.Dir); err != nil {
		cmd.Dir = ""
	}
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%s: %v\n%s", schema, err, out)
	}
}
