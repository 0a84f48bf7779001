package survey_test

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/survey"
)

func TestDamage(t *testing.T) {
	h, main, away := newHost(t), newBox(t), newBox(t)
	old := h.backup(t, main, run{time: start})
	entry := h.backup(t, main, run{time: start.Add(day)})
	main.copyTo(t, away)
	spoil := func(data []byte) []byte {
		return bytes.Replace(data, []byte(`"host": "host"`), []byte(`"host": "h0st"`), 1)
	}
	manifest := main.named(t, "commits/", string(entry.ID))

	h.verify(t, away, old, start.Add(2*day), false)
	job := app(t, h.places(main, away, h))
	if job.Places[0].Damaged != 0 || job.Places[1].Damaged != 1 || !job.Places[1].Verified.IsZero() {
		t.Errorf("after a check that found damage: %+v", job.Places)
	}
	h.verify(t, away, old, start.Add(3*day), true)
	if p := app(t, h.places(main, away, h)).Places[1]; p.Damaged != 0 || !p.Verified.Equal(start.Add(3*day)) {
		t.Errorf("after one that found it good: %+v", p)
	}
	h.verify(t, away, entry, start.Add(2*day), true)
	if p := app(t, h.places(main, away, h)).Places[1]; !p.Verified.Equal(start.Add(3 * day)) {
		t.Errorf("after an earlier check of a later backup: %+v", p)
	}

	main.Corrupt(manifest, spoil)
	var s survey.Surveyor
	for n := range 2 { // what is damaged is read again, and told again
		job = look(t, &s, h.places(main, away, h), survey.Job{Name: "app", Stores: []string{"main", "away"}}).Jobs[0]
		if newest, _ := job.Newest(); newest.ID != entry.ID || len(newest.Items) != 1 || job.Places[0].Damaged != 1 || job.Places[1].Damaged != 0 {
			t.Errorf("look %d: with a manifest that was changed in the first store, the newest is %+v, in %+v", n, newest, job.Places)
		}
	}
	away.Corrupt(manifest, spoil)
	job = app(t, h.places(main, away, h))
	if newest, _ := job.Newest(); newest.ID != old.ID || job.Places[0].Damaged != 1 || job.Places[1].Damaged != 1 || !job.Places[0].Newest.Equal(start) {
		t.Errorf("with a manifest that was changed everywhere, the newest is %+v, in %+v", newest, job.Places)
	}
	main.hide = string(old.ID)
	if p := app(t, h.places(main, nil, h)).Places[0]; p.Hidden != 1 || p.Copies != 1 {
		t.Errorf("with a manifest that something else deleted: %+v", p)
	}
	main.hide, main.twice = "", string(old.ID)
	if p := app(t, h.places(main, nil, h)).Places[0]; p.Hidden != 1 || p.Copies != 1 {
		t.Errorf("with a manifest that something else wrote again: %+v", p)
	}
}

// TestPlanted: a name is no backup. Whoever can write into a store can make a newer one, and hides nothing by it.
func TestPlanted(t *testing.T) {
	h, stranger := newHost(t), newHost(t)
	real := func(t *testing.T) (*box, archive.Entry) {
		main := newBox(t)
		return main, h.backup(t, main, run{time: start})
	}
	check := func(t *testing.T, main *box, entry archive.Entry, damaged int) {
		t.Helper()
		job := app(t, h.places(main, nil, h))
		newest, _ := job.Newest()
		attempt, _ := job.Attempt()
		if newest.ID != entry.ID || !newest.Time.Equal(entry.Time) || !attempt.Attempt.Equal(entry.Time) {
			t.Errorf("the newest is %+v, the last attempt %+v", newest, attempt)
		}
		if p := job.Places[0]; p.Damaged != damaged || !p.Newest.Equal(entry.Time) || p.Copies != 1 {
			t.Errorf("the place is told as %+v", p)
		}
	}
	plant := func(t *testing.T, main *box, entry archive.Entry, id string, later time.Duration) {
		t.Helper()
		data, _ := main.Bytes(main.named(t, "commits/", entry.Time.Format("20060102T150405Z"), string(entry.ID)))
		name := fmt.Sprintf("commits/app/%s.%s.full.complete.age.%d.json", entry.Time.Add(later).Format("20060102T150405Z"), id, entry.Size)
		if err := main.Put(t.Context(), name, bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("a name", func(t *testing.T) {
		main, entry := real(t)
		plant(t, main, entry, "aaaaaaaaaa", day)
		check(t, main, entry, 1)
	})
	t.Run("a name with the ID of a real one", func(t *testing.T) {
		main, entry := real(t)
		plant(t, main, entry, string(entry.ID), day)
		check(t, main, entry, 0)
	})
	t.Run("a backup of a stranger", func(t *testing.T) {
		main, entry := real(t)
		stranger.backup(t, main, run{time: start.Add(day)})
		check(t, main, entry, 1)
	})
	t.Run("very many", func(t *testing.T) {
		main, entry := real(t)
		for i := range 40 {
			plant(t, main, entry, fmt.Sprintf("aaaaaaaa%c%c", 'a'+i/20, 'a'+i%20), time.Duration(i+1)*day)
		}
		main.reads()
		job := app(t, h.places(main, nil, h))
		if job.Places[0].Damaged == 0 {
			t.Error("none is told")
		}
		if n := len(main.reads()); n > 20 {
			t.Errorf("%d objects were read for names that say nothing", n)
		}
		if newest, is := job.Newest(); is {
			t.Errorf("a name that nobody read counts as the newest: %+v", newest)
		}
		if p := job.Places[0]; p.Copies != 0 || !p.Newest.IsZero() {
			t.Errorf("names that nobody read count as copies: %+v", p)
		}
	})
	t.Run("very many, behind what was read before", func(t *testing.T) {
		main, entry := real(t)
		half := h.backup(t, main, run{time: start.Add(hour), half: true})
		var s survey.Surveyor
		look(t, &s, h.places(main, nil, h))
		for i := range 40 {
			plant(t, main, entry, fmt.Sprintf("aaaaaaaa%c%c", 'a'+i/20, 'a'+i%20), time.Duration(i+1)*day)
		}
		for n := range 3 {
			job := look(t, &s, h.places(main, nil, h)).Jobs[0]
			newest, _ := job.Newest()
			if newest.ID != entry.ID || len(newest.Items) != 1 || len(job.Backups) != 2 || job.Backups[1].ID != half.ID {
				t.Errorf("look %d: the newest is %+v, of %d backups", n, newest, len(job.Backups))
			}
			if p := job.Places[0]; p.Damaged == 0 || p.Copies != 1 || !p.Newest.Equal(start) {
				t.Errorf("look %d: the place is told as %+v", n, p)
			}
		}
	})
}

func TestPrunedMeanwhile(t *testing.T) {
	h, main := newHost(t), newBox(t)
	entry := h.backup(t, main, run{time: start})
	h.backup(t, main, run{time: start.Add(day)})
	h.drill(t, main, entry, start.Add(2*day), holdfast.Proven)
	manifest := main.named(t, "commits/", string(entry.ID))
	store := &pruning{main, t, manifest, string(entry.ID)}
	job := app(t, []survey.Place{{Store: "main", Archive: h.archive(store, start, h)}})
	if p := job.Places[0]; p.Down != "" || p.Damaged != 0 || len(job.Proofs) != 0 || len(job.Backups) != 2 {
		t.Errorf("what a prune deletes while it is looked at is told as %+v, proofs %+v", p, job.Proofs)
	}
}
