package store

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strings"
	"time"
)

// Folders is a store in a tree of folders, for [SweepFolders]. Names are those of the store; "." is its own folder.
type Folders interface {
	// Entries lists a folder. One that is missing is fs.ErrNotExist.
	Entries(ctx context.Context, folder string) ([]fs.FileInfo, error)
	// Remove removes a file. One that is missing is fs.ErrNotExist.
	Remove(ctx context.Context, name string) error
	// RemoveEmpty removes a folder and those above it as long as they are empty.
	RemoveEmpty(ctx context.Context, folder string) error
}

// SweepFolders removes the regular files whose names begin with prefix and which were last written to before a time, and the
// folders that are empty then. It looks into those folders alone that can hold objects, and returns how many files it removed.
func SweepFolders(ctx context.Context, tree Folders, prefix string, before time.Time) (n int, err error) {
	return sweepFolder(ctx, tree, ".", prefix, before)
}

func sweepFolder(ctx context.Context, tree Folders, folder, prefix string, before time.Time) (n int, err error) {
	entries, err := tree.Entries(ctx, folder)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil // deleted meanwhile
	}
	if err != nil {
		return 0, err
	}
	removed := 0
	for _, info := range entries {
		name := path.Join(folder, info.Name())
		switch {
		case strings.Contains(info.Name(), "/"): // a server's word, which would lead elsewhere
		case info.IsDir() && CheckName(name) == nil:
			below, err := sweepFolder(ctx, tree, name, prefix, before)
			n += below
			if err != nil {
				return n + removed, err
			}
		case info.Mode().IsRegular() && strings.HasPrefix(info.Name(), prefix) && info.ModTime().Before(before):
			if err := tree.Remove(ctx, name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return n + removed, err
			}
			removed++
		}
	}
	if removed == 0 {
		return n, nil
	}
	return n + removed, tree.RemoveEmpty(ctx, folder)
}
