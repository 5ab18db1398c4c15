package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

const (
	// runRoot holds one directory per lab: sockets, logs, binaries, configuration.
	runRoot = "/run/registrard-lab"
	// diskRoot holds the nodes' disk images. It is on a real file system, so that a
	// sync inside a node costs what a sync costs.
	diskRoot = "/var/lib/registrard-lab"

	// NodesMin, NodesDefault and NodesMax bound the size of a lab.
	NodesMin     = 2
	NodesDefault = 3
	NodesMax     = 5

	// nameDefault is the lab's name where nobody says another.
	nameDefault = "default"

	// Client is the name of the machine that is no cluster node: phones live there.
	Client = "client"
)

var labName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,23}$`)

// Lab names one lab on this machine; it may be up or not.
type Lab struct {
	name string
}

// Open returns the lab of that name; "" means the value of the environment variable
// LAB, or "default".
func Open(name string) (*Lab, error) {
	if name == "" {
		name = os.Getenv("LAB")
	}
	if name == "" {
		name = nameDefault
	}
	if !labName.MatchString(name) {
		return nil, fmt.Errorf("lab name %q: use 1 to 24 of a-z, 0-9 and '-'", name)
	}
	return &Lab{name: name}, nil
}

// Name returns the lab's name, which is also the cluster's name.
func (l *Lab) Name() string { return l.name }

func (l *Lab) dir() string             { return filepath.Join(runRoot, l.name) }
func (l *Lab) disks() string           { return filepath.Join(diskRoot, l.name) }
func (l *Lab) path(e ...string) string { return filepath.Join(append([]string{l.dir()}, e...)...) }
func (l *Lab) configPath() string      { return l.path("config.json") }
func (l *Lab) lockPath() string        { return l.path("lock") }
func (l *Lab) controlPath() string     { return l.path("control.sock") }
func (l *Lab) loadedPath() string      { return l.path("loaded") }
func (l *Lab) fenceDir() string        { return l.path("fence") }
func (l *Lab) binDir() string          { return l.path("bin") }
func (l *Lab) logPath() string         { return l.path("lab.log") }
func (l *Lab) nodeDir(n string) string { return l.path(n) }

// LogDir returns the directory that a node sees as /var/log. It outlives the node's
// power.
func (l *Lab) LogDir(node string) string { return l.path(node, "log") }

func (l *Lab) imagePath(n string) string { return filepath.Join(l.disks(), n+".img") }

// Config is what a lab was brought up with.
type Config struct {
	Name        string `json:"name"`
	Nodes       int    `json:"nodes"`
	FenceAction string `json:"fence_action"` // "off" or "reboot"
	DiskMiB     int    `json:"disk_mib"`
	// CRM lists the crmsh files that were loaded; none without the product.
	CRM []string `json:"crm,omitempty"`
	// Product is true when registrard and its resource agent are installed in the nodes.
	Product bool `json:"product"`
}

// NodeNames returns node1 to nodeN.
func (c *Config) NodeNames() []string {
	names := make([]string, c.Nodes)
	for i := range names {
		names[i] = fmt.Sprintf("node%d", i+1)
	}
	return names
}

// ErrDown reports that the lab is not up.
var ErrDown = errors.New("the lab is not up (scripts/lab up)")

// Config reads what the lab was brought up with; ErrDown when it is not there.
func (l *Lab) Config() (*Config, error) {
	raw, err := os.ReadFile(l.configPath())
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrDown
	}
	if err != nil {
		return nil, err
	}
	c := new(Config)
	if err := json.Unmarshal(raw, c); err != nil {
		return nil, fmt.Errorf("%s: %w", l.configPath(), err)
	}
	return c, nil
}

func (l *Lab) writeConfig(c *Config) error {
	raw, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(l.configPath(), append(raw, '\n'), 0o644)
}

// Names returns the labs that are, or were, on this machine.
func Names() ([]string, error) {
	entries, err := os.ReadDir(runRoot)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names, err
}
