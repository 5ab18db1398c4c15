package replicatest

import (
	"math/rand/v2"
	"time"

	"sipha/registrard/cpg"
	"sipha/registrard/location"
)

// machine is a node: what stays when its process goes.
type machine struct {
	s        *Sim
	id       location.NodeID
	disk     *disk
	power    bool
	shell    *shell // nil while no process runs
	pid      uint32
	wallStep int64         // by how much its wall clock is wrong, in milliseconds
	lags     time.Duration // until when it receives nothing
	starts   int           // plans to start a process, so that only the last one counts
}

// wall is the machine's wall clock, in milliseconds since 1970.
func (m *machine) wall() int64 { return wallStart + int64(m.s.now/time.Millisecond) + m.wallStep }

// Times that a machine takes.
const (
	startRetry = 50 * time.Millisecond
	startUsual = 300 * time.Millisecond
)

// startSoon starts a process after a while, again and again until Corosync takes it.
func (m *machine) startSoon(d time.Duration) {
	m.starts++
	n := m.starts
	m.s.after(d, func() {
		if n == m.starts && m.power && m.shell == nil {
			m.start()
		}
	})
}

func (m *machine) start() {
	if m.pid == 0 || !m.s.chance(samePID) {
		m.pid = uint32(m.s.name())
	}
	proc, err := m.s.world.Start(cpg.NodeID(m.id), m.pid)
	if err != nil {
		m.startSoon(startRetry)
		return
	}
	m.shell = newShell(m, proc)
	m.s.shells[proc] = m.shell
	m.shell.boot()
}

// samePID is how often a process gets the pid of the one before it.
const samePID = 0.2

// stopped takes note that the process has ended.
func (m *machine) stopped(again time.Duration) {
	p := m.shell
	p.dead = true
	m.shell = nil
	delete(m.s.shells, p.proc)
	m.s.promoter.gone(m)
	m.startSoon(again)
}

// kill ends the process, as SIGKILL does.
func (m *machine) kill(why string) {
	if m.shell == nil {
		return
	}
	m.s.trace("%-5s process ends: %s", m, why)
	m.shell.proc.Kill()
	m.stopped(m.s.between(startUsual/10, startUsual))
}

// cutPower takes the power, and all that is not synced.
func (m *machine) cutPower() {
	if !m.power {
		return
	}
	m.s.trace("%-5s power cut", m)
	m.power = false
	m.s.world.PowerOff(cpg.NodeID(m.id))
	if m.shell != nil {
		m.stopped(0)
	}
	m.disk.powerCut()
}

// powerOn starts the machine again.
func (m *machine) powerOn() {
	if m.power {
		return
	}
	m.s.trace("%-5s power on", m)
	m.power = true
	m.s.world.PowerOn(cpg.NodeID(m.id))
	m.startSoon(m.s.between(startUsual/10, startUsual))
}

// String returns "n1" and so on.
func (m *machine) String() string { return nodeName(m.id) }

func nodeName(n location.NodeID) string { return "n" + string('0'+rune(n)) }

// pick returns one of a list.
func pick[T any](rng *rand.Rand, list []T) T { return list[rng.IntN(len(list))] }
