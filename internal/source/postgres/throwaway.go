package postgres

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/sandbox"
	"holdfast/internal/source"
	"holdfast/internal/source/postgres/pgclient"
)

// DrillOptions say where a throwaway server lives.
type DrillOptions struct {
	// Scratch is an existing, empty folder, as a rule on a tmpfs. Its path must be short: it holds the socket.
	Scratch string
	// BinDirs and Path are as in Options; the server's programs are looked for there too.
	BinDirs []string
	Path    string
	// UID and GID run everything; default: in the sandbox ones that no account has, else the user postgres, else nobody.
	UID, GID int
	// Unsandboxed runs the programs on the host as that user. It is reported.
	Unsandboxed bool
	// Engine and Image are those of [ThrowawayContainer].
	Engine, Image string
}

// Drill is a throwaway server with a backup restored into it.
type Drill struct {
	*Place
	opt    DrillOptions
	server *pgclient.Process // nil: none runs
	stop   context.CancelFunc
	ended  chan error // holds what the server's end was, once it has ended
	log    *pgclient.Tail
	// box is the container that all of it is in; nil: it is in the scratch folder.
	box *box
	// lasting: what is restored stays, so that the server must end cleanly; it is how the cluster is made. nil: nothing stays.
	lasting *Cluster
}

var (
	_ source.Place    = (*Drill)(nil)
	_ source.Asserter = (*Drill)(nil)
)

// startTime bounds initdb and the start of a server on a busy machine.
const startTime = 3 * time.Minute

// Throwaway starts a server of the source's major version. Errors that say nothing about the backup wrap
// [holdfast.ErrCannotTest].
func Throwaway(ctx context.Context, opt DrillOptions, stored source.Stored, observe holdfast.Observer) (*Drill, error) {
	r, err := readRecord(stored)
	if err != nil {
		return nil, err
	}
	if observe == nil {
		observe = func(holdfast.Event) {}
	}
	if err := opt.complete(); err != nil {
		return nil, err
	}
	if err := checkRoom(opt.Scratch, stored); err != nil {
		return nil, err
	}
	d := &Drill{opt: opt, log: &pgclient.Tail{}}
	if err := d.start(ctx, r, observe); err != nil {
		err = errors.Join(err, d.shutdown())
		if ctx.Err() != nil {
			return nil, fmt.Errorf("start a throwaway server: %w", context.Cause(ctx))
		}
		return nil, err
	}
	return d, nil
}

// unusedID is the number of no user and no group of this host, among those that systemd hands out for a while.
//
// See https://systemd.io/UIDS-GIDS/
func unusedID(seed int) int {
	const first, count = 61184, 65519 - 61184 + 1
	for n := range count {
		id := first + (seed+n)%count
		_, userErr := user.LookupId(strconv.Itoa(id))
		_, groupErr := user.LookupGroupId(strconv.Itoa(id))
		if userErr != nil && groupErr != nil {
			return id
		}
	}
	return first
}

func (opt *DrillOptions) complete() error {
	if opt.UID == 0 && !opt.Unsandboxed {
		opt.UID, opt.GID = unusedID(os.Getpid()), 0
	}
	if opt.UID == 0 {
		opt.UID, opt.GID = 65534, 65534
		if account, err := user.Lookup("postgres"); err == nil {
			uid, uidErr := strconv.Atoi(account.Uid)
			gid, gidErr := strconv.Atoi(account.Gid)
			if uidErr == nil && gidErr == nil {
				opt.UID, opt.GID = uid, gid
			}
		}
	}
	if opt.GID == 0 {
		opt.GID = opt.UID
	}
	if !opt.Unsandboxed {
		if err := sandbox.Available(); err != nil {
			return err
		}
	}
	path, err := filepath.EvalSymlinks(opt.Scratch)
	if err != nil {
		return cannotTest(fmt.Errorf("look at the scratch folder: %w", err), "name an existing, empty folder")
	}
	if opt.Scratch, err = filepath.Abs(path); err != nil {
		return cannotTest(fmt.Errorf("look at the scratch folder: %w", err), "name an existing, empty folder")
	}
	// The name of a socket is at most 107 bytes long.
	if len(opt.Scratch)+len("/s/.s.PGSQL.5432") > 107 {
		return cannotTest(fmt.Errorf("the path of the scratch folder %s is too long for a socket", opt.Scratch), "choose one of at most 90 characters")
	}
	entries, err := os.ReadDir(opt.Scratch)
	if err != nil {
		return cannotTest(fmt.Errorf("look at the scratch folder: %w", err), "name an existing, empty folder")
	}
	if len(entries) > 0 {
		return cannotTest(fmt.Errorf("the scratch folder %s is not empty", opt.Scratch), "a drill removes all that is in it: name an empty folder")
	}
	return nil
}

func cannotTest(err error, hint string) error {
	return holdfast.WithHint(fmt.Errorf("%w: %w", holdfast.ErrCannotTest, err), hint)
}

// checkRoom compares the scratch folder with what a restore is likely to take: the plain dump, half as much again for
// pages and indexes, and a fresh cluster with its log.
func checkRoom(scratch string, stored source.Stored) error {
	var plain uint64
	for _, item := range stored.Items {
		plain += uint64(max(item.Size, 0))
	}
	need := 256<<20 + plain*3/2 + min(plain, 1<<30)
	var fs unix.Statfs_t
	if err := unix.Statfs(scratch, &fs); err != nil {
		return cannotTest(fmt.Errorf("look at the scratch folder: %w", err), "name an existing, empty folder")
	}
	if free := fs.Bavail * uint64(fs.Bsize); free < need {
		return cannotTest(fmt.Errorf("the scratch folder %s has %d MiB free, and the drill needs about %d MiB", scratch, free>>20, need>>20),
			"choose a scratch folder with more room")
	}
	return nil
}

// wrap returns how to run a program for this drill: as the unprivileged user, where it sees nothing but the scratch
// folder and the programs.
func (d *Drill) wrap() pgclient.Wrap {
	if d.opt.Unsandboxed {
		return func(ctx context.Context, path string, args, env []string) *exec.Cmd {
			cmd := pgclient.Plain(ctx, path, args, env)
			cmd.Dir = d.opt.Scratch
			cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
			if os.Geteuid() == 0 {
				cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(d.opt.UID), Gid: uint32(d.opt.GID)}
			}
			return cmd
		}
	}
	return func(ctx context.Context, path string, args, env []string) *exec.Cmd {
		opt := sandbox.Options{Scratch: d.opt.Scratch, UID: d.opt.UID, GID: d.opt.GID, Env: env}
		// Programs outside the system's folders come with libraries and data beside their bin folder.
		if bin := filepath.Dir(path); !strings.HasPrefix(bin, "/usr/") {
			opt.ReadOnly = append(opt.ReadOnly, filepath.Dir(bin))
		}
		return sandbox.Command(ctx, opt, append([]string{path}, args...)...)
	}
}

func (d *Drill) start(ctx context.Context, r record, observe holdfast.Observer) error {
	site := pgclient.NewHost(d.opt.BinDirs, d.opt.Path)
	programs := site.Within(d.wrap())
	initdb, err := pgclient.Exactly(ctx, site, "initdb", r.major())
	if err != nil {
		return err
	}
	postgres, err := pgclient.Exactly(ctx, site, "postgres", r.major())
	if err != nil {
		return err
	}
	if d.opt.Unsandboxed && d.lasting == nil {
		observe(holdfast.Event{Kind: holdfast.EventWarning, Message: "the drill runs without a sandbox: the dump's code could reach this host"})
	}
	data, socket := filepath.Join(d.opt.Scratch, "data"), filepath.Join(d.opt.Scratch, "s")
	if err := os.Chmod(d.opt.Scratch, 0o700); err != nil {
		return cannotTest(fmt.Errorf("prepare the scratch folder: %w", err), "name a folder that belongs to you")
	}
	if err := os.Mkdir(socket, 0o700); err != nil {
		return cannotTest(fmt.Errorf("prepare the scratch folder: %w", err), "name a folder that can be written")
	}
	for _, path := range []string{d.opt.Scratch, socket} {
		if err := os.Chown(path, d.opt.UID, d.opt.GID); err != nil && os.Geteuid() == 0 {
			return cannotTest(fmt.Errorf("prepare the scratch folder: %w", err), "name a folder that can be written")
		}
	}
	return d.boot(ctx, r, ground{
		site: site, programs: programs, initdb: initdb, postgres: postgres, data: data, socket: socket,
		env: []string{"LC_ALL=C", "TZ=UTC", "PATH=/usr/bin:/bin", "HOME=" + d.opt.Scratch}, home: d.opt.Scratch,
	}, observe)
}

// ground is where a throwaway server is made.
type ground struct {
	site, programs   pgclient.Site // where sessions come from, and where programs run
	initdb, postgres pgclient.Program
	data, socket     string // folders; that of the data is made by initdb
	env              []string
	home             string
	container        string // its name, "" for none
}

// boot makes a cluster, starts its server and waits until it answers.
func (d *Drill) boot(ctx context.Context, r record, g ground, observe holdfast.Observer) error {
	observe(holdfast.Event{Kind: holdfast.EventPhase, Message: fmt.Sprintf("start a throwaway PostgreSQL %d", r.major())})
	if err := d.initdb(ctx, r, g, observe); err != nil {
		return err
	}
	server := pgclient.Params{"host": g.socket, "port": "5432", "user": r.Bootstrap, "dbname": "postgres", "home": g.home, "container": g.container,
		"passfile": "/dev/null", "sslmode": "disable", "gssencmode": "disable", "connect_timeout": "60"}
	launch := func(preload string) error {
		args := serverArgs(g.data, g.socket)
		if preload != "" {
			args = append(args, "-c", "shared_preload_libraries="+preload)
		}
		end := syscall.SIGQUIT
		if d.lasting != nil {
			end = syscall.SIGINT
		}
		if err := d.launch(ctx, g.programs, pgclient.Command{Path: g.postgres.Path, Args: args, Env: g.env, End: end}); err != nil {
			return err
		}
		return d.await(ctx, g.site, server)
	}
	err := launch(r.Preload)
	if err != nil && r.Preload != "" && ctx.Err() == nil {
		// A library that is not here matters only if something in the backup needs it, which the restore will tell.
		observe(holdfast.Event{Kind: holdfast.EventWarning, Message: fmt.Sprintf("the throwaway server runs without the libraries %s: %v", r.Preload, err)})
		d.halt()
		err = launch("")
	}
	if err != nil {
		return err
	}
	place, err := open(ctx, Target{ID: "drill"}, server, g.site, g.programs, observe)
	if err != nil {
		return cannotTest(err, holdfast.Hint(err))
	}
	place.drill = true
	d.Place = place
	return nil
}

// launch starts the server, which outlives this call and ends with Close.
func (d *Drill) launch(ctx context.Context, site pgclient.Site, c pgclient.Command) error {
	ctx, d.stop = context.WithCancel(context.WithoutCancel(ctx))
	d.log = &pgclient.Tail{}
	c.Stdout, c.Stderr = d.log, d.log
	process, err := site.Start(ctx, c)
	if err != nil {
		d.stop()
		return cannotTest(err, "see what the system said")
	}
	d.server, d.ended = process, make(chan error, 1)
	go func() { d.ended <- process.Wait() }()
	return nil
}

// halt ends the server if it runs.
func (d *Drill) halt() {
	if d.server == nil {
		return
	}
	if d.box != nil {
		d.box.halt()
	}
	d.stop()
	<-d.ended // killed by us: its status tells nothing
	d.server = nil
}

// serverArgs are the settings of a server whose data nobody will miss.
func serverArgs(data, socket string) []string {
	args := []string{"-D", data}
	for _, setting := range []string{
		"listen_addresses=", "unix_socket_directories=" + socket, "unix_socket_permissions=0700", "port=5432",
		"fsync=off", "synchronous_commit=off", "full_page_writes=off", "wal_level=minimal", "max_wal_senders=0",
		"archive_mode=off", "autovacuum=off", "max_wal_size=1GB", "checkpoint_timeout=1h", "shared_buffers=256MB",
		"maintenance_work_mem=256MB", "dynamic_shared_memory_type=mmap", "lc_messages=C", "log_timezone=UTC",
		"logging_collector=off", "log_destination=stderr", "log_statement=none", "log_min_error_statement=panic",
		"max_locks_per_transaction=1024", "jit=off",
	} {
		args = append(args, "-c", setting)
	}
	return args
}

// await waits until the server answers.
func (d *Drill) await(ctx context.Context, site pgclient.Site, server pgclient.Params) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		conn, _, err := site.Dial(ctx, server)
		if err == nil {
			return conn.Close()
		}
		select {
		case ended := <-d.ended:
			d.ended <- ended
			return cannotTest(fmt.Errorf("the throwaway server ended at once: %s", lastLine(d.log.String())), "see what the server said")
		case <-ctx.Done():
			return cannotTest(fmt.Errorf("the throwaway server did not answer: %w: %s", err, lastLine(d.log.String())), "see what the server said")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// lastLine is what a program said last, which is most often why it failed.
func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i := len(lines) - 1; i >= 0; i-- {
		if line := strings.TrimSpace(lines[i]); strings.Contains(line, "FATAL") || strings.Contains(line, "PANIC") || strings.Contains(line, "error") {
			return line
		}
	}
	return strings.TrimSpace(lines[len(lines)-1])
}

// Restore brings the backup into the throwaway server.
func (d *Drill) Restore(ctx context.Context, stored source.Stored) error {
	return d.explain(ctx, d.Place.Restore(ctx, stored))
}

// Check dumps what was restored.
func (d *Drill) Check(ctx context.Context) (source.Facts, error) {
	facts, err := d.Place.Check(ctx)
	if d.box != nil {
		facts.Notes = append(facts.Notes, d.box.note)
	}
	return facts, d.explain(ctx, err)
}

// explain adds the server's last words if it died under the drill.
func (d *Drill) explain(ctx context.Context, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	select {
	case ended := <-d.ended:
		d.ended <- ended
		return cannotTest(fmt.Errorf("the throwaway server died: %s: %w", lastLine(d.log.String()), err), "see what the server said")
	default:
		return err
	}
}

// Assert evaluates a query in the restored database, the first one if there are several, and cannot change anything.
func (d *Drill) Assert(ctx context.Context, query string) (bool, error) {
	if !d.restored {
		return false, errors.New("nothing was restored that could be asked")
	}
	conn, _, err := d.Place.site.Dial(ctx, d.Place.server.On(d.staged[0].staging))
	if err != nil {
		return false, err
	}
	defer conn.Close() // it changed nothing
	// The query is the user's, who writes it for the path of names that the application has.
	for _, statement := range []string{"RESET search_path", "SET default_transaction_read_only = on", "BEGIN READ ONLY"} {
		if err := pgclient.Exec(ctx, conn, statement); err != nil {
			return false, pgclient.ExplainQuery("begin the assertion", err)
		}
	}
	rows, err := conn.Query(ctx, query)
	switch {
	case err != nil:
		return false, pgclient.ExplainQuery("assertion", err)
	case len(rows.Columns) == 0:
		return false, holdfast.WithHint(fmt.Errorf("%w: assertion: the query returns nothing", holdfast.ErrUsage), "write a SELECT")
	case len(rows.Values) == 0 || rows.Values[0][0] == nil:
		return false, nil // no row is not true, and NULL is neither
	}
	holds, err := pgclient.ParseBool(*rows.Values[0][0])
	if err != nil {
		return false, holdfast.WithHint(fmt.Errorf("%w: assertion: %w", holdfast.ErrUsage, err), "the first column must be a boolean")
	}
	return holds, nil
}

// Close ends the server and empties the scratch folder.
func (d *Drill) Close() error {
	var err error
	if d.Place != nil {
		err = d.Place.Close()
	}
	return errors.Join(err, d.shutdown())
}

func (d *Drill) shutdown() error {
	if d.box != nil {
		return d.box.remove(d)
	}
	d.halt()
	entries, err := os.ReadDir(d.opt.Scratch)
	errs := []error{err}
	for _, entry := range entries {
		errs = append(errs, os.RemoveAll(filepath.Join(d.opt.Scratch, entry.Name())))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("empty the scratch folder: %w", err)
	}
	return nil
}
