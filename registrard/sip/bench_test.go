package sip

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"runtime/pprof"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/ipv4"

	"sipha/registrard/location"
	"sipha/registrard/sip/digest"
	"sipha/registrard/sip/transport"
)

// benchServerEnv makes the test binary a server instead: its CPU is then its own, without the load generator's.
const benchServerEnv = "SIP_BENCH_SERVER"

const benchUsers = 10_000

// serveBench runs a server with a memoryRegistrar until its standard input ends. Each line there is answered with what the process has used so
// far: CPU microseconds, allocations, and REGISTERs accepted.
func serveBench() error {
	m := newMemoryRegistrar()
	for i := range benchUsers {
		name := "user" + strconv.Itoa(i)
		u := location.User{AOR: location.AOR("sip:" + name + "@example.org"), Username: name, Realm: "example.org"}
		if err := digest.SetPassword(&u, "secret"); err != nil {
			return err
		}
		m.addUser(u)
	}
	s, err := New(context.Background(), Config{
		Listen:    []transport.Address{{Protocol: transport.UDP, AddrPort: netip.MustParseAddrPort("0.0.0.0:0")}},
		Domains:   []string{"example.org"},
		Trusted:   []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")},
		Registrar: m, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	finished := make(chan error, 1)
	go func() { finished <- s.Run(ctx) }()
	fmt.Println(s.Addresses()[0].AddrPort.Port())
	if path := os.Getenv("SIP_BENCH_PROFILE"); path != "" {
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer func() { pprof.StopCPUProfile(); _ = f.Close() }()
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var usage syscall.Rusage
		if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
			return err
		}
		var mem runtime.MemStats
		runtime.ReadMemStats(&mem)
		cpu := time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
		fmt.Println(cpu.Microseconds(), mem.Mallocs, s.Counters().Outcome(AcceptedRegister), s.Counters().Responses(200))
	}
	cancel()
	return <-finished
}

// usage is what the server answers to a line.
type usage struct{ cpuMicros, mallocs, accepted, answered int64 }

type benchServer struct {
	in   *os.File
	out  *bufio.Reader
	addr netip.AddrPort
}

func startBenchServer(b *testing.B) *benchServer {
	b.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), benchServerEnv+"=1")
	cmd.Stderr = os.Stderr
	in, w, err := os.Pipe()
	if err != nil {
		b.Fatal(err)
	}
	cmd.Stdin = in
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	_ = in.Close()
	b.Cleanup(func() {
		_ = w.Close()
		if err := cmd.Wait(); err != nil {
			b.Error(err)
		}
	})
	s := &benchServer{in: w, out: bufio.NewReader(out)}
	line, err := s.out.ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	port, err := strconv.ParseUint(strings.TrimSpace(line), 10, 16)
	if err != nil {
		b.Fatal(err)
	}
	s.addr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(port))
	return s
}

func (s *benchServer) usage(b *testing.B) (u usage) {
	b.Helper()
	if _, err := s.in.WriteString("\n"); err != nil {
		b.Fatal(err)
	}
	if _, err := fmt.Fscan(s.out, &u.cpuMicros, &u.mallocs, &u.accepted, &u.answered); err != nil {
		b.Fatal(err)
	}
	return u
}

// benchUser is a phone that refreshes.
type benchUser struct {
	name, ha1, nonce string
	cseq             int
}

const (
	benchSockets = 4
	benchWindow  = 64 // REGISTERs that each socket has under way
)

// benchClient registers its share of the users over one socket, over and over.
type benchClient struct {
	conn  *net.UDPConn
	batch *ipv4.PacketConn
	users []benchUser
	in    []ipv4.Message
	out   []ipv4.Message
}

func newBenchClient(b *testing.B, s *benchServer, first, n int) *benchClient {
	b.Helper()
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(s.addr))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	c := &benchClient{conn: conn, batch: ipv4.NewPacketConn(conn)}
	for i := range n {
		name := "user" + strconv.Itoa(first+i)
		sum := sha256.Sum256([]byte(name + ":example.org:secret"))
		c.users = append(c.users, benchUser{name: name, ha1: hex.EncodeToString(sum[:])})
	}
	for range benchWindow {
		c.in = append(c.in, ipv4.Message{Buffers: [][]byte{make([]byte, 2048)}})
		c.out = append(c.out, ipv4.Message{Buffers: [][]byte{make([]byte, 0, 2048)}})
	}
	return c
}

// run sends total REGISTERs, benchWindow at a time, and waits for their answers.
func (c *benchClient) run(total int) error {
	next := 0
	for total > 0 {
		k := min(benchWindow, total, len(c.users))
		sent := make(map[string]*benchUser, k)
		for i := range k {
			u := &c.users[next%len(c.users)]
			next++
			u.cseq++
			c.out[i].Buffers[0] = u.append(c.out[i].Buffers[0][:0], c.conn.LocalAddr().String())
			sent[u.name] = u
		}
		for done := 0; done < k; {
			n, err := c.batch.WriteBatch(c.out[done:k], 0)
			if err != nil {
				return err
			}
			done += n
		}
		if err := c.conn.SetReadDeadline(time.Now().Add(testDeadline)); err != nil {
			return err
		}
		for got := 0; got < k; {
			n, err := c.batch.ReadBatch(c.in[:k-got], 0)
			if err != nil {
				return fmt.Errorf("after %d of %d: %w", got, k, err)
			}
			for i := range n {
				if err := answered(sent, c.in[i].Buffers[0][:c.in[i].N]); err != nil {
					return err
				}
			}
			got += n
		}
		total -= k
	}
	return nil
}

func answered(sent map[string]*benchUser, b []byte) error {
	_, call, _ := bytes.Cut(b, []byte("Call-ID: "))
	name, _, _ := bytes.Cut(call, []byte("@"))
	u := sent[string(name)]
	switch {
	case u == nil:
		return fmt.Errorf("answer for nobody: %s", b)
	case bytes.HasPrefix(b, []byte("SIP/2.0 200")):
		return nil
	case bytes.HasPrefix(b, []byte("SIP/2.0 401")):
		_, nonce, _ := bytes.Cut(b, []byte(`nonce="`))
		nonce, _, _ = bytes.Cut(nonce, []byte(`"`))
		u.nonce = string(nonce)
		return nil
	}
	return fmt.Errorf("answer %s", b)
}

func (u *benchUser) append(b []byte, local string) []byte {
	b = fmt.Appendf(b, "REGISTER sip:example.org SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK%s%d;rport\r\nMax-Forwards: 70\r\n"+
		"From: <sip:%s@example.org>;tag=a73kszlfl\r\nTo: <sip:%s@example.org>\r\nCall-ID: %s@phone.example.org\r\nCSeq: %d REGISTER\r\n"+
		"Contact: <sip:%s@%s;transport=udp>\r\nExpires: 3600\r\nUser-Agent: Desk Phone 7.1\r\nAllow: INVITE, ACK, CANCEL, BYE, OPTIONS\r\n",
		local, u.name, u.cseq, u.name, u.name, u.name, u.cseq, u.name, local)
	if u.nonce != "" {
		nc := fmt.Sprintf("%08x", u.cseq)
		ha2 := sha256.Sum256([]byte("REGISTER:sip:example.org"))
		sum := sha256.Sum256([]byte(u.ha1 + ":" + u.nonce + ":" + nc + ":0a4f113b:auth:" + hex.EncodeToString(ha2[:])))
		b = fmt.Appendf(b, `Authorization: Digest username="%s", realm="example.org", nonce="%s", uri="sip:example.org", response="%x", `+
			`algorithm=SHA-256, cnonce="0a4f113b", qop=auth, nc=%s`+"\r\n", u.name, u.nonce, sum, nc)
	}
	return append(b, "Content-Length: 0\r\n\r\n"...)
}

// BenchmarkRegister registers phones over loopback UDP with credentials that need no new challenge, and reports what the server's process, with a
// registrar in memory, uses for each.
func BenchmarkRegister(b *testing.B) {
	s := startBenchServer(b)
	var clients []*benchClient
	for i := range benchSockets {
		clients = append(clients, newBenchClient(b, s, i*benchUsers/benchSockets, benchUsers/benchSockets))
	}
	each := func(total int) {
		var wg sync.WaitGroup
		for i, c := range clients {
			wg.Go(func() {
				if err := c.run(total/benchSockets + min(1, max(0, total%benchSockets-i))); err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
	}
	each(benchUsers) // everybody is challenged once
	each(benchUsers) // and registers
	before := s.usage(b)
	b.ResetTimer()
	each(b.N)
	b.StopTimer()
	after := s.usage(b)
	n := float64(after.accepted - before.accepted)
	if after.answered-before.answered != int64(b.N) {
		b.Errorf("%d were answered with 200, want %d", after.answered-before.answered, b.N)
	}
	b.ReportMetric(n/b.Elapsed().Seconds(), "REGISTER/s")
	b.ReportMetric(float64(after.cpuMicros-before.cpuMicros)/n, "us-cpu/REGISTER")
	b.ReportMetric(float64(after.mallocs-before.mallocs)/n, "allocs/REGISTER")
	b.ReportMetric(0, "ns/op")
}
