package archive_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/seal"
	"holdfast/internal/store/storetest"
)

// successor is the same archive with another signer, sealing to another key; it opens with both.
func (k *kit) successor(t testing.TB) (next *kit, a *archive.Archive) {
	t.Helper()
	next = newKit(t).on(k.memory)
	opt := next.options()
	opt.Identities = slices.Concat(k.identities, next.identities)
	opt.Trusted = append(opt.Trusted, k.signer.PublicKey())
	opt.Version = "newer"
	return next, next.archiveWith(opt)
}

func resealPlan() archive.ResealPlan {
	return archive.ResealPlan{Time: start.AddDate(1, 0, 0), Host: "desk", Who: "anna"}
}

func mustOpen(t testing.TB, a *archive.Archive, entry archive.Entry) *archive.Backup {
	t.Helper()
	b, err := a.Open(t.Context(), entry)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustReseal(t testing.TB, a *archive.Archive, entry archive.Entry) (archive.Entry, archive.Manifest) {
	t.Helper()
	copied, manifest, err := a.Reseal(t.Context(), mustOpen(t, a, entry), resealPlan())
	if err != nil {
		t.Fatal(err)
	}
	return copied, manifest
}

func TestReseal(t *testing.T) {
	k := newKit(t)
	original := k.mustBackup(t, 0)
	before := objects(k.memory)
	old := mustOpen(t, k.archive(), original)

	next, a := k.successor(t)
	entry, m := mustReseal(t, a, original)
	for name, data := range before {
		if now, _ := k.memory.Bytes(name); string(now) != data {
			t.Errorf("object %s of the original was changed", name)
		}
	}

	// The new identity alone opens the copy, the old one does not.
	opt := next.options()
	opt.Trusted = append(opt.Trusted, k.signer.PublicKey())
	mustHold(t, next.archiveWith(opt), entry)
	opt.Identities = k.identities
	if err := mustOpen(t, next.archiveWith(opt), entry).Verify(t.Context(), holdfast.L2, nil); !errors.Is(err, seal.ErrNoIdentity) {
		t.Errorf("the old identity opens the copy: %v", err)
	}
	mustHold(t, k.archive(), original)

	// It is the same backup in all that retention and people go by.
	was := old.Manifest
	if m.ID == was.ID || m.Job != was.Job || !m.Time.Equal(was.Time) || !m.Finished.Equal(was.Finished) || m.Kind != was.Kind || m.Host != was.Host || m.Complete != was.Complete ||
		m.Reason != was.Reason || m.Exclusions != was.Exclusions || !maps.Equal(m.Versions, was.Versions) || len(m.Sources) != len(was.Sources) || len(m.Missing) != len(was.Missing) {
		t.Errorf("the copy is\n%+v\nof\n%+v", m, was)
	}
	want := archive.Resealed{
		From: was.ID, FromManifest: old.Digest, Original: was.ID, OriginalSigner: old.Signer, Time: start.AddDate(1, 0, 0), Host: "desk", Who: "anna", Version: "newer",
	}
	if m.Resealed == nil || *m.Resealed != want {
		t.Errorf("the copy says it is made of %+v, want %+v", m.Resealed, want)
	}
	if m.Signer != next.signer.PublicKey().Fingerprint() || !slices.Equal(m.Keys, []string{next.recipients[0].KeyID()}) {
		t.Errorf("the copy is signed by %s and sealed to %q", m.Signer, m.Keys)
	}
	b := mustOpen(t, a, entry)
	if missing, err := b.Missing(t.Context()); err != nil || missing["lost"] != "the disk with it is gone" {
		t.Errorf("missing: %v, %v", missing, err)
	}

	// Lists tell which stands for which, and the copy comes last.
	entries := mustList(t, k.archive())
	if len(entries) != 2 || entries[0].ID != original.ID || entries[0].SupersededBy != entry.ID || entries[1].ID != entry.ID || entries[1].From != original.ID || entries[1].Superseded() {
		t.Errorf("listed %+v", entries)
	}
	origin, err := b.Origin(t.Context())
	if err != nil || !origin.Trusted || origin.Signer != old.Signer || origin.Manifest.ID != original.ID {
		t.Errorf("origin %+v, %v", origin, err)
	}
	// No plaintext, and no digest of any, is in the open.
	for name, data := range objects(k.memory) {
		for item, content := range contents {
			if len(content) > 0 && (strings.Contains(data, string(content[:40])) || strings.Contains(data, sum(content))) {
				t.Errorf("%s tells of the content of %s", name, item)
			}
		}
	}
}

func TestResealOfACopy(t *testing.T) {
	k := newKit(t)
	original := k.mustBackup(t, 0)
	_, a := k.successor(t)
	first, _ := mustReseal(t, a, original)
	// The original goes away, as a prune will have it.
	for _, name := range k.memory.Names() {
		if strings.Contains(name, string(original.ID)) && !strings.HasPrefix(name, "reseals/") {
			if err := k.memory.Delete(t.Context(), name); err != nil {
				t.Fatal(err)
			}
		}
	}
	second, m := mustReseal(t, a, first)
	if m.Resealed.From != first.ID || m.Resealed.Original != original.ID || m.Resealed.OriginalSigner != k.signer.PublicKey().Fingerprint() {
		t.Errorf("the copy of a copy says %+v", m.Resealed)
	}
	mustHold(t, a, second)
	if origin, err := mustOpen(t, a, second).Origin(t.Context()); err != nil || origin.Manifest.ID != original.ID {
		t.Errorf("origin %+v, %v", origin, err)
	}
	// The marker that names the original says nothing any more.
	entries := mustList(t, a)
	if len(entries) != 2 || entries[0].ID != first.ID || entries[0].From != "" || entries[0].SupersededBy != second.ID {
		t.Errorf("listed %+v", entries)
	}
}

// What was stored for everybody to read, or for nobody in particular, is sealed by a copy.
func TestResealOfUnsealed(t *testing.T) {
	k := newKit(t)
	opt := k.options()
	opt.Seal = seal.Options{Plain: true, Workers: 1}
	original, err := k.backup(t, k.archiveWith(opt), 0)
	if err != nil {
		t.Fatal(err)
	}
	entry, m := mustReseal(t, k.archive(), original)
	mustHold(t, k.archive(), entry)
	if !entry.Sealed || m.Seal != "age" {
		t.Errorf("the copy is %+v, seal %s", entry, m.Seal)
	}
	if _, _, err := k.archiveWith(opt).Reseal(t.Context(), mustOpen(t, k.archive(), entry), resealPlan()); !errors.Is(err, holdfast.ErrUsage) {
		t.Errorf("a copy that is not sealed: %v", err)
	}
}

func TestResealWithoutIdentity(t *testing.T) {
	k := newKit(t)
	entry := k.mustBackup(t, 0)
	before := objects(k.memory)
	opt := k.options()
	opt.Identities = nil
	a := k.archiveWith(opt)
	if _, _, err := a.Reseal(t.Context(), mustOpen(t, a, entry), resealPlan()); !errors.Is(err, seal.ErrNoIdentity) {
		t.Errorf("%v, want ErrNoIdentity", err)
	}
	if !maps.Equal(objects(k.memory), before) {
		t.Error("something was stored")
	}
}

// One flipped bit anywhere in what is copied: no copy, nothing left of it, and the original as it was.
func TestResealOfDamaged(t *testing.T) {
	base := newKit(t)
	original := base.mustBackup(t, 0)
	for _, name := range base.memory.Names() {
		if !strings.HasPrefix(name, "data/") || strings.Contains(name, "RESTORE.txt") || strings.HasSuffix(name, ".sig") {
			continue
		}
		t.Run(filepath.Base(name), func(t *testing.T) {
			k := base.on(base.memory.Clone())
			if data, _ := k.memory.Bytes(name); len(data) == 0 {
				t.Fatalf("%s is empty", name)
			}
			k.memory.Corrupt(name, func(data []byte) []byte { data[len(data)*3/4] ^= 1; return data })
			before := objects(k.memory)
			_, a := k.successor(t)
			_, _, err := a.Reseal(t.Context(), mustOpen(t, a, original), resealPlan())
			if !errors.Is(err, holdfast.ErrDifference) || !strings.Contains(err.Error(), string(original.ID)) {
				t.Errorf("%v, want ErrDifference that names the backup", err)
			}
			if !maps.Equal(objects(k.memory), before) {
				t.Error("something is left of the copy, or the original was touched")
			}
		})
	}
}

// A fault at any call of the store leaves a whole copy or none, and never touches the original.
func TestFaultWhileResealing(t *testing.T) {
	base := newKit(t)
	original := base.mustBackup(t, 0)
	before := objects(base.memory)
	counting := base.on(base.memory.Clone())
	_, a := counting.successor(t)
	b := mustOpen(t, a, original)
	counting.memory.Restore()
	if _, _, err := a.Reseal(t.Context(), b, resealPlan()); err != nil {
		t.Fatal(err)
	}
	calls := counting.memory.Calls()
	if calls < 30 {
		t.Fatalf("a copy makes %d calls, which is too few to be true", calls)
	}
	for _, fault := range []struct {
		name string
		plan func(*storetest.Memory, int)
	}{
		{"fail", (*storetest.Memory).FailAt},
		{"fail but persist", (*storetest.Memory).FailPersistedAt},
		{"cut", (*storetest.Memory).CutAt},
	} {
		for n := 1; n <= calls; n++ {
			t.Run(fmt.Sprintf("%s at call %d", fault.name, n), func(t *testing.T) {
				k := base.on(base.memory.Clone())
				_, a := k.successor(t)
				b := mustOpen(t, a, original)
				fault.plan(k.memory, n)
				plan := resealPlan()
				var begun archive.Entry
				plan.Begun = func(entry archive.Entry) error { begun = entry; return nil }
				_, _, resealErr := a.Reseal(t.Context(), b, plan)

				after := k.on(k.memory.Clone())
				a = after.archive()
				opt := after.options()
				opt.Trusted = nil
				entries := mustList(t, after.archiveWith(opt))
				if entries[0].ID != original.ID {
					t.Fatalf("the original is not listed first: %v", entries)
				}
				mustHold(t, a, original)
				exists := len(entries) == 2
				if resealErr == nil && !exists {
					t.Fatal("the copy was made and does not exist")
				}
				if entries[0].Superseded() != exists {
					t.Errorf("a copy exists: %v; the original is superseded: %v", exists, entries[0].Superseded())
				}
				if begun.ID == "" {
					return // nothing was begun
				}
				// What the next run does about an interrupted one.
				whole := objects(after.memory)
				if _, err := a.Clean(t.Context(), begun); err != nil {
					t.Fatal(err)
				}
				want := before
				if exists {
					want = whole
				}
				if left := objects(after.memory); !maps.Equal(left, want) {
					t.Errorf("after cleaning the store holds %q, want %q", slices.Sorted(maps.Keys(left)), slices.Sorted(maps.Keys(want)))
				}
			})
		}
	}
}

// A copy that lies about where it comes from, or whose proof of that was changed, is found out by whoever asks.
func TestForgedOrigin(t *testing.T) {
	k := newKit(t)
	original, other := k.mustBackup(t, 0), k.mustBackup(t, 1)
	next := newKit(t).on(k.memory)
	opt := next.options()
	opt.Identities, opt.Trusted, opt.PartSize = k.identities, nil, 1<<20
	a := next.archiveWith(opt)
	entry, m := mustReseal(t, a, original)
	folder := fmt.Sprintf("data/app/%s.%s/", entry.Time.Format("20060102T150405Z"), entry.ID)
	of := func(name string) []byte {
		data, found := k.memory.Bytes(name)
		if !found {
			t.Fatalf("there is no %s", name)
		}
		return data
	}
	refused := func(t *testing.T, m *storetest.Memory, entry archive.Entry, want string) {
		t.Helper()
		b := mustOpen(t, next.on(m).archiveWith(opt), entry)
		if origin, err := b.Origin(t.Context()); !errors.Is(err, holdfast.ErrDifference) || !strings.Contains(err.Error(), want) {
			t.Errorf("origin %+v, %v; want ErrDifference and %q", origin, err, want)
		}
	}
	t.Run("edited", func(t *testing.T) {
		m := k.memory.Clone()
		m.Corrupt(folder+"original.json", func(data []byte) []byte { return bytes.Replace(data, []byte(`"host"`), []byte(`"hast"`), 1) })
		refused(t, m, entry, "not those that were written")
	})
	// Whoever copied signs what he likes, but not in the name of who signed the original.
	sign := func(t *testing.T, manifest, signature []byte) (*storetest.Memory, archive.Entry) {
		t.Helper()
		memory, forged, entry := k.memory.Clone(), m, entry
		forged.Items = slices.Clone(m.Items)
		entry.Size = 0
		replace := map[string][]byte{"original.json": manifest, "original.json.sig": signature}
		for i, item := range forged.Items {
			if data, found := replace[item.Object]; found {
				forged.Items[i].StoredSHA256, forged.Items[i].StoredSize, forged.Items[i].PlainSize = sum(data), int64(len(data)), int64(len(data))
			}
			entry.Size += forged.Items[i].StoredSize
		}
		data, err := json.Marshal(forged)
		if err != nil {
			t.Fatal(err)
		}
		if replace["manifest.json.sig"], err = next.signer.Sign("holdfast-manifest", data); err != nil {
			t.Fatal(err)
		}
		for object, data := range replace {
			memory.Corrupt(folder+object, func([]byte) []byte { return data })
		}
		for _, name := range memory.Names() {
			if strings.HasPrefix(name, "commits/") && strings.Contains(name, string(entry.ID)) {
				if err := memory.Delete(t.Context(), name); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := memory.Put(t.Context(), entry.CommitName(), bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
		return memory, entry
	}
	first := of(original.CommitName())
	signature := of(folder + "original.json.sig")
	t.Run("whole", func(t *testing.T) {
		m, entry := sign(t, first, signature)
		if _, err := mustOpen(t, next.on(m).archiveWith(opt), entry).Origin(t.Context()); err != nil {
			t.Error(err)
		}
	})
	t.Run("edited and signed", func(t *testing.T) {
		m, entry := sign(t, bytes.Replace(first, []byte(`"host": "host"`), []byte(`"host": "hast"`), 1), signature)
		refused(t, m, entry, "one of them was changed")
	})
	t.Run("another backup of the same host", func(t *testing.T) {
		m, entry := sign(t, of(other.CommitName()), of(fmt.Sprintf("data/app/%s.%s/manifest.json.sig", other.Time.Format("20060102T150405Z"), other.ID)))
		refused(t, m, entry, "is not the one it names")
	})
	t.Run("signed by another", func(t *testing.T) {
		own, err := next.signer.Sign("holdfast-manifest", first)
		if err != nil {
			t.Fatal(err)
		}
		m, entry := sign(t, first, own)
		refused(t, m, entry, "is not the one it names")
	})
}

func sum(data []byte) string {
	digest := sha256.Sum256(data)
	return hex.EncodeToString(digest[:])
}

func TestKeyCheck(t *testing.T) {
	k := newKit(t)
	entry := k.mustBackup(t, 0)
	b := mustOpen(t, k.archive(), entry)
	if err := b.Opens(t.Context(), k.identities[0]); err != nil {
		t.Error(err)
	}
	stranger := newKit(t)
	if err := b.Opens(t.Context(), stranger.identities[0]); !errors.Is(err, seal.ErrNoIdentity) {
		t.Errorf("a stranger's identity: %v, want ErrNoIdentity", err)
	}
	at := start.Add(48 * time.Hour)
	c, err := k.archive().PutCheck(t.Context(), b, archive.Check{Key: k.recipients[0].KeyID(), Time: at, Host: "desk", Who: "anna"})
	if err != nil {
		t.Fatal(err)
	}
	checks, err := k.archive().Checks(t.Context())
	if err != nil || len(checks) != 1 || checks[0] != (archive.CheckEntry{Job: "app", Time: at, Key: k.recipients[0].KeyID(), ID: c.ID}) {
		t.Fatalf("listed %+v, %v", checks, err)
	}
	read, trusted, err := k.archive().ReadCheck(t.Context(), checks[0])
	if err != nil || !trusted || read != c || read.Backup != entry.ID || read.Manifest != b.Digest || read.Who != "anna" || read.Signer != k.signer.PublicKey().Fingerprint() {
		t.Errorf("read %+v, trusted %v, %v", read, trusted, err)
	}
	if _, err := k.archive().PutCheck(t.Context(), b, archive.Check{Key: strings.Repeat("x", 65), Time: at}); !errors.Is(err, holdfast.ErrUsage) {
		t.Errorf("a key ID that is no part of a name: %v", err)
	}

	// An ID with characters that no name has.
	colon := k.on(k.memory.Clone())
	if _, err := colon.archive().PutCheck(t.Context(), b, archive.Check{Key: "openpgp:0123456789abcdef", Time: at}); err != nil {
		t.Fatal(err)
	}
	if checks, err := colon.archive().Checks(t.Context()); err != nil || len(checks) != 2 || !checks[1].Of("openpgp:0123456789abcdef") && !checks[0].Of("openpgp:0123456789abcdef") {
		t.Errorf("listed %+v, %v", checks, err)
	} else {
		for _, entry := range checks {
			if _, _, err := colon.archive().ReadCheck(t.Context(), entry); err != nil {
				t.Error(err)
			}
		}
	}

	// The facts are damaged: the key is right, the backup is not.
	damaged := k.on(k.memory.Clone())
	for _, name := range damaged.memory.Names() {
		if strings.HasSuffix(name, "/facts.json.zst.age") {
			damaged.memory.Corrupt(name, func(data []byte) []byte { data[len(data)-5] ^= 1; return data })
		}
	}
	if err := mustOpen(t, damaged.archive(), entry).Opens(t.Context(), k.identities[0]); !errors.Is(err, holdfast.ErrDifference) {
		t.Errorf("damaged facts: %v, want ErrDifference", err)
	}

	// A record is written last, and one that was changed is refused.
	for n := 1; n <= 2; n++ {
		k := k.on(k.memory.Clone())
		k.memory.FailAt(n)
		if _, err := k.archive().PutCheck(t.Context(), b, archive.Check{Key: "key", Time: at}); err == nil {
			t.Errorf("call %d failed, and the record is said to be stored", n)
		}
		if now, err := k.archive().Checks(t.Context()); err != nil || len(now) != 1 {
			t.Errorf("call %d failed, and the list is %v, %v", n, now, err)
		}
	}
	name := checks[0].Name()
	for what, change := range map[string]func(m *storetest.Memory) archive.CheckEntry{
		"edited": func(m *storetest.Memory) archive.CheckEntry {
			m.Corrupt(name, func(data []byte) []byte { return bytes.Replace(data, []byte("anna"), []byte("otto"), 1) })
			return checks[0]
		},
		"without signature": func(m *storetest.Memory) archive.CheckEntry {
			if err := m.Delete(context.Background(), name+".sig"); err != nil {
				t.Fatal(err)
			}
			return checks[0]
		},
		"under another key": func(m *storetest.Memory) archive.CheckEntry {
			other := checks[0]
			other.Key = "age1other"
			for _, end := range []string{"", ".sig"} {
				data, _ := m.Bytes(name + end)
				if err := m.Put(context.Background(), other.Name()+end, bytes.NewReader(data)); err != nil {
					t.Fatal(err)
				}
			}
			return other
		},
	} {
		k := k.on(k.memory.Clone())
		entry := change(k.memory)
		if read, trusted, err := k.archive().ReadCheck(t.Context(), entry); !errors.Is(err, holdfast.ErrDifference) || trusted || read.Key != "" {
			t.Errorf("%s: read %+v, trusted %v, %v; want ErrDifference", what, read, trusted, err)
		}
	}
}

const resealVectors = "testdata/v1-resealed"

// TestResealVectors reads what was written once: a backup, its re-sealed copy, and the record of a check.
func TestResealVectors(t *testing.T) {
	if *update {
		writeResealVectors(t)
	}
	text := func(name string) string {
		data, err := os.ReadFile(filepath.Join(resealVectors, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	m := storetest.NewMemory(t)
	load(t, m, filepath.Join(resealVectors, "store"))
	for n, name := range []string{"old", "new"} {
		identities, err := seal.ParseIdentities(strings.NewReader(text(name + ".txt")))
		if err != nil {
			t.Fatal(err)
		}
		signer, err := seal.ParseSigner(holdfast.NewSecret(text(name + ".signer")))
		if err != nil {
			t.Fatal(err)
		}
		k := &kit{m, signer, nil, identities}
		entries := mustList(t, k.archive())
		if len(entries) != 2 || !entries[0].Superseded() || entries[1].From != entries[0].ID {
			t.Fatalf("listed %+v", entries)
		}
		mustHold(t, k.archive(), entries[n])
		if n == 0 {
			continue
		}
		checks, err := k.archive().Checks(t.Context())
		if err != nil || len(checks) != 1 {
			t.Fatalf("checks %v, %v", checks, err)
		}
		if c, trusted, err := k.archive().ReadCheck(t.Context(), checks[0]); err != nil || !trusted || c.Backup != entries[1].ID || c.Key != seal.RecipientOf(identities[0]).KeyID() {
			t.Errorf("check %+v, trusted %v, %v", c, trusted, err)
		}
	}
}

func writeResealVectors(t *testing.T) {
	if _, err := os.Stat(resealVectors); err == nil {
		return
	}
	write := func(name string, data []byte) {
		path := filepath.Join(resealVectors, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	write("README", []byte("Vectors of docs/archive-format.md, version 1, \"Re-sealed copies\" and \"Checks of keys\". The keys protect nothing.\n"))
	m := storetest.NewMemory(t)
	kits := map[string]*kit{}
	for _, name := range []string{"old", "new"} {
		identity, recipient, err := seal.NewIdentity(seal.X25519)
		if err != nil {
			t.Fatal(err)
		}
		private, _, err := seal.NewSigner()
		if err != nil {
			t.Fatal(err)
		}
		write(name+".txt", []byte("# public key: "+recipient+"\n"+identity.Reveal()+"\n"))
		write(name+".signer", []byte(private.Reveal()))
		signer, err := seal.ParseSigner(private)
		if err != nil {
			t.Fatal(err)
		}
		identities, err := seal.ParseIdentities(strings.NewReader(identity.Reveal()))
		if err != nil {
			t.Fatal(err)
		}
		kits[name] = &kit{m, signer, []seal.Recipient{seal.RecipientOf(identities[0])}, identities}
	}
	original := kits["old"].mustBackup(t, 0)
	opt := kits["new"].options()
	opt.Identities, opt.Trusted, opt.Version = kits["old"].identities, nil, "1.1.0"
	entry, _ := mustReseal(t, kits["new"].archiveWith(opt), original)
	opt.Identities = kits["new"].identities
	a := kits["new"].archiveWith(opt)
	if _, err := a.PutCheck(t.Context(), mustOpen(t, a, entry), archive.Check{Key: kits["new"].recipients[0].KeyID(), Time: start.AddDate(1, 0, 1), Host: "desk", Who: "anna"}); err != nil {
		t.Fatal(err)
	}
	for name, data := range objects(m) {
		write("store/"+name, []byte(data))
	}
}
