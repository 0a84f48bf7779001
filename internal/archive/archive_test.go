package archive_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/seal"
	"holdfast/internal/source"
	"holdfast/internal/store"
)

func TestRoundTrip(t *testing.T) {
	for _, size := range []int64{1, 7, 1000, 1 << 20} {
		t.Run(fmt.Sprintf("parts of %d bytes", size), func(t *testing.T) {
			k := newKit(t)
			opt := k.options()
			opt.PartSize = max(size, 30) // an item may have 999 parts
			entry, err := k.backup(t, k.archiveWith(opt), 0)
			if err != nil {
				t.Fatal(err)
			}
			mustHold(t, k.archive(), entry)
			b, err := k.archive().Open(t.Context(), entry)
			if err != nil {
				t.Fatal(err)
			}
			for _, item := range b.Manifest.Items {
				if want := (item.StoredSize + opt.PartSize - 1) / opt.PartSize; int64(item.Parts) != want {
					t.Errorf("%s has %d parts, want %d", item.Object, item.Parts, want)
				}
			}
			if got := mustList(t, k.archive()); len(got) != 1 || got[0].Size != entry.Size || got[0].Complete || !got[0].Sealed {
				t.Errorf("listed %+v", got)
			}
			missing, err := b.Missing(t.Context())
			if err != nil || missing["lost"] != "the disk with it is gone" {
				t.Errorf("missing: %v, %v", missing, err)
			}
		})
	}
}

func TestMissTakesAllOfASource(t *testing.T) {
	k := newKit(t)
	entry := k.mustBackup(t, 0)
	for name, data := range objects(k.memory) {
		if strings.Contains(name, "/lost.") {
			t.Errorf("%s is still there", name)
		}
		if strings.Contains(data, "the disk with it is gone") {
			t.Errorf("%s tells unsealed why a source is missing", name)
		}
	}
	b, err := k.archive().Open(t.Context(), entry)
	if err != nil {
		t.Fatal(err)
	}
	if len(b.Manifest.Missing) != 1 || b.Manifest.Missing[0].Name != "lost" || b.Manifest.Complete {
		t.Errorf("missing %v, complete %v", b.Manifest.Missing, b.Manifest.Complete)
	}
	for _, item := range b.Manifest.Items {
		if item.Source == "lost" {
			t.Errorf("the manifest lists %s", item.Object)
		}
	}
}

func TestUnsealedFactsHaveNoDigestOfWhatIsMissing(t *testing.T) {
	k := newKit(t)
	opt := k.options()
	opt.Seal.Plain, opt.Seal.Recipients, opt.Seal.Compression = true, nil, "none"
	opt.PartSize = 1 << 20
	entry, err := k.backup(t, k.archiveWith(opt), 0)
	if err != nil {
		t.Fatal(err)
	}
	if entry.Sealed {
		t.Error("the entry says that it is sealed")
	}
	mustHold(t, k.archive(), entry)
	for _, name := range k.memory.Names() {
		if strings.Contains(name, "RESTORE.txt") || !strings.HasPrefix(name, "data/") {
			continue
		}
		if strings.HasSuffix(name, ".age") {
			t.Errorf("%s has the suffix of what is sealed", name)
		}
		if data, _ := k.memory.Bytes(name); strings.HasSuffix(name, "/facts.json.zst") {
			r, err := seal.NewReader(bytes.NewReader(data), seal.ReadOptions{Plain: true})
			if err != nil {
				t.Fatal(err)
			}
			facts, err := io.ReadAll(r)
			if err := errors.Join(err, r.Close()); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(facts), "lost.tar") || !strings.Contains(string(facts), "app.sql") {
				t.Errorf("the facts are %s", facts)
			}
		}
	}
	b, err := k.archive().Open(t.Context(), entry)
	if err != nil {
		t.Fatal(err)
	}
	if b.Manifest.Seal != "none" || len(b.Manifest.Keys) != 0 {
		t.Errorf("seal %q for keys %q", b.Manifest.Seal, b.Manifest.Keys)
	}
}

// draft begins a backup with one good item.
func draft(t *testing.T, k *kit) *archive.Draft {
	t.Helper()
	d, err := k.archive().Create(header(0))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Put(t.Context(), "app", item("app.sql", contents["app.sql"]), nil); err != nil {
		t.Fatal(err)
	}
	return d
}

// closing is a reader whose Close fails.
type closing struct {
	io.Reader
	err    error
	closed int
}

func (c *closing) Close() error { c.closed++; return c.err }

func TestItemThatEndsBadly(t *testing.T) {
	broken := errors.New("the disk is on fire")
	for _, size := range []int{0, 10, 5000, 3 << 20} {
		for _, c := range []struct {
			name string
			make func() *closing
		}{
			{"read", func() *closing {
				return &closing{Reader: io.MultiReader(bytes.NewReader(noise(size, 1)), iotest.ErrReader(broken))}
			}},
			{"close", func() *closing { return &closing{Reader: bytes.NewReader(noise(size, 1)), err: broken} }},
		} {
			t.Run(fmt.Sprintf("%s after %d bytes", c.name, size), func(t *testing.T) {
				k := newKit(t)
				opt := k.options()
				opt.PartSize = 1 << 18
				d, err := k.archiveWith(opt).Create(header(0))
				if err != nil {
					t.Fatal(err)
				}
				r := c.make()
				_, err = d.Put(t.Context(), "bad", source.Item{Name: "bad.tar", Open: func(context.Context) (io.ReadCloser, error) { return r, nil }}, nil)
				if !errors.Is(err, broken) || errors.Is(err, archive.ErrStore) {
					t.Errorf("error %v, want that of the source alone", err)
				}
				if r.closed != 1 {
					t.Errorf("the reader was closed %d times", r.closed)
				}
				if names := k.memory.Names(); len(names) > 0 {
					t.Errorf("left: %q", names)
				}
			})
		}
	}
	t.Run("open", func(t *testing.T) {
		k := newKit(t)
		d := draft(t, k)
		_, err := d.Put(t.Context(), "bad", source.Item{Name: "bad.tar", Open: func(context.Context) (io.ReadCloser, error) { return nil, broken }}, nil)
		if !errors.Is(err, broken) || len(k.memory.Names()) != 1 {
			t.Errorf("error %v, objects %q", err, k.memory.Names())
		}
	})
}

// What ended badly is never visible, not even until it is deleted: a crash may come in between.
func TestItemThatEndsBadlyIsNeverVisible(t *testing.T) {
	k := newKit(t)
	c := &counting{Driver: k.memory}
	opt := k.options()
	opt.PartSize = 1 << 30
	d, err := archive.New(store.New(c, store.Options{Attempts: 1}), opt).Create(header(0))
	if err != nil {
		t.Fatal(err)
	}
	r := &closing{Reader: bytes.NewReader(noise(8<<20, 1)), err: errors.New("exit status 1")}
	if _, err := d.Put(t.Context(), "bad", source.Item{Name: "bad.sql", Open: func(context.Context) (io.ReadCloser, error) { return r, nil }}, nil); err == nil {
		t.Error("the item is said to be stored")
	}
	if c.stored != 0 {
		t.Errorf("%d objects became visible", c.stored)
	}
}

func TestStoreFaultIsToldFromSourceFault(t *testing.T) {
	k := newKit(t)
	d, err := k.archive().Create(header(0))
	if err != nil {
		t.Fatal(err)
	}
	k.memory.FailAt(2)
	// A program complains when nobody reads it to its end; the store's failure is still the cause.
	r := &closing{Reader: io.LimitReader(randomBytes{}, 1<<30), err: errors.New("killed")}
	_, err = d.Put(t.Context(), "app", source.Item{Name: "app.sql", Open: func(context.Context) (io.ReadCloser, error) { return r, nil }}, nil)
	if !errors.Is(err, archive.ErrStore) {
		t.Errorf("error %v, want ErrStore", err)
	}
	if names := k.memory.Names(); len(names) > 0 {
		t.Errorf("left: %q", names)
	}
}

// randomBytes has no end.
type randomBytes struct{}

func (randomBytes) Read(p []byte) (int, error) { return copy(p, noise(min(len(p), 1<<16), 1)), nil }

func TestCancelWhilePutting(t *testing.T) {
	k := newKit(t)
	d := draft(t, k)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := d.Put(ctx, "big", source.Item{Name: "big.tar", Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(zeros{}), nil
	}}, func(n int64) {
		if n > 1<<20 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	if _, _, err := d.Commit(ctx); err == nil {
		t.Error("a cancelled run committed")
	}
	if err := d.Abort(ctx); err != nil {
		t.Fatal(err)
	}
	if names := k.memory.Names(); len(names) > 0 {
		t.Errorf("left: %q", names)
	}
}

func TestTwoItemsOfOneName(t *testing.T) {
	k := newKit(t)
	d := draft(t, k)
	r := &closing{Reader: strings.NewReader("other")}
	_, err := d.Put(t.Context(), "app", source.Item{Name: "app.sql", Open: func(context.Context) (io.ReadCloser, error) { return r, nil }}, nil)
	if err == nil || !strings.Contains(err.Error(), "two items are called app.sql.zst.age") || r.closed != 1 {
		t.Errorf("error %v, closed %d times", err, r.closed)
	}
}

func TestTooManyParts(t *testing.T) {
	k := newKit(t)
	opt := k.options()
	opt.PartSize = 1
	d, err := k.archiveWith(opt).Create(header(0))
	if err != nil {
		t.Fatal(err)
	}
	_, err = d.Put(t.Context(), "app", item("app.sql", noise(2000, 1)), nil)
	if err == nil || !strings.Contains(err.Error(), "app.sql.zst.age is too big") || holdfast.Hint(err) == "" || errors.Is(err, archive.ErrStore) {
		t.Errorf("error %v with the hint %q", err, holdfast.Hint(err))
	}
	if names := k.memory.Names(); len(names) > 0 {
		t.Errorf("%d objects are left", len(names))
	}
}

func TestNothingToCommit(t *testing.T) {
	k := newKit(t)
	d, err := k.archive().Create(header(0))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.Commit(t.Context()); err == nil || len(k.memory.Names()) > 0 {
		t.Errorf("error %v, objects %q", err, k.memory.Names())
	}
	opt := k.options()
	opt.Signer = nil
	if _, err := k.archiveWith(opt).Create(header(0)); err == nil || holdfast.Hint(err) == "" {
		t.Errorf("a host without a key: error %v, hint %q", err, holdfast.Hint(err))
	}
}

func TestNamesThatNoListWouldShow(t *testing.T) {
	k := newKit(t)
	for name, change := range map[string]func(*archive.Header){
		"kind": func(h *archive.Header) { h.Kind = "differential" },
		"job":  func(h *archive.Header) { h.Job = "App" },
		"id":   func(h *archive.Header) { h.ID = "short" },
		"time": func(h *archive.Header) { h.Time = time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC) },
	} {
		h := header(0)
		change(&h)
		if _, err := k.archive().Create(h); !errors.Is(err, holdfast.ErrUsage) {
			t.Errorf("a wrong %s: %v, want ErrUsage", name, err)
		}
	}
}

// What is lost between writing and the manifest is noticed before the backup exists.
func TestReadBack(t *testing.T) {
	for _, harm := range []string{"flip", "gone"} {
		t.Run(harm, func(t *testing.T) {
			k := newKit(t)
			d := draft(t, k)
			d.Keep(archive.SourceEntry{Name: "app", Kind: holdfast.KindPostgres}, source.Facts{})
			name := k.memory.Names()[0]
			if harm == "gone" {
				if err := k.memory.Delete(t.Context(), name); err != nil {
					t.Fatal(err)
				}
			} else {
				k.memory.Corrupt(name, func(data []byte) []byte { data[100] ^= 1; return data })
			}
			if _, _, err := d.Commit(t.Context()); !errors.Is(err, holdfast.ErrDifference) || !strings.Contains(err.Error(), "app.sql") {
				t.Errorf("error %v, want a difference in app.sql", err)
			}
			if err := d.Abort(t.Context()); err != nil || len(k.memory.Names()) > 0 {
				t.Errorf("abort: %v; left: %q", err, k.memory.Names())
			}
		})
	}
}

func TestOptionalSources(t *testing.T) {
	for _, c := range []struct {
		optional bool
		why      string
		complete bool
	}{{true, "absent", true}, {true, "failed", false}, {false, "absent", false}, {false, "failed", false}} {
		t.Run(fmt.Sprintf("optional %v, %s", c.optional, c.why), func(t *testing.T) {
			k := newKit(t)
			d := draft(t, k)
			d.Keep(archive.SourceEntry{Name: "app", Kind: holdfast.KindPostgres}, source.Facts{})
			if err := d.Miss(t.Context(), archive.MissingSource{Name: "etc", Kind: holdfast.KindFiles, Optional: c.optional, Why: c.why}, "why"); err != nil {
				t.Fatal(err)
			}
			entry, m, err := d.Commit(t.Context())
			if err != nil || entry.Complete != c.complete || m.Complete != c.complete {
				t.Errorf("entry %v, manifest %v, error %v; want %v", entry.Complete, m.Complete, err, c.complete)
			}
		})
	}
}

// counting counts the calls that open and list objects, and the objects that became visible.
type counting struct {
	store.Driver
	opens, lists atomic.Int64
	stored       int
}

func (c *counting) Put(ctx context.Context, name string, r io.Reader) error {
	err := c.Driver.Put(ctx, name, r)
	if err == nil {
		c.stored++
	}
	return err
}

func (c *counting) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	c.opens.Add(1)
	return c.Driver.Open(ctx, name, offset, length)
}

func (c *counting) List(ctx context.Context, prefix string) iter.Seq2[store.Object, error] {
	c.lists.Add(1)
	return c.Driver.List(ctx, prefix)
}

const (
	commitA = "commits/app/20260701T120000Z.aaaaaaaaaa.full.complete.age.1234.json"
	commitB = "commits/app/20260702T120000Z.bbbbbbbbbb.safety.incomplete.none.0.json"
	commitC = "commits/web/20260701T130000Z.cccccccccc.full.complete.age.99.json"
)

func TestListOpensNothing(t *testing.T) {
	k := newKit(t)
	for _, name := range []string{
		commitA, commitB, commitC,
		"proofs/app/20260701T120000Z.aaaaaaaaaa/20260703T120000Z.failed.dddddddddd.json",
		"proofs/app/20260701T120000Z.aaaaaaaaaa/20260703T120000Z.failed.dddddddddd.json.sig",
		"proofs/app/20260701T120000Z.aaaaaaaaaa/20260702T120000Z.proven.eeeeeeeeee.json",
		"proofs/app/20260701T120000Z.aaaaaaaaaa/20260704T120000Z.cannot-test.ffffffffff.details.json.zst.age",
		"proofs/app/20260702T120000Z.bbbbbbbbbb/20260704T120000Z.proven.ffffffffff.json",
		"pins/web/20260701T130000Z.cccccccccc/20260701T140000Z.pin.forever.gggggggggg.json",
		"pins/app/20260701T120000Z.aaaaaaaaaa/20260701T140000Z.pin.forever.gggggggggg.json",
		"pins/app/20260701T120000Z.aaaaaaaaaa/20260702T140000Z.unpin.hhhhhhhhhh.json",
		"pins/app/20260702T120000Z.bbbbbbbbbb/20260701T140000Z.pin.20260801T000000Z.jjjjjjjjjj.json",
		"verifications/app/20260702T120000Z.bbbbbbbbbb/20260704T120000Z.L1.good.kkkkkkkkkk.json",
		"verifications/app/20260702T120000Z.bbbbbbbbbb/20260705T120000Z.L2.damaged.mmmmmmmmmm.json",
		"verifications/app/20260702T120000Z.bbbbbbbbbb/20260706T120000Z.L1.good.nnnnnnnnnn.json",
		// What is not ours:
		"commits/app/README", "commits/app/20260701T120000Z.aaaaaaaaaa.full.complete.age.01234.json",
		"commits/app/20260701T120000Z.aaaaaaaaaa.full.complete.age.1234.json.tmp",
		"commits/app/20261301T120000Z.aaaaaaaaaa.full.complete.age.1234.json",
		"commits/App/20260701T120000Z.aaaaaaaaaa.full.complete.age.1234.json",
		"commits/app/20260701T120000Z.AAAAAAAAAA.full.complete.age.1234.json",
		"commits/app/20260701T120000Z.aaaaaaaaaa.full.complete.age.99999999999999999999.json",
		"commits/app/sub/20260701T120000Z.aaaaaaaaaa.full.complete.age.1234.json",
		"proofs/app/20260701T120000Z.aaaaaaaaaa/20260705T120000Z.perfect.dddddddddd.json",
		"proofs/app/20260701T120000Z.aaaaaaaaaa/20260705T120000Z.proven.d.json",
	} {
		if err := k.memory.Put(t.Context(), name, strings.NewReader(name)); err != nil {
			t.Fatal(err)
		}
	}
	c := &counting{Driver: k.memory}
	a := archive.New(store.New(c, store.Options{Attempts: 1}), k.options())
	entries := mustList(t, a)
	var ids []string
	for _, e := range entries {
		ids = append(ids, string(e.ID[:1])+" "+string(e.Job)+" "+e.State())
	}
	if want := []string{"a app failed", "c web committed", "b app proven"}; !slices.Equal(ids, want) {
		t.Fatalf("listed %q, want %q", ids, want)
	}
	if opens, lists := c.opens.Load(), c.lists.Load(); opens != 0 || lists != 5 {
		t.Errorf("listing opened %d objects and made %d listings", opens, lists)
	}
	a0 := entries[0]
	if a0.Size != 1234 || !a0.Complete || !a0.Sealed || a0.Kind != "full" || a0.PinnedAt(start) || !a0.Time.Equal(start) || len(a0.Proofs) != 2 ||
		a0.Proofs[0].Verdict != holdfast.Proven {
		t.Errorf("the first entry is %+v", a0)
	}
	if b := entries[2]; b.Complete || b.Sealed || b.Kind != "safety" || b.Size != 0 {
		t.Errorf("the last entry is %+v", b)
	}
	if !entries[1].PinnedAt(start.AddDate(100, 0, 0)) {
		t.Error("the pin is not seen")
	}
	b := entries[2]
	if august := time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC); !b.PinnedAt(august.Add(-time.Second)) || b.PinnedAt(august) {
		t.Error("the pin does not hold until its end")
	}
	if v, ok := b.Verified(); !ok || v.Level != holdfast.L1 || !v.Good || !b.Damaged() {
		t.Errorf("damage at L2 and then good bytes at L1 are %+v, damaged %v", v, b.Damaged())
	}
	one, err := a.List(t.Context(), "app")
	if err != nil || len(one) != 2 {
		t.Errorf("of job app: %v, %v", one, err)
	}
}

func TestListFaults(t *testing.T) {
	k := newKit(t)
	k.mustBackup(t, 0)
	for n := 1; n <= 5; n++ {
		k.memory.FailAt(n)
		if entries, err := k.archive().List(t.Context(), ""); err == nil || entries != nil {
			t.Errorf("listing %d failed and List said %v, %v", n, entries, err)
		}
	}
}

func TestFind(t *testing.T) {
	entries := []archive.Entry{{ID: "abcdefghjk"}, {ID: "abzzzzzzzz"}, {ID: "zzzzzzzzzz"}}
	for _, c := range []struct {
		text  string
		want  holdfast.BackupID
		wrong string
	}{
		{"", "zzzzzzzzzz", ""},
		{"abc", "abcdefghjk", ""},
		{"abzzzzzzzz", "abzzzzzzzz", ""},
		{"ab", "", "2 backups have an ID that begins with"},
		{"q", "", `no backup has the ID "q"`},
	} {
		got, err := archive.Find(entries, c.text)
		if got.ID != c.want || (err == nil) != (c.wrong == "") || err != nil && (!strings.Contains(err.Error(), c.wrong) || !errors.Is(err, holdfast.ErrUsage) || holdfast.Hint(err) == "") {
			t.Errorf("Find(%q) = %s, %v", c.text, got.ID, err)
		}
	}
	if _, err := archive.Find(nil, ""); err == nil || holdfast.Hint(err) == "" {
		t.Errorf("of no backups: %v", err)
	}
}

func TestState(t *testing.T) {
	proof := func(v ...holdfast.Verdict) archive.Entry {
		e := archive.Entry{Complete: true}
		for i, verdict := range v {
			e.Proofs = append(e.Proofs, archive.ProofEntry{Time: start.Add(time.Duration(i) * time.Hour), Verdict: verdict})
		}
		return e
	}
	for _, c := range []struct {
		entry archive.Entry
		want  string
	}{
		{proof(), "committed"},
		{proof(holdfast.CannotTest), "committed"},
		{proof(holdfast.Proven), "proven"},
		{proof(holdfast.Proven, holdfast.CannotTest), "proven"},
		{proof(holdfast.Proven, holdfast.Failed), "failed"},
		{proof(holdfast.Failed, holdfast.Proven), "proven"},
		{proof(holdfast.Failed, holdfast.CannotTest), "failed"},
		{archive.Entry{}, "incomplete"},
	} {
		if got := c.entry.State(); got != c.want {
			t.Errorf("with the verdicts %v: %s, want %s", c.entry.Proofs, got, c.want)
		}
	}
}

func TestCleanKeepsAwayFromWhatItDoesNotKnow(t *testing.T) {
	k := newKit(t)
	d := draft(t, k)
	strange := "commits/app/20260701T120000Z." + string(d.Entry().ID) + ".junk"
	if err := k.memory.Put(t.Context(), strange, strings.NewReader("")); err != nil {
		t.Fatal(err)
	}
	before := objects(k.memory)
	if _, err := k.archive().Clean(t.Context(), d.Entry()); err == nil || !strings.Contains(err.Error(), strange) {
		t.Errorf("error %v, want one that names %s", err, strange)
	}
	if !maps.Equal(before, objects(k.memory)) {
		t.Error("something was deleted all the same")
	}
}

// Backups whose IDs begin alike do not clean each other up.
func TestCleanTakesNoNeighbour(t *testing.T) {
	k := newKit(t)
	older := k.mustBackup(t, 1)
	d := draft(t, k)
	removed, err := k.archive().Clean(t.Context(), d.Entry())
	if err != nil || removed != 1 {
		t.Errorf("removed %d: %v", removed, err)
	}
	mustHold(t, k.archive(), older)
}

func BenchmarkList5000(b *testing.B) {
	k := newKit(b)
	for i := range 5000 {
		id := fmt.Sprintf("%010d", i)
		id = strings.NewReplacer("0", "a", "1", "b", "7", "c", "8", "d", "9", "e").Replace(id)
		stem := start.Add(time.Duration(i)*time.Hour).Format("20060102T150405Z") + "." + id
		for _, name := range []string{
			"commits/app/" + stem + ".full.complete.age.1000.json",
			"proofs/app/" + stem + "/20260901T000000Z.proven.aaaaaaaaaa.json",
		} {
			if err := k.memory.Put(b.Context(), name, strings.NewReader("")); err != nil {
				b.Fatal(err)
			}
		}
	}
	a := k.archive()
	for b.Loop() {
		entries, err := a.List(b.Context(), "")
		if err != nil || len(entries) != 5000 {
			b.Fatalf("%d entries, %v", len(entries), err)
		}
	}
}
