package journal_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/journal"
	"holdfast/internal/seal"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
)

var start = time.Date(2026, 11, 22, 2, 0, 0, 0, time.UTC)

type kit struct {
	dir    string
	signer *seal.Signer
	now    time.Time
}

func newKit(t testing.TB) *kit {
	t.Helper()
	private, _, err := seal.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := seal.ParseSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	return &kit{filepath.Join(t.TempDir(), "journal"), signer, start}
}

func (k *kit) options() journal.Options {
	return journal.Options{Dir: k.dir, Host: "Web 1", Version: "test", Signer: k.signer, Now: func() time.Time {
		return k.now
	}, TextFile: filepath.Join(filepath.Dir(k.dir), "audit.log")}
}

func (k *kit) trust() journal.Trust { return journal.Trust{k.signer.PublicKey()} }

func (k *kit) open(t testing.TB) *journal.Journal {
	t.Helper()
	j, err := journal.Open(k.options())
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func record(n int) journal.Record {
	return journal.Record{
		Event: journal.BackupCreated, Who: journal.Who{User: "anna", Address: "203.0.113.9"}, Job: "app", Backup: "aaaaaaaaaa", Store: "main", Result: "good",
		Reason: fmt.Sprintf("run %d", n), Figures: map[string]float64{"bytes": float64(n)},
	}
}

// fill appends n records and signs.
func (k *kit) fill(t testing.TB, j *journal.Journal, n int) {
	t.Helper()
	for i := range n {
		k.now = k.now.Add(time.Minute)
		if _, err := j.Append(t.Context(), record(i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// pushed appends n records, signs them, and brings all to a new store.
func (k *kit) pushed(t testing.TB, j *journal.Journal, n int) *storetest.Memory {
	t.Helper()
	k.fill(t, j, n)
	memory := storetest.NewMemory(t)
	if _, err := j.Push(t.Context(), wrap(memory)); err != nil {
		t.Fatal(err)
	}
	return memory
}

func (k *kit) segment(t testing.TB) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(k.dir, "*.jsonl"))
	if err != nil || len(found) != 1 {
		t.Fatalf("segments %q, %v", found, err)
	}
	return found[0]
}

func (k *kit) lines(t testing.TB) []string {
	t.Helper()
	data, err := os.ReadFile(k.segment(t))
	if err != nil {
		t.Fatal(err)
	}
	return strings.SplitAfter(strings.TrimSuffix(string(data), "\n"), "\n")
}

func (k *kit) write(t testing.TB, lines []string) {
	t.Helper()
	text := strings.Join(lines, "")
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	if err := os.WriteFile(k.segment(t), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func wrap(m *storetest.Memory) *store.Store { return store.New(m, store.Options{Attempts: 1}) }

func TestRecordsAreChainedSignedAndTold(t *testing.T) {
	k := newKit(t)
	j := k.open(t)
	k.fill(t, j, 3)
	if !strings.HasPrefix(j.Chain(), "web-1-") {
		t.Errorf("the chain is called %s", j.Chain())
	}
	audit, err := k.open(t).Verify(t.Context(), k.trust(), nil)
	if err != nil || audit.Records != 3 || audit.Head != 3 || !audit.First.Equal(start.Add(time.Minute)) || len(audit.Signers) != 1 {
		t.Errorf("audit %+v, error %v", audit, err)
	}
	var got []string
	if err := j.Read(journal.Filter{Last: 2}, func(r journal.Record) error {
		got = append(got, fmt.Sprint(r.Seq, r.Reason, r.Who.Host, r.Figures["bytes"]))
		return nil
	}); err != nil || !slices.Equal(got, []string{"2run 1Web 11", "3run 2Web 12"}) {
		t.Errorf("read %q, error %v", got, err)
	}
	text, err := os.ReadFile(k.options().TextFile)
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	if want := "[2026-11-22T02:01:00Z] BACKUP_CREATED by anna from 203.0.113.9 (run 0) host=Web 1 job=app backup=aaaaaaaaaa store=main result=good"; first != want {
		t.Errorf("the line is\n%s\nwant\n%s", first, want)
	}
	for _, file := range []string{k.segment(t), k.options().TextFile} {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, error %v", file, info.Mode(), err)
		}
	}
}

func TestFilters(t *testing.T) {
	k := newKit(t)
	j := k.open(t)
	k.fill(t, j, 2)
	k.now = k.now.Add(time.Hour)
	for _, r := range []journal.Record{
		{Event: journal.Restored, Who: journal.Who{User: "berta via sudo"}, Job: "web", Backup: "bbbbbbbbbb"}, {Event: journal.Pruned, Who: journal.Who{User: "root"}, Job: "app"},
	} {
		if _, err := j.Append(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		filter journal.Filter
		want   []int64
	}{
		"all": {journal.Filter{}, []int64{1, 2, 3, 4}}, "event": {journal.Filter{Events: []journal.Event{journal.Restored, journal.Pruned}}, []int64{3, 4}},
		"job": {journal.Filter{Job: "app"}, []int64{1, 2, 4}}, "backup": {journal.Filter{Backup: "bbb"}, []int64{3}}, "user": {journal.Filter{User: "berta"}, []int64{3}},
		"since": {journal.Filter{Since: start.Add(30 * time.Minute)}, []int64{3, 4}}, "until": {journal.Filter{Until: start.Add(2 * time.Minute)}, []int64{1}}, "last": {journal.Filter{Job: "app", Last: 1}, []int64{4}},
	} {
		var got []int64
		if err := j.Read(c.filter, func(r journal.Record) error { got = append(got, r.Seq); return nil }); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, error %v; want %v", name, got, err, c.want)
		}
	}
}

// Every record of a small chain is removed, doubled, changed in each of its bytes, and exchanged with each other one. All of it is found.
func TestEveryChangeIsFound(t *testing.T) {
	k := newKit(t)
	j := k.open(t)
	k.fill(t, j, 5)
	whole := k.lines(t)
	found := func(what string) {
		t.Helper()
		if _, err := j.Verify(t.Context(), k.trust(), nil); !errors.Is(err, holdfast.ErrDifference) {
			t.Errorf("%s: error %v", what, err)
		}
	}
	for i := range whole {
		k.write(t, slices.Delete(slices.Clone(whole), i, i+1))
		found(fmt.Sprintf("without record %d", i+1))
		k.write(t, slices.Insert(slices.Clone(whole), i, strings.TrimSuffix(whole[i], "\n")+"\n"))
		found(fmt.Sprintf("record %d twice", i+1))
		for other := range i {
			mixed := slices.Clone(whole)
			mixed[i], mixed[other] = strings.TrimSuffix(mixed[other], "\n")+"\n", strings.TrimSuffix(mixed[i], "\n")+"\n"
			k.write(t, mixed)
			found(fmt.Sprintf("records %d and %d exchanged", i+1, other+1))
		}
		for at := range strings.TrimSuffix(whole[i], "\n") {
			changed := []byte(whole[i])
			changed[at] ^= 1
			edited := slices.Clone(whole)
			edited[i] = string(changed)
			k.write(t, edited)
			found(fmt.Sprintf("byte %d of record %d changed", at, i+1))
		}
	}
	k.write(t, whole)
	if _, err := j.Verify(t.Context(), k.trust(), nil); err != nil {
		t.Errorf("put back: %v", err)
	}
	stranger := newKit(t)
	if _, err := j.Verify(t.Context(), stranger.trust(), nil); !errors.Is(err, holdfast.ErrDifference) {
		t.Errorf("signed by somebody else: %v", err)
	}
}

// Root cuts the end and removes the head: only a store still knows.
func TestACutEndIsFoundWithAStoreOnly(t *testing.T) {
	k := newKit(t)
	j := k.open(t)
	k.fill(t, j, 4)
	memory := storetest.NewMemory(t)
	s := wrap(memory)
	if n, err := j.Push(t.Context(), s); err != nil || n != 4 {
		t.Fatalf("pushed %d, error %v", n, err)
	}
	k.write(t, k.lines(t)[:2])
	if _, err := j.Verify(t.Context(), k.trust(), nil); !errors.Is(err, holdfast.ErrDifference) || !strings.Contains(err.Error(), "its end was cut off") {
		t.Errorf("against the head: %v", err)
	}
	for _, name := range []string{"head.json", "head.json.sig"} {
		if err := os.Remove(filepath.Join(k.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := j.Verify(t.Context(), k.trust(), nil); err != nil {
		t.Errorf("without a store nothing can be known, and it says %v", err)
	}
	if _, err := j.Verify(t.Context(), k.trust(), map[string]*store.Store{"box": s}); !errors.Is(err, holdfast.ErrDifference) || !strings.Contains(err.Error(), "store box: ") {
		t.Errorf("with a store: %v", err)
	}
	if _, err := j.Push(t.Context(), s); !errors.Is(err, holdfast.ErrDifference) || holdfast.Hint(err) == "" {
		t.Errorf("a push says %v", err)
	}
	// Going on from there is a fork.
	k.fill(t, j, 3)
	if _, err := j.Push(t.Context(), s); !errors.Is(err, journal.ErrFork) {
		t.Errorf("a push of a fork says %v", err)
	}
	if _, err := j.Verify(t.Context(), k.trust(), map[string]*store.Store{"box": s}); !errors.Is(err, journal.ErrFork) {
		t.Errorf("a verification of a fork says %v", err)
	}
	// What the store has is what was; the fork is kept aside.
	n, _, err := journal.Rebuild(t.Context(), s, j.Chain(), k.options(), k.trust())
	if err != nil || n != 4 {
		t.Fatalf("rebuilt %d, error %v", n, err)
	}
	if kept, err := filepath.Glob(k.dir + ".before-*/*.jsonl"); err != nil || len(kept) != 1 {
		t.Errorf("kept aside: %q, %v", kept, err)
	}
	again := k.open(t)
	k.fill(t, again, 1)
	if audit, err := again.Verify(t.Context(), k.trust(), map[string]*store.Store{"box": s}); err != nil || audit.Records != 5 || audit.Stores["box"] != 4 {
		t.Errorf("audit %+v, error %v", audit, err)
	}
}

// With a fault at any call of a push, the next one makes the store whole, and nothing in it is ever wrong.
func TestPushFaultAtEveryCall(t *testing.T) {
	k := newKit(t)
	j := k.open(t)
	base := storetest.NewMemory(t)
	k.fill(t, j, 2)
	if _, err := j.Push(t.Context(), wrap(base)); err != nil {
		t.Fatal(err)
	}
	k.fill(t, j, 2)
	counting := base.Clone()
	counting.Restore()
	if _, err := j.Push(t.Context(), wrap(counting)); err != nil {
		t.Fatal(err)
	}
	calls := counting.Calls()
	if calls < 4 {
		t.Fatalf("%d calls are too few to be true", calls)
	}
	for name, plan := range map[string]func(*storetest.Memory, int){
		"fails": (*storetest.Memory).FailAt, "fails but persists": (*storetest.Memory).FailPersistedAt, "is cut": (*storetest.Memory).CutAt,
	} {
		for n := 1; n <= calls; n++ {
			memory := base.Clone()
			plan(memory, n)
			if _, err := j.Push(t.Context(), wrap(memory)); err == nil {
				t.Errorf("call %d %s and nobody saw it", n, name)
			}
			memory.Restore()
			if _, err := j.Push(t.Context(), wrap(memory)); err != nil {
				t.Errorf("call %d %s: the next push: %v", n, name, err)
			}
			audit, err := j.Verify(t.Context(), k.trust(), map[string]*store.Store{"box": wrap(memory)})
			if err != nil || audit.Stores["box"] != 4 {
				t.Errorf("call %d %s: %+v, error %v", n, name, audit, err)
			}
			var told int64
			alone, err := journal.VerifyStore(t.Context(), wrap(memory), j.Chain(), k.trust(), func(journal.Record, []byte) error { told++; return nil })
			if err != nil || alone.Records != 4 || told != 4 {
				t.Errorf("call %d %s: from the store alone %+v, %d told, error %v", n, name, alone, told, err)
			}
		}
	}
}

func TestDamageInAStoreIsFound(t *testing.T) {
	k := newKit(t)
	j := k.open(t)
	memory := k.pushed(t, j, 3)
	for _, name := range memory.Names() {
		broken := memory.Clone()
		broken.Corrupt(name, func(data []byte) []byte { return bytes.Replace(data, []byte("a"), []byte("b"), 1) })
		if _, err := j.Verify(t.Context(), k.trust(), map[string]*store.Store{"box": wrap(broken)}); !errors.Is(err, holdfast.ErrDifference) {
			t.Errorf("%s changed: %v", name, err)
		}
	}
	down := memory.Clone()
	down.CutAt(1)
	audit, err := j.Verify(t.Context(), k.trust(), map[string]*store.Store{"box": wrap(down), "gone": nil})
	if err != nil || audit.Unseen["box"] == "" || audit.Unseen["gone"] == "" || len(audit.Stores) != 0 {
		t.Errorf("stores that are away: %+v, error %v", audit, err)
	}
}

// A crash leaves any number of bytes of the last line: what was whole before stays, the rest is kept aside, and the chain goes on.
func TestTornAtEveryByte(t *testing.T) {
	k := newKit(t)
	j := k.open(t)
	k.fill(t, j, 2)
	lines := k.lines(t)
	before := len(lines[0])
	whole := lines[0] + strings.TrimSuffix(lines[1], "\n") + "\n"
	for cut := before + 1; cut < len(whole); cut++ {
		if err := os.WriteFile(k.segment(t), []byte(whole[:cut]), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"head.json", "head.json.sig"} {
			if err := os.Remove(filepath.Join(k.dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}
		r, err := j.Append(t.Context(), record(9))
		if err != nil || r.Seq != 2 {
			t.Fatalf("cut at %d: record %d, error %v", cut, r.Seq, err)
		}
		if _, err := j.Verify(t.Context(), k.trust(), nil); err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
	}
	if torn, err := filepath.Glob(filepath.Join(k.dir, "torn-*")); err != nil || len(torn) != len(whole)-before-1 {
		t.Errorf("%d torn ends are kept, want %d; error %v", len(torn), len(whole)-before-1, err)
	}
}

func TestManyAtOnceKeepOneChain(t *testing.T) {
	k := newKit(t)
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			j, err := journal.Open(k.options())
			if err != nil {
				t.Error(err)
				return
			}
			for i := range 10 {
				if _, err := j.Append(t.Context(), record(i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	if audit, err := k.open(t).Verify(t.Context(), k.trust(), nil); err != nil || audit.Records != 80 {
		t.Errorf("audit %+v, error %v", audit, err)
	}
}

func TestSegmentsContinue(t *testing.T) {
	k := newKit(t)
	j := k.open(t)
	long := record(0)
	long.Detail = strings.Repeat("x", 4000)
	for range 1100 {
		if _, err := j.Append(t.Context(), long); err != nil {
			t.Fatal(err)
		}
	}
	segments, err := filepath.Glob(filepath.Join(k.dir, "*.jsonl"))
	if err != nil || len(segments) != 2 {
		t.Fatalf("segments %q, error %v", segments, err)
	}
	if err := j.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	memory := storetest.NewMemory(t)
	if n, err := j.Push(t.Context(), wrap(memory)); err != nil || n != 1100 {
		t.Fatalf("pushed %d, error %v", n, err)
	}
	other := newKit(t)
	other.signer = k.signer
	if n, _, err := journal.Rebuild(t.Context(), wrap(memory), j.Chain(), other.options(), k.trust()); err != nil || n != 1100 {
		t.Fatalf("rebuilt %d, error %v", n, err)
	}
	for _, path := range segments {
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(other.dir, filepath.Base(path))); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is another one after the rebuild: %d bytes, want %d; error %v", filepath.Base(path), len(got), len(want), err)
		}
	}
	chains, err := journal.Chains(t.Context(), wrap(memory))
	if err != nil || len(chains) != 1 || chains[0].Last != 1100 {
		t.Errorf("chains %+v, error %v", chains, err)
	}
}

func TestNothingInAFieldForgesALine(t *testing.T) {
	k := newKit(t)
	j := k.open(t)
	evil := record(0)
	evil.Reason = "x)\n[2026-11-22T02:00:00Z] RESTORE by root from local (ok\u2028\u202e\x1b[2J"
	evil.Who.User = "a\nb"
	if _, err := j.Append(t.Context(), evil); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(k.options().TextFile)
	if err != nil || bytes.Count(text, []byte("\n")) != 1 || bytes.ContainsAny(text, "\x1b\u2028\u202e") {
		t.Errorf("the log is %q, error %v", text, err)
	}
	if audit, err := j.Verify(t.Context(), nil, nil); err != nil || audit.Records != 1 {
		t.Errorf("audit %+v, error %v", audit, err)
	}
}

func TestAFailingSyslogLosesNoRecord(t *testing.T) {
	k := newKit(t)
	opt := k.options()
	opt.Syslog = func(string) error { return errors.New("nobody listens") }
	j, err := journal.Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	var warning *journal.Warning
	if r, err := j.Append(t.Context(), record(0)); !errors.As(err, &warning) || r.Seq != 1 {
		t.Errorf("record %d, error %v", r.Seq, err)
	}
	if audit, err := j.Verify(t.Context(), nil, nil); err != nil || audit.Records != 1 {
		t.Errorf("audit %+v, error %v", audit, err)
	}
}

func TestOrigin(t *testing.T) {
	for name, c := range map[string]struct {
		env  map[string]string
		want string
	}{
		"ssh": {map[string]string{"SSH_CONNECTION": "203.0.113.9 52100 192.0.2.1 22"}, "203.0.113.9"}, "older": {map[string]string{"SSH_CLIENT": "2001:db8::1 52100 22"}, "2001:db8::1"},
		"none": {nil, "local"}, "empty": {map[string]string{"SSH_CONNECTION": " "}, "local"},
	} {
		if got := journal.Origin(func(name string) (string, bool) { value, found := c.env[name]; return value, found }); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// A person checks an object of a store with what every system has.
func TestStockProgramChecksWhatWasPushed(t *testing.T) {
	k := newKit(t)
	j := k.open(t)
	memory := k.pushed(t, j, 2)
	dir := t.TempDir()
	name := slices.DeleteFunc(memory.Names(), func(name string) bool { return strings.HasSuffix(name, ".sig") })[0]
	data, _ := memory.Bytes(name)
	signature, _ := memory.Bytes(name + ".sig")
	for file, content := range map[string][]byte{"sig": signature, "allowed": []byte(seal.AllowedSignersLine("web1", k.signer.PublicKey()) + "\n")} {
		if err := os.WriteFile(filepath.Join(dir, file), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(context.Background(), "ssh-keygen", "-Y", "verify", "-f", filepath.Join(dir, "allowed"), "-I", "web1", "-n", "holdfast-journal", "-s", filepath.Join(dir, "sig"))
	cmd.Stdin = bytes.NewReader(data)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("ssh-keygen: %v\n%s", err, out)
	}
}

func FuzzLine(f *testing.F) {
	k := newKit(f)
	k.fill(f, k.open(f), 1)
	f.Add([]byte(k.lines(f)[0]))
	f.Add([]byte(`{"seq":1}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := journal.ParseLine(line)
		if err == nil && (r.Seq < 1 || !json.Valid(line) || strings.ContainsAny(r.Text(), "\n\r\x1b")) {
			t.Errorf("%q was taken for %+v", line, r)
		}
	})
}

func FuzzObjectName(f *testing.F) {
	f.Add("journal/web-1-aaaaaaaaaa/000000000001-000000000004.jsonl")
	f.Add("journal/../x-aaaaaaaaaa/000000000001-000000000004.jsonl")
	f.Fuzz(func(t *testing.T, name string) {
		if again, ok := journal.ObjectName(name); ok && (again != name || store.CheckName(name) != nil) {
			t.Errorf("%q was taken for %q", name, again)
		}
	})
}

// What was read before is not read again, and files of it are not opened.
func TestReadAfter(t *testing.T) {
	k := newKit(t)
	j := k.open(t)
	for range 3 {
		k.now = k.now.AddDate(0, 1, 0) // a file of its own
		k.fill(t, j, 2)
	}
	var all, some []int64
	read := func(after int64, into *[]int64) {
		t.Helper()
		if err := j.Read(journal.Filter{After: after}, func(r journal.Record) error {
			*into = append(*into, r.Seq)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	read(0, &all)
	first, err := filepath.Glob(filepath.Join(k.dir, "*.jsonl"))
	if err != nil || len(first) != 3 {
		t.Fatalf("files %q, %v", first, err)
	}
	if err := os.WriteFile(first[0], []byte("what is here is not looked at\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	read(3, &some)
	if !slices.Equal(all, []int64{1, 2, 3, 4, 5, 6}) || !slices.Equal(some, []int64{4, 5, 6}) {
		t.Errorf("all %d, and after the third %d", all, some)
	}
}
