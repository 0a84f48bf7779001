package survey_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/health"
	"holdfast/internal/survey"
)

// told are the proofs of a job in a few words, oldest first: what, when in hours since the start, whether it counts, and where.
func told(job health.Job) string {
	var all []string
	for _, p := range job.Proofs {
		word := "untrusted"
		if p.Trusted {
			word = "trusted"
		}
		all = append(all, fmt.Sprintf("%s@%d/%s/%s", p.Verdict, int(p.Time.Sub(start).Hours()), word, p.Store))
	}
	return strings.Join(all, " ")
}

func TestProofs(t *testing.T) {
	h, stranger := newHost(t), newHost(t)
	// twoBackups are in both stores, before any drill.
	twoBackups := func(t *testing.T) (main, away *box, older, newer archive.Entry) {
		main, away = newBox(t), newBox(t)
		older = h.backup(t, main, run{time: start})
		newer = h.backup(t, main, run{time: start.Add(day)})
		main.copyTo(t, away)
		return main, away, older, newer
	}
	at := func(hours int) time.Time { return start.Add(time.Duration(hours) * hour) }
	check := func(t *testing.T, main, away *box, want string) health.Job {
		t.Helper()
		job := app(t, h.places(main, away, h))
		if got := told(job); got != want {
			t.Errorf("told are %q, want %q", got, want)
		}
		return job
	}
	move := func(t *testing.T, b *box, from, to string) {
		t.Helper()
		for _, name := range b.Names() {
			if other := strings.Replace(name, from, to, 1); strings.HasPrefix(name, "proofs/") && other != name {
				data, _ := b.Bytes(name)
				if err := b.Put(t.Context(), other, strings.NewReader(string(data))); err != nil {
					t.Fatal(err)
				}
				b.remove(t, name)
			}
		}
	}

	t.Run("none", func(t *testing.T) {
		main, away, _, _ := twoBackups(t)
		check(t, main, away, "")
	})
	t.Run("the newest alone matters when it passed", func(t *testing.T) {
		main, away, older, newer := twoBackups(t)
		h.drill(t, main, older, at(30), holdfast.Proven)
		h.drill(t, main, newer, at(31), holdfast.Proven)
		check(t, main, away, "proven@31/trusted/main")
	})
	t.Run("one that failed, and the last that passed", func(t *testing.T) {
		main, away, older, newer := twoBackups(t)
		h.drill(t, main, older, at(29), holdfast.Proven)
		h.drill(t, main, older, at(30), holdfast.Proven)
		h.drill(t, main, newer, at(31), holdfast.Failed)
		h.drill(t, main, newer, at(32), holdfast.CannotTest)
		check(t, main, away, "proven@30/trusted/main failed@31/trusted/main cannot-test@32/trusted/main")
	})
	t.Run("one that failed, and an older backup that passed since", func(t *testing.T) {
		main, away, older, newer := twoBackups(t)
		h.drill(t, main, newer, at(30), holdfast.Failed)
		h.drill(t, main, older, at(31), holdfast.Failed)
		h.drill(t, main, older, at(32), holdfast.Proven)
		job := check(t, main, away, "failed@30/trusted/main failed@31/trusted/main proven@32/trusted/main")
		if findings := health.Judge(health.State{At: at(33), Jobs: []health.Job{job}}, health.Limits{}); len(findings) != 1 || findings[0].Alarm != health.DrillFailed {
			t.Errorf("it is judged as %+v", findings)
		}
	})
	t.Run("one that failed, and what made it good", func(t *testing.T) {
		main, away, older, newer := twoBackups(t)
		h.drill(t, main, newer, at(30), holdfast.Failed)
		h.drill(t, main, newer, at(31), holdfast.Proven)
		h.drill(t, main, older, at(32), holdfast.Proven)
		job := check(t, main, away, "failed@30/trusted/main proven@31/trusted/main proven@32/trusted/main")
		if findings := health.Judge(health.State{At: at(33), Jobs: []health.Job{job}}, health.Limits{}); len(findings) != 0 {
			t.Errorf("it is judged as %+v", findings)
		}
	})
	t.Run("the name says proven, and the verdict failed", func(t *testing.T) {
		main, away, older, newer := twoBackups(t)
		h.drill(t, main, older, at(30), holdfast.Proven)
		h.drill(t, main, newer, at(31), holdfast.Failed)
		move(t, main, ".failed.", ".proven.")
		check(t, main, away, "proven@30/trusted/main proven@31/untrusted/main")
	})
	t.Run("the name says another backup", func(t *testing.T) {
		main, away, older, newer := twoBackups(t)
		h.drill(t, main, older, at(31), holdfast.Proven)
		move(t, main, older.Time.Format("20060102T150405Z.")+string(older.ID), newer.Time.Format("20060102T150405Z.")+string(newer.ID))
		check(t, main, away, "proven@31/untrusted/main")
	})
	t.Run("by a stranger", func(t *testing.T) {
		main, away, older, newer := twoBackups(t)
		h.drill(t, main, older, at(30), holdfast.Proven)
		stranger.drill(t, main, newer, at(31), holdfast.Proven)
		stranger.drill(t, main, newer, at(32), holdfast.Proven)
		check(t, main, away, "proven@30/trusted/main proven@31/untrusted/main proven@32/untrusted/main")
		if got := told(app(t, h.places(main, away))); got != "proven@32/trusted/main" {
			t.Errorf("where any signer counts, told are %q", got)
		}
		if got := told(app(t, h.places(main, away, h, stranger))); got != "proven@32/trusted/main" {
			t.Errorf("where this one does, told are %q", got)
		}
	})
	t.Run("very many by a stranger", func(t *testing.T) {
		main, away, _, newer := twoBackups(t)
		for i := range 40 {
			stranger.drill(t, main, newer, at(30+i), holdfast.Proven)
		}
		main.reads()
		job := app(t, h.places(main, away, h))
		if _, proven := job.Proven(); proven {
			t.Errorf("it is told as proven: %s", told(job))
		}
		if n := len(main.reads()); n > 20 {
			t.Errorf("%d objects were read for verdicts that do not count", n)
		}
	})
	t.Run("a name with the ID of one that failed", func(t *testing.T) {
		main, away, older, newer := twoBackups(t)
		h.drill(t, main, newer, at(31), holdfast.Failed)
		name := main.named(t, "proofs/", ".failed.", ".json.sig")
		name = strings.NewReplacer(".json.sig", ".json", ".failed.", ".proven.", "/20260702T090000Z", "/20260701T090000Z", string(newer.ID), string(older.ID), newer.Time.Format("20060102T150405Z"), older.Time.Format("20060102T150405Z")).Replace(name)
		if err := main.Put(t.Context(), name, strings.NewReader("{}")); err != nil {
			t.Fatal(err)
		}
		check(t, main, away, "proven@7/untrusted/main failed@31/trusted/main")
	})
	t.Run("in a mirror", func(t *testing.T) {
		main, away, _, newer := twoBackups(t)
		h.drill(t, main, newer, at(31), holdfast.Proven)
		h.drill(t, away, newer, at(30), holdfast.Proven)
		main.copyTo(t, away)
		check(t, main, away, "proven@30/trusted/away proven@31/trusted/main")
	})
	t.Run("copied to a mirror", func(t *testing.T) {
		main, away, _, newer := twoBackups(t)
		h.drill(t, main, newer, at(31), holdfast.Proven)
		main.copyTo(t, away)
		check(t, main, away, "proven@31/trusted/main")
	})
	t.Run("copied to a mirror, of a backup that its own store does not have any more", func(t *testing.T) {
		main, away, older, newer := twoBackups(t)
		h.drill(t, away, newer, at(30), holdfast.Proven)
		h.drill(t, main, older, at(31), holdfast.Proven)
		main.copyTo(t, away)
		h.drill(t, away, older, at(32), holdfast.CannotTest)
		if _, err := h.archive(main, at(40)).Delete(t.Context(), older, archive.Prune{Rule: archive.PruneRetention, Time: at(40)}, nil); err != nil {
			t.Fatal(err)
		}
		check(t, main, away, "proven@30/trusted/away proven@31/trusted/main cannot-test@32/trusted/away")
	})
	t.Run("in a mirror, while the own store is down", func(t *testing.T) {
		main, away, _, newer := twoBackups(t)
		h.drill(t, main, newer, at(31), holdfast.Proven)
		main.copyTo(t, away)
		places := h.places(main, away, h)
		places[0] = survey.Place{Store: "main", Err: errDown}
		if got := told(app(t, places)); got != "proven@31/trusted/" {
			t.Errorf("nobody knows where it was made, and told is %q", got)
		}
	})
	t.Run("of an old backup", func(t *testing.T) {
		main, away, older, newer := twoBackups(t)
		h.drill(t, main, older, older.Time.Add(14*day), holdfast.Proven)
		h.drill(t, main, newer, newer.Time.Add(14*day-time.Second), holdfast.Proven)
		h.drill(t, main, newer, newer.Time.Add(14*day-time.Second/2-time.Hour), holdfast.Proven)
		job := check(t, main, away, "proven@336/trusted/main proven@359/trusted/main")
		if of := job.Proofs[0].Time.Sub(job.Proofs[0].Of); of != health.Old {
			t.Errorf("the old one is %v old", of)
		}
	})
	t.Run("without its signature", func(t *testing.T) {
		main, away, _, newer := twoBackups(t)
		h.drill(t, main, newer, at(31), holdfast.Proven)
		main.remove(t, main.named(t, "proofs/", ".json.sig"))
		check(t, main, away, "proven@31/untrusted/main")
	})
}
