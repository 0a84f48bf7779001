package journal_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/journal"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
)

func (k *kit) head(t testing.TB) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(k.dir, "head.json"))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Whatever runs after something was cut off records what it does, and hides nothing: no signature is put on what is left, here or in a
// store, and no number is given twice.
func TestWhatIsLeftIsNotSigned(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, k *kit)
		seq   int64 // of the next record
	}{
		"a line is cut off": {func(t *testing.T, k *kit) { k.write(t, k.lines(t)[:3]) }, 5},
		"the segment is gone": {func(t *testing.T, k *kit) {
			if err := os.Remove(k.segment(t)); err != nil {
				t.Fatal(err)
			}
		}, 5},
		"the segment is empty": {func(t *testing.T, k *kit) { k.write(t, nil) }, 5},
		"the last record is another one": {func(t *testing.T, k *kit) {
			lines := k.lines(t)
			lines[3] = strings.Replace(lines[3], "anna", "otto", 1)
			k.write(t, lines)
		}, 5},
		"a record is another one, and one came behind": {func(t *testing.T, k *kit) {
			if _, err := k.open(t).Append(t.Context(), record(4)); err != nil {
				t.Fatal(err)
			}
			lines := k.lines(t)
			lines[3] = strings.Replace(lines[3], "anna", "otto", 1)
			k.write(t, lines)
		}, 6},
		"the head is at a number that no name has room for": {func(t *testing.T, k *kit) {
			text := strings.Replace(k.head(t), `"seq":4`, `"seq":9999999999999`, 1)
			if err := os.WriteFile(filepath.Join(k.dir, "head.json"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}, 5},
		"the head is another journal's": {func(t *testing.T, k *kit) {
			text := strings.Replace(k.head(t), `"web-1-`, `"web-2-`, 1)
			if err := os.WriteFile(filepath.Join(k.dir, "head.json"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}, 5},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKit(t)
			j := k.open(t)
			memory := k.pushed(t, j, 2)
			k.fill(t, j, 2)
			c.spoil(t, k)
			head, stored := k.head(t), len(memory.Names())
			if r, err := j.Append(t.Context(), record(9)); err != nil || r.Seq != c.seq {
				t.Errorf("record %d, want %d, error %v", r.Seq, c.seq, err)
			}
			for range 2 {
				if err := j.Checkpoint(t.Context()); !errors.Is(err, holdfast.ErrDifference) || holdfast.Hint(err) == "" {
					t.Errorf("the signature: %v", err)
				}
				if n, err := j.Push(t.Context(), wrap(memory)); !errors.Is(err, holdfast.ErrDifference) || n != 0 {
					t.Errorf("pushed %d, error %v", n, err)
				}
				if _, err := j.Verify(t.Context(), k.trust(), nil); !errors.Is(err, holdfast.ErrDifference) {
					t.Errorf("verified: %v", err)
				}
			}
			if k.head(t) != head || len(memory.Names()) != stored {
				t.Error("what was signed was replaced")
			}
			if _, _, err := journal.Rebuild(t.Context(), wrap(memory), j.Chain(), k.options(), k.trust()); err != nil {
				t.Fatal(err)
			}
			again := k.open(t)
			k.fill(t, again, 1)
			if audit, err := again.Verify(t.Context(), k.trust(), map[string]*store.Store{"box": wrap(memory)}); err != nil || audit.Records != 3 {
				t.Errorf("after a rebuild: %+v, error %v", audit, err)
			}
		})
	}
}

// A crash behind a record and before the signature, or between the two files of that, is mended by the next command.
func TestACrashBeforeTheSignatureIsMended(t *testing.T) {
	k := newKit(t)
	j := k.open(t)
	k.fill(t, j, 2)
	signature, err := os.ReadFile(filepath.Join(k.dir, "head.json.sig"))
	if err != nil {
		t.Fatal(err)
	}
	k.fill(t, j, 2)
	if err := os.WriteFile(filepath.Join(k.dir, "head.json.sig"), signature, 0o600); err != nil {
		t.Fatal(err)
	}
	k.fill(t, j, 1)
	if audit, err := j.Verify(t.Context(), k.trust(), nil); err != nil || audit.Head != 5 {
		t.Errorf("audit %+v, error %v", audit, err)
	}
}

// After all else is lost, the chain goes on behind what was let go.
func TestNoNumberAtOrBelowABaseIsGivenAgain(t *testing.T) {
	k, j, _ := years(t)
	if gone, err := j.Trim(t.Context(), keep, 48); err != nil || gone != 20 {
		t.Fatalf("trimmed up to %d, error %v", gone, err)
	}
	lost, err := filepath.Glob(filepath.Join(k.dir, "*.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(lost, filepath.Join(k.dir, "head.json"), filepath.Join(k.dir, "head.json.sig")) {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := j.Verify(t.Context(), k.trust(), nil); !errors.Is(err, holdfast.ErrDifference) {
		t.Errorf("with the base alone: %v", err)
	}
	if r, err := j.Append(t.Context(), record(0)); err != nil || r.Seq != 21 {
		t.Errorf("record %d, error %v", r.Seq, err)
	}
}

func TestAnEmptyJournalIsNamedSo(t *testing.T) {
	k := newKit(t)
	j := k.open(t)
	k.fill(t, j, 2)
	if err := os.Remove(k.segment(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Verify(t.Context(), k.trust(), nil); err == nil || !strings.Contains(err.Error(), "the journal here has no record, and its head was signed at 2") {
		t.Errorf("error %v", err)
	}
}

// A host that was set back wrote to another store then: each of the two is whole, and together they are not.
func TestStoresThatContradictEachOther(t *testing.T) {
	k := newKit(t)
	j := k.open(t)
	a, b := storetest.NewMemory(t), storetest.NewMemory(t)
	k.fill(t, j, 2)
	if _, err := j.Push(t.Context(), wrap(b)); err != nil {
		t.Fatal(err)
	}
	back := filepath.Join(t.TempDir(), "back")
	if err := os.CopyFS(back, os.DirFS(k.dir)); err != nil {
		t.Fatal(err)
	}
	k.fill(t, j, 2)
	if _, err := j.Push(t.Context(), wrap(a)); err != nil {
		t.Fatal(err)
	}
	audits := func() (x, y journal.Audit) {
		t.Helper()
		var audits []journal.Audit
		for _, memory := range []*storetest.Memory{a, b} {
			audit, err := journal.VerifyStore(t.Context(), wrap(memory), j.Chain(), k.trust(), nil)
			if err != nil {
				t.Fatal(err)
			}
			audits = append(audits, audit)
		}
		return audits[0], audits[1]
	}
	if x, y := audits(); x.Agrees(y) != nil || y.Agrees(x) != nil {
		t.Errorf("one of them is behind the other, and that is %v and %v", x.Agrees(y), y.Agrees(x))
	}
	set := *k
	set.dir = back
	set.now = k.now.Add(time.Hour)
	again := set.open(t)
	set.fill(t, again, 1)
	if _, err := again.Push(t.Context(), wrap(b)); err != nil {
		t.Fatal(err)
	}
	x, y := audits()
	for _, err := range []error{x.Agrees(y), y.Agrees(x)} {
		if !errors.Is(err, journal.ErrFork) || !errors.Is(err, holdfast.ErrDifference) || !strings.Contains(err.Error(), ", 3: ") {
			t.Errorf("error %v", err)
		}
	}
}

// hold takes a lock as another process does, and returns what gives it back.
func (k *kit) hold(t testing.TB, name string) (release func()) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(k.dir, name), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Another process that hangs holds nobody up for longer than their context.
func TestLocksAreWaitedForAsLongAsTheContextLasts(t *testing.T) {
	k := newKit(t)
	j := k.open(t)
	k.fill(t, j, 2)
	memory := storetest.NewMemory(t)
	for name, c := range map[string]struct {
		lock string
		do   func(context.Context) error
	}{
		"push":       {"push.lock", func(ctx context.Context) error { _, err := j.Push(ctx, wrap(memory)); return err }},
		"append":     {"lock", func(ctx context.Context) error { _, err := j.Append(ctx, record(1)); return err }},
		"checkpoint": {"lock", j.Checkpoint},
		"trim":       {"lock", func(ctx context.Context) error { _, err := j.Trim(ctx, keep, 0); return err }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release := k.hold(t, c.lock)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if err := c.do(ctx); !errors.Is(err, context.DeadlineExceeded) || holdfast.Hint(err) == "" {
					t.Errorf("held by another process: %v", err)
				}
				stopped, stop := context.WithCancelCause(t.Context())
				stop(holdfast.ErrInterrupted)
				if err := c.do(stopped); !errors.Is(err, holdfast.ErrInterrupted) {
					t.Errorf("interrupted: %v", err)
				}
				done := make(chan error, 1)
				go func() { done <- c.do(t.Context()) }()
				synctest.Wait()
				release()
				if err := <-done; err != nil {
					t.Errorf("given back: %v", err)
				}
			})
		})
	}
}

// A rebuild waits for whoever appends, and until it can put the whole in place nothing has changed.
func TestARebuildChangesAllOrNothing(t *testing.T) {
	k := newKit(t)
	j := k.open(t)
	memory := k.pushed(t, j, 2)
	k.fill(t, j, 1)
	beside := func() string {
		t.Helper()
		entries, err := os.ReadDir(filepath.Dir(k.dir))
		if err != nil {
			t.Fatal(err)
		}
		var names []string
		for _, entry := range entries {
			names = append(names, entry.Name())
		}
		return strings.Join(names, " ")
	}
	before := beside()
	synctest.Test(t, func(t *testing.T) {
		for _, lock := range []string{"lock", "push.lock"} {
			release := k.hold(t, lock)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			if _, _, err := journal.Rebuild(ctx, wrap(memory), j.Chain(), k.options(), k.trust()); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s is held: error %v", lock, err)
			}
			cancel()
			release()
		}
		if audit, err := j.Verify(t.Context(), k.trust(), nil); err != nil || audit.Records != 3 || beside() != before {
			t.Errorf("%q lies there, %d records, error %v", beside(), audit.Records, err)
		}

		// Who waited for the lock while the folder was replaced appends to the one that is there now.
		release := k.hold(t, "lock")
		done := make(chan error, 1)
		go func() {
			_, err := j.Append(t.Context(), record(9))
			done <- err
		}()
		synctest.Wait()
		aside := k.dir + ".aside"
		if err := os.Rename(k.dir, aside); err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(k.dir, os.DirFS(aside)); err != nil {
			t.Fatal(err)
		}
		second := k.hold(t, "lock")
		release()
		select {
		case err := <-done:
			t.Errorf("appended in spite of the lock that is there now: %v", err)
		case <-time.After(time.Minute):
		}
		second()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	for want, dir := range map[string]string{"": filepath.Join(t.TempDir(), "journal"), k.dir + ".before-20261122T020300Z": k.dir} {
		opt := k.options()
		opt.Dir = dir
		if n, aside, err := journal.Rebuild(t.Context(), wrap(memory), j.Chain(), opt, k.trust()); err != nil || n != 2 || aside != want {
			t.Errorf("rebuilt %d, kept in %q, want %q, error %v", n, aside, want, err)
		}
	}
}

func TestChainsSayWhoseTheyAre(t *testing.T) {
	k := newKit(t)
	chain := k.open(t).Chain()
	for host, want := range map[string]bool{"Web 1": true, "web-1": true, "web": false, "web-11": false, "": false} {
		if journal.IsOf(chain, host) != want {
			t.Errorf("%s is the chain of %q: %v", chain, host, !want)
		}
	}
	if journal.IsOf("web-1", "web-1") {
		t.Error("web-1 is no chain")
	}
}

// The table of docs/audit.md, the filter of the command line and the records have the same words.
func TestAllEventsAreDescribed(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "audit.md"))
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("record.go")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "## Events")
	table, _, _ = strings.Cut(table, "\n## ")
	for _, event := range journal.Events() {
		if !strings.Contains(table, "`"+string(event)+"`") {
			t.Errorf("docs/audit.md does not describe %s", event)
		}
	}
	if n := strings.Count(string(source), `Event = "`); n != len(journal.Events()) {
		t.Errorf("%d events are declared, and %d listed", n, len(journal.Events()))
	}
}
