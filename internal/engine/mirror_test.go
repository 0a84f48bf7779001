package engine_test

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
	"holdfast/internal/engine"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
)

// on returns a kit with the same keys over another store.
func (k *kit) on(m *storetest.Memory) *kit {
	return &kit{memory: m, options: k.options}
}

func (k *kit) destination(name string) engine.Destination {
	s := store.New(k.memory, store.Options{Attempts: 1})
	return engine.Destination{Name: name, Mirror: store.AsMirror(s), Archive: archive.New(s, k.options)}
}

func mirror(t testing.TB, from, to *kit) (engine.Mirrored, error) {
	t.Helper()
	return engine.Mirror(t.Context(), from.archive(), to.destination("box"), engine.MirrorPlan{Job: "job", Host: "host", Who: "root", Now: clock}, nil)
}

// carried are the names of what a mirror carries.
func (k *kit) carried() []string {
	return slices.DeleteFunc(k.memory.Names(), func(name string) bool {
		return strings.HasPrefix(name, "verifications/") || strings.HasPrefix(name, "prunes/")
	})
}

func (k *kit) mustVerify(t testing.TB) {
	t.Helper()
	for _, entry := range k.list(t) {
		b, err := k.archive().Open(t.Context(), entry)
		if err == nil {
			err = b.Verify(t.Context(), holdfast.L2, nil)
		}
		if err != nil {
			t.Errorf("backup %s is listed and is not whole: %v", entry.ID, err)
		}
	}
}

func (k *kit) mustBackup(t testing.TB, sources ...engine.NamedSource) archive.Entry {
	t.Helper()
	result, err := k.backup(t, sources...)
	if err != nil {
		t.Fatal(err)
	}
	return result.Entry
}

// With a fault at any call of either side, what the mirror lists is whole, and the next pass makes up for the rest.
func TestMirrorFaultAtEveryCall(t *testing.T) {
	from := newKit(t)
	for range 2 {
		from.mustBackup(t, good("one"), good("two"))
	}
	if _, err := from.archive().PutPin(t.Context(), from.list(t)[0], true, time.Time{}, archive.Pin{Time: start}); err != nil {
		t.Fatal(err)
	}
	whole := from.carried()
	probe, target := from.on(from.memory.Clone()), from.on(storetest.NewMemory(t))
	target.memory.Restore()
	done, err := mirror(t, probe, target)
	if err != nil || done.Backups != 2 || !slices.Equal(target.carried(), whole) {
		t.Fatalf("mirrored %+v, error %v:\n%q\nwant\n%q", done, err, target.carried(), whole)
	}
	for _, entry := range target.list(t) {
		if v, ok := entry.Verified(); !ok || !v.Good || v.Level != holdfast.L1 {
			t.Errorf("the copy of %s is verified %+v", entry.ID, v)
		}
	}
	calls := map[string]int{"source": probe.memory.Calls(), "mirror": target.memory.Calls()}

	for _, fault := range []struct {
		name string
		plan func(*storetest.Memory, int)
	}{
		{"fails", (*storetest.Memory).FailAt},
		{"fails but persists", (*storetest.Memory).FailPersistedAt},
		{"is cut", (*storetest.Memory).CutAt},
	} {
		for side, n := range calls {
			if n < 20 {
				t.Fatalf("%d calls of the %s are too few to be true", n, side)
			}
			for at := 1; at <= n; at++ {
				t.Run(fmt.Sprintf("call %d of the %s %s", at, side, fault.name), func(t *testing.T) {
					source, target := from.on(from.memory.Clone()), from.on(storetest.NewMemory(t))
					if side == "source" {
						fault.plan(source.memory, at)
					} else {
						fault.plan(target.memory, at)
					}
					_, err := mirror(t, source, target)
					source.memory.Restore()
					target.memory.Restore()
					if err == nil && !slices.Equal(target.carried(), whole) {
						t.Fatal("the pass succeeded and something is missing")
					}
					target.mustVerify(t)
					if _, err := mirror(t, source, target); err != nil {
						t.Fatalf("the next pass: %v", err)
					}
					if !slices.Equal(target.carried(), whole) {
						t.Errorf("after the next pass the mirror has\n%q\nwant\n%q", target.carried(), whole)
					}
					if !slices.Equal(source.carried(), whole) {
						t.Error("the source was changed")
					}
				})
			}
		}
	}
}

func TestMirrorCopiesNoDamage(t *testing.T) {
	from := newKit(t)
	older := from.mustBackup(t, good("one"))
	newer := from.mustBackup(t, good("one"))
	name := "data/job/" + newer.Time.Format("20060102T150405Z") + "." + string(newer.ID) + "/one.tar.zst.age"
	from.memory.Corrupt(name, flip)
	to := from.on(storetest.NewMemory(t))
	done, err := mirror(t, from, to)
	if !errors.Is(err, holdfast.ErrDifference) || done.Backups != 1 {
		t.Errorf("mirrored %+v, error %v; want one backup and a difference", done, err)
	}
	if entries := to.list(t); len(entries) != 1 || entries[0].ID != older.ID {
		t.Errorf("the mirror lists %v, want the whole backup alone", entries)
	}
	if data, stored := to.memory.Bytes(name); stored {
		t.Errorf("%d damaged bytes were put into the mirror", len(data))
	}
}

// A mirror that stores other bytes than it is given shows no backup for it.
func TestMirrorReadsBackWhatItCopied(t *testing.T) {
	from := newKit(t)
	entry := from.mustBackup(t, good("one"))
	to := from.on(storetest.NewMemory(t))
	lying := store.New(liar{to.memory}, store.Options{Attempts: 1})
	_, err := engine.Mirror(t.Context(), from.archive(), engine.Destination{Name: "box", Mirror: store.AsMirror(lying), Archive: to.archive()},
		engine.MirrorPlan{Job: "job", Now: clock}, nil)
	if !errors.Is(err, holdfast.ErrDifference) || holdfast.Hint(err) == "" || !strings.Contains(err.Error(), string(entry.ID)) {
		t.Errorf("error %v", err)
	}
	if entries := to.list(t); len(entries) != 0 {
		t.Errorf("the mirror lists %v", entries)
	}
}

func TestMirrorRefusesToOverwrite(t *testing.T) {
	from := newKit(t)
	from.mustBackup(t, good("one"))
	to := from.on(storetest.NewMemory(t))
	if err := to.memory.Put(t.Context(), from.object(t, "/one.tar.zst.age"), strings.NewReader("something else")); err != nil {
		t.Fatal(err)
	}
	if _, err := mirror(t, from, to); !errors.Is(err, holdfast.ErrDifference) || holdfast.Hint(err) == "" {
		t.Errorf("error %v", err)
	}
	if data, _ := to.memory.Bytes(from.object(t, "/one.tar.zst.age")); string(data) != "something else" {
		t.Errorf("the object was overwritten: %q", data)
	}
}

// What a prune deleted from either store does not come back.
func TestMirrorDoesNotBringBackWhatWasPruned(t *testing.T) {
	for _, side := range []string{"source", "mirror"} {
		t.Run(side, func(t *testing.T) {
			from := newKit(t)
			gone := from.mustBackup(t, good("one"))
			kept := from.mustBackup(t, good("one"))
			to := from.on(storetest.NewMemory(t))
			if side == "mirror" {
				if _, err := mirror(t, from, to); err != nil {
					t.Fatal(err)
				}
			}
			pruned := map[string]*kit{"source": from, "mirror": to}[side]
			if _, err := pruned.archive().Delete(t.Context(), gone, archive.Prune{Rule: archive.PruneRetention, Time: start}, nil); err != nil {
				t.Fatal(err)
			}
			if _, err := mirror(t, from, to); err != nil {
				t.Fatal(err)
			}
			if entries := to.list(t); len(entries) != 1 || entries[0].ID != kept.ID {
				t.Errorf("the mirror lists %v", entries)
			}
		})
	}
}

// liar stores other bytes than it is given.
type liar struct{ store.Driver }

func (l liar) Put(ctx context.Context, name string, r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	return l.Driver.Put(ctx, name, bytes.NewReader(flip(append([]byte{}, data...))))
}
