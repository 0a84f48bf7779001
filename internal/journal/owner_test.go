package journal_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"holdfast/internal/journal"
)

// TestHandOver has root record something in the state folder of a service's user, who must be able to go on.
func TestHandOver(t *testing.T) {
	k := newKit(t)
	state := filepath.Dir(k.dir)
	const uid = 61234
	if err := os.Chown(state, uid, uid); err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(k.options())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := j.Append(t.Context(), journal.Record{Event: journal.VolumeUnlocked, Result: "good", Volume: "pg-data"}); err != nil {
			t.Fatal(err)
		}
		if err := j.Checkpoint(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	seen := 0
	if err := filepath.WalkDir(state, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		if owner := info.Sys().(*syscall.Stat_t).Uid; owner != uid {
			t.Errorf("%s belongs to %d", path, owner)
		}
		seen++
		return nil
	}); err != nil || seen < 6 {
		t.Errorf("%d files, %v", seen, err)
	}
}
