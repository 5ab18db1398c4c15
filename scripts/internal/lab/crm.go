package lab

import (
	"context"
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
`

// labCRM is what the lab adds to every configuration: its power switch.
const labCRM = `primitive fencing stonith:%s params pcmk_host_check=static-list pcmk_host_list="%s" op monitor interval=60s timeout=20s op start interval=0 timeout=20s
property stonith-enabled=true stonith-action=%s no-quorum-policy=demote dc-deadtime=2s cluster-recheck-interval=2min
rsc_defaults resource-stickiness=100 migration-threshold=3 failure-timeout=120s
`

// loadCRM gives the cluster its configuration, through crmsh on the first node.
func (l *Lab) loadCRM(ctx context.Context, cfg *Config) error {
	text := fmt.Sprintf(statefulCRM, VIP())
	if cfg.CRM != "" {
		raw, err := os.ReadFile(filepath.Join(l.binDir(), "cluster.crm"))
		if err != nil {
			return err
		}
		text = string(raw)
	}
	text += fmt.Sprintf(labCRM, FenceAgent, strings.Join(cfg.NodeNames(), " "), cfg.FenceAction)
	path := l.path("bin", "load.crm")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		return err
	}
	inside := filepath.Join(nodeRun, "bin", "load.crm")
	if _, err := l.Exec(ctx, cfg.NodeNames()[0], "crm", "configure", "load", "update", inside); err != nil {
		return fmt.Errorf("load the cluster's configuration: %w", err)
	}
	return nil
}
