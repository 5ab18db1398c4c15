//go:build integration

package cpg_test

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net/rpc"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sipha/registrard/cpg"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// token is the timeout of the lab's rings. A node that dies is noticed after
// 2.2 times as long.
const token = time.Second

// node is a node of the lab: an agent in namespaces of its own.
type node struct {
	t      *testing.T
	id     cpg.NodeID
	cmd    *exec.Cmd
	client *rpc.Client
	log    *lockedBuffer
}

// lockedBuffer keeps what a node prints.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// pipes joins the two ends of an agent's standard streams.
type pipes struct {
	io.ReadCloser
	w io.WriteCloser
}

func (p pipes) Write(b []byte) (int, error) { return p.w.Write(b) }
func (p pipes) Close() error                { _ = p.w.Close(); return p.ReadCloser.Close() }

// startAgent runs this binary in new namespaces. Everything in them ends with it,
// and it ends with the test, at the latest when this process does.
func startAgent(t *testing.T, name string, flags uintptr) *node {
	t.Helper()
	n := &node{t: t, log: &lockedBuffer{}}
	n.cmd = exec.Command("/proc/self/exe")
	n.cmd.Env = append(os.Environ(), roleEnv+"="+name)
	n.cmd.Stderr = n.log
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: syscall.SIGKILL}
	in, err := n.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := n.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	n.client = rpc.NewClient(pipes{out, in})
	t.Cleanup(func() {
		_ = n.client.Close()     // ends the agent, unless it hangs
		_ = n.cmd.Process.Kill() // may have ended already
		_ = n.cmd.Wait()         // was killed
		if t.Failed() {
			t.Logf("%s printed:\n%s", name, n.log)
		}
	})
	return n
}

// lab is a cluster of real Corosyncs.
type lab struct {
	t      *testing.T
	hub    *node
	nodes  []*node
	config string
	key    []byte
}

// corosyncConf is the configuration of n nodes, with more options for quorum.
func corosyncConf(n int, quorum string) string {
	var b strings.Builder
	fmt.Fprintf(&b, `totem {
	version: 2
	cluster_name: lab
	token: %d
	token_coefficient: 0
	crypto_cipher: aes256
	crypto_hash: sha256
}
logging {
	to_stderr: yes
	to_syslog: no
	timestamp: hires
}
system {
	sched_rr: no
	move_to_root_cgroup: no
}
quorum {
	provider: corosync_votequorum
	%s
}
nodelist {
`, token.Milliseconds(), quorum)
	for i := 1; i <= n; i++ {
		fmt.Fprintf(&b, "	node {\n		ring0_addr: 10.9.0.%d\n		nodeid: %d\n		name: node%d\n	}\n", i, i, i)
	}
	b.WriteString("}\n")
	return b.String()
}

// newLab starts n nodes with a Corosync each and waits until all are in one ring.
func newLab(t *testing.T, n int) *lab {
	t.Helper()
	return newLabWith(t, n, "")
}

func newLabWith(t *testing.T, n int, quorum string) *lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("namespaces need root")
	}
	for _, tool := range []string{"corosync", "ip"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%v", err)
		}
	}
	l := &lab{t: t, key: make([]byte, 1024), config: corosyncConf(n, quorum)}
	_, _ = rand.Read(l.key) // never fails
	l.hub = startAgent(t, "hub", syscall.CLONE_NEWNET)
	l.hub.run("ip link add br0 type bridge", "ip link set br0 up")
	for i := 1; i <= n; i++ {
		const all = syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS
		nd := startAgent(t, fmt.Sprintf("node%d", i), all)
		nd.id = cpg.NodeID(i)
		l.hub.run(
			fmt.Sprintf("ip link add v%d type veth peer name eth0 netns %d", i, nd.cmd.Process.Pid),
			fmt.Sprintf("ip link set v%d master br0 up", i),
		)
		nd.call("Setup", Setup{Config: l.config, Key: l.key, Addr: fmt.Sprintf("10.9.0.%d/24", i)}, &Empty{})
		nd.corosync("start")
		l.nodes = append(l.nodes, nd)
	}
	l.awaitRing()
	return l
}

// awaitRing waits until every node's quorum service names all nodes.
func (l *lab) awaitRing() {
	l.t.Helper()
	for _, n := range l.nodes {
		w := n.join("watch", "watch")
		w.until(func(e cpg.Event) bool {
			q, ok := e.(cpg.Quorum)
			return ok && q.Quorate && len(q.Nodes) == len(l.nodes)
		})
		w.do("close")
	}
}

func (n *node) call(method string, args, reply any) {
	n.t.Helper()
	done := n.client.Go("Agent."+method, args, reply, make(chan *rpc.Call, 1)).Done
	select {
	case c := <-done:
		if c.Error != nil {
			n.t.Fatalf("node %d: %s: %v", n.id, method, c.Error)
		}
	case <-time.After(3 * patience):
		n.t.Fatalf("node %d: %s hangs", n.id, method)
	}
}

func (n *node) run(lines ...string)    { n.t.Helper(); n.call("Run", lines, &Empty{}) }
func (n *node) corosync(action string) { n.t.Helper(); n.call("Corosync", action, &Empty{}) }

func (n *node) resources() (r Resources) {
	n.t.Helper()
	n.call("Resources", Empty{}, &r)
	return r
}

// member is one connection on a node and the place in its events.
type member struct {
	*node
	conn string
	self cpg.Member
	seen []cpg.Event
	end  Outcome
}

func (n *node) dial(conn string, args DialArgs) Outcome {
	n.t.Helper()
	args.Conn = conn
	var out Outcome
	n.call("Dial", args, &out)
	return out
}

// join dials, waiting for Corosync, and joins a group.
func (n *node) join(conn, group string) *member {
	n.t.Helper()
	return n.joinWith(conn, group, cpg.Options{}, false)
}

func (n *node) joinWith(conn, group string, o cpg.Options, deaf bool) *member {
	n.t.Helper()
	if out := n.dial(conn, DialArgs{Timeout: patience, Wait: true, Options: o}); !out.ok() {
		n.t.Fatalf("node %d: dial: %s", n.id, out.Text)
	}
	var out Outcome
	n.call("Join", JoinArgs{Conn: conn, Group: group, Timeout: patience, Deaf: deaf}, &out)
	if !out.ok() {
		n.t.Fatalf("node %d: join: %s", n.id, out.Text)
	}
	m := &member{node: n, conn: conn}
	m.more(0) // who it is
	return m
}

// do makes one of the connection's simple calls and wants it to work.
func (m *member) do(what string) {
	m.t.Helper()
	if out := m.try(what, patience); !out.ok() {
		m.t.Fatalf("node %d: %s: %s", m.id, what, out.Text)
	}
}

func (m *member) try(what string, timeout time.Duration) (out Outcome) {
	m.t.Helper()
	m.call("Call", CallArgs{Conn: m.conn, What: what, Timeout: timeout}, &out)
	return out
}

func (m *member) pump(args PumpArgs) (out Outcome) {
	m.t.Helper()
	args.Conn = m.conn
	if args.Timeout == 0 {
		args.Timeout = patience
	}
	m.call("Pump", args, &out)
	return out
}

func (m *member) send(args TryArgs) (out Outcome) {
	m.t.Helper()
	args.Conn = m.conn
	m.call("Try", args, &out)
	return out
}

// more takes in what has come, waiting for something until the time given.
func (m *member) more(timeout time.Duration) {
	m.t.Helper()
	var got Events
	m.call("Events", EventsArgs{Conn: m.conn, From: len(m.seen), Timeout: timeout}, &got)
	m.self, m.end = got.Self, got.End
	m.seen = append(m.seen, got.Events...)
}

// until reads on until an event satisfies f and returns it.
func (m *member) until(f func(cpg.Event) bool) cpg.Event {
	m.t.Helper()
	deadline := time.Now().Add(patience)
	for i := 0; ; {
		for ; i < len(m.seen); i++ {
			if f(m.seen[i]) {
				return m.seen[i]
			}
		}
		if !m.end.ok() || time.Now().After(deadline) {
			m.t.Fatalf("node %d: nothing of the kind came: end %q, last of %d events: %v",
				m.id, m.end.Text, len(m.seen), m.seen[max(0, len(m.seen)-5):])
		}
		m.more(time.Second)
	}
}

// untilEnd reads on until the stream ends and returns why.
func (m *member) untilEnd() cpg.Code {
	m.t.Helper()
	for deadline := time.Now().Add(patience); m.end.ok(); m.more(time.Second) {
		if time.Now().After(deadline) {
			m.t.Fatalf("node %d: the stream does not end", m.id)
		}
	}
	return m.end.Code
}

// forget makes until look only at what comes from here on. It keeps the count.
func (m *member) forget() {
	for i := range m.seen {
		m.seen[i] = nil
	}
}
