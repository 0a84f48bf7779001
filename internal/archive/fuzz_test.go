package archive_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/archive"
	"holdfast/internal/store"
)

func FuzzCommitName(f *testing.F) {
	for _, seed := range []string{commitA, commitB, commitC, "", "commits/", "commits/app/20260701T120000Z.aaaaaaaaaa.full.complete.age.00.json"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		entry, ok := archive.ParseCommit(name)
		if !ok {
			return
		}
		if entry.CommitName() != name || store.CheckName(name) != nil || entry.Size < 0 {
			t.Errorf("%q was taken for %+v", name, entry)
		}
	})
}

func FuzzProofName(f *testing.F) {
	f.Add("proofs/app/20260701T120000Z.aaaaaaaaaa/20260703T120000Z.failed.dddddddddd.json")
	f.Add("proofs/app/20260701T120000Z.aaaaaaaaaa/20260703T120000Z.cannot-test.dddddddddd.json")
	f.Add("proofs/../x/20260703T120000Z.proven.dddddddddd.json")
	f.Fuzz(func(t *testing.T, name string) {
		key, proof, ok := archive.ParseProof(name)
		if !ok {
			return
		}
		again := "proofs/" + key + "/" + proof.Time.Format("20060102T150405Z") + "." + string(proof.Verdict) + "." + string(proof.ID) + ".json"
		if again != name {
			t.Errorf("%q was taken for %q", name, again)
		}
	})
}

func FuzzResealName(f *testing.F) {
	f.Add("reseals/app/20260701T120000Z.aaaaaaaaaa/bbbbbbbbbb")
	f.Add("reseals/app/20260701T120000Z.aaaaaaaaaa/aaaaaaaaaa")
	f.Add("reseals/../20260701T120000Z.aaaaaaaaaa/b")
	f.Fuzz(func(t *testing.T, name string) {
		from, to, ok := archive.ParseReseal(name)
		if !ok {
			return
		}
		stem, id := from[:strings.LastIndex(from, ".")+1], to[strings.LastIndex(to, ".")+1:]
		if from == to || "reseals/"+from+"/"+id != name || stem+id != to {
			t.Errorf("%q was taken for a copy of %q as %q", name, from, to)
		}
	})
}

func FuzzCheckName(f *testing.F) {
	f.Add("checks/app/20260701T120000Z.age1zvkyg2lqzraa.dddddddddd.json")
	f.Add("checks/app/20260701T120000Z.age1/../x.dddddddddd.json")
	f.Add("checks/app/20261301T120000Z.passphrase.dddddddddd.json")
	f.Fuzz(func(t *testing.T, name string) {
		entry, ok := archive.ParseCheck(name)
		if ok && (entry.Name() != name || store.CheckName(name) != nil) {
			t.Errorf("%q was taken for %+v", name, entry)
		}
	})
}

func FuzzManifest(f *testing.F) {
	names, err := filepath.Glob("testdata/v1/store/commits/*/*.json")
	if err != nil || len(names) == 0 {
		f.Fatalf("no manifests to begin with: %v", err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		object, err := filepath.Rel("testdata/v1/store", name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, object)
	}
	f.Add([]byte(`{"format":"holdfast-archive-1","items":[{"parts":1,"object":"a/../../b"}]}`), commitA)
	f.Fuzz(func(t *testing.T, data []byte, name string) {
		entry, ok := archive.ParseCommit(name)
		if !ok {
			return
		}
		m, err := archive.ParseManifest(data, entry)
		if err != nil {
			return
		}
		if m.ID != entry.ID || m.Job != entry.Job || !m.Time.Equal(entry.Time) || m.Complete != entry.Complete {
			t.Errorf("a manifest of %s and %s was taken under the name %s", m.Job, m.ID, name)
		}
		for _, item := range m.Items {
			if strings.ContainsAny(item.Object, "/\\") || store.CheckName("data/"+item.Object) != nil || item.Parts < 1 || item.StoredSize < 0 {
				t.Errorf("item %+v was taken", item)
			}
		}
	})
}

func FuzzPinName(f *testing.F) {
	f.Add("pins/app/20260701T120000Z.aaaaaaaaaa/20260703T120000Z.pin.forever.dddddddddd.json")
	f.Add("pins/app/20260701T120000Z.aaaaaaaaaa/20260703T120000Z.pin.20270101T000000Z.dddddddddd.json")
	f.Add("pins/app/20260701T120000Z.aaaaaaaaaa/20260703T120000Z.unpin.dddddddddd.json")
	f.Fuzz(func(t *testing.T, name string) {
		key, pin, ok := archive.ParsePin(name)
		if !ok {
			return
		}
		action := "unpin"
		if pin.Pinned {
			action = "pin.forever"
			if !pin.Until.IsZero() {
				action = "pin." + pin.Until.Format("20060102T150405Z")
			}
		}
		if again := "pins/" + key + "/" + pin.Time.Format("20060102T150405Z") + "." + action + "." + string(pin.ID) + ".json"; again != name {
			t.Errorf("%q was taken for %q", name, again)
		}
	})
}

func FuzzVerificationName(f *testing.F) {
	f.Add("verifications/app/20260701T120000Z.aaaaaaaaaa/20260703T120000Z.L1.good.dddddddddd.json")
	f.Add("verifications/app/20260701T120000Z.aaaaaaaaaa/20260703T120000Z.L2.damaged.dddddddddd.json")
	f.Fuzz(func(t *testing.T, name string) {
		key, v, ok := archive.ParseVerification(name)
		if !ok {
			return
		}
		result := map[bool]string{true: "good", false: "damaged"}[v.Good]
		if again := "verifications/" + key + "/" + v.Time.Format("20060102T150405Z") + "." + v.Level.String() + "." + result + "." + string(v.ID) + ".json"; again != name {
			t.Errorf("%q was taken for %q", name, again)
		}
	})
}

func FuzzRunName(f *testing.F) {
	f.Add("runs/app/20260703T120000Z.failed.dddddddddd.json")
	f.Fuzz(func(t *testing.T, name string) {
		if run, ok := archive.ParseRun(name); ok && run.RunName() != name {
			t.Errorf("%q was taken for %q", name, run.RunName())
		}
	})
}
