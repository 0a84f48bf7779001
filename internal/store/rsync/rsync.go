// Package rsync keeps a mirror on a server that allows nothing but rsync over SSH.
//
// It hides the programs rsync and ssh: their arguments, the file with the settings of ssh, exit statuses, and a folder of
// sealed bytes on this host through which objects go, because rsync sends and fetches files alone. Its laws: nothing that a
// user wrote stands in a command line that somebody splits; a server is talked to only when its key is in known_hosts; a
// folder without the marker file is never written to; and the cache has no more than one batch, or what is being read.
//
// It is a store.Driver too, so that list, verify, drill and restore can read a mirror. It keeps less than a driver's laws: two
// writers of one name at once are not kept apart, because rsync looks whether a name is there before it sends, and renames over
// it in the end. Inspect says so. That is why it is no job's first store.
//
// It is not its job to choose what is copied, or to try again on its own: Options.Retrier decides that.
package rsync

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/store"
)

const (
	// marker is the file that makes a folder a store. Its name begins with a dot, so that it is no object.
	marker     = ".holdfast-store"
	markerText = "This directory is a holdfast store. Without this file holdfast does not write here.\n"

	// partial is the folder at the far side, beside each object, in which the part of a cut transfer waits for the rest.
	partial = ".holdfast-partial"

	defaultBatch = 1 << 30
)

// Options says where the mirror is and how to get there. Host, User, Path, KnownHosts and Cache are required.
type Options struct {
	Host string
	Port int // 0: 22
	User string
	// Path is the folder at the far side, absolute or relative to the folder in which the login lands.
	Path string
	// KeyFile is a private key without a passphrase. "": the keys of the agent that Env names.
	KeyFile string
	// KnownHosts are files in OpenSSH's format. A server whose key is in none of them is refused.
	KnownHosts []string

	// Cache is a folder on this host for sealed bytes on their way. It needs room for Batch, and for the largest object.
	Cache string
	// Batch is how many bytes are put into the cache before they are sent. 0: 1 GiB.
	Batch int64

	Bandwidth int64         // bytes per second, each way. 0: no limit
	Timeout   time.Duration // of a connect. 0: 30 s
	Stall     time.Duration // how long nothing may move on a connection. 0: store.DefaultStall
	Program   string        // rsync. "": the one in PATH
	Env       []string      // environment of the programs, such as PATH and SSH_AUTH_SOCK. nil: the usual folders as PATH
	// Retrier tries a batch again. nil: nothing is tried again.
	Retrier *store.Retrier
	// Create makes the folder and the marker when they are missing. The folder above must exist.
	Create bool
}

// Driver is a mirror behind rsync. It is safe for concurrent use.
type Driver struct {
	opt     Options
	where   string // for messages
	program string
	version version
	dir     string   // private folder in the cache
	lock    *os.File // held while dir is in use

	turn chan struct{} // held by a run of rsync

	mu       sync.Mutex               // guards what follows
	refused  map[string]bool          // options that the far side does not take
	fetched  []fetched                // objects in the cache, the oldest first
	fetching map[string]chan struct{} // closed when the object is in the cache, or did not come
	count    int                      // of objects that were fetched

	putting sync.Mutex // held by a Put from its look to its end; taken before mu
}

var (
	_ store.Driver    = (*Driver)(nil)
	_ store.Inspector = (*Driver)(nil)
	_ store.Comparer  = (*Driver)(nil)
)

// What may stand in an argument of rsync that an old rsync lets the far side's shell see.
var plainPath = regexp.MustCompile(`^[A-Za-z0-9._/@+=,~][A-Za-z0-9._/@+=,~-]*$`)

// Open looks for the program and for the mirror. Errors: store.ErrNoStore when there is no folder or no marker, fs.ErrPermission
// when the server's key is not the known one or the login is refused, holdfast.ErrUsage. All of these carry a hint.
func Open(ctx context.Context, opt Options) (*Driver, error) {
	if opt.Port == 0 {
		opt.Port = 22
	}
	if opt.Batch <= 0 {
		opt.Batch = defaultBatch
	}
	if opt.Timeout <= 0 {
		opt.Timeout = 30 * time.Second
	}
	if opt.Stall <= 0 {
		opt.Stall = store.DefaultStall
	}
	if opt.Program == "" {
		opt.Program = "rsync"
	}
	if opt.Env == nil {
		opt.Env = []string{"PATH=/usr/local/bin:/usr/bin:/bin"}
	}
	if opt.Retrier == nil {
		opt.Retrier = store.NewRetrier(1, 0)
	}
	if err := opt.check(); err != nil {
		return nil, fmt.Errorf("open mirror: %w: %w", holdfast.ErrUsage, err)
	}
	d := &Driver{opt: opt, where: store.SSHAddress("rsync", opt.User, opt.Host, opt.Port, opt.Path), turn: make(chan struct{}, 1), refused: map[string]bool{}, fetching: map[string]chan struct{}{}}
	if err := d.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open mirror %s: %w", d.where, err), d.Close())
	}
	return d, nil
}

func (d *Driver) open(ctx context.Context) error {
	if err := d.prepare(); err != nil {
		return err
	}
	if err := d.findProgram(ctx); err != nil {
		return err
	}
	return d.opt.Retrier.Do(ctx, func() (bool, error) {
		err := d.look(ctx)
		if errors.Is(err, store.ErrNoStore) && d.opt.Create {
			if err := d.create(ctx); err != nil {
				return true, err
			}
			err = d.look(ctx)
		}
		return true, err
	})
}

func (opt Options) check() error {
	switch {
	case opt.Host == "" || opt.User == "" || opt.Path == "":
		return holdfast.WithHint(errors.New("a host, a user and a path are needed"), "write rsync://USER@HOST/PATH")
	case strings.ContainsAny(opt.Host+opt.User, unquotable+" %"), strings.HasPrefix(opt.Host, "-"), strings.HasPrefix(opt.User, "-"):
		return fmt.Errorf("host %q or user %q has a character that ssh gives a meaning", opt.Host, opt.User)
	case !plainPath.MatchString(opt.Path):
		return holdfast.WithHint(fmt.Errorf("path %q has characters that a shell at the far side may give a meaning", opt.Path),
			"use letters, digits and ._/@+=,~- alone in path:")
	case len(opt.KnownHosts) == 0:
		return holdfast.WithHint(errors.New("no known_hosts file is given"), "set known_hosts: to the file with the server's key")
	case opt.Cache == "":
		return errors.New("no cache folder is given")
	}
	return nil
}

// prepare makes the private folder with the settings of ssh, and removes those that killed runs left.
func (d *Driver) prepare() error {
	cache, err := filepath.Abs(d.opt.Cache)
	if err == nil {
		err = os.MkdirAll(cache, 0o700)
	}
	if err != nil {
		return fmt.Errorf("make the cache: %w", err)
	}
	if strings.ContainsAny(cache, unquotable) {
		return fmt.Errorf("%w: the path of the cache %q has a character that rsync gives a meaning", holdfast.ErrUsage, cache)
	}
	removeAbandoned(cache)
	if d.dir, err = os.MkdirTemp(cache, "rsync-"); err != nil {
		return fmt.Errorf("make the cache: %w", err)
	}
	if d.lock, err = lockIn(d.dir); err != nil {
		return fmt.Errorf("lock the cache: %w", err)
	}
	settings, err := d.opt.sshConfig()
	if err == nil {
		err = os.WriteFile(filepath.Join(d.dir, sshConfigName), []byte(settings), 0o600)
	}
	return err
}

func lockIn(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// removeAbandoned removes folders in the cache whose run is gone. It takes those older than a minute, so that it does not meet
// one between its making and its lock.
func removeAbandoned(cache string) {
	found, _ := filepath.Glob(filepath.Join(cache, "rsync-*")) // the pattern is sound
	for _, dir := range found {
		if info, err := os.Stat(dir); err != nil || time.Since(info.ModTime()) < time.Minute {
			continue
		}
		lock, err := lockIn(dir)
		if err != nil {
			continue
		}
		_ = os.RemoveAll(dir) // what stays is tried again by the next run
		_ = lock.Close()
	}
}

// Close removes what is in the cache. Readers that are still open stay usable.
func (d *Driver) Close() error {
	if d.dir == "" {
		return nil
	}
	err := os.RemoveAll(d.dir)
	if d.lock != nil {
		err = errors.Join(err, d.lock.Close())
	}
	d.dir, d.lock = "", nil
	return err
}

// create makes the folder and the marker. A marker that is there stays.
func (d *Driver) create(ctx context.Context) error {
	above, base := path.Split(path.Clean(d.opt.Path))
	if above == "" {
		above = "./"
	}
	if base == "." || base == ".." || base == "" {
		above, base = d.opt.Path+"/", "."
	}
	// rsync makes one missing folder above without being asked, perhaps in an empty mount point: that one must be there.
	_, err := d.run(ctx, nil, "--list-only", "--dirs", "--exclude=*", farHost+":"+above)
	if errors.Is(err, fs.ErrNotExist) {
		return holdfast.WithHint(fmt.Errorf("make the folder: %w: there is no folder %s", store.ErrNoStore, above),
			"mount the disk there, or make the folder above "+d.opt.Path+" on the server")
	}
	if err != nil {
		return fmt.Errorf("make the folder: %w", err)
	}
	staged, err := os.MkdirTemp(d.dir, "create-")
	if err != nil {
		return cacheError(err)
	}
	defer os.RemoveAll(staged) // what stays is removed by Close
	_, err = stageFrom(ctx, staged, path.Join(base, marker), strings.NewReader(markerText))
	if err == nil {
		// Not the marker alone: a folder that rsync makes by itself can be read by others.
		_, err = d.run(ctx, []string{path.Join(base, marker)}, "--files-from=-", "--from0", "--ignore-existing", "--chmod=D700,F600", staged+"/", farHost+":"+above)
	}
	if err != nil {
		return fmt.Errorf("make the folder: %w", err)
	}
	return nil
}

// look fails when the folder at the far side is not there or has no marker.
func (d *Driver) look(ctx context.Context) error {
	_, err := d.list(ctx, "", []string{"--exclude=*"})
	return err
}

func (d *Driver) noStore() error {
	return holdfast.WithHint(fmt.Errorf("%w: %s has no file %s", store.ErrNoStore, d.where, marker),
		"mount the disk at the far side, correct the path, or make a new store there with `holdfast backup --create-store`")
}

// at is the address of a file or, with a slash at its end, of a folder below the mirror's.
func (d *Driver) at(name string) string {
	return farHost + ":" + strings.TrimSuffix(d.opt.Path, "/") + "/" + name
}
