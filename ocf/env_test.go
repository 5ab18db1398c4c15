package ocf_test

import (
	"strings"
	"testing"
	"time"

	"sipha/ocf"
)

func TestParseEnv(t *testing.T) {
	t.Parallel()
	e := ocf.ParseEnv([]string{
		"OCF_RESOURCE_INSTANCE=registrard:2", "OCF_RESOURCE_PROVIDER=sipha", "OCF_RESOURCE_TYPE=registrard",
		"OCF_RESKEY_config=/etc/x=y.conf", "OCF_RESKEY_empty=", "OCF_RESKEY_crm_feature_set=3.16.2",
		"OCF_RESKEY_CRM_meta_timeout=8000", "OCF_RESKEY_CRM_meta_interval=3000", "OCF_RESKEY_CRM_meta_on_node=node1",
		"OCF_RESKEY_CRM_meta_clone_max=3", "OCF_CHECK_LEVEL=10", "OCF_EXIT_REASON_PREFIX=why:", "nonsense", "PATH=/bin",
	})
	if e.Instance != "registrard" || e.Provider != "sipha" || e.Type != "registrard" || e.FeatureSet != "3.16.2" {
		t.Errorf("identity: %+v", e)
	}
	if got := e.Param("config", "/other"); got != "/etc/x=y.conf" {
		t.Errorf("config = %q", got)
	}
	if got := e.Param("empty", "default"); got != "default" {
		t.Errorf("empty parameter = %q", got)
	}
	if got := e.Param("CRM_meta_timeout", ""); got != "" {
		t.Errorf("a meta value passes for a parameter: %q", got)
	}
	if e.Timeout() != 8*time.Second || e.Budget() != 7*time.Second || e.Interval() != 3*time.Second || e.Probe() {
		t.Errorf("times: timeout %v, budget %v, interval %v, probe %v", e.Timeout(), e.Budget(), e.Interval(), e.Probe())
	}
	if e.Node() != "node1" || e.CloneMax() != 3 || e.CheckLevel != 10 || e.ReasonPrefix != "why:" {
		t.Errorf("rest: %+v", e)
	}
}

func TestParseEnvOfNothing(t *testing.T) {
	t.Parallel()
	e := ocf.ParseEnv(nil)
	if e.Timeout() != ocf.DefaultTimeout || !e.Probe() || e.CloneMax() != 0 || e.ReasonPrefix != ocf.DefaultReasonPrefix {
		t.Errorf("defaults: %+v", e)
	}
	if got := (ocf.Env{}).Param("config", "x"); got != "x" {
		t.Errorf("zero value: %q", got)
	}
}

func TestEnvOfNonsense(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, entry string
		ok          func(ocf.Env) bool
	}{
		{"timeout word", "OCF_RESKEY_CRM_meta_timeout=20s", func(e ocf.Env) bool { return e.Timeout() == ocf.DefaultTimeout }},
		{"timeout negative", "OCF_RESKEY_CRM_meta_timeout=-1", func(e ocf.Env) bool { return e.Timeout() == ocf.DefaultTimeout }},
		{"timeout for ever", "OCF_RESKEY_CRM_meta_timeout=999999999", func(e ocf.Env) bool { return e.Timeout() == time.Hour }},
		{"timeout overflow", "OCF_RESKEY_CRM_meta_timeout=99999999999999999999", func(e ocf.Env) bool { return e.Timeout() == ocf.DefaultTimeout }},
		{"timeout short", "OCF_RESKEY_CRM_meta_timeout=400", func(e ocf.Env) bool { return e.Budget() == 300*time.Millisecond }},
		{"level negative", "OCF_CHECK_LEVEL=-5", func(e ocf.Env) bool { return e.CheckLevel == 0 }},
		{"colon without number", "OCF_RESOURCE_INSTANCE=a:b", func(e ocf.Env) bool { return e.Instance == "a:b" }},
		{"clone max negative", "OCF_RESKEY_CRM_meta_clone_max=-3", func(e ocf.Env) bool { return e.CloneMax() == 0 }},
	} {
		if e := ocf.ParseEnv([]string{tc.entry}); !tc.ok(e) {
			t.Errorf("%s: %+v", tc.name, e)
		}
	}
}

func FuzzParseEnv(f *testing.F) {
	f.Add("OCF_RESKEY_CRM_meta_timeout=20000\nOCF_RESOURCE_INSTANCE=a:0\nOCF_CHECK_LEVEL=10")
	f.Add("OCF_RESKEY_CRM_meta_interval=\x00\n=\nOCF_RESKEY_=x")
	f.Fuzz(func(t *testing.T, text string) {
		e := ocf.ParseEnv(strings.Split(text, "\n"))
		if e.Timeout() <= 0 || e.Timeout() > time.Hour {
			t.Errorf("timeout %v", e.Timeout())
		}
		if e.Budget() <= 0 || e.Budget() >= e.Timeout() {
			t.Errorf("budget %v of %v", e.Budget(), e.Timeout())
		}
		if e.Interval() < 0 || e.CloneMax() < 0 || e.CheckLevel < 0 || e.ReasonPrefix == "" {
			t.Errorf("out of range: %+v", e)
		}
	})
}
