package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"holdfast/internal/source"
	"holdfast/internal/source/postgres/pgdump"
)

// pipeSize lets pg_dump run ahead while a block is compressed and sealed.
const pipeSize = 1 << 20

// dump is a running pg_dump. Reading it to io.EOF means that it exited with status 0 and wrote its trailer.
type dump struct {
	ctx    context.Context // of the open that started it; a dump lives no longer
	name   string
	cmd    *exec.Cmd
	stop   context.CancelCauseFunc
	out    *os.File
	facts  *pgdump.Reader
	said   *tail
	server params
	watch  *watch // nil: nobody watches for stalls

	waited  bool  // the process was waited for
	waitErr error // what it came to
	err     error // the first error of Read, io.EOF at a good end
	good    func(facts []source.Fact, warnings []string)
}

// command makes the process; a drill makes it in a sandbox.
type command func(ctx context.Context, path string, args, env []string) *exec.Cmd

// plainCommand runs a program as it is. A process group of its own keeps the terminal's Ctrl-C from it: the run
// decides how to end.
func plainCommand(ctx context.Context, path string, args, env []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	// At SIGTERM pg_dump asks the server to cancel what it waits for. Killed outright it would leave a session there that
	// goes on waiting for a lock.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// openDump starts pg_dump on a snapshot and watches over it.
func (c *capture) openDump(ctx context.Context, s *snapshot) (io.ReadCloser, error) {
	args := append([]string{
		"--snapshot=" + s.id, "--encoding=" + s.database.Encoding,
		fmt.Sprintf("--lock-wait-timeout=%d", c.opt.LockWait.Milliseconds()),
	}, c.record.filtersOf(s.database)...)
	server := s.server
	if s.escapes {
		server = server.with("bytea_output", "hex")
	}
	if s.quotes {
		server = server.with("quote_all_identifiers", "off")
	}
	server = server.on(s.database.Name)
	server["application_name"] = "holdfast " + strings.ToLower(rand.Text()[:10])
	d, err := startDump(ctx, plainCommand, c.dump.path, args, server)
	if err != nil {
		return nil, fmt.Errorf("dump database %q: %w", s.database.Name, err)
	}
	d.name = s.database.Dump
	d.watch = newWatch(server, c.opt.Stall)
	d.watch.start(d.ctx, d.stop)
	prefix, item := s.database.Prefix, s.database.Dump
	d.good = func(facts []source.Fact, warnings []string) {
		c.finish(item, prefixed(prefix, facts))
		for _, warning := range warnings {
			c.note("pg_dump: " + warning)
		}
	}
	return d, nil
}

// prefixed puts the database's name before the names of facts.
func prefixed(prefix string, facts []source.Fact) []source.Fact {
	for i := range facts {
		facts[i].Name = prefix + facts[i].Name
	}
	return facts
}

// startDump starts pg_dump. What comes of it must be closed.
func startDump(ctx context.Context, run command, path string, args []string, server params) (*dump, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	growPipe(r)
	env, rest := server.env()
	args = append([]string{"--format=plain", "--no-password"}, append(args, rest...)...)
	ctx, stop := context.WithCancelCause(ctx)
	d := &dump{ctx: ctx, stop: stop, out: r, said: &tail{}, server: server}
	d.facts = pgdump.NewReader(pipeEnd{d})
	d.cmd = run(ctx, path, args, env)
	d.cmd.Stdout, d.cmd.Stderr = w, d.said
	err = d.cmd.Start()
	w.Close()
	if err != nil {
		r.Close()
		stop(nil)
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	return d, nil
}

// growPipe is a wish: a pipe of the usual size works too.
func growPipe(f *os.File) {
	if raw, err := f.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _, _ = unix.FcntlInt(fd, unix.F_SETPIPE_SZ, pipeSize) })
	}
}

// pipeEnd is what the reader of facts reads: the pipe, whose end counts only if the program ended well.
type pipeEnd struct{ d *dump }

func (e pipeEnd) Read(p []byte) (int, error) {
	if e.d.watch != nil {
		e.d.watch.enter()
		defer e.d.watch.leave()
	}
	n, err := e.d.out.Read(p)
	if err != nil {
		if failed := e.d.wait(); failed != nil {
			err = failed
		}
	}
	return n, err
}

// wait ends the watch and the process, once, and says why it failed.
func (d *dump) wait() error {
	if d.waited {
		return d.waitErr
	}
	d.waited = true
	d.waitErr = d.cmd.Wait()
	cause := context.Cause(d.ctx)
	d.stop(nil)
	blockers := ""
	if d.watch != nil {
		blockers = d.watch.end()
	}
	d.out.Close()
	switch {
	case d.waitErr == nil:
	case cause != nil:
		d.waitErr = cause
	default:
		d.waitErr = explainDump("pg_dump", d.said.String(), d.server, blockers)
	}
	return d.waitErr
}

func (d *dump) Read(p []byte) (int, error) {
	if d.err != nil {
		return 0, d.err
	}
	n, err := d.facts.Read(p)
	if err == nil {
		return n, nil
	}
	if failed := d.wait(); failed != nil {
		err = failed
	}
	if err == io.EOF && d.good != nil {
		facts, factsErr := d.facts.Facts()
		if factsErr != nil {
			err = factsErr
		} else {
			d.good(facts, readComplaint(d.said.String()).warnings)
		}
	}
	if err != io.EOF {
		err = fmt.Errorf("dump %s: %w", d.name, err)
	}
	d.err = err
	return n, err
}

// Close returns nil only for a dump that was read to its end.
func (d *dump) Close() error {
	switch {
	case d.err == io.EOF:
		return nil
	case d.err != nil:
		d.abort()
		return d.err
	}
	d.err = fmt.Errorf("item %s was closed before its end", d.name)
	if cause := context.Cause(d.ctx); cause != nil {
		d.err = errors.Join(d.err, cause)
	}
	d.abort()
	return d.err
}

func (d *dump) abort() {
	d.stop(nil)
	_ = d.wait() // killed by us: its status tells nothing
}
