package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/migration"
	"holdfast/internal/source"
	"holdfast/internal/source/postgres"
	"holdfast/internal/source/postgres/pgdata"
)

// serverSource is the source whose server's data lies on the volume.
func serverSource(cfg *config.Config, d disk) (config.Source, error) {
	for _, src := range cfg.Sources {
		if src.Name == d.config.Source && src.Kind == holdfast.KindPostgres {
			return src, nil
		}
	}
	return config.Source{}, holdfast.WithHint(fmt.Errorf("%w: the configuration does not say which PostgreSQL source has its data on volume %s", holdfast.ErrUsage, d.config.Name),
		"set volumes."+d.config.Name+".source to the name of one")
}

// serverOf is the server whose data lies, or will lie, on the volume.
func (a *app) serverOf(ctx context.Context, cfg *config.Config, d disk) (*postgres.Server, error) {
	src, err := serverSource(cfg, d)
	if err != nil {
		return nil, err
	}
	opt, err := a.postgresOptions(ctx, cfg, src)
	if err != nil {
		return nil, err
	}
	opt.BinDirs = cfg.DrillFor(d.config.Job).BinDirs
	return postgres.NewServer(opt), nil
}

// probeOf runs the fixed queries on the volume's server, once, and says how long they took.
func (a *app) probeOf(ctx context.Context, cfg *config.Config, d disk) (time.Duration, error) {
	server, err := a.serverOf(ctx, cfg, d)
	if err != nil {
		return 0, err
	}
	return server.Probe(ctx)
}

// databases puts facts in the form in which a migration compares them. The names of facts of one of several databases begin with its name.
func databases(ctx context.Context, server *postgres.Server, observe holdfast.Observer) ([]migration.Database, error) {
	facts, err := server.Facts(ctx, observe)
	if err != nil {
		return nil, err
	}
	names, err := server.Databases(ctx)
	if err != nil {
		return nil, err
	}
	all := []migration.Database{{}} // the cluster as a whole: roles, and what has no database's name before it
	for _, name := range names {
		all = append(all, migration.Database{Name: name})
	}
	for _, fact := range facts.Facts {
		at := slices.IndexFunc(names, func(name string) bool { return strings.HasPrefix(fact.Name, name+": ") })
		all[at+1].Facts = append(all[at+1].Facts, fact)
	}
	return all, nil
}

// addServer fills in what a migration asks of the server.
func (a *app) addServer(w *migration.World, m move, server *postgres.Server) {
	cfg, d := m.cfg, m.disk
	w.Checkpoint, w.CloseConnections, w.OpenConnections = server.Checkpoint, server.CloseConnections, server.OpenConnections
	w.Facts = func(ctx context.Context) ([]migration.Database, error) {
		return databases(ctx, server, a.printer.observe)
	}
	w.Probe = server.Probe
	w.Health = func(ctx context.Context) error {
		if err := server.Health(ctx); err != nil {
			return err
		}
		return a.runServer(ctx, cfg, d, d.config.Server.Health)
	}
	w.ControlData = func(_ context.Context, dir string) (migration.ControlData, error) {
		c, err := pgdata.ReadControl(dir)
		return migration.ControlData{System: fmt.Sprint(c.System), State: c.State, Checkpoint: c.Checkpoint}, err
	}
	w.Start = func(ctx context.Context) error {
		if err := a.runServer(ctx, cfg, d, a.startCommand(d)); err != nil {
			return err
		}
		return awaitServer(ctx, server, func() (string, error) { return workedIn(ctx, m) })
	}
}

// serverTime bounds how long a server may take until it answers: after a crash it goes through its log of writes first.
const serverTime = 10 * time.Minute

// serverDeath is for how long no process of a server may be there before it counts as dead: that of a container appears late.
const serverDeath = time.Minute

func awaitServer(ctx context.Context, server *postgres.Server, works func() (string, error)) error {
	ctx, cancel := context.WithTimeout(ctx, serverTime)
	defer cancel()
	for seen := time.Now(); ; {
		err := server.Health(ctx)
		if err == nil {
			return nil
		}
		dir, workErr := works()
		if workErr != nil {
			return workErr
		}
		if dir != "" {
			seen = time.Now()
		}
		if time.Since(seen) > serverDeath {
			return fmt.Errorf("the server was started, and no process of it is there: %w", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the server was started, and does not answer: %w", err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// settle restores the volume's server, which runs, from a backup into a data directory of its own.
func (a *app) settle(ctx context.Context, cfg *config.Config, d disk, stored source.Stored, dir string) (err error) {
	server, err := a.serverOf(ctx, cfg, d)
	if err != nil {
		return err
	}
	as, err := server.Cluster(ctx)
	if err != nil {
		return err
	}
	scratch, err := os.MkdirTemp(filepath.Dir(dir), ".holdfast-")
	if err != nil {
		return fmt.Errorf("make a folder beside the old directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	return postgres.Settle(ctx, postgres.DrillOptions{Scratch: scratch, UID: d.volume.UID, GID: d.volume.GID, BinDirs: cfg.DrillFor(d.config.Job).BinDirs, Path: a.env("PATH")},
		stored, dir, d.volume.DataPath(), as, a.printer.observe)
}

// rehearsal is the throwaway server of a dry run.
type rehearsal struct {
	app      *app
	cfg      *config.Config
	disk     disk
	live     *postgres.Server
	standing *postgres.Standing
	work     string
}

func (r *rehearsal) start(ctx context.Context, path string) (err error) {
	dir, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	role, err := r.live.Role(ctx)
	if err != nil {
		return err
	}
	if r.work, err = os.MkdirTemp("/run", "hf"); err != nil {
		return fmt.Errorf("make a folder for the throwaway server: %w", err)
	}
	r.standing, err = postgres.StartOn(ctx, postgres.StandingOptions{Dir: dir, Work: r.work, UID: r.disk.volume.UID, GID: r.disk.volume.GID,
		BinDirs: r.cfg.DrillFor(r.disk.config.Job).BinDirs, Path: r.app.env("PATH"), Role: role})
	if err != nil {
		return errors.Join(err, os.RemoveAll(r.work))
	}
	return nil
}

func (r *rehearsal) stop(context.Context) error {
	if r.standing == nil {
		return nil
	}
	err := r.standing.Stop()
	r.standing = nil
	return errors.Join(err, os.RemoveAll(r.work))
}

func (r *rehearsal) server() (*postgres.Server, error) {
	if r.standing == nil {
		return nil, errors.New("the throwaway server does not run")
	}
	return postgres.NewServer(r.standing.Options()), nil
}

func (r *rehearsal) facts(ctx context.Context) ([]migration.Database, error) {
	server, err := r.server()
	if err != nil {
		return nil, err
	}
	return databases(ctx, server, r.app.printer.observe)
}

func (r *rehearsal) probe(ctx context.Context) (time.Duration, error) {
	server, err := r.server()
	if err != nil {
		return 0, err
	}
	return server.Probe(ctx)
}

// snapshot copies the running server so that another one can start on the copy.
func (r *rehearsal) snapshot(from string) func(context.Context, string) (migration.Copying, error) {
	return func(ctx context.Context, dir string) (copied migration.Copying, err error) {
		err = r.live.Snapshot(ctx, dir, func(ctx context.Context, logOnly bool) error {
			pass, err := r.app.copyRunning(ctx, from, dir, logOnly)
			copied.Files, copied.Bytes, copied.Copied = copied.Files+pass.Files, copied.Bytes+pass.Bytes, copied.Copied+pass.Copied
			return err
		})
		return copied, err
	}
}

// measureServer lets a throwaway server work in a folder.
func (a *app) measureServer(ctx context.Context, cfg *config.Config, d disk, dir string, f benchmarkFlags) (tps float64, dump time.Duration, err error) {
	work, err := os.MkdirTemp("/run", "hf")
	if err != nil {
		return 0, 0, fmt.Errorf("make a folder for the throwaway server: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	m, err := postgres.Measure(ctx, postgres.MeasureOptions{Dir: dir, Work: work, UID: d.volume.UID, GID: d.volume.GID, Scale: f.scale, Span: f.span,
		BinDirs: cfg.DrillFor(d.config.Job).BinDirs, Path: a.env("PATH")}, a.printer.observe)
	return m.TPS, m.Dump, err
}
