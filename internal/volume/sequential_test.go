package volume_test

import (
	"context"
	"errors"
	"os"
	"testing"

	"holdfast/internal/volume"
)

func TestSequential(t *testing.T) {
	dir := t.TempDir()
	s, err := volume.Sequential(t.Context(), dir, 8<<20)
	if err != nil || s.Write <= 0 || s.Read <= 0 || s.Took <= 0 || s.Waited < 0 {
		t.Errorf("%+v, %v", s, err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := volume.Sequential(gone, dir, 8<<20); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("left: %v, %v", entries, err)
	}
	if _, err := volume.Sequential(t.Context(), "/nowhere", 1<<20); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
}
