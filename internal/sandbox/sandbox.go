// Package sandbox runs one program where it can reach nothing of the host: no file but system libraries and what the
// caller names, no network, no other process, no privilege.
//
// It hides namespaces, mounts, capabilities and the re-execution of the own binary that they need. Its laws: what is
// not named in [Options] does not exist inside; exactly one folder is writable on the host, the scratch folder, at its
// own path, so that sockets in it are reachable from outside; only the three standard streams are handed in; and
// nothing that was started inside outlives the process that started it. A set-up step that fails ends the process
// with exit code 125 and the reason on its standard error, before the program has run.
//
// It is not its job to limit memory, processor time or disk, to filter system calls, or to own the scratch folder:
// the caller makes it, gives it to the unprivileged user and removes it.
package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast"
)

// SetupFailed is the exit code of a process whose isolation could not be completed, or whose program could not be
// executed.
const SetupFailed = 125

// childName stands in argv[0] of the process that finishes the isolation.
const childName = "holdfast-sandbox"

// Options says what is visible inside a sandbox.
type Options struct {
	// Scratch is an absolute path of an existing folder, bound read-write at its own path. Required.
	Scratch string
	// UID and GID are the unprivileged user and group that the program runs as. Required; 0 is refused.
	UID, GID int
	// ReadOnly lists absolute paths of files and folders that are visible besides the system's programs and
	// libraries. One that does not exist is an error. One inside Scratch stays writable.
	ReadOnly []string
	// Env is the whole environment of the program: nothing is inherited.
	Env []string
	// Dir is the working directory inside. Default: Scratch.
	Dir string
}

// spec is what the child needs to know. It stands in an argument vector for a moment, so it must never hold a secret:
// the program's environment travels as the child's own environment.
type spec struct {
	Scratch  string   `json:"scratch,omitempty"`
	UID      int      `json:"uid"`
	GID      int      `json:"gid"`
	ReadOnly []string `json:"read_only,omitempty"`
	Dir      string   `json:"dir"`
	Argv     []string `json:"argv,omitempty"` // none: a trial that ends where the program would begin
	Parent   int      `json:"parent"`
}

// Available builds an empty sandbox and returns nil if that worked. Otherwise the error wraps
// [holdfast.ErrCannotTest] and carries a hint.
func Available() error {
	if os.Geteuid() != 0 {
		return holdfast.WithHint(fmt.Errorf("%w: a sandbox needs root", holdfast.ErrCannotTest),
			"run the drill as root, for example through sudo or a systemd unit without User=")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	const nobody = 65534
	cmd := command(ctx, spec{UID: nobody, GID: nobody, Dir: "/"}, nil)
	output, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	if reason := strings.TrimSpace(string(output)); reason != "" {
		err = errors.New(reason)
	}
	return holdfast.WithHint(fmt.Errorf("%w: build a trial sandbox: %w", holdfast.ErrCannotTest, err),
		"drills need Linux 5.12 or newer and CAP_SYS_ADMIN; in a container, allow namespaces and mounts, or drill on another host")
}

// Command returns a command, not started, that runs argv inside a sandbox: set Stdin, Stdout and Stderr, then Start
// and Wait as usual. argv[0] is an absolute path as seen inside. When ctx ends, the program and all it started are
// killed. Path, Args, Env, Dir, ExtraFiles and SysProcAttr of the command are taken: leave them alone.
//
// The program is process 1 of its sandbox: a signal for which it has no handler does nothing, except SIGKILL and
// SIGSTOP from outside; and when it ends, all it started is killed.
//
// The program is killed when the thread that started it ends, which in Go is the end of the process unless a
// goroutine ends with its thread locked (runtime.LockOSThread).
func Command(ctx context.Context, opt Options, argv ...string) *exec.Cmd {
	s := spec{Scratch: opt.Scratch, UID: opt.UID, GID: opt.GID, ReadOnly: opt.ReadOnly, Dir: opt.Dir, Argv: argv}
	if s.Dir == "" {
		s.Dir = s.Scratch
	}
	cmd := command(ctx, s, opt.Env)
	if err := s.validate(); err != nil && cmd.Err == nil {
		cmd.Err = fmt.Errorf("sandbox: %w", err)
	}
	return cmd
}

func command(ctx context.Context, s spec, env []string) *exec.Cmd {
	s.Parent = os.Getpid()
	arg, err := json.Marshal(s)
	cmd := exec.CommandContext(ctx, "/proc/self/exe", string(arg))
	cmd.Args[0] = childName
	if err != nil {
		cmd.Err = fmt.Errorf("sandbox: encode options: %w", err)
	}
	if os.Args[0] == childName {
		// Without this a program whose main lacks Child would start itself without end.
		cmd.Err = errors.New("sandbox: main did not call sandbox.Child first")
	}
	// A nil Env would let the program inherit the whole environment.
	cmd.Env = append([]string{}, env...)
	cmd.SysProcAttr = &unix.SysProcAttr{
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWPID | unix.CLONE_NEWUTS,
		Pdeathsig:  unix.SIGKILL,
		// A session of its own: no controlling terminal to push input into, no Ctrl-C besides ctx.
		Setsid: true,
	}
	return cmd
}

func (s spec) validate() error {
	if s.UID <= 0 || s.GID <= 0 {
		return fmt.Errorf("user %d, group %d: an unprivileged user and group are required", s.UID, s.GID)
	}
	if len(s.Argv) == 0 || !filepath.IsAbs(s.Argv[0]) {
		return fmt.Errorf("program %q: an absolute path is required", s.Argv)
	}
	for _, path := range append([]string{s.Scratch, s.Dir}, s.ReadOnly...) {
		if !filepath.IsAbs(path) {
			return fmt.Errorf("path %q: an absolute path is required", path)
		}
	}
	if filepath.Clean(s.Scratch) == "/" {
		return errors.New(`scratch folder "/": a folder of its own is required`)
	}
	return nil
}
