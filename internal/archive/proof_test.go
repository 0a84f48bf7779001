package archive_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/seal"
)

const innerName = "public.secret_table"

func putProof(t *testing.T, k *kit, entry archive.Entry, verdict holdfast.Verdict) (*archive.Backup, archive.ProofEntry) {
	t.Helper()
	b, err := k.archive().Open(t.Context(), entry)
	if err != nil {
		t.Fatal(err)
	}
	p, err := k.archive().PutProof(t.Context(), b, archive.Proof{
		Verdict: verdict, Time: start.Add(48 * time.Hour), Host: "drill", Who: "me", Version: "test", Facts: 3,
		Seconds: map[string]float64{"restore app": 1.5},
	}, []byte(`{"table":"`+innerName+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	return b, archive.ProofEntry{Time: p.Time, Verdict: p.Verdict, ID: p.ID}
}

func proofObject(t *testing.T, k *kit, suffix string) string {
	t.Helper()
	for _, name := range k.memory.Names() {
		if strings.HasPrefix(name, "proofs/") && strings.HasSuffix(name, suffix) {
			return name
		}
	}
	t.Fatalf("there is no proof that ends in %s", suffix)
	return ""
}

func TestProofRoundTrip(t *testing.T) {
	k := newKit(t)
	entry := k.mustBackup(t, 0)
	b, proof := putProof(t, k, entry, holdfast.Proven)
	p, trusted, err := k.archive().ReadProof(t.Context(), b, proof)
	if err != nil || !trusted || p.Facts != 3 || p.Manifest != b.Digest || p.Signer != k.signer.PublicKey().Fingerprint() || p.Seconds["restore app"] != 1.5 {
		t.Errorf("read %+v, trusted %v, %v", p, trusted, err)
	}
	entries := mustList(t, k.archive())
	if len(entries[0].Proofs) != 1 || entries[0].Proofs[0] != proof || entries[0].State() != "proven" {
		t.Errorf("listed %+v", entries[0])
	}
	for name, data := range objects(k.memory) {
		if strings.Contains(name+data, innerName) {
			t.Errorf("%s has an inner name in the open", name)
		}
	}
	sealed, _ := k.memory.Bytes(proofObject(t, k, ".details.json.zst.age"))
	r, err := seal.NewReader(bytes.NewReader(sealed), seal.ReadOptions{Identities: k.identities})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if details, err := io.ReadAll(r); err != nil || !strings.Contains(string(details), innerName) {
		t.Errorf("details %q, %v", details, err)
	}
}

func TestProofIsWrittenLast(t *testing.T) {
	base := newKit(t)
	entry := base.mustBackup(t, 0)
	for n := 1; n <= 3; n++ {
		k := base.on(base.memory.Clone())
		b, err := k.archive().Open(t.Context(), entry)
		if err != nil {
			t.Fatal(err)
		}
		k.memory.FailAt(n)
		if _, err := k.archive().PutProof(t.Context(), b, archive.Proof{Verdict: holdfast.Proven, Time: start}, []byte("{}")); err == nil {
			t.Errorf("call %d failed, and the proof is said to be stored", n)
		}
		if proofs := mustList(t, k.archive())[0].Proofs; len(proofs) != 0 {
			t.Errorf("call %d failed, and the list shows %v", n, proofs)
		}
	}
}

func TestForgedProof(t *testing.T) {
	base := newKit(t)
	entry, second := base.mustBackup(t, 0), base.mustBackup(t, 1)
	b, proof := putProof(t, base, entry, holdfast.Failed)
	name, signature := proofObject(t, base, ".json"), proofObject(t, base, ".json.sig")
	data, _ := base.memory.Bytes(name)
	signed, _ := base.memory.Bytes(signature)

	refused := func(t *testing.T, k *kit, b *archive.Backup, proof archive.ProofEntry) {
		t.Helper()
		if p, trusted, err := k.archive().ReadProof(t.Context(), b, proof); !errors.Is(err, holdfast.ErrDifference) || trusted || p.Verdict != "" {
			t.Errorf("read %+v, trusted %v, %v; want ErrDifference", p, trusted, err)
		}
	}
	t.Run("edited", func(t *testing.T) {
		k := base.on(base.memory.Clone())
		k.memory.Corrupt(name, func(data []byte) []byte { return bytes.Replace(data, []byte("failed"), []byte("proven"), 1) })
		refused(t, k, b, proof)
	})
	t.Run("edited and signed by a stranger", func(t *testing.T) {
		k := base.on(base.memory.Clone())
		edited := bytes.Replace(data, []byte("failed"), []byte("proven"), 1)
		forged, err := newSigner(t).Sign("holdfast-proof", edited)
		if err != nil {
			t.Fatal(err)
		}
		k.memory.Corrupt(name, func([]byte) []byte { return edited })
		k.memory.Corrupt(signature, func([]byte) []byte { return forged })
		refused(t, k, b, proof)
	})
	t.Run("of another manifest of the same name", func(t *testing.T) {
		k := base.on(base.memory.Clone())
		other := bytes.Replace(data, []byte(b.Digest), []byte(strings.Repeat("0", 64)), 1)
		resigned, err := base.signer.Sign("holdfast-proof", other)
		if err != nil {
			t.Fatal(err)
		}
		k.memory.Corrupt(name, func([]byte) []byte { return other })
		k.memory.Corrupt(signature, func([]byte) []byte { return resigned })
		refused(t, k, b, proof)
	})
	t.Run("without signature", func(t *testing.T) {
		k := base.on(base.memory.Clone())
		if err := k.memory.Delete(t.Context(), signature); err != nil {
			t.Fatal(err)
		}
		refused(t, k, b, proof)
	})
	t.Run("signed as a manifest", func(t *testing.T) {
		k := base.on(base.memory.Clone())
		other, err := base.signer.Sign("holdfast-manifest", data)
		if err != nil {
			t.Fatal(err)
		}
		k.memory.Corrupt(signature, func([]byte) []byte { return other })
		refused(t, k, b, proof)
	})
	for _, c := range []struct{ name, old, new string }{
		{"under another verdict", ".failed.", ".proven."},
		{"under another time", "20260703T120000Z", "20270703T120000Z"},
		{"under another ID", string(proof.ID), "zzzzzzzzzz"},
		{"of another backup", "20260701T120000Z." + string(entry.ID), "20260701T130000Z." + string(second.ID)},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := base.on(base.memory.Clone())
			for from, data := range map[string][]byte{name: data, signature: signed} {
				to := strings.Replace(from, c.old, c.new, 1)
				if to == from {
					t.Fatalf("%s has no %s", from, c.old)
				}
				if err := errors.Join(k.memory.Put(t.Context(), to, bytes.NewReader(data)), k.memory.Delete(t.Context(), from)); err != nil {
					t.Fatal(err)
				}
			}
			for _, e := range mustList(t, k.archive()) {
				other, err := k.archive().Open(t.Context(), e)
				if err != nil {
					t.Fatal(err)
				}
				for _, proof := range e.Proofs {
					refused(t, k, other, proof)
				}
			}
		})
	}
}
