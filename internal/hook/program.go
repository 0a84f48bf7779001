package hook

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"holdfast"
)

// program finds the file of a program, and refuses one that somebody else than root and the user it runs as can change:
// whoever can would become that user.
func program(name string, uid int) (string, error) {
	path, err := lookup(name)
	if err != nil {
		return "", err
	}
	// What a link leads to is what runs.
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", notThere(path, err)
	}
	info, err := os.Stat(target)
	switch {
	case err != nil:
		return "", notThere(path, err)
	case !info.Mode().IsRegular():
		return "", holdfast.WithHint(fmt.Errorf("%s is not a file", path), "name a program in the hook")
	case info.Mode().Perm()&0o111 == 0:
		return "", holdfast.WithHint(fmt.Errorf("%s is not executable", path), "run: chmod +x "+path)
	}
	if err := guarded(target, info, uid); err != nil {
		return "", err
	}
	folder := filepath.Dir(target)
	info, err = os.Stat(folder)
	if err != nil {
		return "", notThere(folder, err)
	}
	if info.Mode()&fs.ModeSticky != 0 {
		return path, nil // nobody replaces there what is not theirs
	}
	return path, guarded(folder, info, uid)
}

func lookup(name string) (string, error) {
	if filepath.IsAbs(name) {
		return name, nil
	}
	for _, folder := range filepath.SplitList(searchPath) {
		path := filepath.Join(folder, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
			return path, nil
		}
	}
	return "", holdfast.WithHint(fmt.Errorf("there is no program %q in %s", name, strings.ReplaceAll(searchPath, ":", ", ")), "install it, or give its whole path in the hook")
}

func notThere(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return holdfast.WithHint(fmt.Errorf("there is no %s", path), "install it, or name another in the hook")
	}
	return fmt.Errorf("look at %s: %w", path, cause(err))
}

// guarded refuses a file or folder that belongs to, or can be written by, somebody else than root and the user uid.
func guarded(path string, info fs.FileInfo, uid int) error {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fmt.Errorf("look at %s: its owner is not known", path)
	}
	mode := info.Mode().Perm()
	switch {
	case stat.Uid != 0 && int(stat.Uid) != uid:
		return holdfast.WithHint(fmt.Errorf("%s belongs to user %d, who could change what runs", path, stat.Uid), "run: chown root "+path+", or let the hook run as that user")
	case mode&0o002 != 0, mode&0o020 != 0 && stat.Gid != 0:
		return holdfast.WithHint(fmt.Errorf("%s has mode %04o: others could change what runs", path, mode), "run: chmod go-w "+path)
	}
	return nil
}
