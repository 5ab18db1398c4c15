//go:build integration

package crmconfig_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const nodes = 3

// inside installs the agent over the machine's own agents in a mount namespace that ends with the command, and runs the command there.
const inside = `set -e
scratch=$1; agent=$2; shift 2
mount -t tmpfs tmpfs "$scratch"
mkdir -p "$scratch/up/sipha" "$scratch/work"
cp "$agent" "$scratch/up/sipha/registrard"
chmod 755 "$scratch/up/sipha/registrard"
mount -t overlay overlay -o "lowerdir=/usr/lib/ocf/resource.d,upperdir=$scratch/up,workdir=$scratch/work" /usr/lib/ocf/resource.d
exec "$@"
`

// shop has what is needed to load configurations into files.
type shop struct {
	t     *testing.T
	dir   string
	agent string
}

// newShop builds the agent; without the tools or the rights the test is skipped.
func newShop(t *testing.T) *shop {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounting the agent into place takes root")
	}
	for _, tool := range []string{"crm", "pcs", "crm_verify", "crm_simulate", "crm_attribute", "cibadmin", "unshare", "fence_ipmilan"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is not installed", tool)
		}
	}
	s := &shop{t: t, dir: t.TempDir()}
	s.agent = filepath.Join(s.dir, "agent")
	if out, err := exec.Command("go", "build", "-o", s.agent, "../agent").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.Mkdir(filepath.Join(s.dir, "scratch"), 0o755); err != nil {
		t.Fatal(err)
	}
	return s
}

// empty makes a cluster of three nodes that are up, and nothing else.
func (s *shop) empty(name string) string {
	s.t.Helper()
	out, err := exec.Command("cibadmin", "--empty").Output()
	if err != nil {
		s.t.Fatal(err)
	}
	var list, states strings.Builder
	for i := 1; i <= nodes; i++ {
		fmt.Fprintf(&list, `<node id="%d" uname="node%d"/>`, i, i)
		fmt.Fprintf(&states, `<node_state id="%d" uname="node%d" in_ccm="true" crmd="online" join="member" expected="member" crm-debug-origin="test">`+
			`<transient_attributes id="%d"><instance_attributes id="status-%d"/></transient_attributes></node_state>`, i, i, i, i)
	}
	text := strings.NewReplacer("<cib ", `<cib have-quorum="1" dc-uuid="1" `, "<nodes/>", "<nodes>"+list.String()+"</nodes>",
		"<status/>", "<status>"+states.String()+"</status>").Replace(string(out))
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// output runs a command with what it needs in its environment, and gives all that it says; an exit code other than 0 is an error.
func (s *shop) output(env string, argv ...string) (string, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "CRM_HA_LOGGING=no", env)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	timer := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	err := cmd.Run()
	return out.String(), err
}

// installed runs a command where the agent is installed.
func (s *shop) installed(env string, argv ...string) (string, error) {
	full := append([]string{"unshare", "--mount", "--propagation", "private", "sh", "-c", inside, "sh", filepath.Join(s.dir, "scratch"), s.agent}, argv...)
	return s.output(env, full...)
}

// crm loads a file with crmsh, which must not complain.
func (s *shop) crm(cib, file string) {
	s.t.Helper()
	out, err := s.installed("CIB_file="+cib, "crm", "configure", "load", "update", file)
	if err != nil || strings.Contains(out, "ERROR") || strings.Contains(out, "WARNING") {
		s.t.Fatalf("crm configure load %s: %v\n%s", file, err, out)
	}
}

// verify lets crm_verify look at a configuration; it must have nothing to say.
func (s *shop) verify(cib string) {
	s.t.Helper()
	if out, err := s.output("", "crm_verify", "--xml-file", cib); err != nil || out != "" {
		s.t.Errorf("crm_verify: %v\n%s", err, out)
	}
}

// byCrmsh gives the cluster that the crmsh files make.
func (s *shop) byCrmsh() string {
	s.t.Helper()
	cib := s.empty("crmsh.xml")
	for _, file := range []string{"fencing.crm", "cluster.crm", "registrard.crm"} {
		s.crm(cib, file)
	}
	return cib
}

// byPcs gives the cluster that the pcs script makes.
func (s *shop) byPcs() string {
	s.t.Helper()
	cib := s.empty("pcs.xml")
	s.crm(cib, "fencing.crm")
	out, err := s.installed("", "sh", "registrard.pcs.sh", cib)
	if err != nil || strings.Contains(out, "Error") {
		s.t.Fatalf("registrard.pcs.sh: %v\n%s", err, out)
	}
	return cib
}

// copy makes a copy of a cluster that can be changed.
func (s *shop) copy(cib, name string) string {
	s.t.Helper()
	b, err := os.ReadFile(cib)
	path := filepath.Join(s.dir, name)
	if err := errors.Join(err, os.WriteFile(path, b, 0o600)); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// attribute sets a transient attribute of a node, or deletes it where value is "".
func (s *shop) attribute(cib string, node int, name, value string) {
	s.t.Helper()
	argv := []string{"crm_attribute", "--lifetime", "reboot", "--node", fmt.Sprintf("node%d", node), "--name", name}
	if value == "" {
		argv = append(argv, "--delete")
	} else {
		argv = append(argv, "--update", value)
	}
	if out, err := s.output("CIB_file="+cib, argv...); err != nil {
		s.t.Fatalf("%v\n%s", err, out)
	}
}

// simulate lets the scheduler run one transition, keeps what comes of it in the file, and gives the actions that it took, in order,
// without monitors and without those of the fence devices.
func (s *shop) simulate(cib string, more ...string) []string {
	s.t.Helper()
	out, err := s.output("", append([]string{"crm_simulate", "--simulate", "--xml-file", cib, "--save-output", cib}, more...)...)
	if err != nil {
		s.t.Fatalf("crm_simulate: %v\n%s", err, out)
	}
	_, out, _ = strings.Cut(out, "Executing Cluster Transition:")
	out, _, _ = strings.Cut(out, "Revised Cluster Status:")
	var actions []string
	for line := range strings.Lines(out) {
		fields := strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "* "))
		switch {
		case len(fields) < 2 || strings.Contains(line, "fence-node") || strings.Contains(line, "monitor") || strings.Contains(line, "cancel="):
		case fields[0] == "Fencing":
			actions = append(actions, "fence "+fields[1])
		case fields[0] == "Resource" && len(fields) == 6:
			name, _, _ := strings.Cut(fields[2], ":")
			actions = append(actions, fmt.Sprintf("%s %s %s", fields[3], name, fields[5]))
		}
	}
	return actions
}
