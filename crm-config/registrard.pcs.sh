#!/bin/sh
# The same as cluster.crm and registrard.crm, for pcs 0.11: sh registrard.pcs.sh
# It builds the configuration in a file and pushes it in one step; with a file as argument it changes that file and pushes nothing.
# Change: VIP, PREFIX. Your fencing must be there first. README.md explains every line.
set -eu

VIP=${VIP:-192.0.2.100}
PREFIX=${PREFIX:-24}

if [ $# -gt 0 ]; then
	cib=$1
else
	cib=$(mktemp)
	trap 'rm -f "$cib"' EXIT
	pcs cluster cib "$cib"
fi

# cluster.crm
# --force: without a running cluster, pcs knows no list of properties to check these against.
pcs -f "$cib" property set --force stonith-enabled=true no-quorum-policy=demote cluster-recheck-interval=2min start-failure-is-fatal=false
pcs -f "$cib" resource defaults update resource-stickiness=100 migration-threshold=3 failure-timeout=120s

# registrard.crm
pcs -f "$cib" resource create registrard ocf:sipha:registrard config=/etc/registrard/registrard.conf \
	op start interval=0 timeout=30s \
	op stop interval=0 timeout=30s \
	op promote interval=0 timeout=20s on-fail=demote \
	op demote interval=0 timeout=15s \
	op monitor interval=3s timeout=15s role=Promoted on-fail=demote \
	op monitor interval=5s timeout=15s role=Unpromoted \
	op monitor interval=31s timeout=20s role=Promoted on-fail=demote OCF_CHECK_LEVEL=10 \
	meta migration-threshold=5 failure-timeout=120s \
	--no-default-ops promotable registrard-clone
# In a line of their own, since versions of pcs differ in how they want them above.
pcs -f "$cib" resource meta registrard-clone promoted-max=1 promoted-node-max=1 clone-node-max=1 notify=false interleave=true

pcs -f "$cib" resource create registrard-ip ocf:heartbeat:IPaddr2 ip="$VIP" cidr_netmask="$PREFIX" \
	op start interval=0 timeout=20s \
	op stop interval=0 timeout=20s \
	op monitor interval=5s timeout=20s \
	--no-default-ops

pcs -f "$cib" constraint colocation add Started registrard-ip with Promoted registrard-clone INFINITY id=registrard-ip-with-primary
pcs -f "$cib" constraint order promote registrard-clone 'then' start registrard-ip id=registrard-promote-then-ip
pcs -f "$cib" constraint location registrard-clone rule constraint-id=registrard-failing-not-promoted role=Promoted score=-INFINITY \
	'fail-count-registrard#monitor_3000' gte 3 or 'fail-count-registrard#monitor_31000' gte 3 or 'fail-count-registrard#promote_0' gte 3

[ $# -gt 0 ] || pcs cluster cib-push "$cib" --config
