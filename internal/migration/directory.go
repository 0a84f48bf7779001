package migration

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
	"syscall"

	"holdfast"
	"holdfast/internal/durable"
)

// Serving finds the side that a PostgreSQL server runs on: each of its processes has the data directory as its working directory, also in
// a container. Directories that do not exist are none's. It is an error if servers run on two of them, or if it may not look. It fits
// [World.Serving]. Source: proc_pid_cwd(5); PostgreSQL's ChangeToDataDir.
func Serving(ctx context.Context, dirs map[Side]string) (Side, error) {
	type inode struct{ dev, ino uint64 }
	of := func(path string) (inode, error) {
		info, err := os.Stat(path)
		if err != nil {
			return inode{}, err
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			return inode{}, fmt.Errorf("%s has no inode", path)
		}
		return inode{stat.Dev, stat.Ino}, nil
	}
	sides := map[inode]Side{}
	for side, dir := range dirs {
		if dir == "" {
			continue
		}
		at, err := of(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return None, fmt.Errorf("look which directory the server runs on: %w", err)
		}
		sides[at] = side
	}
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return None, fmt.Errorf("look which directory the server runs on: %w", err)
	}
	found := None
	for _, process := range processes {
		if ctx.Err() != nil {
			return None, context.Cause(ctx)
		}
		if _, err := strconv.Atoi(process.Name()); err != nil || !isServer(process.Name()) {
			continue
		}
		at, err := of("/proc/" + process.Name() + "/cwd")
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ESRCH): // it ended meanwhile
			continue
		case err != nil:
			return None, fmt.Errorf("look which directory the server runs on: %w", err)
		}
		side, known := sides[at]
		if !known {
			continue
		}
		if found != None && found != side {
			return None, holdfast.WithHint(fmt.Errorf("servers run on %s and on %s", dirs[found], dirs[side]), "stop both, and find out which has what applications wrote last")
		}
		found = side
	}
	return found, nil
}

// isServer goes by the program's name, which stays when a server's process changes its title. A shell in the directory is no server.
func isServer(pid string) bool {
	name, err := os.ReadFile("/proc/" + pid + "/comm")
	return err == nil && slices.Contains([]string{"postgres", "postmaster"}, strings.TrimSpace(string(name)))
}

// Outside lists what a data directory has elsewhere: tablespaces, a linked pg_wal, every other linked folder. Links are copied as links, so
// that a server on the copy would write what belongs to the old directory, and it would stay on a bare disk. It fits [World.Outside] once
// dir is bound.
func Outside(ctx context.Context, dir string) ([]string, error) {
	var found []string
	for _, below := range []string{"", "pg_tblspc"} {
		entries, err := os.ReadDir(filepath.Join(dir, below))
		if below != "" && errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("look for what the directory has elsewhere: %w", err)
		}
		for _, entry := range entries {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			if entry.Type()&fs.ModeSymlink == 0 {
				continue
			}
			name := filepath.Join(below, entry.Name())
			target, err := os.Readlink(filepath.Join(dir, name))
			if err != nil {
				return nil, fmt.Errorf("look for what the directory has elsewhere: %w", err)
			}
			// A link to a file, such as a certificate's, is nothing that the server writes to.
			info, err := os.Stat(filepath.Join(dir, name))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("look for what the directory has elsewhere: %w", err)
			}
			if below != "" || err == nil && info.IsDir() {
				found = append(found, name+" -> "+target)
			}
		}
	}
	return found, nil
}

// RemoveTree removes a directory tree. It refuses a link, and a tree with a mount in it. nil if there is none. It fits [World.Remove].
func RemoveTree(ctx context.Context, dir string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	info, err := os.Lstat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("remove %s: %w", dir, err)
	case !info.IsDir():
		return fmt.Errorf("remove %s: it is no directory", dir)
	}
	mounted, err := mountsWithin(dir)
	if err != nil {
		return err
	}
	if len(mounted) > 0 {
		return holdfast.WithHint(fmt.Errorf("remove %s: %s is mounted there", dir, mounted[0]), "unmount it, and try again")
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	return durable.SyncDir(filepath.Dir(dir))
}

// mountsWithin lists the mount points at and below dir, the nearest first. The number of a device does not tell one: a bind mount has that of
// what it shows. Source: proc_pid_mountinfo(5).
func mountsWithin(dir string) ([]string, error) {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, fmt.Errorf("look what is mounted: %w", err)
	}
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("look what is mounted: %w", err)
	}
	var found []string
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) < 5 {
			return nil, fmt.Errorf("look what is mounted: a line has %d fields", len(fields))
		}
		if point := unescape(fields[4]); within(point, real) {
			// In the words of the caller, who compares it with dir.
			found = append(found, filepath.Join(dir, strings.TrimPrefix(point, real)))
		}
	}
	slices.Sort(found)
	return found, nil
}

// unescape decodes the octal numbers that stand for blanks and backslashes.
func unescape(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && i+3 < len(text) {
			if code, err := strconv.ParseUint(text[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(code))
				i += 3
				continue
			}
		}
		b.WriteByte(text[i])
	}
	return b.String()
}

// within reports whether path is dir or below it; both are clean.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}
