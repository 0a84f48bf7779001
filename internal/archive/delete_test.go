package archive_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
)

func prune(rule archive.PruneRule) archive.Prune {
	return archive.Prune{Rule: rule, Why: "9th daily of 7", Time: start.AddDate(0, 1, 0), Host: "host", Who: "root"}
}

// ofBackup are the objects of one backup: all that a prune deletes of it.
func ofBackup(k *kit, entry archive.Entry) []string {
	var names []string
	for _, name := range k.memory.Names() {
		if strings.Contains(name, string(entry.ID)) && (strings.HasPrefix(name, "data/") || strings.HasPrefix(name, "commits/")) {
			names = append(names, name)
		}
	}
	return names
}

// With a fault at any call the deletion is recorded before anything is gone, a half deleted backup is not listed, the other
// backup is whole, and doing it again finishes it.
func TestDeleteFaultAtEveryCall(t *testing.T) {
	base := newKit(t)
	gone, kept := base.mustBackup(t, 0), base.mustBackup(t, 1)
	counting := base.on(base.memory.Clone())
	counting.memory.Restore()
	n, err := counting.archive().Delete(t.Context(), gone, prune(archive.PruneRetention), nil)
	if err != nil || n != len(ofBackup(base, gone)) {
		t.Fatalf("deleted %d objects, error %v; want %d", n, err, len(ofBackup(base, gone)))
	}
	if left := ofBackup(counting, gone); len(left) > 0 {
		t.Fatalf("left %q", left)
	}
	calls := counting.memory.Calls()
	if calls < 10 {
		t.Fatalf("%d calls are too few to be true", calls)
	}
	for _, fault := range []struct {
		name string
		plan func(*storetest.Memory, int)
	}{
		{"fails", (*storetest.Memory).FailAt},
		{"fails but persists", (*storetest.Memory).FailPersistedAt},
		{"is cut", (*storetest.Memory).CutAt},
	} {
		for at := 1; at <= calls; at++ {
			t.Run(fmt.Sprintf("call %d %s", at, fault.name), func(t *testing.T) {
				k := base.on(base.memory.Clone())
				fault.plan(k.memory, at)
				if _, err := k.archive().Delete(t.Context(), gone, prune(archive.PruneRetention), nil); err == nil {
					t.Fatal("the fault was not seen")
				}
				k.memory.Restore()
				a := k.archive()
				recorded, err := a.Pruned(t.Context(), "app")
				if err != nil {
					t.Fatal(err)
				}
				whole := len(ofBackup(k, gone)) == len(ofBackup(base, gone))
				if !whole && !recorded(gone) {
					t.Error("something is gone and no record says why")
				}
				entries := mustList(t, a)
				if listed := slices.ContainsFunc(entries, func(e archive.Entry) bool { return e.ID == gone.ID }); listed && !whole {
					t.Error("a half deleted backup is listed")
				}
				mustHold(t, a, kept)
				left, err := a.Leftovers(t.Context(), "app")
				if err != nil {
					t.Fatal(err)
				}
				for _, l := range left {
					if l.Entry.ID != gone.ID || !l.Pruned || l.Objects == 0 {
						t.Errorf("left over is %+v", l)
					}
				}
				if _, err := a.Delete(t.Context(), gone, prune(archive.PruneRetention), nil); err != nil {
					t.Fatal(err)
				}
				if left := ofBackup(k, gone); len(left) > 0 {
					t.Errorf("after a second time %q is left", left)
				}
				mustHold(t, a, kept)
			})
		}
	}
}

// retaining refuses to delete manifests, as a bucket with object lock does.
type retaining struct{ store.Driver }

func (r retaining) Delete(ctx context.Context, name string) error {
	if strings.HasPrefix(name, "commits/") {
		return fmt.Errorf("delete %s: %w", name, &store.RetainedError{Until: start.AddDate(1, 0, 0)})
	}
	return r.Driver.Delete(ctx, name)
}

func TestRetainedBackupsStayWhole(t *testing.T) {
	k := newKit(t)
	entry := k.mustBackup(t, 0)
	a := archive.New(store.New(retaining{k.memory}, store.Options{Attempts: 1}), k.options())
	var retained *store.RetainedError
	if _, err := a.Delete(t.Context(), entry, prune(archive.PruneRetention), nil); !errors.As(err, &retained) || !retained.Until.Equal(start.AddDate(1, 0, 0)) {
		t.Errorf("error %v", err)
	}
	mustHold(t, k.archive(), entry)
}

// full takes nothing while it has as many objects as it had.
type full struct {
	*storetest.Memory
	objects int
}

func (f full) Put(ctx context.Context, name string, r io.Reader) error {
	if len(f.Names()) >= f.objects {
		return fmt.Errorf("put %s: %w", name, store.ErrFull)
	}
	return f.Memory.Put(ctx, name, r)
}

func TestAFullStoreCanBePruned(t *testing.T) {
	k := newKit(t)
	entry := k.mustBackup(t, 0)
	a := archive.New(store.New(full{k.memory, len(k.memory.Names())}, store.Options{Attempts: 1}), k.options())
	if _, err := a.Delete(t.Context(), entry, prune(archive.PruneRetention), nil); err != nil {
		t.Fatal(err)
	}
	recorded, err := a.Pruned(t.Context(), "app")
	if err != nil || !recorded(entry) || len(ofBackup(k, entry)) > 0 {
		t.Errorf("recorded %v, left %q, error %v", recorded(entry), ofBackup(k, entry), err)
	}
}

func TestLeftovers(t *testing.T) {
	k := newKit(t)
	k.mustBackup(t, 0)
	for _, name := range []string{
		"data/app/20260605T120000Z.bbbbbbbbbb/app.sql.zst.age", "data/app/20260605T120000Z.bbbbbbbbbb/RESTORE.txt",
		// The manifest of a later version, whose name is not understood, still has its objects.
		"commits/app/20260606T120000Z.cccccccccc.delta.complete.age.12.json", "data/app/20260606T120000Z.cccccccccc/app.delta",
		"data/web/20260605T120000Z.dddddddddd/x",
	} {
		if err := k.memory.Put(t.Context(), name, strings.NewReader("12345")); err != nil {
			t.Fatal(err)
		}
	}
	left, err := k.archive().Leftovers(t.Context(), "app")
	if err != nil || len(left) != 1 || left[0].Entry.ID != "bbbbbbbbbb" || left[0].Objects != 2 || left[0].Bytes != 10 || left[0].Pruned {
		t.Errorf("left over is %+v, error %v", left, err)
	}
}

// Records that speak of a backup say what their names say, or are refused.
func TestRecordsAboutBackups(t *testing.T) {
	k := newKit(t)
	k.mustBackup(t, 0)
	a := k.archive()
	entry := mustList(t, a)[0]
	b, err := a.Open(t.Context(), entry)
	if err != nil {
		t.Fatal(err)
	}
	until := start.AddDate(1, 0, 0)
	if _, err := a.PutPin(t.Context(), entry, true, until, archive.Pin{Reason: "before the migration", Time: start, Host: "host", Who: "anna"}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.PutVerification(t.Context(), b, holdfast.L1, false, archive.Verification{Time: start, Host: "host", Who: "anna"}); err != nil {
		t.Fatal(err)
	}
	if _, err := a.PutFailedRun(t.Context(), "app", archive.Run{Time: start.Add(time.Hour), Finished: start.Add(2 * time.Hour), Host: "host", Exit: 1}); err != nil {
		t.Fatal(err)
	}
	entry = mustList(t, a)[0]
	if !entry.PinnedAt(start) || entry.PinnedAt(until) || !entry.Damaged() {
		t.Fatalf("the entry is %+v", entry)
	}
	pin, trusted, err := a.ReadPin(t.Context(), entry, entry.Pins[0])
	if err != nil || !trusted || pin.Reason != "before the migration" || pin.Who != "anna" {
		t.Errorf("pin %+v, trusted %v, error %v", pin, trusted, err)
	}
	if v, trusted, err := a.ReadVerification(t.Context(), b, entry.Verifications[0]); err != nil || !trusted || v.Level != "L1" || v.Result != "damaged" {
		t.Errorf("verification %+v, trusted %v, error %v", v, trusted, err)
	}
	run, found, err := a.FailedRun(t.Context(), "app")
	if err != nil || !found || !run.Time.Equal(start.Add(time.Hour)) {
		t.Fatalf("failed run %+v, found %v, error %v", run, found, err)
	}
	if r, trusted, err := a.ReadRun(t.Context(), run); err != nil || !trusted || r.Exit != 1 {
		t.Errorf("run %+v, trusted %v, error %v", r, trusted, err)
	}

	// An unpin right after, on a clock that went back, is still the newest.
	if _, err := a.PutPin(t.Context(), entry, false, time.Time{}, archive.Pin{Reason: "done", Time: start.Add(-time.Hour)}); err != nil {
		t.Fatal(err)
	}
	if entry = mustList(t, a)[0]; len(entry.Pins) != 2 || entry.PinnedAt(start) {
		t.Errorf("after an unpin the pins are %+v", entry.Pins)
	}

	// What was changed, and what was moved under another name, is not believed.
	k.memory.Corrupt(entry.PinName(entry.Pins[1]), func(data []byte) []byte { return bytes.Replace(data, []byte("done"), []byte("gone"), 1) })
	if _, _, err := a.ReadPin(t.Context(), entry, entry.Pins[1]); !errors.Is(err, holdfast.ErrDifference) {
		t.Errorf("a changed record: %v", err)
	}
	moved := entry.Pins[0]
	moved.Until = time.Time{}
	for _, suffix := range []string{"", ".sig"} {
		data, _ := k.memory.Bytes(entry.PinName(entry.Pins[0]) + suffix)
		if err := k.memory.Put(t.Context(), entry.PinName(moved)+suffix, bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := a.ReadPin(t.Context(), entry, moved); !errors.Is(err, holdfast.ErrDifference) {
		t.Errorf("a record under another name: %v", err)
	}
}
