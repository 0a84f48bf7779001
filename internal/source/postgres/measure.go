package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/source/postgres/pgclient"
)

// MeasureOptions say how a folder is measured.
type MeasureOptions struct {
	Dir      string // an existing, empty folder on the storage that is measured; emptied afterwards
	Work     string // an existing, empty folder with a short path, for the socket
	UID, GID int    // who runs the server
	Major    int    // of the programs; 0: the newest
	Scale    int    // of pgbench, each about 15 MB; 0: 10
	Span     time.Duration
	BinDirs  []string
	Path     string // as in Options
}

// Measured is how a throwaway server fared in a folder.
type Measured struct {
	TPS     float64       // transactions in a second, by pgbench's own mix
	Latency time.Duration // of one of them
	Dump    time.Duration // of a dump that nobody keeps
}

// Measure makes a cluster in a folder, with the settings that initdb gives it, lets pgbench work on it, and dumps it. Source: pgbench(1).
func Measure(ctx context.Context, opt MeasureOptions, observe holdfast.Observer) (m Measured, err error) {
	if observe == nil {
		observe = func(holdfast.Event) {}
	}
	if opt.Scale == 0 {
		opt.Scale = 10
	}
	site := pgclient.NewHost(opt.BinDirs, opt.Path)
	pgbench, err := newestProgram(ctx, site, "pgbench", opt.Major)
	if err != nil {
		return m, err
	}
	// It is root's, and initdb works in it before the server's start gives it away.
	if err := os.Chown(opt.Work, opt.UID, opt.GID); err != nil {
		return m, fmt.Errorf("prepare %s: %w", opt.Work, err)
	}
	data := filepath.Join(opt.Dir, "measure")
	defer func() { err = errors.Join(err, os.RemoveAll(data)) }()
	if err := os.Mkdir(data, 0o700); err != nil {
		return m, fmt.Errorf("make a folder to measure in: %w", err)
	}
	if err := os.Chown(data, opt.UID, opt.GID); err != nil {
		return m, fmt.Errorf("make a folder to measure in: %w", err)
	}
	run := func(program pgclient.Program, args ...string) (string, error) {
		said := &pgclient.Tail{}
		as := site.Within(func(ctx context.Context, path string, args, env []string) *exec.Cmd {
			cmd := pgclient.Plain(ctx, path, args, env)
			cmd.Dir = opt.Work
			cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
			cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(opt.UID), Gid: uint32(opt.GID)}
			return cmd
		})
		p, err := as.Start(ctx, pgclient.Command{Path: program.Path, Args: args, Env: []string{"LC_ALL=C", "TZ=UTC", "PATH=/usr/bin:/bin", "HOME=" + opt.Work}, Stdout: said, Stderr: said})
		if err == nil {
			err = p.Wait()
		}
		if err != nil {
			return "", fmt.Errorf("%s: %w: %s", filepath.Base(program.Path), err, lastLine(said.String()))
		}
		return said.String(), nil
	}
	observe(holdfast.Event{Kind: holdfast.EventPhase, Message: "make a throwaway cluster in " + opt.Dir})
	if _, err := run(pgbench.Beside("initdb"), "--pgdata="+data, "--username=postgres", "--auth=trust", "--no-locale", "--encoding=UTF8"); err != nil {
		return m, err
	}
	server, err := StartOn(ctx, StandingOptions{Dir: data, Work: opt.Work, UID: opt.UID, GID: opt.GID, Role: "postgres", BinDirs: opt.BinDirs, Path: opt.Path})
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, server.Stop()) }()
	reach := []string{"--host=" + opt.Work, "--port=5432", "--username=postgres"}
	if _, err := run(pgbench, append(reach, "--initialize", "--quiet", "--scale="+strconv.Itoa(opt.Scale), "postgres")...); err != nil {
		return m, err
	}
	observe(holdfast.Event{Kind: holdfast.EventPhase, Message: fmt.Sprintf("pgbench for %s in %s", opt.Span, opt.Dir)})
	said, err := run(pgbench, append(reach, "--client=4", "--jobs=2", "--time="+strconv.Itoa(max(1, int(opt.Span.Seconds()))), "postgres")...)
	if err != nil {
		return m, err
	}
	if m.TPS, m.Latency, err = parsePgbench(said); err != nil {
		return m, err
	}
	// What the server has in memory costs no storage.
	if err := dropCache(data); err != nil {
		return m, err
	}
	began := time.Now()
	if _, err := run(pgbench.Beside("pg_dump"), append(reach, "--format=plain", "--file=/dev/null", "postgres")...); err != nil {
		return m, err
	}
	m.Dump = time.Since(began)
	return m, nil
}

// newestProgram is the program of that major, or the newest one.
func newestProgram(ctx context.Context, site pgclient.Site, name string, major int) (pgclient.Program, error) {
	if major > 0 {
		return pgclient.Exactly(ctx, site, name, major)
	}
	found, err := site.Find(ctx, name)
	if err != nil {
		return pgclient.Program{}, err
	}
	if len(found) == 0 {
		return pgclient.Program{}, holdfast.WithHint(fmt.Errorf("%w: %s is not on this machine", holdfast.ErrCannotTest, name), "install the packages of PostgreSQL's server; pgbench comes with it")
	}
	return found[len(found)-1], nil
}

var (
	tpsRule     = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)
	latencyRule = regexp.MustCompile(`(?m)^latency average = ([0-9.]+) ms`)
)

func parsePgbench(said string) (tps float64, latency time.Duration, err error) {
	t, l := tpsRule.FindStringSubmatch(said), latencyRule.FindStringSubmatch(said)
	if t == nil || l == nil {
		return 0, 0, fmt.Errorf("pgbench said nothing of transactions: %s", lastLine(said))
	}
	if tps, err = strconv.ParseFloat(t[1], 64); err != nil {
		return 0, 0, err
	}
	ms, err := strconv.ParseFloat(l[1], 64)
	return tps, time.Duration(ms * float64(time.Millisecond)), err
}

// dropCache has the next readers of files below dir ask the storage.
func dropCache(dir string) error {
	if err := syncAll(dir); err != nil {
		return err
	}
	return filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		f, err := os.Open(path)
		if errors.Is(err, os.ErrNotExist) {
			return nil // the server took it away
		}
		if err != nil {
			return err
		}
		return errors.Join(unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED), f.Close())
	})
}
