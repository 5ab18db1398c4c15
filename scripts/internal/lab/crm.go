package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// statefulCRM is a cluster without the product: Pacemaker's own example of a promotable
// resource in its place. It shows what Pacemaker alone can do.
const statefulCRM = `primitive p_registrar ocf:pacemaker:Stateful \
  op start interval=0 timeout=20s op stop interval=0 timeout=20s \
  op promote interval=0 timeout=10s op demote interval=0 timeout=10s \
  op monitor interval=3s timeout=20s role=Promoted on-fail=demote \
  op monitor interval=5s timeout=20s role=Unpromoted
clone cl_registrar p_registrar meta promotable=true promoted-max=1 promoted-node-max=1 clone-node-max=1 notify=false interleave=true
primitive p_vip IPaddr2 params ip=%s cidr_netmask=24 op monitor interval=5s timeout=20s op start interval=0 timeout=20s op stop interval=0 timeout=20s
colocation col_vip inf: p_vip cl_registrar:Promoted
order ord_vip Mandatory: cl_registrar:promote p_vip:start
property stonith-enabled=true no-quorum-policy=demote cluster-recheck-interval=2min
rsc_defaults resource-stickiness=100 migration-threshold=3 failure-timeout=120s
`

// labCRM is what the lab adds to every configuration: its power switch.
const labCRM = `primitive fencing stonith:%s params pcmk_host_check=static-list pcmk_host_list="%s" op monitor interval=60s timeout=20s op start interval=0 timeout=20s
property stonith-action=%s dc-deadtime=2s
`

// crmFile names the lab's copy of the i-th crmsh file.
func crmFile(i int) string { return fmt.Sprintf("cluster-%d.crm", i) }

// nodeCIB is where the first node keeps the configuration until the cluster takes it.
const nodeCIB = nodeRun + "/cib.xml"

// compileScript has crmsh make a configuration out of an empty one, in a file: what it
// reads on its standard input. Compiling needs no cluster, and costs more than a second.
const compileScript = `cibadmin --empty >"$1" && CIB_file="$1" crm configure`

// loadScript gives the cluster that configuration: everything in it has an id, so it is
// merged with what the cluster has written there by itself.
const loadScript = `CIB_file="$1" cibadmin --query --scope configuration | cibadmin --modify --allow-create --scope configuration --xml-pipe`

// crmshLines returns what crmsh is told: to load the files, one after the other, and to
// commit them as one.
func (l *Lab) crmshLines(cfg *Config) (string, error) {
	var names []string
	for i := range cfg.CRM {
		names = append(names, crmFile(i))
	}
	own := map[string]string{"lab.crm": fmt.Sprintf(labCRM, FenceAgent, strings.Join(cfg.NodeNames(), " "), cfg.FenceAction)}
	if !cfg.Product {
		own["stateful.crm"] = fmt.Sprintf(statefulCRM, VIP())
		names = append(names, "stateful.crm")
	}
	var lines strings.Builder
	for _, name := range append(names, "lab.crm") {
		if text, ok := own[name]; ok {
			if err := os.WriteFile(filepath.Join(l.binDir(), name), []byte(text), 0o644); err != nil {
				return "", err
			}
		}
		fmt.Fprintf(&lines, "load update %s\n", filepath.Join(nodeRun, "bin", name))
	}
	lines.WriteString("commit\n")
	return lines.String(), nil
}

// compileCRM makes the cluster's configuration in a file on the first node, whose
// agents crmsh checks it against. The cluster may still be forming.
func (l *Lab) compileCRM(ctx context.Context, cfg *Config) error {
	lines, err := l.crmshLines(cfg)
	if err != nil {
		return err
	}
	first := cfg.NodeNames()[0]
	if err := l.await(ctx, func(context.Context) string { return l.booted(first) }); err != nil {
		return err
	}
	cmd, release, err := l.Command(ctx, first, "sh", "-c", compileScript, "sh", nodeCIB)
	if err != nil {
		return err
	}
	defer release()
	cmd.Stdin = strings.NewReader(lines)
	out, err := cmd.CombinedOutput()
	// crmsh goes on behind a bad line, and then ends well.
	if err == nil && strings.Contains(string(out), "ERROR") {
		err = errors.New("crmsh reports errors")
	}
	if err != nil {
		return fmt.Errorf("compile the cluster's configuration: %w: %s", err, out)
	}
	return nil
}

// loadCRM gives the cluster what compileCRM has made.
func (l *Lab) loadCRM(ctx context.Context, cfg *Config) error {
	if _, err := l.Exec(ctx, cfg.NodeNames()[0], "sh", "-c", loadScript, "sh", nodeCIB); err != nil {
		return fmt.Errorf("load the cluster's configuration: %w", err)
	}
	return os.WriteFile(l.loadedPath(), nil, 0o600)
}

// loaded reports whether the cluster has its configuration: from then on it belongs to
// whoever works with the lab.
func (l *Lab) loaded() bool {
	_, err := os.Stat(l.loadedPath())
	return err == nil
}
