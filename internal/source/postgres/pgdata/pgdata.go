// Package pgdata knows what lies where in the data folder of a PostgreSQL server, for the case that the server cannot tell
// any more what is in it.
//
// It hides the names of files in a cluster. Its law: it reads names, one small file and the process table, and writes nothing. It is not its job to make sense of pages, nor to copy anything.
package pgdata

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast"
)

// Folder is a data folder on this host.
type Folder struct {
	Path string // without symbolic links
	// Running reports whether a server of this host uses the folder: a copy of it is then torn.
	Running bool
	// Postmaster is what the file postmaster.pid says, "" when there is none. No two starts of a server write the same.
	Postmaster string
}

// Open looks at the data folder dir. A folder that lacks much of what a cluster has is none.
func Open(dir string) (Folder, error) {
	path, err := filepath.EvalSymlinks(dir)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return Folder{}, holdfast.WithHint(fmt.Errorf("%w: data folder %s: %w", holdfast.ErrUsage, dir, err), "name the folder that has PG_VERSION and base in it")
	}
	found := 0
	for _, name := range []string{"PG_VERSION", "base", "global", "pg_wal", "pg_xact"} {
		_, err := os.Lstat(filepath.Join(path, name))
		if err == nil {
			found++
		} else if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTDIR) {
			return Folder{}, holdfast.WithHint(fmt.Errorf("look at data folder %s: %w", dir, err), "run as root or as the owner of the data folder")
		}
	}
	if found < 3 {
		return Folder{}, holdfast.WithHint(fmt.Errorf("%w: %s is no data folder of PostgreSQL", holdfast.ErrUsage, dir),
			"name the folder that has PG_VERSION and base in it, on Debian /var/lib/postgresql/VERSION/CLUSTER")
	}
	f := Folder{Path: path}
	if text, err := os.ReadFile(filepath.Join(path, "postmaster.pid")); err == nil {
		f.Postmaster = string(text)
		f.Running = f.runs()
	}
	return f, nil
}

// runs looks for the process that postmaster.pid names first. A server works in its data folder; another process may have
// its number by now.
func (f Folder) runs() bool {
	first, _, _ := strings.Cut(f.Postmaster, "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil || pid <= 0 {
		return false
	}
	at, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "cwd"))
	return err == nil && at == f.Path
}

// All lists what the whole cluster is made of: the folder, tablespaces, and a log of writes that lies elsewhere.
func (f Folder) All() []string {
	all := []string{f.Path}
	add := func(link string) {
		if target, err := filepath.EvalSymlinks(link); err == nil && !strings.HasPrefix(target+"/", f.Path+"/") {
			all = append(all, target)
		}
	}
	add(filepath.Join(f.Path, "pg_wal"))
	for _, link := range f.glob("pg_tblspc/*") {
		add(link)
	}
	return unique(all)
}

// Database lists what the database of that number is made of: its folders in the default and in other tablespaces, and of
// the cluster what its rows cannot be understood without.
func (f Folder) Database(oid uint32) []string {
	number := strconv.FormatUint(uint64(oid), 10)
	var all []string
	for _, folder := range append(f.glob("base/"+number), f.glob("pg_tblspc/*/PG_*/"+number)...) {
		if path, err := filepath.EvalSymlinks(folder); err == nil {
			all = append(all, path)
		}
	}
	if len(all) == 0 {
		return nil
	}
	for _, name := range []string{"PG_VERSION", "global", "pg_xact", "pg_multixact"} {
		all = append(all, f.glob(name)...)
	}
	return unique(all)
}

func (f Folder) glob(pattern string) []string {
	found, err := filepath.Glob(filepath.Join(escape(f.Path), pattern))
	if err != nil {
		panic("pgdata: " + err.Error()) // our own pattern
	}
	return found
}

// escape keeps what is special in patterns from being so.
func escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}

func unique(list []string) []string {
	slices.Sort(list)
	return slices.Compact(list)
}
