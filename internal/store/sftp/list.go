package sftp

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"

	"holdfast/internal/store"
)

// List yields every object whose name begins with prefix, ordered by name. It reads those folders that may hold some; one
// answer of the server tells about a hundred files with their sizes and times.
func (d *Driver) List(ctx context.Context, prefix string) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		err := d.do(ctx, d.check)
		if err == nil {
			err = d.walk(ctx, ".", prefix, yield)
		}
		if err == nil {
			err = d.do(ctx, d.check) // what seemed deleted may have been the disk going
		}
		if err != nil && !errors.Is(err, errStopped) {
			yield(store.Object{}, fmt.Errorf("list %s: %w", d.where, classify(err)))
		}
	}
}

var errStopped = errors.New("sftp: the caller stopped listing")

// walk lists a folder. Names are ordered as whole strings, where "a-b" comes before "a/b": a folder is therefore compared
// with its slash.
func (d *Driver) walk(ctx context.Context, folder, prefix string, yield func(store.Object, error) bool) error {
	entries, err := d.entries(ctx, folder)
	if errors.Is(err, fs.ErrNotExist) && folder != "." {
		return nil // deleted while listing
	}
	if err != nil {
		return err
	}
	type candidate struct {
		name string
		info fs.FileInfo
	}
	var found []candidate
	for _, info := range entries {
		// The server is not trusted with more than names: one with a slash would lead elsewhere.
		name := path.Join(folder, info.Name())
		if strings.Contains(info.Name(), "/") || store.CheckName(name) != nil {
			continue // the marker, temporary files, lost+found and the like are no objects
		}
		switch {
		case info.IsDir():
			name += "/"
		case !info.Mode().IsRegular():
			continue
		}
		if strings.HasPrefix(name, prefix) || info.IsDir() && strings.HasPrefix(prefix, name) {
			found = append(found, candidate{name, info})
		}
	}
	slices.SortFunc(found, func(a, b candidate) int { return strings.Compare(a.name, b.name) })
	for _, c := range found {
		if c.info.IsDir() {
			if err := d.walk(ctx, strings.TrimSuffix(c.name, "/"), prefix, yield); err != nil {
				return err
			}
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if !yield(store.Object{Name: c.name, Size: c.info.Size(), Modified: c.info.ModTime()}, nil) {
			return errStopped
		}
	}
	return nil
}

func (d *Driver) entries(ctx context.Context, folder string) (entries []fs.FileInfo, err error) {
	err = d.do(ctx, func(s *session) (err error) {
		entries, err = s.sftp.ReadDir(d.at(folder))
		return err
	})
	return entries, err
}
