package journal_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/journal"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
)

const keep = 396 * 24 * time.Hour

// years lets a journal of 24 months be: two records a month, pushed to a store.
func years(t testing.TB) (*kit, *journal.Journal, *storetest.Memory) {
	t.Helper()
	k := newKit(t)
	j := k.open(t)
	memory := storetest.NewMemory(t)
	begin := time.Date(2025, 1, 1, 12, 0, 0, 0, time.UTC)
	for month := range 24 {
		k.now = begin.AddDate(0, month, 0)
		k.fill(t, j, 2)
		if _, err := j.Push(t.Context(), wrap(memory)); err != nil {
			t.Fatal(err)
		}
	}
	return k, j, memory
}

func TestOldRecordsExpireAndTheRestStaysWhole(t *testing.T) {
	k, j, memory := years(t)
	stores := map[string]*store.Store{"box": wrap(memory)}
	// December 2026: what is older than 396 days is of before November 2025, ten months of two records.
	gone, err := journal.ExpireStore(t.Context(), wrap(memory), j.Chain(), keep, k.signer, k.trust(), k.now)
	if err != nil || gone != 20 {
		t.Fatalf("expired up to %d, error %v", gone, err)
	}
	if audit, err := j.Verify(t.Context(), k.trust(), stores); err != nil || audit.Stores["box"] != 48 || audit.Base != 0 {
		t.Errorf("with the store trimmed: %+v, error %v", audit, err)
	}
	if gone, err := j.Trim(keep, 4); err != nil || gone != 4 {
		t.Errorf("trimmed up to %d, of which a store had 4; error %v", gone, err)
	}
	if gone, err := j.Trim(keep, 48); err != nil || gone != 20 {
		t.Errorf("trimmed up to %d, error %v", gone, err)
	}
	segments, err := filepath.Glob(filepath.Join(k.dir, "*.jsonl"))
	if err != nil || len(segments) != 14 {
		t.Errorf("%d segments are left, error %v", len(segments), err)
	}
	if audit, err := j.Verify(t.Context(), k.trust(), stores); err != nil || audit.Records != 48 || audit.Base != 20 {
		t.Errorf("with both trimmed: %+v, error %v", audit, err)
	}
	k.fill(t, j, 1)
	if n, err := j.Push(t.Context(), wrap(memory)); err != nil || n != 1 {
		t.Errorf("pushed %d, error %v", n, err)
	}
	told := 0
	audit, err := journal.VerifyStore(t.Context(), wrap(memory), j.Chain(), k.trust(), func(journal.Record) error { told++; return nil })
	if err != nil || audit.Records != 49 || audit.Base != 20 || told != 29 {
		t.Errorf("from the store alone: %+v, %d told, error %v", audit, told, err)
	}
	if gone, err := journal.ExpireStore(t.Context(), wrap(memory), j.Chain(), keep, k.signer, k.trust(), k.now); err != nil || gone != 0 {
		t.Errorf("a second time it expired up to %d, error %v", gone, err)
	}
	// A host that was lost takes back what there is, and goes on.
	other := newKit(t)
	other.signer, other.now = k.signer, k.now
	if n, err := journal.Rebuild(t.Context(), wrap(memory), j.Chain(), other.options(), k.trust()); err != nil || n != 29 {
		t.Fatalf("rebuilt %d, error %v", n, err)
	}
	again := other.open(t)
	other.fill(t, again, 1)
	if audit, err := again.Verify(t.Context(), k.trust(), stores); err != nil || audit.Records != 50 || audit.Base != 20 {
		t.Errorf("after a rebuild: %+v, error %v", audit, err)
	}

	// Whoever takes the beginning away, or moves it, is found.
	for name, spoil := range map[string]func() error{
		"without its beginning":   func() error { return os.Remove(filepath.Join(k.dir, "base.json")) },
		"with an older beginning": func() error { return os.WriteFile(filepath.Join(k.dir, "base.json"), []byte("{}\n"), 0o600) },
	} {
		data, err := os.ReadFile(filepath.Join(k.dir, "base.json"))
		if err != nil {
			t.Fatal(err)
		}
		if err := spoil(); err != nil {
			t.Fatal(err)
		}
		if _, err := j.Verify(t.Context(), k.trust(), nil); !errors.Is(err, holdfast.ErrDifference) {
			t.Errorf("%s: error %v", name, err)
		}
		if err := os.WriteFile(filepath.Join(k.dir, "base.json"), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range memory.Names() {
		if strings.Contains(name, "base.json") {
			broken := memory.Clone()
			broken.Corrupt(name, func(data []byte) []byte { return append(data, 'x') })
			if _, err := journal.VerifyStore(t.Context(), wrap(broken), j.Chain(), k.trust(), nil); !errors.Is(err, holdfast.ErrDifference) {
				t.Errorf("%s changed: %v", name, err)
			}
		}
	}
}

func TestNothingYoungerThanAYearExpires(t *testing.T) {
	k, j, memory := years(t)
	if _, err := journal.ExpireStore(t.Context(), wrap(memory), j.Chain(), 300*24*time.Hour, k.signer, k.trust(), k.now); !errors.Is(err, holdfast.ErrUsage) {
		t.Errorf("a store: %v", err)
	}
	if _, err := j.Trim(300*24*time.Hour, 48); !errors.Is(err, holdfast.ErrUsage) {
		t.Errorf("here: %v", err)
	}
	// A clock that jumps ten years leaves the newest object and segment.
	k.now = k.now.AddDate(10, 0, 0)
	if gone, err := journal.ExpireStore(t.Context(), wrap(memory), j.Chain(), keep, k.signer, k.trust(), k.now); err != nil || gone >= 48 {
		t.Errorf("expired up to %d, error %v", gone, err)
	}
	if gone, err := j.Trim(keep, 48); err != nil || gone >= 48 {
		t.Errorf("trimmed up to %d, error %v", gone, err)
	}
	if _, err := j.Verify(t.Context(), k.trust(), map[string]*store.Store{"box": wrap(memory)}); err != nil {
		t.Error(err)
	}
}

func TestExpireFaultAtEveryCall(t *testing.T) {
	k, j, base := years(t)
	counting := base.Clone()
	counting.Restore()
	if _, err := journal.ExpireStore(t.Context(), wrap(counting), j.Chain(), keep, k.signer, k.trust(), k.now); err != nil {
		t.Fatal(err)
	}
	for name, plan := range map[string]func(*storetest.Memory, int){
		"fails": (*storetest.Memory).FailAt, "fails but persists": (*storetest.Memory).FailPersistedAt, "is cut": (*storetest.Memory).CutAt,
	} {
		for n := 1; n <= counting.Calls(); n++ {
			memory := base.Clone()
			plan(memory, n)
			_, failed := journal.ExpireStore(t.Context(), wrap(memory), j.Chain(), keep, k.signer, k.trust(), k.now)
			memory.Restore()
			if failed == nil {
				t.Errorf("call %d %s and nobody saw it", n, name)
			}
			if audit, err := journal.VerifyStore(t.Context(), wrap(memory), j.Chain(), k.trust(), nil); err != nil || audit.Records != 48 {
				t.Fatalf("call %d %s: %+v, error %v", n, name, audit, err)
			}
			if _, err := journal.ExpireStore(t.Context(), wrap(memory), j.Chain(), keep, k.signer, k.trust(), k.now); err != nil {
				t.Fatalf("call %d %s: the next time: %v", n, name, err)
			}
			if audit, err := j.Verify(t.Context(), k.trust(), map[string]*store.Store{"box": wrap(memory)}); err != nil || audit.Stores["box"] != 48 {
				t.Fatalf("call %d %s: %+v, error %v", n, name, audit, err)
			}
		}
	}
}
