package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"holdfast/internal/durable"
	"holdfast/internal/store"
)

// Sweep removes temporary files that nobody has written to for age. A killed run leaves them on a filesystem that cannot keep
// a file without a name.
func (d *Driver) Sweep(ctx context.Context, age time.Duration) (n int, what string, err error) {
	what = "temporary files"
	err = d.check()
	if err == nil {
		n, err = store.SweepFolders(ctx, folders{d}, durable.TempPrefix, time.Now().Add(-age))
	}
	if err = d.missing(err); err != nil {
		return n, what, fmt.Errorf("sweep %s: %w", d.dir, classify(err))
	}
	return n, what, nil
}

// folders are those of the store.
type folders struct{ d *Driver }

var _ store.Folders = folders{}

// Entries leaves out what cannot be a temporary file, so that objects cost no look at each.
func (f folders) Entries(ctx context.Context, dir string) ([]fs.FileInfo, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	entries, err := f.d.entries(dir)
	if err != nil {
		return nil, err
	}
	var infos []fs.FileInfo
	for _, entry := range entries {
		if !entry.IsDir() && !strings.HasPrefix(entry.Name(), durable.TempPrefix) {
			continue
		}
		info, err := f.d.root.Lstat(path.Join(dir, entry.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // deleted meanwhile
		}
		if err != nil {
			return nil, err
		}
		infos = append(infos, info)
	}
	return infos, nil
}

func (f folders) Remove(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return f.d.root.Remove(name)
}

func (f folders) RemoveEmpty(_ context.Context, dir string) error {
	f.d.removeEmpty(dir)
	return nil
}
