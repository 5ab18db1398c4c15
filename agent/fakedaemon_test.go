package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"sipha/registrard/control"
)

// script tells the fake daemon how to behave. It is read anew at every request, so that a test can change the daemon's mind.
type script struct {
	Status   control.Status `json:"status"`
	Exit     int            `json:"exit"`     // ends at once with this code and Words on stderr
	Words    string         `json:"words"`    //
	Socket   string         `json:"socket"`   // "", or one that misbehaves: "none", "silent", "garbage", "closes"
	Deaf     bool           `json:"deaf"`     // does not end when asked
	Stubborn bool           `json:"stubborn"` // does not step down
	Refuses  control.Code   `json:"refuses"`  // to be promoted, with this code
	Hangs    bool           `json:"hangs"`    // while it is promoted
	Dies     bool           `json:"dies"`     // while it is promoted
	Reload   control.Code   `json:"reload"`   // refuses to reload, with this code
	Listen   []string       `json:"listen"`   // what its configuration says
	Answer   bool           `json:"answer"`   // answers OPTIONS there
	Role     control.Role   `json:"role"`     // it begins with
}

// fakeDaemon speaks the control API as the daemon does, and obeys a script. It keeps a diary of what it was told to do.
type fakeDaemon struct {
	control.Service // nil: whatever is not asked by the agent would panic
	dir             string
	instance        string

	mu   sync.Mutex
	role control.Role
}

// playDaemon is the fake daemon's main.
func playDaemon(args []string) int {
	d := &fakeDaemon{dir: os.Getenv("FAKE_DIR")}
	d.note("args " + strings.Join(args[1:], " "))
	s := d.script()
	if s.Exit != 0 {
		fmt.Fprintln(os.Stderr, "level=INFO msg=starting")
		fmt.Fprintln(os.Stderr, "registrard: "+s.Words)
		return s.Exit
	}
	if args[1] == "config" {
		if s.Hangs {
			time.Sleep(time.Minute)
		}
		return 0
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	if s.Deaf {
		signal.Ignore(syscall.SIGTERM)
	}
	d.role = control.RoleReplica
	if s.Role != "" {
		d.role = s.Role
	}
	d.instance = argument(args, "--instance")
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if s.Answer {
		for _, l := range s.Listen {
			go answerOptions(l)
		}
	}
	go d.serve(ctx, filepath.Join(argument(args, "--control-directory"), d.instance, control.SocketName), s.Socket)
	d.note("running")
	<-term
	d.note("terminated")
	return 0
}

func argument(args []string, name string) string {
	for i, a := range args {
		if a == name && i+1 < len(args) {
			return args[i+1]
		}
	}
	return ""
}

func (d *fakeDaemon) serve(ctx context.Context, path, misbehaviour string) {
	if misbehaviour == "" {
		server, err := control.Listen(control.ServerConfig{Path: path, Service: d, Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			err = server.Run(ctx)
		}
		d.note(fmt.Sprintf("server ended: %v", err))
		return
	}
	if misbehaviour == "none" {
		return
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		d.note(err.Error())
		return
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		switch misbehaviour {
		case "silent":
		case "garbage":
			_, _ = conn.Write([]byte("\x00\xff}{\n"))
		case "closes":
			_ = conn.Close()
		}
	}
}

func (d *fakeDaemon) script() script {
	var s script
	b, err := os.ReadFile(filepath.Join(d.dir, "script.json"))
	if err == nil {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		panic(err)
	}
	return s
}

func (d *fakeDaemon) note(line string) {
	f, err := os.OpenFile(filepath.Join(d.dir, "diary"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	fmt.Fprintln(f, line)
}

func (d *fakeDaemon) setRole(role control.Role) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.role = role
	d.note("is " + string(role))
}

// Status gives the script's, with what a real daemon would say of itself.
func (d *fakeDaemon) Status() control.Status {
	s := d.script().Status
	d.mu.Lock()
	defer d.mu.Unlock()
	s.Instance, s.PID = d.instance, os.Getpid()
	if s.Role == "" {
		s.Role = d.role
	}
	if s.State == "" {
		s.State = control.StateSynced
		if s.Role == control.RolePrimary {
			s.State = control.StatePrimary
		}
	}
	return s
}

func (d *fakeDaemon) Promote(ctx context.Context) error {
	s := d.script()
	switch {
	case s.Refuses != "":
		return &control.Error{Code: s.Refuses, Message: "refused by the script"}
	case s.Hangs:
		<-ctx.Done()
		return ctx.Err()
	case s.Dies:
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	d.setRole(control.RolePrimary)
	return nil
}

func (d *fakeDaemon) Demote(ctx context.Context) error {
	if d.script().Stubborn {
		<-ctx.Done()
		return ctx.Err()
	}
	d.setRole(control.RoleReplica)
	return nil
}

func (d *fakeDaemon) Reload(context.Context) error {
	d.note("reload")
	if code := d.script().Reload; code != "" {
		return &control.Error{Code: code, Message: "unknown key sip.lissen in line 3"}
	}
	return nil
}

func (d *fakeDaemon) Config() []control.Setting {
	b, err := json.Marshal(d.script().Listen)
	if err != nil {
		panic(err)
	}
	return []control.Setting{{Key: "log.level", Value: `"info"`}, {Key: listenSetting, Value: string(b)}}
}

// answerOptions is a SIP listener that says 200 to everything.
func answerOptions(listen string) {
	transport, address, _ := strings.Cut(listen, ":")
	reply := func(request string) []byte {
		head, _, _ := strings.Cut(request, "\r\n\r\n")
		_, head, _ = strings.Cut(head, "\r\n")
		return []byte("SIP/2.0 200 OK\r\n" + head + "\r\n\r\n")
	}
	if transport == "udp" {
		conn, err := net.ListenPacket("udp", address)
		if err != nil {
			return // an address that is not at home here
		}
		buffer := make([]byte, 4096)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			_, _ = conn.WriteTo(reply(string(buffer[:n])), from)
		}
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		buffer := make([]byte, 4096)
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		n, _ := conn.Read(buffer)
		_, _ = conn.Write(reply(string(buffer[:n])))
		_ = conn.Close()
	}
}
