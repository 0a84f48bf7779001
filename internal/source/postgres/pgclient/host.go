package pgclient

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Host is the machine that holdfast runs on.
type Host struct {
	dirs []string
	wrap Wrap
}

var _ Site = (*Host)(nil)

// Wrap makes the process that runs a program. A drill makes it in a sandbox.
type Wrap func(ctx context.Context, path string, args, env []string) *exec.Cmd

// NewHost returns a site that looks for programs in dirs, in the usual folders, and in those of path, which is a list as
// in the variable PATH.
func NewHost(dirs []string, path string) *Host {
	list := slices.Clone(dirs)
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin"} {
		found, _ := filepath.Glob(pattern) // the only error is a bad pattern
		list = append(list, found...)
	}
	for _, dir := range filepath.SplitList(path) {
		if filepath.IsAbs(dir) {
			list = append(list, dir)
		}
	}
	return &Host{list, Plain}
}

// Within returns the same host, where wrap makes the processes.
func (h *Host) Within(wrap Wrap) *Host { return &Host{h.dirs, wrap} }

// Plain runs a program as it is. A process group of its own keeps the terminal's Ctrl-C from it: the run decides how to
// end.
func Plain(ctx context.Context, path string, args, env []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	// At SIGTERM pg_dump asks the server to cancel what it waits for. Killed outright it would leave a session there that
	// goes on waiting for a lock.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	return cmd
}

func (h *Host) String() string { return "this machine" }

// Dial connects by the protocol.
func (h *Host) Dial(ctx context.Context, p Params) (Session, Params, error) {
	s, pinned, err := dialFirst(ctx, p)
	if err != nil {
		return nil, nil, err
	}
	return s, pinned, nil
}

var versionText = regexp.MustCompile(`\(PostgreSQL\) (\d+)(?:\.(\d+))?`)

// Find runs every program of that name to ask for its version.
func (h *Host) Find(ctx context.Context, name string) ([]Program, error) {
	return findIn(ctx, h.dirs, name), nil
}

// findIn lists the programs called name in some folders, oldest first.
func findIn(ctx context.Context, dirs []string, name string) []Program {
	var list []Program
	seen := map[string]bool{}
	for _, dir := range dirs {
		path := filepath.Join(dir, name)
		real, err := filepath.EvalSymlinks(path)
		// Debian's /usr/bin/pg_dump leads to pg_wrapper, which picks a version by rules of its own.
		if err != nil || seen[real] || filepath.Base(real) == "pg_wrapper" {
			continue
		}
		seen[real] = true
		if info, err := os.Stat(real); err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		cmd := exec.CommandContext(ctx, path, "--version")
		cmd.Env = []string{"LC_ALL=C", "PATH=/usr/bin:/bin"}
		out, err := cmd.Output()
		cancel()
		if err != nil {
			continue
		}
		if found, ok := parseVersion(path, string(out)); ok {
			list = append(list, found)
		}
	}
	sortPrograms(list)
	return list
}

func sortPrograms(list []Program) {
	slices.SortStableFunc(list, func(a, b Program) int {
		return cmp.Or(cmp.Compare(a.Major, b.Major), cmp.Compare(a.Minor, b.Minor))
	})
}

// parseVersion reads what a program says to --version.
func parseVersion(path, said string) (Program, bool) {
	match := versionText.FindStringSubmatch(said)
	if match == nil {
		return Program{}, false
	}
	major, majorErr := strconv.Atoi(match[1])
	minor := 0
	var minorErr error
	if match[2] != "" {
		minor, minorErr = strconv.Atoi(match[2])
	}
	return Program{path, major, minor}, majorErr == nil && minorErr == nil
}

// pipeSize lets a program run ahead while a block is compressed and sealed.
const pipeSize = 1 << 20

// growPipe is a wish: a pipe of the usual size works too.
func growPipe(f *os.File) {
	if raw, err := f.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeSize) })
	}
}

// Start starts a program on this machine.
func (h *Host) Start(ctx context.Context, c Command) (*Process, error) {
	args, env := c.Args, c.Env
	if c.Params != nil {
		own, rest := c.Params.env()
		env = append(own, env...)
		args = append(slices.Clone(args), rest...)
	}
	cmd := h.wrap(ctx, c.Path, args, env)
	if c.End != 0 {
		cmd.Cancel = func() error { return cmd.Process.Signal(c.End) }
	}
	cmd.WaitDelay = 10 * time.Second
	cmd.Stdout, cmd.Stderr = c.Stdout, c.Stderr
	p := &Process{}
	var theirs, ours []*os.File
	if c.Stdin {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, fmt.Errorf("make a pipe: %w", err)
		}
		growPipe(w)
		cmd.Stdin, p.Stdin = r, w
		theirs, ours = append(theirs, r), append(ours, w)
	}
	if c.Stdout == nil {
		r, w, err := os.Pipe()
		if err != nil {
			closeAll(append(theirs, ours...))
			return nil, fmt.Errorf("make a pipe: %w", err)
		}
		growPipe(r)
		cmd.Stdout, p.Stdout = w, r
		theirs, ours = append(theirs, w), append(ours, r)
	}
	err := cmd.Start()
	closeAll(theirs)
	if err != nil {
		closeAll(ours)
		return nil, fmt.Errorf("start %s: %w", c.Path, err)
	}
	p.wait = func() error {
		err := exitOf(cmd.Wait())
		if p.Stdout != nil {
			p.Stdout.(io.Closer).Close() // a read end: nothing is lost that somebody still wants
		}
		return err
	}
	return p, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close() // a pipe that nothing was written to
	}
}

// exitOf puts the end of a process in this package's words.
func exitOf(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return &ExitError{Code: exit.ExitCode(), Status: exit.String()}
	}
	return err
}
