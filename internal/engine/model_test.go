package engine_test

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/engine"
)

// modelled is what a backup should be.
type modelled struct {
	sources  []holdfast.SourceName
	unopened bool // its signature is gone
	damaged  bool // an object that a drill needs
	stained  bool // an object that only a verification reads
}

// model is the archive as a map, beside the archive.
type model struct {
	kit     *kit
	backups map[holdfast.BackupID]*modelled
}

// pick returns nil when there is no backup yet.
func (m *model) pick(t *rapid.T) (archive.Entry, *modelled) {
	entries, err := m.kit.archive().List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) == 0 {
		return archive.Entry{}, nil
	}
	entry := rapid.SampledFrom(entries).Draw(t, "backup")
	return entry, m.backups[entry.ID]
}

// open returns nil for a backup that must not open, or when there is none.
func (m *model) open(t *rapid.T, entry archive.Entry, want *modelled) *archive.Backup {
	if want == nil {
		return nil
	}
	b, err := m.kit.archive().Open(t.Context(), entry)
	if want.unopened != errors.Is(err, holdfast.ErrDifference) || !want.unopened && err != nil {
		t.Fatalf("open %s: %v; its signature is gone: %v", entry.ID, err, want.unopened)
	}
	return b
}

func (m *model) backup(t *rapid.T) {
	var sources []engine.NamedSource
	want := &modelled{}
	for _, name := range []holdfast.SourceName{"one", "two", "three"} {
		f := &fake{name: name, content: rapid.StringN(0, 200, -1).Draw(t, string(name))}
		switch rapid.IntRange(0, 7).Draw(t, "fate of "+string(name)) {
		case 0:
			f.read = errBroken
		case 1:
			f.close = errBroken
		default:
			want.sources = append(want.sources, name)
		}
		sources = append(sources, f.named())
	}
	got, err := engine.Backup(t.Context(), m.kit.archive(), plan(sources...), nil)
	if (err == nil) != (len(want.sources) == 3) || errors.Is(err, holdfast.ErrIncomplete) != (len(want.sources) > 0 && len(want.sources) < 3) {
		t.Fatalf("with %q: %v", want.sources, err)
	}
	if len(want.sources) > 0 {
		m.backups[got.Entry.ID] = want
	}
}

func (m *model) damage(t *rapid.T) {
	entry, want := m.pick(t)
	if want == nil {
		return
	}
	var names []string
	for _, name := range m.kit.memory.Names() {
		if strings.HasPrefix(name, "data/") && strings.Contains(name, "."+string(entry.ID)+"/") {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return
	}
	name := rapid.SampledFrom(names).Draw(t, "object")
	signature, text := path.Base(name) == "manifest.json.sig", path.Base(name) == "RESTORE.txt"
	if signature || rapid.Bool().Draw(t, "delete") {
		if err := m.kit.memory.Delete(t.Context(), name); err != nil {
			t.Fatal(err)
		}
		want.unopened = want.unopened || signature
		want.damaged = want.damaged || !signature
		return
	}
	at := rapid.Float64Range(0, 0.999).Draw(t, "at")
	m.kit.memory.Corrupt(name, func(data []byte) []byte {
		// Twice the same harm must not heal.
		changed := bytes.Clone(data)
		changed[int(at*float64(len(data)))]++
		return changed
	})
	want.stained = want.stained || text
	want.damaged = want.damaged || !text
}

func (m *model) verify(t *rapid.T) {
	entry, want := m.pick(t)
	b := m.open(t, entry, want)
	if b == nil {
		return
	}
	err := b.Verify(t.Context(), holdfast.L2, nil)
	if bad := want.damaged || want.stained; bad != errors.Is(err, holdfast.ErrDifference) || !bad && err != nil {
		t.Fatalf("verify %s: %v; damaged: %v", entry.ID, err, bad)
	}
}

func (m *model) drill(t *rapid.T) {
	entry, want := m.pick(t)
	b := m.open(t, entry, want)
	if b == nil {
		return
	}
	d, err := engine.Drill(t.Context(), m.kit.archive(), b, drillPlan(new([]string), nil), nil)
	verdict := holdfast.Proven
	if want.damaged {
		verdict = holdfast.Failed
	}
	if d.Verdict != verdict || (err == nil) != (verdict == holdfast.Proven) {
		t.Fatalf("drill of %s: %s, %v; want %s", entry.ID, d.Verdict, err, verdict)
	}
	entries, err := m.kit.archive().List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	at := slices.IndexFunc(entries, func(e archive.Entry) bool { return e.ID == entry.ID })
	if proofs := entries[at].Proofs; len(proofs) == 0 || !slices.ContainsFunc(proofs, func(p archive.ProofEntry) bool { return p.Verdict == verdict }) {
		t.Fatalf("no proof says %s: %v", verdict, proofs)
	}
}

// check runs after every step: the archive lists what the model has.
func (m *model) check(t *rapid.T) {
	entries, err := m.kit.archive().List(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != len(m.backups) {
		t.Fatalf("%d backups are listed, want %d", len(entries), len(m.backups))
	}
	for _, entry := range entries {
		want := m.backups[entry.ID]
		if want == nil || entry.Complete != (len(want.sources) == 3) {
			t.Fatalf("listed %+v, want %+v", entry, want)
		}
	}
}

// Random backups, damage, verifications and drills against a map of what should be there.
func TestModel(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		m := &model{kit: newKit(t), backups: map[holdfast.BackupID]*modelled{}}
		steps := rapid.SliceOfN(rapid.SampledFrom([]string{"backup", "backup", "damage", "verify", "drill"}), 2, 12).Draw(r, "steps")
		for _, step := range steps {
			map[string]func(*rapid.T){"backup": m.backup, "damage": m.damage, "verify": m.verify, "drill": m.drill}[step](r)
			m.check(r)
		}
		for id, want := range m.backups {
			if want.damaged || want.stained || want.unopened {
				continue
			}
			entry, err := archive.Find(m.kit.list(t), string(id))
			if err != nil {
				r.Fatal(err)
			}
			b, err := m.kit.archive().Open(t.Context(), entry)
			if err != nil {
				r.Fatal(err)
			}
			if err := b.Verify(t.Context(), holdfast.L2, nil); err != nil {
				r.Fatal(fmt.Errorf("at the end: %w", err))
			}
		}
	})
}
