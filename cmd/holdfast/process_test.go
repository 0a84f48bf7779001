package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cli"
)

// workplace is a folder with keys, a state folder and an environment of its own, for stories that a script cannot tell.
type workplace struct {
	dir string
	env []string
}

func newWorkplace(t *testing.T) workplace {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"home", "tmp", "state"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	return workplace{dir, []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir + "/home", "TMPDIR=" + dir + "/tmp", "HOLDFAST_STATE=" + dir + "/state", "USER=tester",
	}}
}

func (w workplace) path(name string) string { return filepath.Join(w.dir, name) }

func (w workplace) write(t *testing.T, name, text string) string {
	t.Helper()
	path := w.path(name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// command is holdfast as a process of its own.
func (w workplace) command(args ...string) *exec.Cmd {
	cmd := exec.Command("holdfast", args...)
	cmd.Dir, cmd.Env = w.dir, w.env
	return cmd
}

// outcome is what a person sees of one run.
type outcome struct {
	code     int
	out, err string
}

func (w workplace) run(t *testing.T, args ...string) outcome {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := w.command(args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return outcome{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
}

// good runs holdfast and requires success.
func (w workplace) good(t *testing.T, args ...string) outcome {
	t.Helper()
	o := w.run(t, args...)
	if o.code != 0 {
		t.Fatalf("holdfast %s: exit code %d\n%s%s", strings.Join(args, " "), o.code, o.out, o.err)
	}
	return o
}

// at runs holdfast within this process, at a time of the caller's choosing.
func (w workplace) at(t *testing.T, now time.Time, args ...string) outcome {
	t.Helper()
	in, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	errs, err := os.CreateTemp(w.dir, "stderr-")
	if err != nil {
		t.Fatal(err)
	}
	defer errs.Close()
	var out bytes.Buffer
	code := cli.Main(cli.Process{
		Args: args, In: in, Out: &out, Err: errs, Environ: w.env, Now: func() time.Time { return now }, Version: "test",
	})
	if _, err := errs.Seek(0, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	said, err := io.ReadAll(errs)
	if err != nil {
		t.Fatal(err)
	}
	return outcome{code, out.String(), string(said)}
}

// expect requires an exit code and texts on standard output or standard error.
func (o outcome) expect(t *testing.T, code int, texts ...string) {
	t.Helper()
	if o.code != code {
		t.Errorf("exit code %d, want %d", o.code, code)
	}
	for _, text := range texts {
		if !strings.Contains(o.out+o.err, text) {
			t.Errorf("%q is not said", text)
		}
	}
	if t.Failed() {
		t.Fatalf("standard output:\n%s\nstandard error:\n%s", o.out, o.err)
	}
}
