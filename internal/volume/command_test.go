package volume_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/volume"
)

func TestRunProgram(t *testing.T) {
	secrets := []holdfast.Secret{holdfast.NewSecret("one"), holdfast.NewSecret("two")}
	for _, test := range []struct {
		name    string
		command volume.Command
		out     string
		code    int
		err     string
	}{
		{name: "secrets and input", command: volume.Command{Args: []string{"cat", volume.SecretPath(1), "-", volume.SecretPath(0)}, Secrets: secrets, Input: []byte(" in ")}, out: "two in one"},
		{name: "no shell, and a fixed environment", command: volume.Command{Args: []string{"env"}}, out: "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\nLC_ALL=C\n"},
		{name: "exit status", command: volume.Command{Args: []string{"false"}}, code: 1},
		{name: "not there", command: volume.Command{Args: []string{"no-such-program"}}, err: "no-such-program is not installed"},
		{name: "a signal", command: volume.Command{Args: []string{"sh", "-c", "kill -KILL $$"}}, code: -1, err: "signal: killed"},
	} {
		t.Run(test.name, func(t *testing.T) {
			out, err := volume.RunProgram(t.Context(), test.command)
			if string(out.Stdout) != test.out || out.Code != test.code {
				t.Errorf("got %q, %d", out.Stdout, out.Code)
			}
			if (err == nil) != (test.err == "") || err != nil && err.Error() != test.err {
				t.Errorf("got %v, want %q", err, test.err)
			}
		})
	}
}

func TestRunProgramLines(t *testing.T) {
	var lines []string
	out, err := volume.RunProgram(t.Context(), volume.Command{
		Args: []string{"sh", "-c", "printf 'one\\ntw'; printf 'o\\n\\nrest'; echo no line >&2"},
		Line: func(line string) { lines = append(lines, line) },
	})
	if err != nil || !slices.Equal(lines, []string{"one", "two", ""}) || len(out.Stdout) > 0 || string(out.Stderr) != "no line\n" {
		t.Errorf("got %q, %+v, %v", lines, out, err)
	}
}

// A program has the time to end in order.
func TestRunProgramEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var lines []string
	_, err := volume.RunProgram(ctx, volume.Command{
		Args: []string{"sh", "-c", "trap 'echo in order; exit 3' TERM; echo ready; while :; do sleep 0.01; done"},
		Line: func(line string) {
			lines = append(lines, line)
			cancel()
		},
	})
	if !slices.Equal(lines, []string{"ready", "in order"}) {
		t.Errorf("said %q, %v", lines, err)
	}
	// Whatever it says about it, ctx ended it.
	host := volume.Host{Run: func(context.Context, volume.Command) (volume.Output, error) { return volume.Output{Code: 1}, nil }}
	if _, err := host.Header(ctx, "/dev/null"); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "luksDump") {
		t.Errorf("got %v", err)
	}
}
