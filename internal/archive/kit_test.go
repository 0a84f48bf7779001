package archive_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/seal"
	"holdfast/internal/source"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
)

var start = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

// kit is an archive in memory with all its keys.
type kit struct {
	memory     *storetest.Memory
	signer     *seal.Signer
	recipients []seal.Recipient
	identities []seal.Identity
}

func newKit(t testing.TB) *kit {
	t.Helper()
	secret, public, err := seal.NewIdentity(seal.X25519)
	if err != nil {
		t.Fatal(err)
	}
	identities, err := seal.ParseIdentities(strings.NewReader(secret.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	recipient, err := seal.ParseRecipient(public)
	if err != nil {
		t.Fatal(err)
	}
	return &kit{storetest.NewMemory(t), newSigner(t), []seal.Recipient{recipient}, identities}
}

// newPGPKit is newKit with an OpenPGP key.
func newPGPKit(t testing.TB) *kit {
	t.Helper()
	private, public, err := seal.NewOpenPGPKey(seal.OpenPGPCurve25519, "Ops", holdfast.Secret{})
	if err != nil {
		t.Fatal(err)
	}
	identities, err := seal.ParseIdentities(strings.NewReader(private.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	recipient, err := seal.ParseRecipient(public)
	if err != nil {
		t.Fatal(err)
	}
	k := newKit(t)
	k.recipients, k.identities = []seal.Recipient{recipient}, identities
	return k
}

func newSigner(t testing.TB) *seal.Signer {
	t.Helper()
	private, _, err := seal.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := seal.ParseSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer
}

// on returns a kit with the same keys over another store.
func (k *kit) on(m *storetest.Memory) *kit {
	other := *k
	other.memory = m
	return &other
}

func (k *kit) options() archive.Options {
	return archive.Options{
		Seal: seal.Options{Recipients: k.recipients, Workers: 1}, Signer: k.signer, Identities: k.identities,
		Trusted: []seal.PublicKey{k.signer.PublicKey()}, Version: "test", Now: func() time.Time { return start },
		PartSize: 1000,
	}
}

// archive opens the store without retries, so that every fault is seen.
func (k *kit) archive() *archive.Archive { return k.archiveWith(k.options()) }

func (k *kit) archiveWith(opt archive.Options) *archive.Archive {
	return archive.New(store.New(k.memory, store.Options{Attempts: 1}), opt)
}

// noise returns bytes that no compressor makes smaller.
func noise(size int, seed uint64) []byte {
	data := make([]byte, size)
	random := rand.New(rand.NewPCG(seed, 1))
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	return data
}

func item(name string, content []byte) source.Item {
	return source.Item{Name: name, Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	}}
}

func header(n int) archive.Header {
	return archive.Header{
		Job: "app", ID: holdfast.BackupID(strings.Repeat(string(rune('a'+n)), 10)), Time: start.Add(time.Duration(n) * time.Hour),
		Host: "host", Kind: "full",
	}
}

var contents = map[string][]byte{
	"app.sql":     []byte(strings.Repeat("insert into t values (1);\n", 200)),
	"auth.sqlite": noise(2500, 1),
	"empty.tar":   nil,
}

// fill puts two whole sources and a broken one into the draft, and commits it.
func fill(ctx context.Context, d *archive.Draft) (archive.Entry, error) {
	for _, part := range []struct {
		source holdfast.SourceName
		kind   holdfast.Kind
		items  []string
	}{{"app", holdfast.KindPostgres, []string{"app.sql"}}, {"auth", holdfast.KindSQLite, []string{"auth.sqlite"}}, {"empty", holdfast.KindFiles, []string{"empty.tar"}}} {
		for _, name := range part.items {
			if _, err := d.Put(ctx, part.source, item(name, contents[name]), nil); err != nil {
				return archive.Entry{}, err
			}
		}
		d.Keep(archive.SourceEntry{Name: part.source, Kind: part.kind}, source.Facts{Kind: part.kind, Facts: []source.Fact{{Class: "c", Name: string(part.source), Rule: source.Exact, Rows: 1}}})
	}
	if _, err := d.Put(ctx, "lost", item("lost.tar", noise(1500, 2)), nil); err != nil {
		return archive.Entry{}, err
	}
	if err := d.Miss(ctx, archive.MissingSource{Name: "lost", Kind: holdfast.KindFiles, Why: "failed"}, "the disk with it is gone"); err != nil {
		return archive.Entry{}, err
	}
	entry, _, err := d.Commit(ctx)
	return entry, err
}

// backup makes one as fill does. Like the engine it aborts one that fails.
func (k *kit) backup(t testing.TB, a *archive.Archive, n int) (archive.Entry, error) {
	t.Helper()
	d, err := a.Create(header(n))
	if err != nil {
		t.Fatal(err)
	}
	entry, err := fill(t.Context(), d)
	if err != nil {
		return d.Entry(), errors.Join(err, d.Abort(t.Context()))
	}
	return entry, nil
}

func (k *kit) mustBackup(t testing.TB, n int) archive.Entry {
	t.Helper()
	entry, err := k.backup(t, k.archive(), n)
	if err != nil {
		t.Fatal(err)
	}
	return entry
}

// verify reads the backup in every way there is, and returns what was read.
func verify(ctx context.Context, a *archive.Archive, entry archive.Entry) (map[string][]byte, error) {
	b, err := a.Open(ctx, entry)
	if err != nil {
		return nil, err
	}
	if err := b.Verify(ctx, holdfast.L2, nil); err != nil {
		return nil, err
	}
	return read(ctx, b)
}

// read returns the items of b as a restore sees them: only what ended in io.EOF.
func read(ctx context.Context, b *archive.Backup) (map[string][]byte, error) {
	all, err := b.Stored(ctx)
	if err != nil {
		return nil, err
	}
	plain := map[string][]byte{}
	var problems []error
	for _, stored := range all {
		for _, stored := range stored.Items {
			r, err := stored.Open(ctx)
			if err != nil {
				problems = append(problems, err)
				continue
			}
			data, err := io.ReadAll(r)
			if err := errors.Join(err, r.Close()); err != nil {
				problems = append(problems, err)
				continue
			}
			plain[stored.Name] = data
		}
	}
	return plain, errors.Join(problems...)
}

// mustHold fails unless the backup is whole and has the bytes that were given.
func mustHold(t *testing.T, a *archive.Archive, entry archive.Entry) {
	t.Helper()
	got, err := verify(t.Context(), a, entry)
	if err != nil {
		t.Fatalf("backup %s: %v", entry.ID, err)
	}
	if err := same(got); err != nil {
		t.Fatalf("backup %s: %v", entry.ID, err)
	}
	if len(got) != len(contents) {
		t.Fatalf("backup %s has %d items, want %d", entry.ID, len(got), len(contents))
	}
}

// same reports an item that is not what was given.
func same(got map[string][]byte) error {
	for name, data := range got {
		if !bytes.Equal(data, contents[name]) {
			return fmt.Errorf("%s has %d bytes, not the %d that were given", name, len(data), len(contents[name]))
		}
	}
	return nil
}

func mustList(t *testing.T, a *archive.Archive) []archive.Entry {
	t.Helper()
	entries, err := a.List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return entries
}

// objects returns every object with its bytes.
func objects(m *storetest.Memory) map[string]string {
	all := map[string]string{}
	for _, name := range m.Names() {
		data, _ := m.Bytes(name)
		all[name] = string(data)
	}
	return all
}
