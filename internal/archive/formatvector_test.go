package archive_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/seal"
	"holdfast/internal/source"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
)

// formatVectors are folders of backups in the formats beside age. They are written once and never again.
var formatVectors = []seal.Format{seal.OpenPGP, seal.OpenSSL}

func formatFolder(f seal.Format) string { return filepath.Join("testdata", "v1-"+string(f)) }

// formatKit is what opens the vectors of a format; the keys beside them protect nothing.
func formatKit(t *testing.T, f seal.Format) *kit {
	t.Helper()
	text := func(name string) string {
		data, err := os.ReadFile(filepath.Join(formatFolder(f), name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	signer, err := seal.ParseSigner(holdfast.NewSecret(text("signer")))
	if err != nil {
		t.Fatal(err)
	}
	k := &kit{memory: storetest.NewMemory(t), signer: signer}
	if f == seal.OpenPGP {
		if k.identities, err = seal.ParseIdentities(strings.NewReader(text("identity.asc"))); err != nil {
			t.Fatal(err)
		}
		k.recipients = []seal.Recipient{seal.RecipientOf(k.identities[0])}
		return k
	}
	p, err := seal.NewPassphraseFor(f, holdfast.NewSecret(strings.TrimSpace(text("passphrase.txt"))))
	if err != nil {
		t.Fatal(err)
	}
	k.identities, k.recipients = []seal.Identity{p}, []seal.Recipient{p}
	return k
}

func TestFormatVectors(t *testing.T) {
	for _, f := range formatVectors {
		if *update {
			writeFormatVectors(t, f)
		}
		k := formatKit(t, f)
		load(t, k.memory, filepath.Join(formatFolder(f), "store"))
		entries := mustList(t, k.archive())
		if len(entries) != 1 || entries[0].Format != f || !entries[0].Sealed {
			t.Fatalf("%s: listed %+v", f, entries)
		}
		got, err := verify(t.Context(), k.archive(), entries[0])
		if err != nil || len(got) != 2 {
			t.Fatalf("%s: %d items, %v", f, len(got), err)
		}
		for name, data := range got {
			want, err := os.ReadFile(filepath.Join(vectors, "plain", name))
			if err != nil || !bytes.Equal(data, want) {
				t.Errorf("%s: %s has %d bytes, want %d; %v", f, name, len(data), len(want), err)
			}
		}
		b := mustOpen(t, k.archive(), entries[0])
		p, trusted, err := k.archive().ReadProof(t.Context(), b, entries[0].Proofs[0])
		if err != nil || !trusted || p.Details == nil || p.Details.Opening == nil || p.Details.Opening.Format != f {
			t.Errorf("%s: proof %+v, trusted %v, %v", f, p, trusted, err)
		}
	}
}

// Each folder in bad replaces or adds objects. The backup is refused then, and not one byte of an item is handed on.
func TestBadFormatVectors(t *testing.T) {
	for _, f := range formatVectors {
		cases, err := os.ReadDir(filepath.Join(formatFolder(f), "bad"))
		if err != nil || len(cases) < 7 {
			t.Fatalf("%s: %d bad vectors, %v", f, len(cases), err)
		}
		for _, c := range cases {
			t.Run(string(f)+","+c.Name(), func(t *testing.T) {
				k := formatKit(t, f)
				load(t, k.memory, filepath.Join(formatFolder(f), "store"))
				load(t, k.memory, filepath.Join(formatFolder(f), "bad", c.Name()))
				refused := 0
				for _, entry := range mustList(t, k.archive()) {
					_, err := verify(t.Context(), k.archive(), entry)
					if err != nil {
						refused++
						if !errors.Is(err, holdfast.ErrDifference) {
							t.Errorf("%v, want ErrDifference", err)
						}
					}
				}
				if refused == 0 {
					t.Error("nothing was refused")
				}
			})
		}
	}
}

func writeFormatVectors(t *testing.T, f seal.Format) {
	folder := formatFolder(f)
	if _, err := os.Stat(folder); !errors.Is(err, fs.ErrNotExist) {
		return // they are kept for ever
	}
	write := func(name string, data []byte) {
		path := filepath.Join(folder, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	private, _, err := seal.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	write("README", []byte("Vectors of docs/archive-format.md, version 1, \"Sealing\": "+string(f)+". The keys were made for them and protect nothing.\nThe plaintext is that of v1/plain.\n"))
	write("signer", []byte(private.Reveal()))
	if f == seal.OpenPGP {
		key, _, err := seal.NewOpenPGPKey(seal.OpenPGPCurve25519, "Vectors", holdfast.Secret{})
		if err != nil {
			t.Fatal(err)
		}
		write("identity.asc", []byte(key.Reveal()))
	} else {
		write("passphrase.txt", []byte("correct horse\n"))
	}
	k := formatKit(t, f)
	d, err := k.archive().Create(header(0))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []struct {
		name string
		kind holdfast.Kind
	}{{"app.sql", holdfast.KindPostgres}, {"auth.sqlite", holdfast.KindSQLite}} {
		plain, err := os.ReadFile(filepath.Join(vectors, "plain", part.name))
		if err != nil {
			t.Fatal(err)
		}
		src, _, _ := strings.Cut(part.name, ".")
		if _, err := d.Put(t.Context(), holdfast.SourceName(src), item(part.name, plain), nil); err != nil {
			t.Fatal(err)
		}
		d.Keep(archive.SourceEntry{Name: holdfast.SourceName(src), Kind: part.kind}, source.Facts{Kind: part.kind, Taken: start})
	}
	entry, _, err := d.Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	putProof(t, k, entry, holdfast.Proven)
	for name, data := range objects(k.memory) {
		write("store/"+name, []byte(data))
	}
	of := func(name string) []byte {
		data, ok := k.memory.Bytes(name)
		if !ok {
			t.Fatalf("there is no %s", name)
		}
		return data
	}
	flipped := func(name string, at int) []byte {
		data := of(name)
		data[at] ^= 1
		return data
	}
	// Whoever holds the signer can lie in the manifest; what he says must still fit together.
	lying := func(dir, old, new string) {
		name := commitName(k, entry)
		data := bytes.Replace(of(name), []byte(old), []byte(new), 1)
		signature, err := k.signer.Sign("holdfast-manifest", data)
		if err != nil || bytes.Equal(data, of(name)) {
			t.Fatalf("%s: %v", dir, err)
		}
		write("bad/"+dir+"/"+name, data)
		write("bad/"+dir+"/data/app/20260701T120000Z.aaaaaaaaaa/manifest.json.sig", signature)
	}
	first := "data/app/20260701T120000Z.aaaaaaaaaa/"
	app, facts := first+"app.sql.zst"+f.Suffix(), first+"facts.json.zst"+f.Suffix()
	write("bad/flipped-bit/"+app, flipped(app, len(of(app))-20))
	write("bad/flipped-bit-in-header/"+app, flipped(app, 9))
	write("bad/flipped-bit-in-facts/"+facts, flipped(facts, len(of(facts))/2))
	write("bad/truncated/"+app, of(app)[:len(of(app))-16])
	write("bad/empty/"+app, nil)
	write("bad/longer/"+app, append(of(app), make([]byte, 16)...))
	write("bad/swapped/"+app, of(facts))
	write("bad/swapped/"+facts, of(app))
	lying("opens-as-age", `"format": "`+string(f)+`"`, `"format": "age"`)
	lying("opens-as-nothing-known", `"format": "`+string(f)+`"`, `"format": "rot13"`)
	lying("sealed-as-age", `"seal": "`+string(f)+`"`, `"seal": "age"`)
	if f == seal.OpenSSL {
		lying("text-that-is-sealed", `"role": "facts"`, `"role": "text"`)
	}
}

// turncoat hands out what is stored when an object is opened first, and one flipped bit when it is opened again.
type turncoat struct {
	*storetest.Memory
	object string
	opens  int
}

func (d *turncoat) Open(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	r, err := d.Memory.Open(ctx, name, offset, length)
	if err != nil || !strings.HasSuffix(name, d.object) {
		return r, err
	}
	if d.opens++; d.opens == 1 {
		return r, nil
	}
	data, err := io.ReadAll(r)
	data[len(data)-30] ^= 1
	return io.NopCloser(bytes.NewReader(data)), errors.Join(err, r.Close())
}

// A store that changes an item between the reading that checks it and the one that decrypts it gets no byte through.
func TestStoreThatChangesBetweenTwoReadings(t *testing.T) {
	for _, f := range formatVectors {
		k := formatKit(t, f)
		load(t, k.memory, filepath.Join(formatFolder(f), "store"))
		d := &turncoat{Memory: k.memory, object: "app.sql.zst" + f.Suffix()}
		opt := k.options()
		opt.PartSize = 0
		a := archive.New(store.New(d, store.Options{Attempts: 1}), opt)
		entries, err := a.List(t.Context(), "")
		if err != nil || len(entries) != 1 {
			t.Fatalf("%d backups, %v", len(entries), err)
		}
		all, err := mustOpen(t, a, entries[0]).Stored(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, stored := range all {
			for _, item := range stored.Items {
				if item.Name != "app.sql" {
					continue
				}
				r, err := item.Open(t.Context())
				var got []byte
				if err == nil {
					got, err = io.ReadAll(r)
					r.Close()
				}
				if !errors.Is(err, holdfast.ErrDifference) || len(got) > 0 || d.opens != 2 {
					t.Errorf("%s: %d bytes after %d openings, %v; want ErrDifference", f, len(got), d.opens, err)
				}
			}
		}
	}
}
