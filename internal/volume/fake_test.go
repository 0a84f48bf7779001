package volume_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"holdfast/internal/volume"
)

// fake is a runner that records commands, answers them by a table, and makes chosen ones fail.
//
//	f := newFake(t)
//	f.on("cryptsetup luksDump", says(dump, 0)).on("mount", says("", 32))
//	f.fail(3, killed) // the third command
//	host := volume.Host{Run: f.run, Now: now}
type fake struct {
	t     *testing.T
	other volume.Runner // for what the table has no answer to; nil: such a command fails the test

	mu       sync.Mutex
	answers  map[string]volume.Runner
	faults   map[int]fault
	commands []volume.Command
}

// fault is how a command fails.
type fault struct {
	code int   // its exit status, with what it says on its standard error
	err  error // it was ended: nothing is known of what it did
	done bool  // it did its work before that: a lost answer
}

var errKilled = errors.New("signal: killed")

func exits(code int) fault { return fault{code: code} }

// killed: ended by a signal before it did anything; lost: its work was done, and nobody heard of it.
func killed() fault { return fault{err: errKilled} }
func lost() fault   { return fault{err: errKilled, done: true} }

func newFake(t *testing.T) *fake {
	return &fake{t: t, answers: map[string]volume.Runner{}, faults: map[int]fault{}}
}

// realRunner runs the programs themselves, recorded, and with the faults that are asked for.
func realRunner(t *testing.T) *fake {
	f := newFake(t)
	f.other = volume.RunProgram
	return f
}

// on gives a program's answer; for cryptsetup its action stands behind it: "cryptsetup luksDump".
func (f *fake) on(command string, answer volume.Runner) *fake {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers[command] = answer
	return f
}

// fail makes the command number n from now, from 1, fail.
func (f *fake) fail(n int, how fault) *fake {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults[len(f.commands)+n] = how
	return f
}

// ran is what was run, one line each: "cryptsetup luksKillSlot --batch-mode …".
func (f *fake) ran() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var lines []string
	for _, c := range f.commands {
		lines = append(lines, strings.Join(c.Args, " "))
	}
	return lines
}

// actions is what was run, as the table calls it.
func (f *fake) actions() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var names []string
	for _, c := range f.commands {
		names = append(names, action(c))
	}
	return names
}

func (f *fake) run(ctx context.Context, c volume.Command) (volume.Output, error) {
	f.mu.Lock()
	f.commands = append(f.commands, c)
	how, fails := f.faults[len(f.commands)]
	answer, known := f.answers[action(c)]
	f.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return volume.Output{}, err
	}
	if !known {
		answer = f.other
	}
	if fails && !how.done {
		return volume.Output{Code: how.code, Stderr: []byte("the fake says no\n")}, how.err
	}
	if answer == nil {
		f.t.Errorf("there is no answer to %q", strings.Join(c.Args, " "))
		return volume.Output{}, errors.New("no such answer")
	}
	out, err := answer(ctx, c)
	if fails {
		return volume.Output{}, how.err
	}
	return out, err
}

func action(c volume.Command) string {
	if c.Args[0] == "cryptsetup" && len(c.Args) > 1 && !strings.HasPrefix(c.Args[1], "-") {
		return c.Args[0] + " " + c.Args[1]
	}
	return c.Args[0]
}

// says is a runner that always answers the same.
func says(stdout string, code int) volume.Runner {
	return func(context.Context, volume.Command) (volume.Output, error) {
		return volume.Output{Stdout: []byte(stdout), Code: code}, nil
	}
}
