package archive_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"path"
	"slices"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/seal"
	"holdfast/internal/source"
	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
)

// mustRefuse fails unless everything that reads the backup says that there is a difference, or gives what was stored.
// What was harmed must not pass verification.
func mustRefuse(t *testing.T, k *kit, entry archive.Entry) {
	t.Helper()
	_, err := verify(t.Context(), k.archive(), entry)
	if !errors.Is(err, holdfast.ErrDifference) {
		t.Errorf("verification said %v, want an error that wraps ErrDifference", err)
	}
	b, err := k.archive().Open(t.Context(), entry)
	if err != nil {
		if !errors.Is(err, holdfast.ErrDifference) {
			t.Errorf("open: %v, want ErrDifference", err)
		}
		return
	}
	got, err := read(t.Context(), b)
	if err != nil && !errors.Is(err, holdfast.ErrDifference) {
		t.Errorf("read: %v, want ErrDifference", err)
	}
	if err := same(got); err != nil {
		t.Errorf("wrong bytes were read to their end: %v", err)
	}
}

// owned are the objects that a backup cannot do without: all but older backups.
func owned(k *kit, entry archive.Entry) []string {
	return slices.DeleteFunc(k.memory.Names(), func(name string) bool { return !strings.Contains(name, "."+string(entry.ID)) })
}

func damages(t *testing.T, test func(t *testing.T, k *kit)) {
	t.Helper()
	t.Run("sealed", func(t *testing.T) { test(t, newKit(t)) })
	t.Run("plain", func(t *testing.T) {
		k := newKit(t)
		k.recipients = nil
		test(t, k)
	})
	t.Run("openpgp", func(t *testing.T) { test(t, newPGPKit(t)) })
}

// plainable makes a backup that is sealed to the kit's recipients, or to nobody.
func plainable(t *testing.T, k *kit, n int, change func(*archive.Options)) archive.Entry {
	t.Helper()
	opt := k.options()
	opt.Seal.Plain = len(k.recipients) == 0
	if change != nil {
		change(&opt)
	}
	entry, err := k.backup(t, k.archiveWith(opt), n)
	if err != nil {
		t.Fatal(err)
	}
	mustHold(t, k.archive(), entry)
	return entry
}

func TestFlippedBitAnywhere(t *testing.T) {
	damages(t, func(t *testing.T, k *kit) {
		entry := plainable(t, k, 0, nil)
		for _, name := range owned(k, entry) {
			data, _ := k.memory.Bytes(name)
			step := max(1, len(data)/24)
			for at := 0; at < len(data); at += step {
				if strings.HasSuffix(name, ".sig") && (data[at] == '\n' || data[at] == '=') {
					continue // an armour has more than one spelling of one signature
				}
				t.Run(fmt.Sprintf("%s at %d", path.Base(name), at), func(t *testing.T) {
					lying := k.on(k.memory.Clone())
					lying.memory.Corrupt(name, func(data []byte) []byte { data[at] ^= 0x10; return data })
					mustRefuse(t, lying, entry)
				})
			}
		}
	})
}

func TestTruncatedGrownOrGone(t *testing.T) {
	damages(t, func(t *testing.T, k *kit) {
		entry := plainable(t, k, 0, nil)
		for _, name := range owned(k, entry) {
			for _, harm := range []struct {
				name string
				do   func([]byte) []byte
			}{
				{"empty", func([]byte) []byte { return nil }},
				{"halved", func(data []byte) []byte { return data[:len(data)/2] }},
				{"one byte short", func(data []byte) []byte { return data[:max(0, len(data)-1)] }},
				{"one byte long", func(data []byte) []byte { return append(data, 'x') }},
				{"doubled", func(data []byte) []byte { return append(data, data...) }},
			} {
				if strings.HasSuffix(name, ".sig") && harm.name == "one byte short" {
					continue // only the last line's end is lost
				}
				before, _ := k.memory.Bytes(name)
				if bytes.Equal(before, harm.do(bytes.Clone(before))) {
					continue // an empty object stays what it is
				}
				t.Run(path.Base(name)+" "+harm.name, func(t *testing.T) {
					lying := k.on(k.memory.Clone())
					lying.memory.Corrupt(name, harm.do)
					mustRefuse(t, lying, entry)
				})
			}
			if strings.HasPrefix(name, "commits/") {
				continue // a backup without its manifest does not exist
			}
			t.Run(path.Base(name)+" gone", func(t *testing.T) {
				lying := k.on(k.memory.Clone())
				if err := lying.memory.Delete(t.Context(), name); err != nil {
					t.Fatal(err)
				}
				mustRefuse(t, lying, entry)
			})
		}
	})
}

func TestSwappedObjects(t *testing.T) {
	damages(t, func(t *testing.T, k *kit) {
		first := plainable(t, k, 0, nil)
		second := plainable(t, k, 1, nil)
		names := owned(k, first)
		for i, name := range names {
			t.Run(path.Base(name)+" for that of another backup", func(t *testing.T) {
				other := strings.ReplaceAll(strings.ReplaceAll(name, string(first.ID), string(second.ID)), "T120000Z", "T130000Z")
				lying := k.on(k.memory.Clone())
				a, _ := lying.memory.Bytes(name)
				b, there := lying.memory.Bytes(other)
				if !there {
					t.Fatalf("there is no %s", other)
				}
				lying.memory.Corrupt(name, func([]byte) []byte { return b })
				lying.memory.Corrupt(other, func([]byte) []byte { return a })
				if bytes.Equal(a, b) {
					mustHold(t, lying.archive(), first)
					return
				}
				mustRefuse(t, lying, first)
				mustRefuse(t, lying, second)
			})
			next := names[(i+1)%len(names)]
			t.Run(path.Base(name)+" for "+path.Base(next), func(t *testing.T) {
				lying := k.on(k.memory.Clone())
				a, _ := lying.memory.Bytes(name)
				b, _ := lying.memory.Bytes(next)
				lying.memory.Corrupt(name, func([]byte) []byte { return b })
				lying.memory.Corrupt(next, func([]byte) []byte { return a })
				mustRefuse(t, lying, first)
				mustHold(t, lying.archive(), second)
			})
		}
	})
}

// A manifest that gives one item the bytes of another of the same size is refused by the digest in the facts.
func TestItemsExchangedInASignedManifest(t *testing.T) {
	k := newKit(t)
	d, err := k.archive().Create(header(0))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []holdfast.SourceName{"one", "two"} {
		if _, err := d.Put(t.Context(), name, item(string(name)+".sql", []byte("content of "+name)), nil); err != nil {
			t.Fatal(err)
		}
		d.Keep(archive.SourceEntry{Name: name, Kind: holdfast.KindPostgres}, source.Facts{})
	}
	entry, m, err := d.Commit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	one, two := m.Items[0], m.Items[1]
	m.Items[0].Name, m.Items[0].Source, m.Items[1].Name, m.Items[1].Source = two.Name, two.Source, one.Name, one.Source
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := k.signer.Sign("holdfast-manifest", data)
	if err != nil {
		t.Fatal(err)
	}
	k.memory.Corrupt(commitName(k, entry), func([]byte) []byte { return data })
	k.memory.Corrupt(signatureName(k, entry), func([]byte) []byte { return signature })
	mustRefuse(t, k, entry)
}

// edit returns the manifest with one key replaced.
func edit(t *testing.T, data []byte, key string, value any) []byte {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	m[key] = value
	out, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func commitName(k *kit, entry archive.Entry) string {
	for _, name := range owned(k, entry) {
		if strings.HasPrefix(name, "commits/") {
			return name
		}
	}
	return ""
}

func TestEditedManifest(t *testing.T) {
	k := newKit(t)
	entry := k.mustBackup(t, 0)
	name := commitName(k, entry)
	data, _ := k.memory.Bytes(name)
	var keys map[string]any
	if err := json.Unmarshal(data, &keys); err != nil {
		t.Fatal(err)
	}
	values := map[string]any{
		"complete": true, "exclusions": 7, "versions": map[string]string{}, "sources": []any{}, "missing": []any{}, "items": []any{},
		"keys": []string{"age1other"}, "time": "2020-01-01T00:00:00Z", "finished": "2020-01-01T00:00:00Z",
	}
	for key := range keys {
		value, special := values[key]
		if !special {
			value = "other"
		}
		edited := edit(t, data, key, value)
		t.Run(key, func(t *testing.T) {
			lying := k.on(k.memory.Clone())
			lying.memory.Corrupt(name, func([]byte) []byte { return edited })
			mustRefuse(t, lying, entry)
		})
		t.Run(key+" by a host that signs it", func(t *testing.T) {
			switch key {
			case "job", "id", "time", "kind", "complete", "seal", "items":
			default:
				return
			}
			lying := k.on(k.memory.Clone())
			signature, err := k.signer.Sign("holdfast-manifest", edited)
			if err != nil {
				t.Fatal(err)
			}
			lying.memory.Corrupt(name, func([]byte) []byte { return edited })
			lying.memory.Corrupt(signatureName(k, entry), func([]byte) []byte { return signature })
			mustRefuse(t, lying, entry)
		})
	}
}

func signatureName(k *kit, entry archive.Entry) string {
	for _, name := range owned(k, entry) {
		if strings.HasSuffix(name, "/manifest.json.sig") {
			return name
		}
	}
	return ""
}

// A manifest that a trusted host signed is still held against what a manifest can be.
func TestSignedNonsense(t *testing.T) {
	k := newKit(t)
	entry := k.mustBackup(t, 0)
	name := commitName(k, entry)
	data, _ := k.memory.Bytes(name)
	for _, c := range []struct{ name, old, new string }{
		{"no parts", `"parts": 1`, `"parts": 0`},
		{"too many parts", `"parts": 1`, `"parts": 1000`},
		{"an object elsewhere", `"object": "app.sql.zst.age"`, `"object": "../app.sql.zst.age"`},
		{"an object in a folder", `"object": "app.sql.zst.age"`, `"object": "a/app.sql.zst.age"`},
		{"an object twice", `"object": "app.sql.zst.age"`, `"object": "empty.tar.zst.age"`},
		{"an object that is another's part", `"object": "app.sql.zst.age"`, `"object": "auth.sqlite.zst.age.001"`},
		{"an unknown role", `"role": "text"`, `"role": "program"`},
		{"no facts", `"role": "facts"`, `"role": "text"`},
		{"not JSON", `"format"`, `format`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !bytes.Contains(data, []byte(c.old)) {
				t.Fatalf("the manifest has no %s", c.old)
			}
			edited := bytes.Replace(data, []byte(c.old), []byte(c.new), 1)
			lying := k.on(k.memory.Clone())
			signature, err := k.signer.Sign("holdfast-manifest", edited)
			if err != nil {
				t.Fatal(err)
			}
			lying.memory.Corrupt(name, func([]byte) []byte { return edited })
			lying.memory.Corrupt(signatureName(k, entry), func([]byte) []byte { return signature })
			mustRefuse(t, lying, entry)
		})
	}
	t.Run("a newer format", func(t *testing.T) {
		edited := bytes.Replace(data, []byte("holdfast-archive-1"), []byte("holdfast-archive-2"), 1)
		lying := k.on(k.memory.Clone())
		signature, err := k.signer.Sign("holdfast-manifest", edited)
		if err != nil {
			t.Fatal(err)
		}
		lying.memory.Corrupt(name, func([]byte) []byte { return edited })
		lying.memory.Corrupt(signatureName(k, entry), func([]byte) []byte { return signature })
		_, err = lying.archive().Open(t.Context(), entry)
		if err == nil || errors.Is(err, holdfast.ErrDifference) || holdfast.Hint(err) != "use a newer holdfast" {
			t.Errorf("error %v with the hint %q, want one that asks for a newer holdfast", err, holdfast.Hint(err))
		}
	})
}

func TestRenamedManifest(t *testing.T) {
	k := newKit(t)
	entry := k.mustBackup(t, 0)
	name := commitName(k, entry)
	data, _ := k.memory.Bytes(name)
	for _, c := range []struct{ name, old, new string }{
		{"id", string(entry.ID), "bbbbbbbbbb"},
		{"time", "T120000Z", "T120001Z"},
		{"job", "commits/app/", "commits/other/"},
		{"kind", ".full.", ".safety."},
		{"completeness", ".incomplete.", ".complete."},
		{"seal", ".age.", ".none."},
		{"size", fmt.Sprintf(".%d.json", entry.Size), fmt.Sprintf(".%d.json", entry.Size+1)},
	} {
		t.Run(c.name, func(t *testing.T) {
			lying := k.on(k.memory.Clone())
			other := strings.Replace(name, c.old, c.new, 1)
			if other == name {
				t.Fatalf("%s has no %s", name, c.old)
			}
			if err := errors.Join(lying.memory.Put(t.Context(), other, bytes.NewReader(data)), lying.memory.Delete(t.Context(), name)); err != nil {
				t.Fatal(err)
			}
			entries := mustList(t, lying.archive())
			if len(entries) != 1 {
				t.Fatalf("listed: %v", entries)
			}
			mustRefuse(t, lying, entries[0])
		})
	}
}

func TestSignature(t *testing.T) {
	k := newKit(t)
	entry, second := k.mustBackup(t, 0), k.mustBackup(t, 1)
	manifest, _ := k.memory.Bytes(commitName(k, entry))
	stranger := newSigner(t)
	sign := func(s *seal.Signer, namespace string) []byte {
		signature, err := s.Sign(namespace, manifest)
		if err != nil {
			t.Fatal(err)
		}
		return signature
	}
	others, _ := k.memory.Bytes(signatureName(k, second))
	for _, c := range []struct {
		name      string
		signature []byte
	}{
		{"by another key", sign(stranger, "holdfast-manifest")},
		{"of another namespace", sign(k.signer, "holdfast-proof")},
		{"of another backup", others},
		{"of nothing", []byte("-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n")},
		{"too long", bytes.Repeat([]byte("x"), 1<<20)},
	} {
		t.Run(c.name, func(t *testing.T) {
			lying := k.on(k.memory.Clone())
			lying.memory.Corrupt(signatureName(k, entry), func([]byte) []byte { return c.signature })
			mustRefuse(t, lying, entry)
			mustHold(t, lying.archive(), second)
		})
	}
	t.Run("of a stranger is told to who trusts nobody", func(t *testing.T) {
		lying := k.on(k.memory.Clone())
		lying.memory.Corrupt(signatureName(k, entry), func([]byte) []byte { return sign(stranger, "holdfast-manifest") })
		opt := k.options()
		opt.Trusted = nil
		b, err := lying.archiveWith(opt).Open(t.Context(), entry)
		if err != nil {
			t.Fatal(err)
		}
		if b.Trusted || b.Signer != stranger.PublicKey().Fingerprint() {
			t.Errorf("trusted %v, signer %s; want false and %s", b.Trusted, b.Signer, stranger.PublicKey().Fingerprint())
		}
	})
	t.Run("of a trusted key", func(t *testing.T) {
		b, err := k.archive().Open(t.Context(), entry)
		if err != nil {
			t.Fatal(err)
		}
		if !b.Trusted || b.Signer != k.signer.PublicKey().Fingerprint() {
			t.Errorf("trusted %v, signer %s", b.Trusted, b.Signer)
		}
	})
}

func TestPartMissingOrTooMany(t *testing.T) {
	damages(t, func(t *testing.T, k *kit) {
		entry := plainable(t, k, 0, nil)
		var parts []string
		for _, name := range owned(k, entry) {
			if strings.Contains(name, "/auth.sqlite.") {
				parts = append(parts, name)
			}
		}
		if len(parts) != 3 {
			t.Fatalf("the item lies in %q, want three objects", parts)
		}
		t.Run("missing", func(t *testing.T) {
			lying := k.on(k.memory.Clone())
			if err := lying.memory.Delete(t.Context(), parts[1]); err != nil {
				t.Fatal(err)
			}
			mustRefuse(t, lying, entry)
		})
		t.Run("too many", func(t *testing.T) {
			lying := k.on(k.memory.Clone())
			if err := lying.memory.Put(t.Context(), strings.TrimSuffix(parts[2], "2")+"3", strings.NewReader("more")); err != nil {
				t.Fatal(err)
			}
			mustRefuse(t, lying, entry)
		})
		t.Run("the bytes between parts moved", func(t *testing.T) {
			lying := k.on(k.memory.Clone())
			lying.memory.Corrupt(parts[0], func(data []byte) []byte { return data[:len(data)-1] })
			lying.memory.Corrupt(parts[1], func(data []byte) []byte { return append([]byte{0}, data...) })
			mustRefuse(t, lying, entry)
		})
	})
}

// forgetful is a store whose listing leaves out an object.
type forgetful struct {
	store.Driver
	lost string
}

func (f forgetful) List(ctx context.Context, prefix string) iter.Seq2[store.Object, error] {
	return func(yield func(store.Object, error) bool) {
		for object, err := range f.Driver.List(ctx, prefix) {
			if object.Name != f.lost && !yield(object, err) {
				return
			}
		}
	}
}

func TestStaleList(t *testing.T) {
	k := newKit(t)
	entry := k.mustBackup(t, 0)
	for _, name := range owned(k, entry) {
		if strings.HasPrefix(name, "commits/") || strings.HasSuffix(name, ".sig") {
			continue // the one is the list of backups itself, the other is never listed
		}
		a := archive.New(store.New(forgetful{k.memory, name}, store.Options{Attempts: 1}), k.options())
		b, err := a.Open(t.Context(), entry)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Verify(t.Context(), holdfast.L0, nil); !errors.Is(err, holdfast.ErrDifference) {
			t.Errorf("%s is not listed: %v, want ErrDifference", name, err)
		}
	}
}

// An item that was replaced by one that unpacks to far more is not handed on beyond what was recorded.
func TestBomb(t *testing.T) {
	k := newKit(t)
	k.recipients = nil
	entry := plainable(t, k, 0, func(opt *archive.Options) { opt.PartSize = 1 << 20 })
	var bomb bytes.Buffer
	w, err := seal.NewWriter(&bomb, seal.Options{Plain: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.ReadFrom(io.LimitReader(zeros{}, 8<<20)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for _, name := range owned(k, entry) {
		if strings.HasSuffix(name, "/auth.sqlite.zst") {
			k.memory.Corrupt(name, func(data []byte) []byte {
				// A skippable frame brings it to the size that was recorded.
				rest := len(data) - bomb.Len() - 8
				return append(append(bomb.Bytes(), 0x50, 0x2a, 0x4d, 0x18, byte(rest), byte(rest>>8), 0, 0), make([]byte, rest)...)
			})
		}
	}
	b, err := k.archive().Open(t.Context(), entry)
	if err != nil {
		t.Fatal(err)
	}
	all, err := b.Stored(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r, err := all[1].Items[0].Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	n, err := io.Copy(io.Discard, r)
	if !errors.Is(err, holdfast.ErrDifference) || !strings.Contains(fmt.Sprint(err), "holds more than") || n > all[1].Items[0].Size {
		t.Errorf("read %d bytes of an item of %d: %v", n, all[1].Items[0].Size, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// An identity that does not fit is told apart from damage.
func TestOtherIdentity(t *testing.T) {
	k := newKit(t)
	entry := k.mustBackup(t, 0)
	opt := k.options()
	opt.Identities = newKit(t).identities
	b, err := k.archiveWith(opt).Open(t.Context(), entry)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Stored(t.Context()); !errors.Is(err, seal.ErrNoIdentity) || errors.Is(err, holdfast.ErrDifference) {
		t.Errorf("error %v, want ErrNoIdentity and no difference", err)
	} else if key := k.recipients[0].KeyID(); !strings.Contains(holdfast.Hint(err), key) {
		t.Errorf("the hint %q does not name the key %s", holdfast.Hint(err), key)
	}
	opt.Identities = nil
	b, err = k.archiveWith(opt).Open(t.Context(), entry)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Stored(t.Context()); !errors.Is(err, seal.ErrNoIdentity) || holdfast.Hint(err) == "" {
		t.Errorf("error %v, want ErrNoIdentity with a hint", err)
	}
	if err := b.Verify(t.Context(), holdfast.L1, nil); err != nil {
		t.Errorf("verification of the stored bytes needs no identity: %v", err)
	}
}

// Verification names every object that is damaged, not the first alone.
func TestVerifyNamesAll(t *testing.T) {
	k := newKit(t)
	entry := k.mustBackup(t, 0)
	harmed := []string{"app.sql.zst.age", "auth.sqlite.zst.age", "facts.json.zst.age"}
	for _, name := range owned(k, entry) {
		if slices.Contains(harmed, path.Base(name)) {
			k.memory.Corrupt(name, func(data []byte) []byte { data[len(data)/2] ^= 1; return data })
		}
	}
	b, err := k.archive().Open(t.Context(), entry)
	if err != nil {
		t.Fatal(err)
	}
	for _, level := range []holdfast.Level{holdfast.L1, holdfast.L2} {
		var good []string
		err := b.Verify(t.Context(), level, func(item archive.ItemEntry) { good = append(good, item.Object) })
		for _, name := range harmed {
			if err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: error %v does not name %s", level, err, name)
			}
		}
		if want := []string{"empty.tar.zst.age", "RESTORE.txt"}; !slices.Equal(good, want) {
			t.Errorf("%s: good are %q, want %q", level, good, want)
		}
	}
}

func TestReadFaultIsNoDifference(t *testing.T) {
	k := newKit(t)
	entry := k.mustBackup(t, 0)
	k.memory.Restore()
	if _, err := verify(t.Context(), k.archive(), entry); err != nil {
		t.Fatal(err)
	}
	calls := k.memory.Calls()
	for n := 1; n <= calls; n++ {
		k.memory.CutAt(n)
		_, err := verify(t.Context(), k.archive(), entry)
		if !errors.Is(err, storetest.ErrInjected) || errors.Is(err, holdfast.ErrDifference) {
			t.Errorf("the store was cut at call %d: %v, want the fault and no accusation", n, err)
		}
	}
	k.memory.Restore()
}
