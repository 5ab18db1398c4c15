package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"sipha/ocf"
	"sipha/registrard/control"
)

// parameters are those of the resource, as the metadata describes them.
type parameters struct {
	config, instance, binary, rundir, log string
	args                                  []string
}

func parametersOf(env ocf.Env) parameters {
	p := parameters{
		config:   env.Param("config", configDefault),
		instance: env.Param("instance", control.DefaultInstance),
		binary:   env.Param("binary", binaryDefault),
		rundir:   env.Param("rundir", control.DefaultRunDirectory),
		args:     strings.Fields(env.Param("args", "")),
	}
	p.log = env.Param("log", filepath.Join(logDirectoryDefault, p.instance+".log"))
	return p
}

// check looks at the parameters alone, not at this machine. What is wrong here is wrong on every node, hence OCF_ERR_CONFIGURED.
func (p parameters) check() error {
	if err := p.checkPlace(); err != nil {
		return err
	}
	for _, path := range []struct{ name, value string }{{"config", p.config}, {"binary", p.binary}, {"log", p.log}} {
		if !filepath.IsAbs(path.value) {
			return ocf.Errorf(ocf.ErrConfigured, "parameter %s: %q must be an absolute path", path.name, path.value)
		}
	}
	return nil
}

// checkPlace looks at the parameters that say where the instance is; without them nothing of it can be there.
func (p parameters) checkPlace() error {
	if err := control.CheckInstance(p.instance); err != nil {
		return ocf.Errorf(ocf.ErrConfigured, "parameter %w", err)
	}
	if !filepath.IsAbs(p.rundir) {
		return ocf.Errorf(ocf.ErrConfigured, "parameter rundir: %q must be an absolute path", p.rundir)
	}
	return nil
}

// checkNode looks at what the parameters name on this node. What is wrong here may be right on another, hence hard codes.
func (p parameters) checkNode() error {
	info, err := os.Stat(p.binary)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return ocf.Errorf(ocf.ErrPerm, "daemon: %w", err)
	case err != nil:
		return ocf.Errorf(ocf.ErrInstalled, "daemon is not installed here: %w", err)
	case !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0:
		return ocf.Errorf(ocf.ErrInstalled, "daemon is not installed here: %s is not an executable file", p.binary)
	}
	f, err := os.Open(p.config)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return ocf.Errorf(ocf.ErrPerm, "configuration: %w", err)
	case err != nil:
		return ocf.Errorf(ocf.ErrArgs, "no configuration here: %w", err)
	}
	return f.Close()
}

// directory is where the instance's runtime files are.
func (p parameters) directory() string { return filepath.Join(p.rundir, p.instance) }

// socket is where the daemon's control socket is.
func (p parameters) socket() string { return filepath.Join(p.directory(), control.SocketName) }

// runArgs are the daemon's arguments.
func (p parameters) runArgs(cloneMax int) []string {
	return append([]string{"run"}, p.configArgs(cloneMax)...)
}

// configArgs are those that the daemon's configuration comes from.
func (p parameters) configArgs(cloneMax int) []string {
	args := []string{"--config", p.config, "--instance", p.instance}
	if p.rundir != control.DefaultRunDirectory {
		args = append(args, "--control-directory", p.rundir)
	}
	if cloneMax > 0 {
		args = append(args, "--expected-nodes", fmt.Sprint(cloneMax))
	}
	return append(args, p.args...)
}
