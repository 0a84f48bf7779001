package sftp

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"holdfast/internal/store"
)

// Delete removes name and the folders that it leaves empty.
func (d *Driver) Delete(ctx context.Context, name string) error {
	if err := store.CheckName(name); err != nil {
		return err
	}
	err := d.do(ctx, func(s *session) error {
		if err := d.check(s); err != nil {
			return err
		}
		info, err := d.lookup(s, name)
		if errors.Is(err, fs.ErrNotExist) || err == nil && info.IsDir() {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.sftp.Remove(d.at(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return d.diagnose(s, err)
		}
		d.removeEmpty(s, path.Dir(name))
		return nil
	})
	if err != nil {
		return fmt.Errorf("delete %s: %w", name, classify(err))
	}
	return nil
}

// removeEmpty removes a folder and those above it as long as they are empty; the server refuses to remove others.
func (d *Driver) removeEmpty(s *session, folder string) {
	for folder != "." && s.sftp.RemoveDirectory(d.at(folder)) == nil {
		folder = path.Dir(folder)
	}
}

// Sweep removes temporary files that nobody has written to for age. The server's clock dates them.
func (d *Driver) Sweep(ctx context.Context, age time.Duration) (n int, what string, err error) {
	what = "temporary files"
	err = d.do(ctx, d.check)
	if err == nil {
		n, err = store.SweepFolders(ctx, folders{d}, temporary, time.Now().Add(-age))
	}
	if err != nil {
		return n, what, fmt.Errorf("sweep %s: %w", d.where, classify(err))
	}
	return n, what, nil
}

// folders are those of the store.
type folders struct{ d *Driver }

var _ store.Folders = folders{}

func (f folders) Entries(ctx context.Context, folder string) ([]fs.FileInfo, error) {
	return f.d.entries(ctx, folder)
}

func (f folders) Remove(ctx context.Context, name string) error {
	return f.d.do(ctx, func(s *session) error { return s.sftp.Remove(f.d.at(name)) })
}

func (f folders) RemoveEmpty(ctx context.Context, folder string) error {
	return f.d.do(ctx, func(s *session) error {
		f.d.removeEmpty(s, folder)
		return nil
	})
}
