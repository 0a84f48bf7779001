package engine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/engine"
	"holdfast/internal/retention"
	"holdfast/internal/seal"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
)

// stem is how objects of a backup begin, below their prefix.
func stem(e archive.Entry) string {
	return fmt.Sprintf("job/%s.%s", e.Time.Format("20060102T150405Z"), e.ID)
}

// forge puts names into a store that nobody signed.
func (k *kit) forge(t testing.TB, names ...string) {
	t.Helper()
	for _, name := range names {
		if err := k.memory.Put(t.Context(), name, strings.NewReader("{}")); err != nil {
			t.Fatal(err)
		}
	}
}

func (k *kit) reseal(t testing.TB, entry archive.Entry) archive.Entry {
	t.Helper()
	b, err := k.archive().Open(t.Context(), entry)
	if err != nil {
		t.Fatal(err)
	}
	copied, _, err := k.archive().Reseal(t.Context(), b, archive.ResealPlan{Time: start})
	if err != nil {
		t.Fatal(err)
	}
	return copied
}

func (k *kit) putDamage(t testing.TB, entry archive.Entry) {
	t.Helper()
	b, err := k.archive().Open(t.Context(), entry)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.archive().PutVerification(t.Context(), b, holdfast.L1, false, archive.Verification{Time: start.AddDate(0, 0, 5)}); err != nil {
		t.Fatal(err)
	}
}

// What a janitor believes nobody of, it neither leans on nor deletes.
func TestDoubtIsKept(t *testing.T) {
	for _, c := range []struct {
		name  string
		rule  retention.Rule
		spoil func(t *testing.T, k *kit, entries []archive.Entry)
		keeps []int // beyond what the rule keeps
		warns string
	}{
		{"a signature with one flipped bit", retention.Rule{Daily: 4}, func(t *testing.T, k *kit, entries []archive.Entry) {
			k.memory.Corrupt("data/"+stem(entries[3])+"/manifest.json.sig", flip)
		}, []int{1, 2, 3}, "counts for nothing, and is not deleted"},
		{"signers that are not known here", retention.Rule{Daily: 4}, func(t *testing.T, k *kit, entries []archive.Entry) {
			signer := newSigner(t)
			k.options.Signer, k.options.Trusted = signer, []seal.PublicKey{signer.PublicKey()}
			for i := 6; i < 8; i++ {
				p := plan(good("one"))
				p.Now = start.AddDate(0, 0, i)
				if _, err := engine.Backup(t.Context(), k.archive(), p, nil); err != nil {
					t.Fatal(err)
				}
			}
		}, []int{0, 1, 2, 3, 4, 5}, "not among the allowed signers"},
		{"an older name for the same backup", retention.Rule{Daily: 4}, func(t *testing.T, k *kit, entries []archive.Entry) {
			for _, i := range []int{3, 4} {
				at := entries[0].Time.Add(time.Duration(i) * time.Second)
				k.forge(t, fmt.Sprintf("commits/job/%s.%s.full.complete.age.1234.json", at.Format("20060102T150405Z"), entries[i].ID))
			}
		}, []int{0, 1, 2, 3, 4, 5}, "several manifests are named after backup"},
		{"a failed drill that nobody signed", retention.Rule{Daily: 2}, func(t *testing.T, k *kit, entries []archive.Entry) {
			k.putProof(t, entries[1], holdfast.Proven)
			k.forge(t, "proofs/"+stem(entries[1])+"/20260801T000000Z.failed.aaaaaaaaaa.json")
		}, []int{1}, "drill aaaaaaaaaa"},
		{"a passed drill that nobody signed, on a proven one", retention.Rule{Daily: 2}, func(t *testing.T, k *kit, entries []archive.Entry) {
			k.putProof(t, entries[1], holdfast.Proven)
			k.forge(t, "proofs/"+stem(entries[1])+"/20260801T000000Z.proven.aaaaaaaaaa.json")
		}, []int{1}, "drill aaaaaaaaaa"},
		{"damage that nobody signed", retention.Rule{Last: 3}, func(t *testing.T, k *kit, entries []archive.Entry) {
			for _, i := range []int{3, 4} {
				k.forge(t, "verifications/"+stem(entries[i])+"/20260801T000000Z.L2.damaged.aaaaaaaaaa.json")
			}
		}, []int{1, 2, 3, 4}, "counts for nothing, and is not deleted"},
		{"a re-sealed copy that is damaged", retention.Rule{Daily: 4}, func(t *testing.T, k *kit, entries []archive.Entry) {
			k.putDamage(t, k.reseal(t, entries[3]))
		}, []int{3}, ""},
		{"a re-sealed copy that lacks an object", retention.Rule{Daily: 4}, func(t *testing.T, k *kit, entries []archive.Entry) {
			if err := k.memory.Delete(t.Context(), "data/"+stem(k.reseal(t, entries[3]))+"/one.tar.zst.age"); err != nil {
				t.Fatal(err)
			}
		}, []int{3}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newKit(t)
			entries := k.daily(t, 6)
			c.spoil(t, k, entries)
			deleted, review, err := prune(t, 8, k.shelf("main", c.rule))
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range deleted {
				for _, i := range append(c.keeps, 5) {
					if d.Entry.ID == entries[i].ID {
						t.Errorf("%d was deleted: %s", i, d.Why)
					}
				}
			}
			if len(review.Stores[0].Decisions) < 6 {
				t.Errorf("%d are decided", len(review.Stores[0].Decisions))
			}
			if got := fmt.Sprint(review.Warnings); !strings.Contains(got, c.warns) {
				t.Errorf("warnings %s, want %q", got, c.warns)
			}
		})
	}
}

// opening asks before it opens an object.
type opening struct {
	*storetest.Memory
	before func(ctx context.Context, name string) error
}

func (o opening) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if err := o.before(ctx, name); err != nil {
		return nil, fmt.Errorf("open %s: %w", name, err)
	}
	return o.Memory.Open(ctx, name, offset, length)
}

// A drill that cannot be read now was not made up.
func TestADrillThatCannotBeReadEndsTheReview(t *testing.T) {
	k := newKit(t)
	entries := k.daily(t, 6)
	k.putProof(t, entries[1], holdfast.Proven)
	fails := 1
	shelf := k.shelf("main", retention.Rule{Daily: 2})
	shelf.Archive = k.over(opening{k.memory, func(_ context.Context, name string) error {
		if strings.Contains(name, "proofs/") && fails > 0 {
			fails--
			return errBroken
		}
		return nil
	}})
	if _, _, err := prune(t, 6, shelf); !errors.Is(err, errBroken) || len(k.list(t)) != 6 {
		t.Errorf("error %v; %d are left", err, len(k.list(t)))
	}
	if _, _, err := prune(t, 6, shelf); err != nil || !slices.Contains(ids(k.list(t)), entries[1].ID) || len(k.list(t)) != 3 {
		t.Errorf("error %v; left are %v", err, ids(k.list(t)))
	}
}

// A copy that stands for a backup in one store stands for none in another.
func TestSupersededInOneStoreAlone(t *testing.T) {
	for _, c := range []struct {
		name   string
		reseal func(t *testing.T, k *kit, e archive.Entry)
	}{
		{"not mirrored yet", func(t *testing.T, k *kit, e archive.Entry) { k.reseal(t, e) }},
		{"forged", func(t *testing.T, k *kit, e archive.Entry) {
			at, to := e.Time.Format("20060102T150405Z"), strings.Repeat("z", 10)
			k.forge(t, fmt.Sprintf("commits/job/%s.%s.full.complete.age.1234.json", at, to), fmt.Sprintf("reseals/job/%s.%s/%s", at, e.ID, to))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newKit(t)
			entries := k.daily(t, 6)
			box := k.on(storetest.NewMemory(t))
			if _, err := mirror(t, k, box); err != nil {
				t.Fatal(err)
			}
			c.reseal(t, k, entries[3])
			if _, _, err := prune(t, 6, k.shelf("main", retention.Rule{Daily: 6}), box.shelf("box", retention.Rule{Daily: 6})); err != nil {
				t.Fatal(err)
			}
			if got := ids(box.list(t)); !slices.Equal(got, ids(entries)) {
				t.Errorf("left in box are %v, want %v", got, ids(entries))
			}
			box.mustVerify(t)
		})
	}
}

// A copy that was found damaged is not whole because a name says so.
func TestDamageIsNotUndoneByAName(t *testing.T) {
	k := newKit(t)
	entries := k.daily(t, 6)
	box := k.on(storetest.NewMemory(t))
	if _, err := mirror(t, k, box); err != nil {
		t.Fatal(err)
	}
	box.putDamage(t, entries[1])
	box.forge(t, "verifications/"+stem(entries[1])+"/20260801T000000Z.L2.good.aaaaaaaaaa.json")
	if _, _, err := prune(t, 6, k.shelf("main", retention.Rule{Daily: 2}), box.shelf("box", retention.Rule{Daily: 6})); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(ids(k.list(t)), entries[1].ID) {
		t.Error("the last good copy is gone")
	}
}

// review looks at n daily backups, an hour after the last.
func review(t testing.TB, n int, shelves ...engine.Shelf) engine.Review {
	t.Helper()
	r, err := engine.ReviewPrune(t.Context(), shelves, engine.PrunePlan{Job: "job", Host: "host", Who: "root", Now: start.AddDate(0, 0, n-1).Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Between the review and the deletion the world goes on.
func TestWhatChangedSinceTheReview(t *testing.T) {
	t.Run("a pin", func(t *testing.T) {
		k := newKit(t)
		entries := k.daily(t, 6)
		r := review(t, 6, k.shelf("main", retention.Rule{Daily: 2}))
		for _, pinned := range entries[:2] {
			if _, err := k.archive().PutPin(t.Context(), pinned, true, time.Time{}, archive.Pin{Time: start}); err != nil {
				t.Fatal(err)
			}
		}
		told := 0
		if err := engine.Prune(t.Context(), r, func(d engine.Deletion) {
			if d.Pinned {
				told++
			}
		}); err != nil || told != 2 {
			t.Fatalf("%d are told to be pinned, error %v", told, err)
		}
		if got, want := ids(k.list(t)), ids([]archive.Entry{entries[0], entries[1], entries[4], entries[5]}); !slices.Equal(got, want) {
			t.Errorf("left are %v, want %v", got, want)
		}
		recorded, err := k.archive().Pruned(t.Context(), "job")
		if err != nil || recorded(entries[0]) || recorded(entries[1]) {
			t.Errorf("what stays has a record that it is deleted; error %v", err)
		}
	})
	t.Run("a copy that was half there", func(t *testing.T) {
		k := newKit(t)
		entries := k.daily(t, 12)
		box := k.on(storetest.NewMemory(t))
		if _, err := mirror(t, k, box); err != nil {
			t.Fatal(err)
		}
		for _, name := range box.memory.Names() {
			if strings.HasPrefix(name, "commits/"+stem(entries[0])) {
				if err := box.memory.Delete(t.Context(), name); err != nil {
					t.Fatal(err)
				}
			}
		}
		r := review(t, 12, k.shelf("main", retention.Rule{Daily: 60}), box.shelf("box", retention.Rule{Daily: 60}))
		if len(r.Stores[1].Leftovers) != 1 {
			t.Fatalf("leftovers %+v", r.Stores[1].Leftovers)
		}
		if _, err := mirror(t, k, box); err != nil {
			t.Fatal(err)
		}
		if err := engine.Prune(t.Context(), r, func(engine.Deletion) {}); err != nil {
			t.Fatal(err)
		}
		if got := ids(box.list(t)); !slices.Equal(got, ids(entries)) {
			t.Errorf("left are %v", got)
		}
		box.mustVerify(t)
	})
}

// What was collected of half a copy is copied by the next mirror.
func TestCollectedHalvesAreMirroredAgain(t *testing.T) {
	k := newKit(t)
	entries := k.daily(t, 12)
	box := k.on(storetest.NewMemory(t))
	if _, err := mirror(t, k, box); err != nil {
		t.Fatal(err)
	}
	for _, name := range box.memory.Names() {
		if strings.HasPrefix(name, "commits/"+stem(entries[0])) || strings.HasSuffix(name, string(entries[0].ID)+"/manifest.json.sig") {
			if err := box.memory.Delete(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
	}
	deleted, _, err := prune(t, 12, k.shelf("main", retention.Rule{Daily: 60}), box.shelf("box", retention.Rule{Daily: 60}))
	if err != nil || len(deleted) != 1 {
		t.Fatalf("deleted %+v, error %v", deleted, err)
	}
	if done, err := mirror(t, k, box); err != nil || done.Backups != 1 {
		t.Errorf("mirrored %+v, error %v", done, err)
	}
	box.mustVerify(t)
	// What a rule deletes from there afterwards stays deleted.
	if _, _, err := prune(t, 12, k.shelf("main", retention.Rule{Daily: 60}), box.shelf("box", retention.Rule{Daily: 11})); err != nil {
		t.Fatal(err)
	}
	if done, err := mirror(t, k, box); err != nil || done.Backups != 0 || len(box.list(t)) != 11 {
		t.Errorf("mirrored %+v, error %v; box has %d", done, err, len(box.list(t)))
	}
}

// fullAlways takes nothing.
type fullAlways struct{ *storetest.Memory }

func (fullAlways) Put(_ context.Context, name string, _ io.Reader) error {
	return fmt.Errorf("put %s: %w", name, store.ErrFull)
}

// A full store cannot be told from another by writing into it, and its records tell.
func TestAFullStoreUnderTwoNames(t *testing.T) {
	k := newKit(t)
	entries := k.daily(t, 6)
	full := func(name string, k *kit, rule retention.Rule) engine.Shelf {
		s := k.shelf(name, rule)
		s.Archive = k.over(fullAlways{k.memory})
		return s
	}
	_, _, err := prune(t, 6, full("main", k, retention.Rule{Daily: 1}), full("box", k, retention.Rule{Daily: 6}))
	if !errors.Is(err, holdfast.ErrUsage) || !slices.Equal(ids(k.list(t)), ids(entries)) {
		t.Errorf("error %v; left are %v", err, ids(k.list(t)))
	}
	box := k.on(storetest.NewMemory(t))
	if _, err := mirror(t, k, box); err != nil {
		t.Fatal(err)
	}
	_, _, err = prune(t, 6, full("main", k, retention.Rule{Daily: 5}), box.shelf("box", retention.Rule{Daily: 6}))
	if !errors.Is(err, store.ErrFull) || len(k.list(t)) != 5 {
		t.Errorf("a full store with a mirror: error %v; %d are left", err, len(k.list(t)))
	}
}

// comparing is a mirror whose far side compares.
type comparing struct {
	store.Mirror
	memory *storetest.Memory
}

func (c comparing) Check(ctx context.Context, names []string, open func(context.Context, string) (io.ReadCloser, error)) ([]string, error) {
	var different []string
	for _, name := range names {
		r, err := open(ctx, name)
		if err != nil {
			return nil, err
		}
		mine, err := io.ReadAll(r)
		if err := errors.Join(err, r.Close()); err != nil {
			return nil, err
		}
		if stored, _ := c.memory.Bytes(name); !bytes.Equal(stored, mine) {
			different = append(different, name)
		}
	}
	return different, nil
}

// One object that is not what it should be stops neither older backups nor newer ones.
func TestOneBadObjectStopsNoOther(t *testing.T) {
	k := newKit(t)
	entries := k.daily(t, 4)
	object := "data/" + stem(entries[2]) + "/one.tar.zst.age"
	for _, c := range []struct {
		name  string
		spoil func(from, to *kit) error
	}{
		{"torn in the mirror", func(_, to *kit) error { return to.memory.Put(t.Context(), object, strings.NewReader("torn")) }},
		{"gone from the store", func(from, _ *kit) error { return from.memory.Delete(t.Context(), object) }},
	} {
		for _, there := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, compared there: %v", c.name, there), func(t *testing.T) {
				from, to := k.on(k.memory.Clone()), k.on(storetest.NewMemory(t))
				if err := c.spoil(from, to); err != nil {
					t.Fatal(err)
				}
				destination := to.destination("box")
				if there {
					destination.Mirror = comparing{destination.Mirror, to.memory}
				}
				done, err := engine.Mirror(t.Context(), from.archive(), destination, engine.MirrorPlan{Job: "job", Now: clock}, nil)
				if !errors.Is(err, holdfast.ErrDifference) || done.Backups != 3 {
					t.Errorf("mirrored %+v, error %v", done, err)
				}
			})
		}
	}
}

func TestWhatAPruneDeletesMeanwhileIsNotMissed(t *testing.T) {
	k := newKit(t)
	entries := k.daily(t, 4)
	from := k.over(opening{k.memory, func(ctx context.Context, name string) error {
		if !strings.Contains(name, string(entries[2].ID)) {
			return nil
		}
		_, err := k.archive().Delete(ctx, entries[2], archive.Prune{Rule: archive.PruneRetention, Time: start}, nil)
		return err
	}})
	box := k.on(storetest.NewMemory(t))
	done, err := engine.Mirror(t.Context(), from, box.destination("box"), engine.MirrorPlan{Job: "job", Now: clock}, nil)
	if err != nil || done.Backups != 3 {
		t.Errorf("mirrored %+v, error %v", done, err)
	}
}

// unlisted opens what it has, and lists nothing.
type unlisted struct{ *storetest.Memory }

func (unlisted) List(context.Context, string) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) { yield(store.Object{}, errBroken) }
}

// A mirror that dies after it was opened is one that is away: the others are pruned.
func TestAStoreThatIsNotListedStopsNoOther(t *testing.T) {
	k := newKit(t)
	k.daily(t, 6)
	box := k.shelf("box", retention.Rule{Daily: 3})
	box.Archive = k.over(unlisted{k.memory.Clone()})
	deleted, _, err := prune(t, 6, k.shelf("main", retention.Rule{Daily: 2}), box)
	if !errors.Is(err, errBroken) || len(deleted) != 3 {
		t.Errorf("deleted %d, error %v", len(deleted), err)
	}
}

// A mirror that somebody made by copying a whole folder has the records of the other store too.
func TestAMirrorThatIsACopyOfTheFolderIsAnotherPlace(t *testing.T) {
	k := newKit(t)
	entries := k.daily(t, 6)
	if err := k.archive().RecordPrune(t.Context(), entries[0], archive.Prune{Rule: archive.PruneRetention, Time: start}); err != nil {
		t.Fatal(err)
	}
	box := k.on(k.memory.Clone())
	box.memory.Restore()
	deleted, _, err := prune(t, 6, k.shelf("main", retention.Rule{Daily: 2}), box.shelf("box", retention.Rule{Daily: 6}))
	if err != nil || len(deleted) != 4 || len(box.list(t)) != 6 {
		t.Errorf("deleted %d, error %v; box has %d", len(deleted), err, len(box.list(t)))
	}
}

// A newest name that counts for nothing lifts nothing that blocks, and where it says that it is complete it blocks by itself.
func TestADoubtfulNewestCountsForNothing(t *testing.T) {
	at := start.AddDate(0, 0, 5).Add(2 * time.Minute).Format("20060102T150405Z")
	for _, state := range []string{"complete", "incomplete"} {
		k := newKit(t)
		k.daily(t, 6)
		k.forge(t, fmt.Sprintf("commits/job/%s.aaaaaaaaaa.full.%s.age.1234.json", at, state))
		failed := k.on(k.memory.Clone())
		failed.memory.Restore()
		deleted, r, err := prune(t, 6, k.shelf("main", retention.Rule{Daily: 2}))
		if complete := state == "complete"; err != nil || r.Stores[0].Open() == complete || complete != (len(deleted) == 0) {
			t.Errorf("%s: blocked %q, deleted %d, error %v", state, r.Stores[0].Blocked, len(deleted), err)
		}
		if _, err := failed.archive().PutFailedRun(t.Context(), "job", archive.Run{Time: start.AddDate(0, 0, 5).Add(time.Minute)}); err != nil {
			t.Fatal(err)
		}
		deleted, r, err = prune(t, 6, failed.shelf("main", retention.Rule{Daily: 2}))
		if err != nil || r.Stores[0].Open() || len(deleted) != 0 {
			t.Errorf("%s, after a run that failed: blocked %q, deleted %d, error %v", state, r.Stores[0].Blocked, len(deleted), err)
		}
	}
}

// A re-sealed copy that somebody deletes meanwhile stands for nothing.
func TestACopyThatVanishesStandsForNothing(t *testing.T) {
	k := newKit(t)
	entries := k.daily(t, 6)
	copied := k.reseal(t, entries[3])
	shelf := k.shelf("main", retention.Rule{Daily: 6})
	shelf.Archive = k.over(opening{k.memory, func(_ context.Context, name string) error {
		if strings.Contains(name, string(copied.ID)) {
			return fs.ErrNotExist
		}
		return nil
	}})
	if _, _, err := prune(t, 6, shelf); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(ids(k.list(t)), entries[3].ID) {
		t.Error("the original is gone")
	}
}
