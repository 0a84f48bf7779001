package journal_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/journal"
	"holdfast/internal/store/storetest"
)

// told are the numbers of the records that a follower tells.
func told(t *testing.T, f *journal.Follower, memory *storetest.Memory) ([]int64, error) {
	t.Helper()
	var all []int64
	err := f.Follow(t.Context(), wrap(memory), func(r journal.Record) { all = append(all, r.Seq) })
	return all, err
}

func numbers(from, to int64) []int64 {
	var all []int64
	for n := from; n <= to; n++ {
		all = append(all, n)
	}
	return all
}

// Each record is told once, from about the time on that was asked for, whichever store has it first.
func TestFollow(t *testing.T) {
	k, j, memory := years(t) // two records a month, 48 in all
	f := &journal.Follower{Chain: j.Chain(), Trust: k.trust(), Since: time.Date(2026, 11, 1, 12, 0, 30, 0, time.UTC)}
	if got, err := told(t, f, memory); err != nil || !slices.Equal(got, numbers(43, 48)) {
		t.Fatalf("at first it tells %d, error %v", got, err)
	}
	if got, err := told(t, f, memory); err != nil || len(got) != 0 {
		t.Errorf("nothing is new, and it tells %d, error %v", got, err)
	}
	other := storetest.NewMemory(t)
	k.fill(t, j, 3)
	if _, err := j.Push(t.Context(), wrap(other)); err != nil { // all 51
		t.Fatal(err)
	}
	if got, err := told(t, f, other); err != nil || !slices.Equal(got, numbers(49, 51)) {
		t.Errorf("from another store it tells %d, error %v", got, err)
	}
	if got, err := told(t, f, memory); err != nil || len(got) != 0 {
		t.Errorf("from one that lags behind it tells %d, error %v", got, err)
	}
	all := &journal.Follower{Chain: j.Chain()}
	if got, err := told(t, all, other); err != nil || !slices.Equal(got, numbers(1, 51)) {
		t.Errorf("from the beginning it tells %d, error %v", got, err)
	}
}

// What was changed is found, and nothing of it is told.
func TestFollowFinds(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(t *testing.T, k *kit, j *journal.Journal, memory *storetest.Memory) *storetest.Memory // nil: it is in the same store
		want  string
	}{
		"a byte": {func(_ *testing.T, _ *kit, j *journal.Journal, memory *storetest.Memory) *storetest.Memory {
			memory.Corrupt(object(j, 6, 7), func(text []byte) []byte { return bytes.Replace(text, []byte("anna"), []byte("otto"), 1) })
			return nil
		}, "the signature does not fit"},
		"an object that is gone": {func(t *testing.T, k *kit, j *journal.Journal, memory *storetest.Memory) *storetest.Memory {
			k.fill(t, j, 2)
			if _, err := j.Push(t.Context(), wrap(memory)); err != nil {
				t.Fatal(err)
			}
			if err := memory.Delete(t.Context(), object(j, 6, 7)); err != nil {
				t.Fatal(err)
			}
			return nil
		}, "record 8 comes behind record 5: what was between is gone"},
		"another history": {func(t *testing.T, k *kit, j *journal.Journal, memory *storetest.Memory) *storetest.Memory {
			// The host was set back to before record 5, and went on.
			lines := k.lines(t)
			k.write(t, lines[:4])
			for _, mark := range []string{"head.json", "head.json.sig"} {
				if err := os.Remove(filepath.Join(k.dir, mark)); err != nil {
					t.Fatal(err)
				}
			}
			again := k.open(t)
			k.fill(t, again, 4)
			fresh := storetest.NewMemory(t)
			if _, err := again.Push(t.Context(), wrap(fresh)); err != nil {
				t.Fatal(err)
			}
			return fresh
		}, "record 5 is another one"},
		"a stranger's signature": {func(t *testing.T, k *kit, _ *journal.Journal, _ *storetest.Memory) *storetest.Memory {
			k.signer = newKit(t).signer
			return nil
		}, "not among the allowed signers"},
	} {
		t.Run(name, func(t *testing.T) {
			k := newKit(t)
			j := k.open(t)
			memory := k.pushed(t, j, 5)
			f := &journal.Follower{Chain: j.Chain(), Trust: k.trust()}
			if got, err := told(t, f, memory); err != nil || !slices.Equal(got, numbers(1, 5)) {
				t.Fatalf("at first it tells %d, error %v", got, err)
			}
			k.fill(t, j, 2)
			if _, err := j.Push(t.Context(), wrap(memory)); err != nil {
				t.Fatal(err)
			}
			if other := c.spoil(t, k, j, memory); other != nil {
				memory = other
			}
			f.Trust = k.trust()
			if got, err := told(t, f, memory); !errors.Is(err, holdfast.ErrDifference) || !strings.Contains(err.Error(), c.want) || len(got) != 0 {
				t.Errorf("it tells %d, error %v, want %q", got, err, c.want)
			}
		})
	}
}

func object(j *journal.Journal, first, last int64) string {
	return fmt.Sprintf("journal/%s/%012d-%012d.jsonl", j.Chain(), first, last)
}
