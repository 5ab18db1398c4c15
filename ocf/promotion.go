package ocf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

const (
	// ScoreInfinity is the cluster's highest score; higher ones count as this one.
	ScoreInfinity = 1000000

	// exitNoSuch is how crm_attribute says that there is no such attribute (CRM_EX_NOSUCH).
	exitNoSuch = 105

	commandTimeout = 5 * time.Second        // of one call of a cluster's command, where the context allows more
	killDelay      = 100 * time.Millisecond // how long output is waited for after the command was killed
	outputMaxBytes = 4096                   // of a command's output that is kept

	attributeCommand = "crm_attribute"
)

// Promotion reads and writes the promotion score of a resource on a node: the transient node attribute by which the cluster chooses
// whom to promote. Every change of it makes the cluster abort what it does and think anew, so write it on change only.
type Promotion struct {
	Resource   string // name of the primitive
	Node       string // "": this node
	FeatureSet string // crm_feature_set of the cluster; "": a recent one
	Command    string // path of crm_attribute; "": as found on PATH
}

// PromotionOf gives the score of the resource that an action is about.
func PromotionOf(env Env) Promotion {
	return Promotion{Resource: env.Instance, Node: env.Node(), FeatureSet: env.FeatureSet}
}

// Score asks for the score; nil when there is none.
func (p Promotion) Score(ctx context.Context) (*int, error) {
	out, err := p.run(ctx, "--query", "--quiet")
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == exitNoSuch {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("query promotion score: %w", err)
	}
	return parseScore(out)
}

// Set writes the score.
func (p Promotion) Set(ctx context.Context, score int) error {
	if _, err := p.run(ctx, "--update", strconv.Itoa(score)); err != nil {
		return fmt.Errorf("set promotion score: %w", err)
	}
	return nil
}

// Delete removes the score: without one the instance is not promoted, and demoted if it is. No score at all is no error.
func (p Promotion) Delete(ctx context.Context) error {
	_, err := p.run(ctx, "--delete")
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == exitNoSuch {
		return nil
	}
	if err != nil {
		return fmt.Errorf("delete promotion score: %w", err)
	}
	return nil
}

// Update makes the score what it should be, nil meaning none, and writes only if it is not that already. It tells whether it wrote.
func (p Promotion) Update(ctx context.Context, want *int) (bool, error) {
	have, err := p.Score(ctx)
	if err != nil {
		return false, err
	}
	switch {
	case want == nil && have == nil, want != nil && have != nil && *want == *have:
		return false, nil
	case want == nil:
		return true, p.Delete(ctx)
	default:
		return true, p.Set(ctx, *want)
	}
}

// arguments selects the attribute. Since feature set 3.10.0 (Pacemaker 2.1.0) crm_attribute knows promotion scores by itself; older
// ones are told the attribute's name.
func (p Promotion) arguments() []string {
	var args []string
	if p.FeatureSet == "" || versionAtLeast(p.FeatureSet, 3, 10) {
		args = []string{"--promotion=" + p.Resource}
	} else {
		args = []string{"--name", "master-" + p.Resource, "--lifetime", "reboot"}
	}
	if p.Node != "" {
		args = append(args, "--node", p.Node)
	}
	return args
}

// run runs crm_attribute, by its own deadline even where the context has none, and gives its output.
func (p Promotion) run(ctx context.Context, args ...string) (string, error) {
	if p.Resource == "" {
		return "", errors.New("no resource name: OCF_RESOURCE_INSTANCE is not set")
	}
	command := p.Command
	if command == "" {
		command = attributeCommand
	}
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, command, append(p.arguments(), args...)...)
	cmd.WaitDelay = killDelay
	var stdout, stderr limitedBuffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", fmt.Errorf("%s: %w", command, ctx.Err())
		}
		if said := firstLine(stderr.String()); said != "" {
			return "", fmt.Errorf("%w: %s", err, said)
		}
		return "", err
	}
	return stdout.String(), nil
}

// parseScore reads a score as the cluster prints it.
func parseScore(out string) (*int, error) {
	text := strings.TrimSpace(out)
	var score int
	switch strings.TrimPrefix(text, "+") {
	case "", "(null)":
		return nil, nil
	case "INFINITY":
		score = ScoreInfinity
	case "-INFINITY":
		score = -ScoreInfinity
	default:
		n, err := strconv.Atoi(text)
		if err != nil {
			return nil, fmt.Errorf("query promotion score: %q is not a score", text)
		}
		score = min(max(n, -ScoreInfinity), ScoreInfinity)
	}
	return &score, nil
}

// versionAtLeast compares the first two numbers of a version.
func versionAtLeast(version string, major, minor int) bool {
	parts := strings.Split(version, ".")
	a := number(parts[0], 0)
	b := 0
	if len(parts) > 1 {
		b = number(parts[1], 0)
	}
	return a > major || a == major && b >= minor
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return line
}

// limitedBuffer keeps the beginning of what is written to it.
type limitedBuffer struct{ bytes.Buffer }

// Write takes all of p and keeps what there is room for.
func (b *limitedBuffer) Write(p []byte) (int, error) {
	room := max(0, outputMaxBytes-b.Len())
	b.Buffer.Write(p[:min(room, len(p))])
	return len(p), nil
}
