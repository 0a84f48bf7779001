package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/clone"
	"holdfast/internal/config"
	"holdfast/internal/container"
	"holdfast/internal/hook"
	"holdfast/internal/journal"
	"holdfast/internal/migration"
	"holdfast/internal/unit"
	"holdfast/internal/volume"
)

// move is what a migration is about, and how it was called.
type move struct {
	cfg   *config.Config
	disk  disk
	from  string // the data directory
	flags *migrateFlags

	ready func(context.Context) error // tests: of a folder that is on no volume
	heard holdfast.Observer           // tests: each step
}

// statePath is the file of a volume's migration.
func statePath(cfg *config.Config, name string) string {
	return filepath.Join(cfg.State, "volumes", name+".migration.json")
}

// begunMigration is a migration that is not over.
type begunMigration struct {
	step  string
	since time.Time
}

// migrationOf says whether a migration of the volume was begun, and is not over.
func (a *app) migrationOf(cfg *config.Config, name string) (begunMigration, error) {
	p, err := migration.Peek(statePath(cfg, name))
	if err != nil || !p.Open {
		return begunMigration{}, err
	}
	return begunMigration{string(p.Step), p.Since}, nil
}

// dataDirectory is the directory that --from names: a folder, or docker-volume:NAME.
func (a *app) dataDirectory(ctx context.Context, cfg *config.Config, from string) (string, error) {
	if name, is := strings.CutPrefix(from, "docker-volume:"); is {
		return container.VolumePath(ctx, cfg.Engine, name)
	}
	return filepath.Abs(from)
}

// migration binds the move to this machine.
func (a *app) migration(ctx context.Context, m move) (migration.Migration, error) {
	return a.bind(ctx, m, func(*migration.World) {})
}

// bind is migration with a world that tests change.
func (a *app) bind(ctx context.Context, m move, change func(*migration.World)) (migration.Migration, error) {
	server, err := a.serverOf(ctx, m.cfg, m.disk)
	if err != nil {
		return migration.Migration{}, err
	}
	if server := m.disk.config.Server; len(server.Stop) == 0 && server.Compose == "" && server.Unit == "" {
		return migration.Migration{}, holdfast.WithHint(fmt.Errorf("%w: the configuration does not say how the server on volume %s is stopped and started", holdfast.ErrUsage, m.disk.config.Name),
			"set volumes."+m.disk.config.Name+".server: its unit of systemd, its compose and service, or the commands stop and start")
	}
	if err := os.MkdirAll(filepath.Dir(statePath(m.cfg, m.disk.config.Name)), 0o700); err != nil {
		return migration.Migration{}, err
	}
	to := m.disk.volume.DataPath()
	w := migration.World{
		Size:      func(context.Context) (int64, error) { return treeSize(m.from) },
		Free:      func(context.Context) (int64, error) { return freeOn(m.disk.volume.Mount) },
		Ready:     m.readiness(a),
		Empty:     func(context.Context) (bool, error) { return emptyFolder(to) },
		Outside:   func(ctx context.Context) ([]string, error) { return migration.Outside(ctx, m.from) },
		Obstacles: server.Ready,
		CanProve:  func(ctx context.Context) error { return a.canProve(ctx, m) },
		Copy: func(ctx context.Context, job migration.Copy) (migration.Copying, error) {
			return a.copyPass(ctx, m, job)
		},
		Remove:    migration.RemoveTree,
		Serving:   migration.Serving,
		Stop:      func(ctx context.Context, grace time.Duration) error { return a.stopServer(ctx, m, grace) },
		Switch:    m.switcher(m.from, to),
		Proven:    func(ctx context.Context) (migration.Proof, error) { return a.provenFor(ctx, m) },
		BackupNew: func(ctx context.Context) (holdfast.BackupID, error) { return a.backupForMove(ctx, m) },
		Drill: func(ctx context.Context, id holdfast.BackupID) error {
			f := m.flags.storeFlags
			return a.drill(ctx, m.cfg, &f, []string{string(id)}, nil, "", &againstFlags{})
		},
		RestoreTo: func(ctx context.Context, id holdfast.BackupID, dir string) error {
			return a.restoreForMove(ctx, m, id, dir)
		},
		Record: func(_ context.Context, entry migration.Entry) error { return a.recordMove(m, entry) },
		Now:    a.Now,
	}
	a.addServer(&w, m, server)
	r := &rehearsal{app: a, cfg: m.cfg, disk: m.disk, live: server}
	w.Rehearsal = m.rehearsal(a, r)
	change(&w)
	return migration.New(w, migration.Options{
		Volume: m.disk.config.Name, From: m.from, To: to, State: statePath(m.cfg, m.disk.config.Name),
		Facts: filepath.Join(m.disk.volume.Mount, "holdfast-migration-facts.json"), Grace: m.disk.config.Server.Grace, Observe: m.observer(a),
	}), nil
}

func (m move) readiness(a *app) func(context.Context) error {
	if m.ready != nil {
		return m.ready
	}
	return func(ctx context.Context) error { return a.volumeReady(ctx, m.disk) }
}

// observer shows what a migration does. What it copies has no name of its own.
func (m move) observer(a *app) holdfast.Observer {
	if m.heard != nil {
		return m.heard
	}
	return func(e holdfast.Event) {
		if e.Kind == holdfast.EventProgress && e.Item == "" {
			e.Item = "copy"
		}
		a.printer.observe(e)
	}
}

// serverSlack is what a command that stops a server may take beyond the time that the server has.
const serverSlack = 30 * time.Second

// stopServer stops the server, and waits until its last process has gone: pg_ctl is content when the file with its number is.
func (a *app) stopServer(ctx context.Context, m move, grace time.Duration) error {
	if err := a.runServerFor(ctx, m.cfg, m.disk, a.stopCommand(m.disk, grace), grace+serverSlack); err != nil {
		return err
	}
	waiting, cancel := context.WithTimeout(ctx, serverSlack)
	defer cancel()
	for {
		works, err := workedIn(waiting, m)
		if err != nil || works == "" {
			return err
		}
		select {
		case <-waiting.Done():
			return holdfast.WithHint(fmt.Errorf("the server was told to stop, and processes of it still work in %s", works), "look what they do, and end them")
		case <-time.After(stopTry):
		}
	}
}

// stopTry is the time between two looks whether a server has gone.
const stopTry = 50 * time.Millisecond

// workedIn is the directory that a server works in, of those that the volume's server can have; "" when none does.
func workedIn(ctx context.Context, m move) (string, error) {
	for _, dir := range []string{m.from, m.disk.volume.DataPath(), m.from + ".restored-" + m.disk.config.Name} {
		side, err := migration.Serving(ctx, map[migration.Side]string{migration.Old: dir})
		if err != nil || side != migration.None {
			return dir, err
		}
	}
	return "", nil
}

// switcher decides which directory the server gets: by an overlay of its compose file, else by a link.
func (m move) switcher(from, to string) migration.Switch {
	server := m.disk.config.Server
	if server.Compose == "" {
		return migration.Link{From: from, Target: to, Volume: m.disk.config.Name}
	}
	return migration.Overlay{Path: m.overlayPath(), From: from, Target: to, Volume: m.disk.config.Name, Text: func(dir string) (string, error) {
		return unit.Overlay{Volume: m.disk.config.Name, Service: server.Service, Data: dir, Target: server.ContainerData}.Text()
	}}
}

func (m move) overlayPath() string { return overlayPath(m.disk) }

// overlayPath is beside the compose file, which stays as it is.
func overlayPath(d disk) string {
	return filepath.Join(filepath.Dir(d.config.Server.Compose), "holdfast-volume-"+d.config.Name+".yml")
}

// startCommand starts the server: as configured, by its unit, or by its compose files, the overlay among them while it is there.
func (a *app) startCommand(d disk) []string {
	switch {
	case len(d.config.Server.Start) > 0:
		return d.config.Server.Start
	case d.config.Server.Unit != "":
		return []string{"systemctl", "start", d.config.Server.Unit}
	}
	return append(composeCommand(d), "up", "--detach", "--no-deps", d.config.Server.Service)
}

func (a *app) stopCommand(d disk, grace time.Duration) []string {
	switch {
	case len(d.config.Server.Stop) > 0:
		return d.config.Server.Stop
	case d.config.Server.Unit != "":
		return []string{"systemctl", "stop", d.config.Server.Unit}
	}
	return append(composeCommand(d), "stop", "--timeout", strconv.Itoa(int(grace.Seconds())), d.config.Server.Service)
}

func composeCommand(d disk) []string {
	args := []string{"docker", "compose", "--file", d.config.Server.Compose}
	if _, err := os.Stat(overlayPath(d)); err == nil {
		args = append(args, "--file", overlayPath(d))
	}
	return args
}

// runServer runs one of the commands of the volume's server; none is well.
func (a *app) runServer(ctx context.Context, cfg *config.Config, d disk, args []string) error {
	return a.runServerFor(ctx, cfg, d, args, serverTime)
}

func (a *app) runServerFor(ctx context.Context, cfg *config.Config, d disk, args []string, limit time.Duration) error {
	if len(args) == 0 {
		return nil
	}
	said, err := hook.Command{Args: args, User: d.config.Server.User, Timeout: limit}.Run(ctx, hook.NewMask(cfg.KnownSecrets(ctx)))
	for _, line := range said {
		a.printer.observe(holdfast.Event{Kind: holdfast.EventOutput, Message: line})
	}
	return err
}

// volumeReady sees that the volume is mounted where it should be, and sealed.
func (a *app) volumeReady(ctx context.Context, d disk) error {
	host := volume.Host{Now: a.Now}
	s, err := host.Status(ctx, d.volume)
	if err != nil {
		return err
	}
	if s.State != volume.Mounted {
		return holdfast.WithHint(fmt.Errorf("volume %s is %s", d.config.Name, stateText(s)), "`holdfast volume unlock "+d.config.Name+"`")
	}
	checks, err := host.Verify(ctx, d.volume, nil, false)
	if err != nil {
		return err
	}
	for _, c := range checks {
		if !c.Good && !c.Warns {
			return holdfast.WithHint(fmt.Errorf("volume %s: %s: %s", d.config.Name, c.Name, c.Text), c.Fix)
		}
	}
	return nil
}

func treeSize(dir string) (bytes int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a server works there
		}
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			bytes += info.Size()
		}
		return err
	})
	return bytes, err
}

func freeOn(path string) (int64, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return 0, fmt.Errorf("look how much is free on %s: %w", path, err)
	}
	return int64(s.Bavail) * s.Bsize, nil
}

func emptyFolder(path string) (bool, error) {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return len(entries) == 0, err
}

// ledgerPath is on the volume: names of files tell of the data.
func ledgerPath(m move) string {
	return filepath.Join(m.disk.volume.Mount, "holdfast-migration-ledger.json")
}

// copyPass copies, reads again and compares. What was compared before is not read twice.
func (a *app) copyPass(ctx context.Context, m move, job migration.Copy) (migration.Copying, error) {
	was, err := clone.LoadLedger(ledgerPath(m))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, clone.ErrLedger) {
		was, err = nil, nil // all is read
	}
	if err != nil {
		return migration.Copying{}, err
	}
	how := clone.Options{Exclude: notOfTheData, Still: job.Still, Drop: true, Now: a.Now, Observe: func(p clone.Progress) { job.Observe(p.Bytes, p.OfBytes) }}
	ledger, r, err := clone.Copy(ctx, job.From, job.To, was, how)
	if errors.Is(err, clone.ErrLedger) {
		// It is of folders that stood here before: an earlier migration's.
		ledger, r, err = clone.Copy(ctx, job.From, job.To, nil, how)
	}
	if ledger != nil {
		err = errors.Join(err, ledger.Save(ledgerPath(m)))
	}
	return copying(r), err
}

// notOfTheData is what belongs to one run of a server.
func notOfTheData(rel string) bool { return rel == "postmaster.pid" || rel == "postmaster.opts" }

func copying(r clone.Report) migration.Copying {
	return migration.Copying{Files: int(r.Files), Bytes: r.Bytes, Copied: r.CopiedBytes, Changed: len(r.Changed)}
}

// copyRunning copies the directory of a running server for a dry run, or only its log of writes.
func (a *app) copyRunning(ctx context.Context, from, to string, logOnly bool) (migration.Copying, error) {
	if logOnly {
		from, to = filepath.Join(from, "pg_wal"), filepath.Join(to, "pg_wal")
	}
	_, r, err := clone.Copy(ctx, from, to, nil, clone.Options{Exclude: notOfTheData, Now: a.Now})
	return copying(r), err
}

// provenFor is the newest proven backup of the volume's source.
func (a *app) provenFor(ctx context.Context, m move) (migration.Proof, error) {
	keys, err := trusted(m.cfg, &m.flags.storeFlags)
	if err != nil {
		return migration.Proof{}, err
	}
	state, err := a.stateOf(ctx, m.cfg, keys, &lookout{}, nil)
	if err != nil {
		return migration.Proof{}, err
	}
	name, src := m.disk.config.Job, m.disk.config.Source
	how := "`holdfast backup " + string(name) + "`, then `holdfast drill --job " + string(name) + "` where the identity is kept"
	for _, job := range state.Jobs {
		if job.Name != name {
			continue
		}
		distrusted := false
		for _, p := range slices.Backward(job.Proofs) {
			switch {
			case p.Verdict != holdfast.Proven || !slices.Contains(p.Holds, src):
			case !p.Trusted:
				distrusted = true
			default:
				if len(keys) == 0 {
					a.printer.warn("who signed the proof of backup " + string(p.Backup) + " was not checked: give --allowed-signers FILE")
				}
				return migration.Proof{Backup: p.Backup, Taken: p.Of}, nil
			}
		}
		if distrusted {
			how = "the drill was signed by a host that is not among the allowed signers: give --allowed-signers FILE with its line"
		}
	}
	return migration.Proof{}, holdfast.WithHint(fmt.Errorf("no backup of job %s was proven that has source %s", name, src), how)
}

// canProve sees that a backup made here could be opened here, before anything depends on it.
func (a *app) canProve(ctx context.Context, m move) error {
	f := m.flags.storeFlags
	identities, err := a.identities(ctx, m.cfg, &f)
	if err == nil && len(identities) == 0 {
		err = holdfast.WithHint(fmt.Errorf("%w: a backup must be made and proven here, and no identity is given that opens it", holdfast.ErrUsage), "give --identity FILE, for as long as this takes")
	}
	return err
}

// backupForMove backs up all of the server, whatever part of it the job takes.
func (a *app) backupForMove(ctx context.Context, m move) (id holdfast.BackupID, err error) {
	job, err := m.cfg.Job(m.disk.config.Job)
	if err != nil {
		return "", err
	}
	src, err := serverSource(m.cfg, m.disk)
	if err != nil {
		return "", err
	}
	src.Postgres = config.Postgres{Conn: src.Postgres.Conn, Password: src.Postgres.Password, AllDatabases: true, Globals: true, LockWait: src.Postgres.LockWait, Stall: src.Postgres.Stall}
	job.Sources, job.Hooks = []config.Source{src}, config.Hooks{}
	lock, err := a.holdJob(m.cfg, job.Store, job.Name)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	run := backupRun{kind: "manual", reason: "way back from volume " + m.disk.config.Name}
	began := a.Now()
	done, err := a.makeBackup(ctx, m.cfg, job, run, lock, began)
	a.noteBackup(m.cfg, job, run, done, a.Now().Sub(began), err)
	return done.result.Entry.ID, err
}

// restoreForMove restores the server of a backup into a directory of its own.
func (a *app) restoreForMove(ctx context.Context, m move, id holdfast.BackupID, dir string) error {
	f := m.flags.storeFlags
	f.Store = ""
	repo, err := a.reader(ctx, m.cfg, &f)
	if err != nil {
		return err
	}
	entries, err := repo.List(ctx, m.disk.config.Job)
	if err != nil {
		return err
	}
	entry, err := archive.Find(entries, string(id))
	if err != nil {
		return err
	}
	b, err := repo.Open(ctx, entry)
	if err != nil {
		return err
	}
	all, err := b.Stored(ctx)
	if err != nil {
		return err
	}
	for _, stored := range all {
		if stored.Source == m.disk.config.Source {
			return a.settle(ctx, m.cfg, m.disk, stored, dir)
		}
	}
	return fmt.Errorf("backup %s has no source %s", id, m.disk.config.Source)
}

// recordMove records an entry of the migration.
func (a *app) recordMove(m move, entry migration.Entry) error {
	event := map[migration.EntryKind]journal.Event{migration.EntryMigrated: journal.VolumeMigrated, migration.EntryRolledBack: journal.VolumeRolledBack, migration.EntryFinished: journal.VolumeMigrationEnd, migration.EntryKept: journal.VolumeRolledBack}[entry.Kind]
	var cause error
	if !entry.Good {
		cause = errors.New(entry.Text)
	}
	return a.record(m.cfg, event, cause, func(r *journal.Record) {
		r.Volume, r.Detail, r.Reason, r.Backup = m.disk.config.Name, entry.Text, entry.Reason, entry.Backup
		r.Figures = map[string]float64{"seconds": entry.Took.Seconds()}
	})
}

// rehearsal is what a dry run uses. The stand-in lies beside the old directory.
func (m move) rehearsal(a *app, r *rehearsal) *migration.Rehearsal {
	dir := filepath.Join(m.disk.volume.Mount, "holdfast-rehearsal")
	standIn := migration.Link{From: m.from + ".rehearsal-" + m.disk.config.Name, Target: dir, Volume: m.disk.config.Name}
	return &migration.Rehearsal{
		Dir: dir, Slots: func(ctx context.Context) error { return a.bothOpen(ctx, m) }, Snapshot: r.snapshot(m.from), Start: r.start, Stop: r.stop, Facts: r.facts, Probe: r.probe,
		Make: standIn.MakeStandIn, Clear: standIn.RemoveStandIn, Switch: standIn, Path: standIn.From,
	}
}

// bothOpen tries both keys of the volume.
func (a *app) bothOpen(ctx context.Context, m move) error {
	keys, err := a.bothKeys(ctx, m.disk, m.flags.operational, m.flags.recovery)
	if err != nil {
		return err
	}
	for _, role := range volume.Roles() {
		if err := a.opensSlot(ctx, m.disk, role, keys[role]); err != nil {
			return fmt.Errorf("the %s key: %w", role, err)
		}
	}
	return nil
}
