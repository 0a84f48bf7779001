package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/source"
	"holdfast/internal/source/postgres/pgclient"
	"holdfast/internal/source/postgres/pgdata"
)

// StandingOptions say how a server is started on a data directory that is there.
type StandingOptions struct {
	Dir      string // the data directory
	Work     string // an existing, empty folder for the socket and the settings, with a short path
	UID, GID int    // whom the directory belongs to
	Role     string // a superuser of the cluster
	BinDirs  []string
	Path     string // as in Options
}

// Standing is a server on a copy of a data directory: without a network, with settings of its own, and reached by a socket that only its user
// and root can open.
type Standing struct {
	drill  *Drill
	opt    StandingOptions
	server pgclient.Params
}

// StartOn starts it, and waits until it answers.
func StartOn(ctx context.Context, opt StandingOptions) (*Standing, error) {
	major, err := majorOf(opt.Dir)
	if err != nil {
		return nil, err
	}
	site := pgclient.NewHost(opt.BinDirs, opt.Path)
	postgres, err := pgclient.Exactly(ctx, site, "postgres", major)
	if err != nil {
		return nil, err
	}
	if err := os.Chown(opt.Work, opt.UID, opt.GID); err != nil {
		return nil, fmt.Errorf("prepare %s: %w", opt.Work, err)
	}
	// The directory's own settings may lie elsewhere, and say where to listen and what to archive.
	for name, text := range map[string]string{"postgresql.conf": "", "pg_hba.conf": "local all all trust\n", "pg_ident.conf": ""} {
		if err := os.WriteFile(filepath.Join(opt.Work, name), []byte(text), 0o644); err != nil {
			return nil, fmt.Errorf("write settings: %w", err)
		}
	}
	s := &Standing{drill: &Drill{log: &pgclient.Tail{}}, opt: opt}
	s.server = pgclient.Params{"host": opt.Work, "port": "5432", "user": opt.Role, "dbname": "postgres", "home": opt.Work,
		"passfile": "/dev/null", "sslmode": "disable", "gssencmode": "disable", "connect_timeout": "60"}
	args := []string{"-D", opt.Dir}
	for _, setting := range []string{
		"config_file=" + filepath.Join(opt.Work, "postgresql.conf"), "hba_file=" + filepath.Join(opt.Work, "pg_hba.conf"), "ident_file=" + filepath.Join(opt.Work, "pg_ident.conf"),
		"listen_addresses=", "unix_socket_directories=" + opt.Work, "unix_socket_permissions=0700", "port=5432", "archive_mode=off", "autovacuum=off",
		"max_logical_replication_workers=0", "dynamic_shared_memory_type=mmap", "lc_messages=C", "log_timezone=UTC", "logging_collector=off", "log_destination=stderr", "log_statement=none",
		"log_min_error_statement=panic", "max_locks_per_transaction=1024",
	} {
		args = append(args, "-c", setting)
	}
	programs := site.Within(func(ctx context.Context, path string, args, env []string) *exec.Cmd {
		cmd := pgclient.Plain(ctx, path, args, env)
		cmd.Dir = opt.Work
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(opt.UID), Gid: uint32(opt.GID)}
		cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWNET
		return cmd
	})
	command := pgclient.Command{Path: postgres.Path, Args: args, Env: []string{"LC_ALL=C", "TZ=UTC", "PATH=/usr/bin:/bin", "HOME=" + opt.Work}, End: syscall.SIGINT}
	if err := s.drill.launch(ctx, programs, command); err != nil {
		return nil, err
	}
	if err := s.drill.await(ctx, site, s.server); err != nil {
		return nil, errors.Join(err, s.Stop())
	}
	return s, nil
}

// Options lead to the server.
func (s *Standing) Options() Options {
	url := fmt.Sprintf("host=%s port=5432 dbname=postgres user=%s sslmode=disable", pgclient.QuoteKeyword(s.opt.Work), pgclient.QuoteKeyword(s.server["user"]))
	return Options{Name: "copy", URL: holdfast.NewSecret(url), Env: map[string]string{"HOME": s.opt.Work}, BinDirs: s.opt.BinDirs, Path: s.opt.Path}
}

// Stop ends the server. What it holds is written.
func (s *Standing) Stop() error {
	s.drill.halt()
	names := []string{"postgresql.conf", "pg_hba.conf", "pg_ident.conf"}
	var errs []error
	for _, name := range names {
		if err := os.Remove(filepath.Join(s.opt.Work, name)); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// majorOf is the version of a data directory.
func majorOf(dir string) (int, error) {
	text, err := os.ReadFile(filepath.Join(dir, "PG_VERSION"))
	if err != nil {
		return 0, holdfast.WithHint(fmt.Errorf("read the version of the data directory: %w", err), "name the folder that has PG_VERSION in it")
	}
	major, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0, fmt.Errorf("%w: the version of data directory %s is %q", holdfast.ErrDifference, dir, text)
	}
	return major, supported(major)
}

// Settle makes dir, which does not exist, a data directory with all that stored has: a new cluster, restored, compared with the facts, under its
// final names, with all of its roles, shut down cleanly and synced. as is how the cluster is made; a locale that is not on this machine is observed as
// a warning, and the cluster has C. settings is a folder whose postgresql.conf, pg_hba.conf and the like it gets; "" for none.
func Settle(ctx context.Context, opt DrillOptions, stored source.Stored, dir, settings string, as Cluster, observe holdfast.Observer) (err error) {
	if observe == nil {
		observe = func(holdfast.Event) {}
	}
	if _, err := os.Lstat(dir); !errors.Is(err, fs.ErrNotExist) {
		return holdfast.WithHint(fmt.Errorf("%w: %s is there already", holdfast.ErrUsage, dir), "remove what an earlier try left, or choose another folder")
	}
	r, err := readRecord(stored)
	if err != nil {
		return err
	}
	opt.Unsandboxed = true
	if err := opt.complete(); err != nil {
		return err
	}
	if err := checkRoom(opt.Scratch, stored); err != nil {
		return err
	}
	d := &Drill{opt: opt, log: &pgclient.Tail{}, lasting: &as}
	defer func() { err = errors.Join(err, d.shutdown()) }()
	if err := d.start(ctx, r, observe); err != nil {
		return err
	}
	d.Place.drill, d.Place.together, d.Place.settles, d.Place.target.WithRoles = false, true, true, true
	if err := d.Restore(ctx, stored); err != nil {
		return err
	}
	facts, err := d.Check(ctx)
	if err != nil {
		return err
	}
	for _, diff := range source.Compare(stored.Facts.Facts, facts.Facts) {
		if diff.Fails() {
			return fmt.Errorf("%w: what was restored is not what was backed up: %s", holdfast.ErrDifference, diff)
		}
	}
	if _, err := d.Place.Commit(ctx); err != nil {
		return err
	}
	for _, one := range d.Place.staged {
		if one.kept == "" {
			continue
		}
		// initdb made it, a moment ago.
		if err := d.Place.exec(ctx, "drop what initdb made", "DROP DATABASE "+pgclient.QuoteIdent(one.kept)); err != nil {
			return err
		}
	}
	// The end of a server is waited for a few seconds only.
	if err := d.Place.exec(ctx, "checkpoint", "CHECKPOINT"); err != nil {
		return err
	}
	if err := d.Place.Close(); err != nil {
		return err
	}
	d.Place = nil
	d.halt()
	data := filepath.Join(d.opt.Scratch, "data")
	control, err := pgdata.ReadControl(data)
	if err != nil {
		return err
	}
	if control.State != pgdata.ShutDown {
		return fmt.Errorf("the restored cluster is %q, and was to be %q", control.State, pgdata.ShutDown)
	}
	if settings != "" {
		if err := takeSettings(settings, data); err != nil {
			return err
		}
	}
	if err := syncAll(data); err != nil {
		return err
	}
	if err := os.Rename(data, dir); err != nil {
		return fmt.Errorf("give the restored data directory its name: %w", err)
	}
	return syncAll(filepath.Dir(dir))
}

// takeSettings brings over the files by which a cluster is configured. What is not there is configured elsewhere.
func takeSettings(from, to string) error {
	var owner unix.Stat_t
	if err := unix.Stat(to, &owner); err != nil {
		return err
	}
	for _, pattern := range []string{"*.conf", "conf.d/*.conf", "server.crt", "server.key", "root.crt"} {
		paths, err := filepath.Glob(filepath.Join(from, pattern))
		if err != nil {
			return err
		}
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				return fmt.Errorf("read settings: %w", err)
			}
			name, err := filepath.Rel(from, path)
			if err != nil {
				return err
			}
			target := filepath.Join(to, name)
			if err := os.MkdirAll(filepath.Dir(target), 0o700); err != nil {
				return fmt.Errorf("write settings: %w", err)
			}
			if err := os.WriteFile(target, data, 0o600); err != nil {
				return fmt.Errorf("write settings: %w", err)
			}
			for _, p := range []string{filepath.Dir(target), target} {
				if err := os.Chown(p, int(owner.Uid), int(owner.Gid)); err != nil {
					return fmt.Errorf("write settings: %w", err)
				}
			}
		}
	}
	return nil
}

// syncAll writes the file system that path lies on to its disk.
func syncAll(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	err = unix.Syncfs(int(f.Fd()))
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return nil
}
