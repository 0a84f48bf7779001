package postgres_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"holdfast/internal/source/postgres"
	"holdfast/internal/testbed"
)

func TestMeasure(t *testing.T) {
	uid, gid := ownerOf(t, testbed.Postgres(t, 15, testbed.ServerOptions{}).Data)
	base := short(t)
	dir, work := filepath.Join(base, "d"), filepath.Join(base, "w")
	// The folder of the socket is given away by whoever measures.
	for path, mode := range map[string]os.FileMode{dir: 0o755, work: 0o700} {
		if err := os.Mkdir(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	m, err := postgres.Measure(t.Context(), postgres.MeasureOptions{Dir: dir, Work: work, UID: uid, GID: gid, Major: 15, Scale: 1, Span: time.Second, BinDirs: binDirs(t)}, nil)
	if err != nil || m.TPS <= 0 || m.Latency <= 0 || m.Dump <= 0 {
		t.Errorf("%+v, %v", m, err)
	}
	for _, path := range []string{dir, work} {
		if entries, err := os.ReadDir(path); err != nil || len(entries) > 0 {
			t.Errorf("left in %s: %v, %v", path, entries, err)
		}
	}
}
