package local_test

import (
	"path/filepath"
	"testing"

	"holdfast/internal/store"
	"holdfast/internal/store/local"
	"holdfast/internal/store/storetest"
)

func open(t *testing.T) store.Driver {
	t.Helper()
	d, err := local.Open(filepath.Join(t.TempDir(), "store"), local.Options{Create: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func TestLaws(t *testing.T) { storetest.Run(t, open) }
