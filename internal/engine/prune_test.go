package engine_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/engine"
	"holdfast/internal/retention"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
)

// daily makes n backups, one a day, and returns them oldest first.
func (k *kit) daily(t testing.TB, n int) []archive.Entry {
	t.Helper()
	var entries []archive.Entry
	for i := range n {
		p := plan(good("one"))
		p.Now = start.AddDate(0, 0, i)
		result, err := engine.Backup(t.Context(), k.archive(), p, nil)
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, result.Entry)
	}
	return entries
}

func (k *kit) shelf(name string, rule retention.Rule) engine.Shelf {
	return engine.Shelf{Name: name, Archive: k.archive(), Policy: retention.Policy{Default: rule}}
}

// prune looks and deletes, an hour after the last of n daily backups.
func prune(t testing.TB, n int, shelves ...engine.Shelf) ([]engine.Deletion, engine.Review, error) {
	t.Helper()
	p := engine.PrunePlan{Job: "job", Host: "host", Who: "root", Now: start.AddDate(0, 0, n-1).Add(time.Hour)}
	review, err := engine.ReviewPrune(t.Context(), shelves, p)
	if err != nil {
		return nil, review, err
	}
	var deleted []engine.Deletion
	err = engine.Prune(t.Context(), review, func(d engine.Deletion) { deleted = append(deleted, d) })
	return deleted, review, err
}

func ids(entries []archive.Entry) []holdfast.BackupID {
	var all []holdfast.BackupID
	for _, e := range entries {
		all = append(all, e.ID)
	}
	return all
}

func (k *kit) putProof(t testing.TB, entry archive.Entry, verdict holdfast.Verdict) {
	t.Helper()
	b, err := k.archive().Open(t.Context(), entry)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.archive().PutProof(t.Context(), b, archive.Proof{Verdict: verdict, Time: start.AddDate(0, 0, 9)}, nil); err != nil {
		t.Fatal(err)
	}
}

// With a fault at any call of either store: what the rule keeps is whole in each, nothing half deleted is listed, what is gone has its
// record, and the next prune ends where a prune without faults ends.
func TestPruneFaultAtEveryCall(t *testing.T) {
	base := newKit(t)
	entries := base.daily(t, 6)
	base.putProof(t, entries[1], holdfast.Proven)
	box := base.on(storetest.NewMemory(t))
	if _, err := mirror(t, base, box); err != nil {
		t.Fatal(err)
	}
	run := func(main, box *kit) ([]engine.Deletion, engine.Review, error) {
		return prune(t, 6, main.shelf("main", retention.Rule{Daily: 2}), box.shelf("box", retention.Rule{Daily: 3}))
	}
	counting, countingBox := base.on(base.memory.Clone()), base.on(box.memory.Clone())
	counting.memory.Restore()
	countingBox.memory.Restore()
	deleted, _, err := run(counting, countingBox)
	if err != nil || len(deleted) != 3+2 {
		t.Fatalf("deleted %d, error %v", len(deleted), err)
	}
	// The proven one stays, and what a day of the rule has.
	wantMain := []holdfast.BackupID{entries[1].ID, entries[4].ID, entries[5].ID}
	wantBox := []holdfast.BackupID{entries[1].ID, entries[3].ID, entries[4].ID, entries[5].ID}
	check := func(t *testing.T, main, box *kit) {
		t.Helper()
		for _, side := range []struct {
			kit  *kit
			want []holdfast.BackupID
		}{{main, wantMain}, {box, wantBox}} {
			if got := ids(side.kit.list(t)); !slices.Equal(got, side.want) {
				t.Errorf("left are %v, want %v", got, side.want)
			}
			side.kit.mustVerify(t)
			if left, err := side.kit.archive().Leftovers(t.Context(), "job"); err != nil || len(left) > 0 {
				t.Errorf("left over: %+v, error %v", left, err)
			}
		}
	}
	check(t, counting, countingBox)
	calls := map[string]int{"main": counting.memory.Calls(), "box": countingBox.memory.Calls()}

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
				t.Fatalf("%d calls of %s are too few to be true", n, side)
			}
			for at := 1; at <= n; at++ {
				t.Run(fmt.Sprintf("call %d of %s %s", at, side, fault.name), func(t *testing.T) {
					main, box := base.on(base.memory.Clone()), base.on(box.memory.Clone())
					faulty := map[string]*kit{"main": main, "box": box}[side]
					fault.plan(faulty.memory, at)
					_, _, _ = run(main, box) // whatever it says, the stores are what counts
					main.memory.Restore()
					box.memory.Restore()
					for _, k := range []*kit{main, box} {
						k.mustVerify(t)
						kept := wantMain
						if k == box {
							kept = wantBox
						}
						have := ids(k.list(t))
						for _, id := range kept {
							if !slices.Contains(have, id) {
								t.Errorf("%s, which is kept, is gone", id)
							}
						}
						recorded, err := k.archive().Pruned(t.Context(), "job")
						if err != nil {
							t.Fatal(err)
						}
						for _, e := range entries {
							if !slices.Contains(have, e.ID) && !recorded(e) {
								t.Errorf("%s is gone without a record", e.ID)
							}
						}
					}
					if _, _, err := run(main, box); err != nil {
						t.Fatalf("the next prune: %v", err)
					}
					check(t, main, box)
				})
			}
		}
	}
}

// Whoever can write names into a store makes nothing go by them.
func TestNamesAloneDeleteNothing(t *testing.T) {
	k := newKit(t)
	entries := k.daily(t, 6)
	k.putProof(t, entries[0], holdfast.Proven)
	if _, err := k.archive().PutPin(t.Context(), entries[1], true, time.Time{}, archive.Pin{Time: start}); err != nil {
		t.Fatal(err)
	}
	stem := func(e archive.Entry) string {
		return fmt.Sprintf("job/%s.%s", e.Time.Format("20060102T150405Z"), e.ID)
	}
	for _, name := range []string{
		"proofs/" + stem(entries[3]) + "/20260801T000000Z.proven.aaaaaaaaaa.json", // would free the proven one
		"pins/" + stem(entries[1]) + "/20260801T000000Z.unpin.aaaaaaaaaa.json",    // would free the pinned one
	} {
		for _, suffix := range []string{"", ".sig"} {
			if err := k.memory.Put(t.Context(), name+suffix, strings.NewReader("{}")); err != nil {
				t.Fatal(err)
			}
		}
	}
	deleted, review, err := prune(t, 6, k.shelf("main", retention.Rule{Last: 1}))
	if err != nil || len(review.Warnings) != 2 {
		t.Errorf("warnings %v, error %v", review.Warnings, err)
	}
	for _, d := range deleted {
		if d.Entry.ID == entries[0].ID || d.Entry.ID == entries[1].ID {
			t.Errorf("%s was deleted: %s", d.Entry.ID, d.Why)
		}
	}
	if got, want := ids(k.list(t)), ids([]archive.Entry{entries[0], entries[1], entries[5]}); !slices.Equal(got, want) {
		t.Errorf("left are %v, want %v", got, want)
	}
}

// Names of backups that never were, at the beginning of each day, would be the ones that a rule keeps.
func TestForgedBackupsTakeNoPlace(t *testing.T) {
	k := newKit(t)
	entries := k.daily(t, 6)
	for i := range 6 {
		at := start.AddDate(0, 0, i).Truncate(24 * time.Hour).Add(time.Minute)
		name := fmt.Sprintf("commits/job/%s.%s.full.complete.age.1234.json", at.Format("20060102T150405Z"), strings.Repeat(string(rune('a'+i)), 10))
		if err := k.memory.Put(t.Context(), name, strings.NewReader("{}")); err != nil {
			t.Fatal(err)
		}
	}
	_, review, err := prune(t, 6, k.shelf("main", retention.Rule{Daily: 3}))
	if err != nil || len(review.Warnings) < 3 || review.Stores[0].Blocked != "" {
		t.Errorf("blocked %q, warnings %v, error %v", review.Stores[0].Blocked, review.Warnings, err)
	}
	left := ids(k.list(t))
	for _, e := range entries[3:] {
		if !slices.Contains(left, e.ID) {
			t.Errorf("%s of %s is gone; left are %v", e.ID, e.Time, left)
		}
	}
}

func TestPruneIsBlocked(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, k *kit, entries []archive.Entry){
		"by a run that failed": func(t *testing.T, k *kit, _ []archive.Entry) {
			if _, err := k.archive().PutFailedRun(t.Context(), "job", archive.Run{Time: start.AddDate(0, 0, 5).Add(time.Minute)}); err != nil {
				t.Fatal(err)
			}
		},
		"by a newest backup that lacks an object": func(t *testing.T, k *kit, entries []archive.Entry) {
			for _, name := range k.memory.Names() {
				if strings.Contains(name, string(entries[5].ID)) && strings.HasSuffix(name, ".tar.zst.age") {
					if err := k.memory.Delete(t.Context(), name); err != nil {
						t.Fatal(err)
					}
				}
			}
		},
		"by a newest backup whose signature is gone": func(t *testing.T, k *kit, entries []archive.Entry) {
			k.memory.Corrupt("data/job/"+entries[5].Time.Format("20060102T150405Z")+"."+string(entries[5].ID)+"/manifest.json.sig", func([]byte) []byte { return nil })
		},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKit(t)
			entries := k.daily(t, 6)
			spoil(t, k, entries)
			before := k.memory.Names()
			deleted, review, err := prune(t, 6, k.shelf("main", retention.Rule{Daily: 2}))
			if err != nil || review.Stores[0].Blocked == "" || len(deleted) != 0 || !slices.Equal(k.memory.Names(), before) {
				t.Errorf("blocked %q, deleted %v, error %v", review.Stores[0].Blocked, deleted, err)
			}
		})
	}
}

// A clock that jumps makes everything look old, also what a run is writing now.
func TestAClockThatJumpsDeletesNothing(t *testing.T) {
	k := newKit(t)
	k.daily(t, 6)
	for _, name := range []string{"data/job/20260601T000000Z.aaaaaaaaaa/one.tar.zst.age", "data/job/20260706T115900Z.bbbbbbbbbb/one.tar.zst.age"} {
		if err := k.memory.Put(t.Context(), name, strings.NewReader("half")); err != nil {
			t.Fatal(err)
		}
	}
	before := k.memory.Names()
	deleted, review, err := prune(t, 365, k.shelf("main", retention.Rule{Daily: 2}))
	if err != nil || review.Stores[0].Open() || len(deleted) != 0 || !slices.Equal(k.memory.Names(), before) {
		t.Errorf("blocked %q, deleted %v, error %v", review.Stores[0].Blocked, deleted, err)
	}
	if n := len(review.Stores[0].Leftovers); n != 2 {
		t.Errorf("%d leftovers are shown, want 2", n)
	}
}

// guarded is a store that refuses to delete some manifests.
type guarded struct {
	*storetest.Memory
	refusal func(name string) error // what a deletion of a manifest fails with
	asked   func(name string) error // what a question for its lock is answered with
}

func (g guarded) Delete(ctx context.Context, name string) error {
	if err := g.refusal(name); err != nil && strings.HasPrefix(name, "commits/") {
		return fmt.Errorf("delete %s: %w", name, err)
	}
	return g.Memory.Delete(ctx, name)
}

func (g guarded) Retained(_ context.Context, name string) error { return g.asked(name) }

// What a store refuses to delete, by a lock or for lack of a right, is a backup like any other: it is listed, whole, and mirrored on.
func TestWhatAStoreRefusesToDeleteIsStillABackup(t *testing.T) {
	base := newKit(t)
	entries := base.daily(t, 6)
	oldest := func(err error) func(string) error {
		return func(name string) error {
			if strings.Contains(name, string(entries[0].ID)) {
				return err
			}
			return nil
		}
	}
	none := oldest(nil)
	until := start.AddDate(0, 1, 0)
	for _, c := range []struct {
		name           string
		refusal, asked func(string) error
		keep           bool // the review says so
		why            string
		recorded       bool
		held           bool
		fails          error
	}{
		{name: "a lock that is told", refusal: oldest(&store.RetainedError{Until: until}), asked: oldest(&store.RetainedError{Until: until}), keep: true, why: "locked by the store until 2026-08-01"},
		{name: "a legal hold", refusal: oldest(&store.RetainedError{}), asked: oldest(&store.RetainedError{}), keep: true, why: "locked by the store"},
		{name: "a lock that cannot be asked for", refusal: oldest(&store.RetainedError{Until: until}), asked: none, recorded: true, held: true},
		{name: "no right to delete", refusal: oldest(fs.ErrPermission), asked: none, recorded: true, fails: fs.ErrPermission},
		{name: "no answer to the question", refusal: none, asked: oldest(errBroken), fails: errBroken},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := base.on(base.memory.Clone())
			shelf := k.shelf("main", retention.Rule{Daily: 2})
			shelf.Archive = k.over(guarded{k.memory, c.refusal, c.asked})
			deleted, review, err := prune(t, 6, shelf)
			if !errors.Is(err, c.fails) {
				t.Errorf("error %v, want %v", err, c.fails)
			}
			if c.asked(string(entries[0].ID)) == nil || c.keep {
				if d := review.Stores[0].Decisions[0]; d.Entry.ID != entries[0].ID || d.Keep != c.keep || c.why != "" && d.Why != c.why {
					t.Errorf("decided %+v, want %v because %q", d, c.keep, c.why)
				}
			}
			held := slices.ContainsFunc(deleted, func(d engine.Deletion) bool { return d.Held && d.Entry.ID == entries[0].ID && d.Retained.Equal(until) })
			if held != c.held {
				t.Errorf("told to be held: %v, want %v", held, c.held)
			}
			recorded, err := k.archive().Pruned(t.Context(), "job")
			if err != nil || recorded(entries[0]) != c.recorded {
				t.Errorf("recorded %v, want %v; error %v", recorded(entries[0]), c.recorded, err)
			}
			k.mustVerify(t)
			box := k.on(storetest.NewMemory(t))
			if _, err := mirror(t, k, box); err != nil {
				t.Fatal(err)
			}
			if got := ids(box.list(t)); !slices.Contains(got, entries[0].ID) || !slices.Equal(got, ids(k.list(t))) {
				t.Errorf("mirrored %v of %v", got, ids(k.list(t)))
			}
			// A mirror that refused keeps getting what it lacks of it, and nothing when it lacks nothing.
			if done, err := mirror(t, box, k); err != nil || done.Backups != 0 {
				t.Errorf("back: %+v, error %v", done, err)
			}
		})
	}
}

// A store that is away counts as holding nothing: what it should hold stays where it is.
func TestAStoreThatIsAwayHoldsNothing(t *testing.T) {
	k := newKit(t)
	k.daily(t, 6)
	away := engine.Shelf{Name: "box", Err: errors.New("no route to host"), Policy: retention.Policy{Default: retention.Rule{Daily: 4}}}
	deleted, review, err := prune(t, 6, k.shelf("main", retention.Rule{Daily: 2}), away)
	if len(deleted) != 2 || len(k.list(t)) != 4 {
		t.Errorf("deleted %d, left %d", len(deleted), len(k.list(t)))
	}
	if !errors.Is(err, holdfast.ErrIncomplete) || !strings.Contains(err.Error(), "no route to host") || review.Stores[1].Err == nil {
		t.Errorf("error %v", err)
	}
}

func TestRunsThatNeverEndedAreCollectedAfterAWeek(t *testing.T) {
	k := newKit(t)
	k.daily(t, 2)
	old := "data/job/20260601T000000Z.aaaaaaaaaa/one.tar.zst.age"
	if err := k.memory.Put(t.Context(), old, strings.NewReader("half")); err != nil {
		t.Fatal(err)
	}
	rule := retention.Rule{Daily: 9}
	// The memory's clock stands in 1970, so only the time in the name holds it.
	young := "data/job/20260630T000000Z.bbbbbbbbbb/one.tar.zst.age"
	if err := k.memory.Put(t.Context(), young, strings.NewReader("half")); err != nil {
		t.Fatal(err)
	}
	deleted, _, err := prune(t, 2, k.shelf("main", rule))
	if err != nil || len(deleted) != 1 || deleted[0].Entry.ID != "aaaaaaaaaa" {
		t.Errorf("deleted %+v, error %v", deleted, err)
	}
	if _, stays := k.memory.Bytes(young); !stays {
		t.Error("what may still be written is gone")
	}
}

// Two names for one place would make the last copy look like one of two.
func TestOnePlaceUnderTwoNamesLosesNothing(t *testing.T) {
	k := newKit(t)
	entries := k.daily(t, 6)
	deleted, _, err := prune(t, 6, k.shelf("main", retention.Rule{Daily: 3}), k.shelf("box", retention.Rule{Daily: 1}))
	if !errors.Is(err, holdfast.ErrUsage) || !strings.Contains(err.Error(), "stores main and box look like one place") {
		t.Errorf("error %v", err)
	}
	if got := ids(k.list(t)); !slices.Equal(got, ids(entries)) {
		t.Errorf("left are %v of %v; deleted %v", got, ids(entries), deleted)
	}
	k.mustVerify(t)
}
