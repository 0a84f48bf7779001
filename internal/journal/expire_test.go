package journal_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
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
	if gone, err := j.Trim(t.Context(), keep, 4); err != nil || gone != 4 {
		t.Errorf("trimmed up to %d, of which a store had 4; error %v", gone, err)
	}
	if gone, err := j.Trim(t.Context(), keep, 48); err != nil || gone != 20 {
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
	audit, err := journal.VerifyStore(t.Context(), wrap(memory), j.Chain(), k.trust(), func(journal.Record, []byte) error { told++; return nil })
	if err != nil || audit.Records != 49 || audit.Base != 20 || told != 29 {
		t.Errorf("from the store alone: %+v, %d told, error %v", audit, told, err)
	}
	if gone, err := journal.ExpireStore(t.Context(), wrap(memory), j.Chain(), keep, k.signer, k.trust(), k.now); err != nil || gone != 0 {
		t.Errorf("a second time it expired up to %d, error %v", gone, err)
	}
	// A host that was lost takes back what there is, and goes on.
	other := newKit(t)
	other.signer, other.now = k.signer, k.now
	if n, _, err := journal.Rebuild(t.Context(), wrap(memory), j.Chain(), other.options(), k.trust()); err != nil || n != 29 {
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
	if _, err := j.Trim(t.Context(), 300*24*time.Hour, 48); !errors.Is(err, holdfast.ErrUsage) {
		t.Errorf("here: %v", err)
	}
	// A clock that jumps ten years leaves the newest object and segment.
	k.now = k.now.AddDate(10, 0, 0)
	if gone, err := journal.ExpireStore(t.Context(), wrap(memory), j.Chain(), keep, k.signer, k.trust(), k.now); err != nil || gone >= 48 {
		t.Errorf("expired up to %d, error %v", gone, err)
	}
	if gone, err := j.Trim(t.Context(), keep, 48); err != nil || gone >= 48 {
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
			// Next month it is another signature, at another time.
			if _, err := journal.ExpireStore(t.Context(), wrap(memory), j.Chain(), keep, k.signer, k.trust(), k.now.Add(time.Hour)); err != nil {
				t.Fatalf("call %d %s: the next time: %v", n, name, err)
			}
			if audit, err := j.Verify(t.Context(), k.trust(), map[string]*store.Store{"box": wrap(memory)}); err != nil || audit.Stores["box"] != 48 {
				t.Fatalf("call %d %s: %+v, error %v", n, name, audit, err)
			}
		}
	}
}

// putBase stores a base that is signed as a true one is.
func (k *kit) putBase(t testing.TB, memory *storetest.Memory, chain string, seq int64, hash string, at time.Time) {
	t.Helper()
	data, err := json.Marshal(map[string]any{"format": "holdfast-journal-base-1", "chain": chain, "seq": seq, "hash": hash, "time": at, "signer": k.signer.PublicKey().Fingerprint()})
	if err != nil {
		t.Fatal(err)
	}
	signature, err := k.signer.Sign("holdfast-journal-base", data)
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("journal/%s/%012d.base.json", chain, seq)
	for file, content := range map[string][]byte{name + ".sig": signature, name: data} {
		if err := wrap(memory).Put(t.Context(), file, bytes.NewReader(content)); err != nil {
			t.Fatal(err)
		}
	}
}

func sum(line string) string {
	hash := sha256.Sum256([]byte(strings.TrimSuffix(line, "\n")))
	return hex.EncodeToString(hash[:])
}

// oneDay is a store with 12 records of one day in two objects: 1 to 10, and 11 and 12.
func oneDay(t testing.TB) (*kit, *journal.Journal, *storetest.Memory) {
	t.Helper()
	k := newKit(t)
	j := k.open(t)
	memory := storetest.NewMemory(t)
	for _, n := range []int{10, 2} {
		k.fill(t, j, n)
		if _, err := j.Push(t.Context(), wrap(memory)); err != nil {
			t.Fatal(err)
		}
	}
	return k, j, memory
}

// A signature under a base is no proof of what it says: whoever may sign backups may sign that.
func TestABaseIsComparedWithWhatIsThere(t *testing.T) {
	k, j, whole := oneDay(t)
	lines := k.lines(t)
	old, young := k.now.AddDate(2, 0, 0), k.now
	first := fmt.Sprintf("journal/%s/%012d-%012d.jsonl", j.Chain(), 1, 10)
	for name, c := range map[string]struct {
		seq  int64
		hash string
		at   time.Time
		gone bool // the records up to it
		told string
	}{
		"another hash":               {10, sum("x"), old, false, "another record 10"},
		"another hash, records gone": {10, sum("x"), old, true, "record 11 does not follow"},
		"too young":                  {10, sum(lines[9]), young, false, "less than 365 days"},
		"inside of an object":        {4, sum("x"), old, false, "another record 4"},
		"at the newest":              {12, sum(lines[11]), old, false, "begin behind record 12"},
		"beyond the newest":          {9999, sum("x"), old, false, "begin behind record 9999"},
		"beyond, all gone":           {9999, sum("x"), old, true, ""},
	} {
		memory := whole.Clone()
		k.putBase(t, memory, j.Chain(), c.seq, c.hash, c.at)
		if c.gone {
			for _, suffix := range []string{"", ".sig"} {
				if err := wrap(memory).Delete(t.Context(), first+suffix); err != nil {
					t.Fatal(err)
				}
			}
		}
		before := memory.Names()
		audit, err := journal.VerifyStore(t.Context(), wrap(memory), j.Chain(), k.trust(), nil)
		if !errors.Is(err, holdfast.ErrDifference) || !strings.Contains(err.Error(), c.told) {
			t.Errorf("%s: from the store alone %d records, error %v", name, audit.Records, err)
		}
		if _, err := j.Verify(t.Context(), k.trust(), map[string]*store.Store{"box": wrap(memory)}); !errors.Is(err, holdfast.ErrDifference) {
			t.Errorf("%s: against the journal here: %v", name, err)
		}
		if gone, err := journal.ExpireStore(t.Context(), wrap(memory), j.Chain(), journal.ShortestKeep, k.signer, k.trust(), k.now); err == nil || gone != 0 {
			t.Errorf("%s: expired up to %d, error %v", name, gone, err)
		}
		if _, _, err := journal.Rebuild(t.Context(), wrap(memory), j.Chain(), newKit(t).options(), k.trust()); !errors.Is(err, holdfast.ErrDifference) {
			t.Errorf("%s: a rebuild says %v", name, err)
		}
		if after := memory.Names(); strings.Join(after, " ") != strings.Join(before, " ") {
			t.Errorf("%s: of %q the store has %q", name, before, after)
		}
	}
}

// What is still there of what a base let go is read, and stays as long as it is young.
func TestRecordsAtAndBelowABaseAreReadAndKept(t *testing.T) {
	k, j, memory := oneDay(t)
	k.putBase(t, memory, j.Chain(), 10, sum(k.lines(t)[9]), k.now.AddDate(2, 0, 0))
	var told []int64
	audit, err := journal.VerifyStore(t.Context(), wrap(memory), j.Chain(), k.trust(), func(r journal.Record, _ []byte) error { told = append(told, r.Seq); return nil })
	if err != nil || audit.Read != 12 || audit.Base != 10 || len(told) != 12 || told[0] != 1 {
		t.Errorf("audit %+v, told %v, error %v", audit, told, err)
	}
	before := len(memory.Names())
	if gone, err := journal.ExpireStore(t.Context(), wrap(memory), j.Chain(), journal.ShortestKeep, k.signer, k.trust(), k.now); err != nil || gone != 0 || len(memory.Names()) != before {
		t.Errorf("expired up to %d, %d of %d objects are left, error %v", gone, len(memory.Names()), before, err)
	}
	// With the clock of two years later the oldest go, and the newest object stays.
	if _, err := journal.ExpireStore(t.Context(), wrap(memory), j.Chain(), journal.ShortestKeep, k.signer, k.trust(), k.now.AddDate(2, 0, 0)); err != nil {
		t.Error(err)
	}
	if audit, err := journal.VerifyStore(t.Context(), wrap(memory), j.Chain(), k.trust(), nil); err != nil || audit.Read != 2 || audit.Records != 12 || audit.Base != 10 {
		t.Errorf("audit %+v, error %v", audit, err)
	}
}

// Only the host still knows how old the records were that a base let go.
func TestTheHostFindsRecordsThatWentTooEarly(t *testing.T) {
	k, j, memory := oneDay(t)
	k.putBase(t, memory, j.Chain(), 10, sum(k.lines(t)[9]), k.now)
	for _, suffix := range []string{"", ".sig"} {
		if err := wrap(memory).Delete(t.Context(), fmt.Sprintf("journal/%s/%012d-%012d.jsonl", j.Chain(), 1, 10)+suffix); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := j.Verify(t.Context(), k.trust(), map[string]*store.Store{"box": wrap(memory)}); !errors.Is(err, holdfast.ErrDifference) || !strings.Contains(err.Error(), "less than 365 days") {
		t.Errorf("error %v", err)
	}
}

// The journal here is checked in the same way: what its base lets go and is still there counts.
func TestABaseHereIsComparedWithWhatIsThere(t *testing.T) {
	k, j, memory := oneDay(t)
	k.putBase(t, memory, j.Chain(), 10, sum("x"), k.now.AddDate(2, 0, 0))
	for _, suffix := range []string{"", ".sig"} {
		data, _ := memory.Bytes(fmt.Sprintf("journal/%s/%012d.base.json", j.Chain(), 10) + suffix)
		if err := os.WriteFile(filepath.Join(k.dir, "base.json"+suffix), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := j.Verify(t.Context(), k.trust(), nil); !errors.Is(err, holdfast.ErrDifference) || !strings.Contains(err.Error(), "another record 10") {
		t.Errorf("error %v", err)
	}
}

// A chain of which a store has nothing but the beginning is not a chain that nobody knows.
func TestABaseAloneIsAChain(t *testing.T) {
	k, j, _ := oneDay(t)
	memory := storetest.NewMemory(t)
	k.putBase(t, memory, j.Chain(), 10, sum("x"), k.now)
	if chains, err := journal.Chains(t.Context(), wrap(memory)); err != nil || len(chains) != 1 || chains[0].Last != 0 {
		t.Errorf("chains %+v, error %v", chains, err)
	}
	if _, err := journal.VerifyStore(t.Context(), wrap(memory), j.Chain(), k.trust(), nil); !errors.Is(err, holdfast.ErrDifference) {
		t.Errorf("error %v", err)
	}
}

// A store that is new, or was away for years, gets what is still here and where that begins.
func TestPushBehindABase(t *testing.T) {
	k, j, memory := years(t)
	late := storetest.NewMemory(t)
	for _, name := range memory.Names()[:4] { // of January and February
		data, _ := memory.Bytes(name)
		if err := wrap(late).Put(t.Context(), name, bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
	}
	if gone, err := j.Trim(t.Context(), keep, 48); err != nil || gone != 20 {
		t.Fatalf("trimmed up to %d, error %v", gone, err)
	}
	even := storetest.NewMemory(t)
	for _, name := range memory.Names()[:20] { // to October, which is the last to go
		data, _ := memory.Bytes(name)
		if err := wrap(even).Put(t.Context(), name, bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
	}
	for name, to := range map[string]*storetest.Memory{"new": storetest.NewMemory(t), "late": late, "even": even} {
		if n, err := j.Push(t.Context(), wrap(to)); err != nil || n != 28 {
			t.Errorf("%s: pushed %d, error %v", name, n, err)
		}
		if audit, err := j.Verify(t.Context(), k.trust(), map[string]*store.Store{"box": wrap(to)}); err != nil || audit.Stores["box"] != 48 {
			t.Errorf("%s: %+v, error %v", name, audit, err)
		}
		if audit, err := journal.VerifyStore(t.Context(), wrap(to), j.Chain(), k.trust(), nil); err != nil || audit.Base != map[string]int64{"new": 20, "late": 20}[name] {
			t.Errorf("%s: from the store alone %+v, error %v", name, audit, err)
		}
	}
}

// What was signed last may be among what goes: a host that was silent for a year goes on.
func TestASilentHostGoesOnAfterAnExpiry(t *testing.T) {
	k := newKit(t)
	j := k.open(t)
	memory := k.pushed(t, j, 4)
	k.now = k.now.AddDate(0, 17, 0)
	if _, err := j.Append(t.Context(), record(4)); err != nil {
		t.Fatal(err)
	}
	if gone, err := j.Trim(t.Context(), keep, 4); err != nil || gone != 4 {
		t.Fatalf("trimmed up to %d, error %v", gone, err)
	}
	for range 2 {
		k.fill(t, j, 1)
		if _, err := j.Push(t.Context(), wrap(memory)); err != nil {
			t.Fatal(err)
		}
	}
	if audit, err := j.Verify(t.Context(), k.trust(), map[string]*store.Store{"box": wrap(memory)}); err != nil || audit.Head != 7 || audit.Stores["box"] != 7 {
		t.Errorf("%+v, error %v", audit, err)
	}
}

// Whatever moment a crash comes at while a beginning or a head is replaced, what is there is whole, and the next one goes on.
func TestACrashBetweenAMarkAndItsSignature(t *testing.T) {
	k, j, _ := years(t)
	if gone, err := j.Trim(t.Context(), keep, 10); err != nil || gone != 10 {
		t.Fatalf("trimmed up to %d, error %v", gone, err)
	}
	before := map[string][]byte{}
	names, err := filepath.Glob(filepath.Join(k.dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if before[name], err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	k.now = k.now.Add(time.Hour)
	if gone, err := j.Trim(t.Context(), keep, 48); err != nil || gone != 20 {
		t.Fatalf("trimmed up to %d, error %v", gone, err)
	}
	for name, data := range before {
		if strings.HasSuffix(name, ".json.sig") {
			continue // those were written, and nothing else was
		}
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if audit, err := j.Verify(t.Context(), k.trust(), nil); err != nil || audit.Base != 10 || audit.Head != 48 {
		t.Errorf("behind the crash: %+v, error %v", audit, err)
	}
	if gone, err := j.Trim(t.Context(), keep, 48); err != nil || gone != 20 {
		t.Errorf("trimmed up to %d, error %v", gone, err)
	}
	if audit, err := j.Verify(t.Context(), k.trust(), nil); err != nil || audit.Base != 20 {
		t.Errorf("in the end: %+v, error %v", audit, err)
	}
}

// busy lets something happen at its first listing.
type busy struct {
	*storetest.Memory
	happens func()
}

func (b *busy) List(ctx context.Context, prefix string) iter.Seq2[store.Object, error] {
	if happens := b.happens; happens != nil {
		b.happens = nil
		happens()
	}
	return b.Memory.List(ctx, prefix)
}

// A command that ends while the stores are looked at is no end that was cut off.
func TestACommandThatEndsMeanwhile(t *testing.T) {
	k, j, memory := years(t)
	other := k.open(t)
	s := store.New(&busy{memory, func() {
		k.fill(t, other, 1)
		if _, err := other.Push(t.Context(), wrap(memory)); err != nil {
			t.Error(err)
		}
	}}, store.Options{Attempts: 1})
	if audit, err := j.Verify(t.Context(), k.trust(), map[string]*store.Store{"box": s}); err != nil || audit.Records != 48 || audit.Stores["box"] != 49 {
		t.Errorf("%+v, error %v", audit, err)
	}
}
