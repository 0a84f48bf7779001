package sqlite

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"holdfast"
)

// databaseFile is a live database as it stands on the disk.
type databaseFile struct {
	path string // without symbolic links, because SQLite puts -wal and -shm beside the real file
	info fs.FileInfo
}

// inspect looks at a live database without a lock and without creating anything.
func inspect(ctx context.Context, path string) (databaseFile, error) {
	if err := ctx.Err(); err != nil {
		return databaseFile{}, err
	}
	guardLocks()
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return databaseFile{}, holdfast.WithHint(err, "check the path, and whether the application has created its database yet")
	}
	info, err := os.Stat(resolved)
	if err != nil {
		return databaseFile{}, err
	}
	file := databaseFile{path: resolved, info: info}
	if !info.Mode().IsRegular() {
		return databaseFile{}, holdfast.WithHint(fmt.Errorf("%s is not a regular file", resolved),
			"give the path of the database file itself")
	}
	if err := unix.Faccessat(unix.AT_FDCWD, resolved, unix.R_OK, unix.AT_EACCESS); err != nil {
		return databaseFile{}, holdfast.WithHint(fmt.Errorf("read %s: %w", resolved, err),
			"run as root or as the file's owner")
	}
	return file, file.mayRead()
}

// walSize returns the size of the write-ahead log, 0 when there is none.
func (f databaseFile) walSize() int64 {
	info, err := os.Stat(f.path + "-wal")
	if err != nil {
		return 0
	}
	return info.Size()
}

// mayRead refuses when reading would create -wal and -shm files that the application could not write. Run as root,
// SQLite gives them to the owner of the database itself.
func (f databaseFile) mayRead() error {
	uid := os.Geteuid()
	if uid == 0 || uid == f.owner().UID || exists(f.path+"-shm") && exists(f.path+"-wal") {
		return nil
	}
	wal, err := headerSaysWAL(f.path)
	if err != nil || !wal {
		return err
	}
	return holdfast.WithHint(
		fmt.Errorf("%s is in WAL mode and not in use: reading it would create files that its owner may not be able to write", f.path),
		"run as root or as the file's owner, or take backups while the application runs")
}

// headerSaysWAL reads the journal mode without a lock, as SQLite has no way to do: its unlocked mode stumbles over
// a writer. This is the one place that opens the file beside SQLite (see the package's BUG).
func headerSaysWAL(path string) (bool, error) {
	file, err := os.Open(path)
	if err != nil {
		return false, err
	}
	const readVersion, versionWAL = 19, 2 // offset in the header, and its value in WAL mode
	var version [1]byte
	_, err = file.ReadAt(version[:], readVersion)
	if err == io.EOF {
		err = nil // an empty file is an empty database
	}
	return version[0] == versionWAL, errors.Join(err, file.Close())
}

// tidy removes the -wal and -shm files that a read-only connection leaves behind, by being the last ordinary
// connection to close: SQLite then removes them, under its own locks, unless somebody else uses the database. With
// anything in the log it does nothing, because then closing would also write the database.
func (f databaseFile) tidy() error {
	info, err := os.Stat(f.path + "-wal")
	if errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() > 0 {
		return nil
	}
	if err != nil {
		return err
	}
	conn, err := dial(context.Background(), f.path, "mode=rw")
	if err != nil {
		return err
	}
	// An error here means that somebody is using the database, and then the files are theirs to remove.
	_ = exec(conn, "SELECT count(*) FROM sqlite_schema")
	return conn.Close()
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// owner is what a restore gives back to the file beside its bytes. Its JSON is part of the stored facts.
type owner struct {
	UID   int         `json:"uid"`
	GID   int         `json:"gid"`
	User  string      `json:"user,omitempty"`
	Group string      `json:"group,omitempty"`
	Mode  os.FileMode `json:"mode"`
}

func (f databaseFile) owner() owner {
	o := owner{Mode: f.info.Mode().Perm()}
	stat, ok := f.info.Sys().(*syscall.Stat_t)
	if !ok {
		panic("sqlite: a file without a Stat_t")
	}
	o.UID, o.GID = int(stat.Uid), int(stat.Gid)
	if u, err := user.LookupId(strconv.Itoa(o.UID)); err == nil {
		o.User = u.Username
	}
	if g, err := user.LookupGroupId(strconv.Itoa(o.GID)); err == nil {
		o.Group = g.Name
	}
	return o
}

func (o owner) encode() ([]byte, error) { return json.Marshal(o) }

func decodeOwner(driver []byte) (owner, error) {
	var o owner
	if err := json.Unmarshal(driver, &o); err != nil {
		return owner{}, fmt.Errorf("read the recorded owner: %w", err)
	}
	if o.Mode != o.Mode.Perm() || o.UID < 0 || o.GID < 0 {
		return owner{}, errors.New("read the recorded owner: a mode or id out of range")
	}
	return o, nil
}

// here returns the ids by which this host knows the owner: names go before numbers, which differ between hosts.
func (o owner) here() (uid, gid int) {
	uid, gid = o.UID, o.GID
	if u, err := user.Lookup(o.User); err == nil {
		if id, err := strconv.Atoi(u.Uid); err == nil {
			uid = id
		}
	}
	if g, err := user.LookupGroup(o.Group); err == nil {
		if id, err := strconv.Atoi(g.Gid); err == nil {
			gid = id
		}
	}
	return uid, gid
}
