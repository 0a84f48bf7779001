package archive_test

import (
	"bytes"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/seal"
	"holdfast/internal/source"
	"holdfast/internal/store/storetest"
)

// The vectors of version 1 were written once and are never written again: what opened once opens for ever. The keys
// beside them protect nothing.
var update = flag.Bool("update", false, "write the format's vectors, where there are none")

const vectors = "testdata/v1"

func vectorKit(t *testing.T) *kit {
	t.Helper()
	text := func(name string) string {
		data, err := os.ReadFile(filepath.Join(vectors, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	identities, err := seal.ParseIdentities(strings.NewReader(text("identity.txt")))
	if err != nil {
		t.Fatal(err)
	}
	signer, err := seal.ParseSigner(holdfast.NewSecret(text("signer")))
	if err != nil {
		t.Fatal(err)
	}
	return &kit{storetest.NewMemory(t), signer, []seal.Recipient{seal.RecipientOf(identities[0])}, identities}
}

// load puts a tree of files into the store, over what is there.
func load(t *testing.T, m *storetest.Memory, tree string) {
	t.Helper()
	err := filepath.WalkDir(tree, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(tree, path)
		if err != nil {
			return err
		}
		if err := m.Delete(t.Context(), filepath.ToSlash(name)); err != nil {
			return err
		}
		return m.Put(t.Context(), filepath.ToSlash(name), bytes.NewReader(data))
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestVectors(t *testing.T) {
	if *update {
		writeVectors(t)
	}
	k := vectorKit(t)
	load(t, k.memory, filepath.Join(vectors, "store"))
	entries := mustList(t, k.archive())
	if len(entries) != 2 {
		t.Fatalf("%d backups are listed, want 2", len(entries))
	}
	for _, entry := range entries {
		got, err := verify(t.Context(), k.archive(), entry)
		if err != nil {
			t.Fatalf("backup %s: %v", entry.ID, err)
		}
		if len(got) != 2 {
			t.Errorf("backup %s has %d items, want 2", entry.ID, len(got))
		}
		for name, data := range got {
			want, err := os.ReadFile(filepath.Join(vectors, "plain", name))
			if err != nil || !bytes.Equal(data, want) {
				t.Errorf("backup %s: %s has %d bytes, want %d; %v", entry.ID, name, len(data), len(want), err)
			}
		}
	}
	sealed := entries[0]
	b, err := k.archive().Open(t.Context(), sealed)
	if err != nil {
		t.Fatal(err)
	}
	if !b.Trusted || !sealed.Sealed || entries[1].Sealed || sealed.Complete || sealed.State() != "proven" {
		t.Errorf("trusted %v, entries %+v", b.Trusted, entries)
	}
	if p, trusted, err := k.archive().ReadProof(t.Context(), b, sealed.Proofs[0]); err != nil || !trusted || p.Verdict != holdfast.Proven {
		t.Errorf("proof %+v, trusted %v, %v", p, trusted, err)
	}
	if missing, err := b.Missing(t.Context()); err != nil || missing["etc"] != "gone" {
		t.Errorf("missing %v, %v", missing, err)
	}
}

// Each folder in bad replaces or adds objects. At least one backup is refused then, and none opens to wrong bytes.
func TestBadVectors(t *testing.T) {
	cases, err := os.ReadDir(filepath.Join(vectors, "bad"))
	if err != nil || len(cases) < 9 {
		t.Fatalf("%d bad vectors, %v", len(cases), err)
	}
	for _, c := range cases {
		t.Run(c.Name(), func(t *testing.T) {
			k := vectorKit(t)
			load(t, k.memory, filepath.Join(vectors, "store"))
			load(t, k.memory, filepath.Join(vectors, "bad", c.Name()))
			refused := 0
			for _, entry := range mustList(t, k.archive()) {
				got, err := verify(t.Context(), k.archive(), entry)
				if err != nil {
					refused++
					if !errors.Is(err, holdfast.ErrDifference) {
						t.Errorf("backup %s: %v, want ErrDifference", entry.ID, err)
					}
				}
				for name, data := range got {
					want, err := os.ReadFile(filepath.Join(vectors, "plain", name))
					if err != nil || !bytes.Equal(data, want) {
						t.Errorf("backup %s: %s was read to its end and is wrong", entry.ID, name)
					}
				}
			}
			if refused == 0 {
				t.Error("nothing was refused")
			}
		})
	}
}

// writeVectors makes what the two tests read.
func writeVectors(t *testing.T) {
	if _, err := os.Stat(vectors); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("%s is there: vectors are kept for ever, make the next version's beside it (%v)", vectors, err)
	}
	write := func(name string, data []byte) {
		path := filepath.Join(vectors, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	private, public, err := seal.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	identity, recipient, err := seal.NewIdentity(seal.X25519)
	if err != nil {
		t.Fatal(err)
	}
	write("README", []byte("Vectors of docs/archive-format.md, version 1. The keys were made for them and protect nothing.\n"))
	write("signer", []byte(private.Reveal()))
	write("signer.pub", []byte(public+"\n"))
	write("identity.txt", []byte("# public key: "+recipient+"\n"+identity.Reveal()+"\n"))
	plain := map[string][]byte{"app.sql": contents["app.sql"], "auth.sqlite": noise(2500, 1)}
	for name, data := range plain {
		write("plain/"+name, data)
	}

	k := vectorKit(t)
	for n, kind := range []string{"sealed", "plain"} {
		opt := k.options()
		opt.Version = "1.0.0"
		if kind == "plain" {
			opt.Seal = seal.Options{Compression: seal.Gzip, Plain: true}
		}
		d, err := k.archiveWith(opt).Create(header(n))
		if err != nil {
			t.Fatal(err)
		}
		for name, kind := range map[string]holdfast.Kind{"app.sql": holdfast.KindPostgres, "auth.sqlite": holdfast.KindSQLite} {
			src, _, _ := strings.Cut(name, ".")
			if _, err := d.Put(t.Context(), holdfast.SourceName(src), item(name, plain[name]), nil); err != nil {
				t.Fatal(err)
			}
			d.Keep(archive.SourceEntry{Name: holdfast.SourceName(src), Kind: kind, Secret: src == "auth"}, source.Facts{
				Kind: kind, Taken: start, Properties: map[string]string{"made_by": "by hand"}, Exclusions: []string{"cache"},
				Facts: []source.Fact{{Class: "table", Name: "public.t", Rule: source.Exact, Rows: 200, Digest: strings.Repeat("ab", 32)}},
			})
		}
		if kind == "sealed" {
			if err := d.Miss(t.Context(), archive.MissingSource{Name: "etc", Kind: holdfast.KindFiles, Why: "failed"}, "gone"); err != nil {
				t.Fatal(err)
			}
		}
		entry, _, err := d.Commit(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if kind == "sealed" {
			b, err := k.archiveWith(opt).Open(t.Context(), entry)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := k.archiveWith(opt).PutProof(t.Context(), b, archive.Proof{Verdict: holdfast.Proven, Time: start.Add(24 * time.Hour), Facts: 2}, []byte("{}")); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, data := range objects(k.memory) {
		write("store/"+name, []byte(data))
	}

	first, second := "data/app/20260701T120000Z.aaaaaaaaaa/", "data/app/20260701T130000Z.bbbbbbbbbb/"
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
	commit := commitName(k, archive.Entry{ID: "aaaaaaaaaa"})
	manifest := of(commit)
	bySigner := func(s *seal.Signer, namespace string) []byte {
		signature, err := s.Sign(namespace, manifest)
		if err != nil {
			t.Fatal(err)
		}
		return signature
	}
	item := first + "app.sql.zst.age"
	write("bad/flipped-bit/"+item, flipped(item, len(of(item))-20))
	write("bad/flipped-bit-in-header/"+item, flipped(item, 40))
	write("bad/flipped-bit-unsealed/"+second+"app.sql.gz", flipped(second+"app.sql.gz", 30))
	write("bad/truncated/"+item, of(item)[:100])
	write("bad/missing-part-is-empty/"+first+"auth.sqlite.zst.age.001", nil)
	write("bad/part-too-many/"+first+"auth.sqlite.zst.age.003", []byte("more"))
	write("bad/swapped/"+item, of(first+"facts.json.zst.age"))
	write("bad/swapped/"+first+"facts.json.zst.age", of(item))
	write("bad/edited-manifest/"+commit, bytes.Replace(manifest, []byte(`"reason": ""`), []byte(`"reason": "x"`), 1))
	write("bad/renamed-manifest/"+strings.Replace(commit, ".incomplete.", ".complete.", 1), manifest)
	write("bad/moved-manifest/"+strings.Replace(commit, "aaaaaaaaaa", "bbbbbbbbbb", 1), manifest)
	write("bad/other-signer/"+first+"manifest.json.sig", bySigner(newSigner(t), "holdfast-manifest"))
	write("bad/other-namespace/"+first+"manifest.json.sig", bySigner(k.signer, "holdfast-proof"))
	write("bad/signature-of-another/"+first+"manifest.json.sig", of(second+"manifest.json.sig"))
}
