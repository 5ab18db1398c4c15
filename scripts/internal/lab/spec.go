package lab

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// Corosync's timers in the lab, in milliseconds: a lost node is noticed after
// token + consensus.
const (
	tokenMS     = 1000
	consensusMS = 1200
)

// spec is what a node's init is told by the supervisor.
type spec struct {
	Lab     string `json:"lab"`
	Node    string `json:"node"`
	Nodes   int    `json:"nodes"`
	Image   string `json:"image,omitempty"` // "" for the client
	Dir     string `json:"dir"`             // the node's directory below runRoot
	BinDir  string `json:"bin_dir"`
	Fence   string `json:"fence"`
	AuthKey string `json:"auth_key"` // hex
	Product bool   `json:"product"`
}

func (s *spec) authKey() ([]byte, error) { return hex.DecodeString(s.AuthKey) }

// hosts returns the node's /etc/hosts.
func (s *spec) hosts() string {
	var b strings.Builder
	b.WriteString("127.0.0.1 localhost\n::1 localhost ip6-localhost\n")
	for i := 1; i <= s.Nodes; i++ {
		n := fmt.Sprintf("node%d", i)
		fmt.Fprintf(&b, "%s %s\n%s %s\n", Addr(n), n, Addr6(n), n)
	}
	fmt.Fprintf(&b, "%s %s\n%s %s\n%s vip\n", Addr(Client), Client, Addr6(Client), Client, VIP())
	return b.String()
}

// corosyncConf returns corosync.conf(5) for the lab: the fast profile, encrypted.
func (s *spec) corosyncConf() string {
	var b strings.Builder
	fmt.Fprintf(&b, `totem {
	version: 2
	cluster_name: %s
	transport: knet
	crypto_cipher: aes256
	crypto_hash: sha256
	token: %d
	token_coefficient: 0
	consensus: %d
}

quorum {
	provider: corosync_votequorum
`, s.Lab, tokenMS, consensusMS)
	if s.Nodes == 2 {
		b.WriteString("\ttwo_node: 1\n\twait_for_all: 1\n")
	}
	b.WriteString(`}

logging {
	to_logfile: yes
	logfile: /var/log/corosync/corosync.log
	to_syslog: no
	to_stderr: no
	timestamp: hires
	debug: off
}

nodelist {
`)
	for i := 1; i <= s.Nodes; i++ {
		n := fmt.Sprintf("node%d", i)
		fmt.Fprintf(&b, "\tnode {\n\t\tname: %s\n\t\tnodeid: %d\n\t\tring0_addr: %s\n\t}\n", n, i, Addr(n))
	}
	b.WriteString("}\n")
	return b.String()
}

// seedCIB returns the cluster's configuration before its first start, made from the
// empty one of this machine's Pacemaker. Without a short dc-deadtime, a cluster that
// starts for the first time waits 20 s for a controller that nobody has elected yet.
func seedCIB(empty string) (string, error) {
	const (
		none     = "<crm_config/>"
		deadtime = `<crm_config><cluster_property_set id="cib-bootstrap-options">` +
			`<nvpair id="cib-bootstrap-options-dc-deadtime" name="dc-deadtime" value="2s"/>` +
			`</cluster_property_set></crm_config>`
	)
	if strings.Count(empty, none) != 1 {
		return "", fmt.Errorf("cibadmin --empty: no %s in %q", none, empty)
	}
	return strings.Replace(empty, none, deadtime, 1), nil
}

// Profile says which of Corosync's timers the lab sets.
func Profile() string { return fmt.Sprintf("token %d ms, consensus %d ms", tokenMS, consensusMS) }
