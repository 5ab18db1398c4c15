// Command gotest runs go test with the arguments given, shows one line a package and what failed, and closes with how many tests ran.
// With -tally FILE it adds its counts to those in the file, so that several runs can be summed up; with -sum FILE it only prints them.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// event is a line of go test -json (go doc test2json).
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
	Elapsed float64
}

// tally counts tests, subtests included.
type tally struct{ Passed, Failed, Skipped int }

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gotest:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 || args[0] != "-tally" && args[0] != "-sum" {
		return errors.New("usage: gotest -tally FILE GO-TEST-ARGUMENTS... | gotest -sum FILE")
	}
	total, err := load(args[1])
	if err != nil {
		return err
	}
	if args[0] == "-sum" {
		fmt.Printf("%d passed, %d failed, %d skipped\n", total.Passed, total.Failed, total.Skipped)
		if total.Failed > 0 || total.Passed == 0 {
			return errors.New("the tests did not pass")
		}
		return nil
	}
	cmd := exec.Command("go", append([]string{"test", "-json"}, args[2:]...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if err := total.read(out); err != nil {
		return err
	}
	failed := cmd.Wait()
	b, err := json.Marshal(total)
	if err != nil {
		return err
	}
	if err := os.WriteFile(args[1], b, 0o644); err != nil {
		return err
	}
	return failed
}

func load(file string) (t tally, err error) {
	b, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return t, nil
	}
	if err != nil {
		return t, err
	}
	return t, json.Unmarshal(b, &t)
}

// read prints what a person wants to see of the stream, and counts.
func (t *tally) read(r io.Reader) error {
	held := map[string][]string{}
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 16<<20)
	for sc.Scan() {
		var ev event
		if err := json.Unmarshal(sc.Bytes(), &ev); err != nil {
			fmt.Println(sc.Text()) // a build error
			continue
		}
		key := ev.Package + "\x00" + ev.Test
		switch ev.Action {
		case "output", "build-output":
			if ev.Action == "build-output" {
				fmt.Print(ev.Output)
			} else if ev.Test != "" {
				held[key] = append(held[key], ev.Output)
			} else if !strings.HasPrefix(ev.Output, "PASS") && !strings.Contains(ev.Output, "[no test files]") {
				fmt.Print(ev.Output)
			}
		case "pass", "fail", "skip":
			t.finish(ev, held[key])
			delete(held, key)
		}
	}
	return sc.Err()
}

// finish counts a test, and shows its output where it did not pass.
func (t *tally) finish(ev event, output []string) {
	if ev.Test == "" {
		if ev.Action == "fail" {
			t.Failed++ // the package itself: it did not build, or ended in the middle
		}
		return
	}
	switch ev.Action {
	case "pass":
		t.Passed++
		for _, line := range output { // what a test measured
			if strings.Contains(line, "measured:") {
				fmt.Print(line)
			}
		}
		return
	case "fail":
		t.Failed++
	case "skip":
		t.Skipped++
	}
	for _, line := range output {
		fmt.Print(line)
	}
}
