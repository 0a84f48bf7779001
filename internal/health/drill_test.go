package health_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/health"
)

func TestDrillVerdicts(t *testing.T) {
	// drilled adds verdicts, oldest first.
	drilled := func(proofs ...health.Proof) func(*health.State, *health.Job) {
		return func(_ *health.State, job *health.Job) { job.Proofs = append(job.Proofs, proofs...) }
	}
	untrusted := func(p health.Proof) health.Proof {
		p.Trusted = false
		return p
	}
	// tried sets the record of the last drill.
	tried := func(ago time.Duration, result string) func(*health.State, *health.Job) {
		return func(_ *health.State, job *health.Job) {
			i := slices.IndexFunc(job.Tasks, func(t health.Task) bool { return t.Task == holdfast.TaskDrill })
			job.Tasks[i].Attempt, job.Tasks[i].Result = at.Add(ago), result
		}
	}
	failed, impossible, unsigned := []string{"drill_failed/app//"}, []string{"drill_impossible/app//"}, []string{"drill_impossible/app//verdict"}
	bad := proof(-20*hour, -32*hour, holdfast.Failed, "main")
	for _, c := range []condition{
		{"failed", drilled(bad), failed},
		{"failed, and then the same backup passed", drilled(bad, proof(-hour, -32*hour, holdfast.Proven, "main")), nil},
		{"failed, and then a newer one passed", drilled(bad, proof(-hour, -8*hour, holdfast.Proven, "main")), nil},
		{"failed, and then an older one passed", drilled(bad, proof(-hour, -56*hour, holdfast.Proven, "main")), failed},
		{"passed, and then failed", drilled(proof(-21*hour, -8*hour, holdfast.Proven, "main"), bad), failed},
		{"failed, and then could not test", drilled(bad, proof(-hour, -8*hour, holdfast.CannotTest, "main")), append(failed, impossible...)},
		{"failed, and then passed as somebody says who does not count", drilled(bad, untrusted(proof(-hour, -8*hour, holdfast.Proven, "main"))), append(failed, unsigned...)},
		{"failed, as somebody says who does not count", drilled(untrusted(bad)), failed},
		{"an old one failed, and a newer one passed since", drilled(proof(-20*hour, -20*day, holdfast.Failed, "main"), proof(-hour, -8*hour, holdfast.Proven, "main")), nil},
		{"passed, as somebody says who does not count", drilled(untrusted(proof(-hour, -8*hour, holdfast.Proven, "main"))), unsigned},
		{"could not test, and then passed, as somebody says who does not count", drilled(proof(-2*hour, -8*hour, holdfast.CannotTest, "main"), untrusted(proof(-hour, -8*hour, holdfast.Proven, "main"))),
			append(impossible, unsigned...)},
		{"a verdict that cannot be read while a store is down", func(s *health.State, job *health.Job) {
			drilled(untrusted(proof(-hour, -8*hour, holdfast.Proven, "main")))(s, job)
			job.Places[1] = health.Place{Store: "away", Down: "no route"}
		}, []string{"store_down/app/away/"}},
		{"could not test", drilled(proof(-hour, -8*hour, holdfast.CannotTest, "main")), impossible},
		{"could not test, and then passed", drilled(proof(-2*hour, -8*hour, holdfast.CannotTest, "main"), proof(-hour, -8*hour, holdfast.Proven, "main")), nil},
		{"could not open anything, of which there is a record alone", tried(-hour, "cannot-test"), []string{"drill_impossible/app//drill"}},
		{"could not open anything, and then passed", func(s *health.State, job *health.Job) {
			tried(-2*hour, "cannot-test")(s, job)
			drilled(proof(-hour, -8*hour, holdfast.Proven, "main"))(s, job)
		}, nil},
		{"could not test, of which there is a record too", func(s *health.State, job *health.Job) {
			tried(-hour, "cannot-test")(s, job)
			drilled(proof(-hour, -8*hour, holdfast.CannotTest, "main"))(s, job)
		}, impossible},
		{"reached no store", tried(-hour, "failed"), []string{"drill_impossible/app//drill"}},
		{"could not open anything, and passed as somebody says who does not count", func(s *health.State, job *health.Job) {
			tried(-2*hour, "cannot-test")(s, job)
			drilled(untrusted(proof(-hour, -8*hour, holdfast.Proven, "main")))(s, job)
		}, []string{"drill_impossible/app//drill", "drill_impossible/app//verdict"}},
		{"was refused", tried(-hour, "refused"), nil},
		{"passed in the future", drilled(bad, proof(day, day, holdfast.Proven, "main")), []string{"drill_failed/app//", "clock_off/app//"}},
		{"failed in the future", drilled(proof(day, -8*hour, holdfast.Failed, "main")), []string{"drill_failed/app//", "clock_off/app//"}},
	} {
		c.run(t)
	}
}

func TestDrillOverdue(t *testing.T) {
	const newest, copied, old = "drill_overdue/app//drill", "drill_overdue/app//drill_copy", "drill_overdue/app//drill_old"
	// all sets when drills passed: the newest, the one in a mirror, and the one of an old backup.
	all := func(proofs ...health.Proof) func(*health.State, *health.Job) {
		return func(_ *health.State, job *health.Job) { job.Proofs = proofs }
	}
	young := func(first time.Duration) func(*health.State, *health.Job) {
		return func(_ *health.State, job *health.Job) {
			job.Proofs, job.First = nil, time.Time{}
			job.Backups = series(1+int((first-8*hour)/day), 8*hour, day)
		}
	}
	of := func(when time.Duration) health.Proof { return proof(when, when-hour, holdfast.Proven, "main") }
	in := func(when time.Duration) health.Proof { return proof(when, when-hour, holdfast.Proven, "away") }
	aged := func(when, of time.Duration) health.Proof { return proof(when, of, holdfast.Proven, "main") }
	for _, c := range []condition{
		{"a week and its grace", all(aged(-40*day, -60*day), in(-20*day), of(-7*day-12*hour)), nil},
		{"more", all(aged(-40*day, -60*day), in(-20*day), of(-7*day-12*hour-1)), []string{newest}},
		{"30 days and the grace for the mirror", all(aged(-40*day, -60*day), in(-30*day-12*hour), of(-day)), nil},
		{"more", all(aged(-40*day, -60*day), in(-30*day-12*hour-1), of(-day)), []string{copied}},
		{"91 days and the grace for an old one", all(aged(-91*day-12*hour, -120*day), in(-20*day), of(-day)), nil},
		{"more", all(aged(-91*day-12*hour-1, -120*day), in(-20*day), of(-day)), []string{old}},
		{"14 days are old", all(aged(-40*day, -54*day), in(-20*day), of(-day)), nil},
		{"less is not", all(aged(-40*day, -54*day+1), in(-20*day), of(-day)), []string{old}},
		{"a drill in the mirror counts as one of any backup", all(aged(-40*day, -60*day), in(-day)), nil},
		{"a proof of which the store is not known is none from the mirror", all(aged(-40*day, -60*day), proof(-day, -day, holdfast.Proven, "")), []string{copied}},
		{"none ever", all(), []string{newest, copied, old}},
		{"none ever, and backups are kept for 3 days", func(s *health.State, job *health.Job) {
			all()(s, job)
			job.Backups = series(3, 8*hour, day)
		}, []string{newest, copied}}, // and none is so old that an old one could be drilled
		{"none ever, and the oldest is 14 days old", func(s *health.State, job *health.Job) {
			all()(s, job)
			job.Backups = series(14, day, day)
			job.Places[0].Newest, job.Places[1].Newest, job.Due, job.RPO = at.Add(-day), at.Add(-day), time.Time{}, 0
			job.Tasks[0].Attempt, job.Tasks[0].Success = at.Add(-day), at.Add(-day)
		}, []string{newest, copied, old}},
		{"only failed ones", all(proof(-40*day, -60*day, holdfast.Failed, "main")), []string{"drill_failed/app//", newest, copied, old}},
		{"only ones that could not test", all(proof(-hour, -8*hour, holdfast.CannotTest, "main")), []string{newest, copied, old, "drill_impossible/app//"}},
		{"a job of a week", young(7 * day), nil},
		{"a job of eight days", young(8*day + 8*hour), []string{newest}},
		{"a job of a month", young(32 * day), []string{newest, copied}},
		{"a job without backups has other troubles", func(_ *health.State, job *health.Job) {
			job.Proofs, job.Backups, job.First, job.RPO = nil, nil, time.Time{}, 0
			job.Places[0].Newest, job.Places[1].Newest = time.Time{}, time.Time{}
		}, []string{"stale/app//"}},
		{"nothing is scheduled", func(s *health.State, job *health.Job) { all()(s, job); job.Tasks = job.Tasks[:1] }, nil},
		{"a key check is no drill", func(s *health.State, job *health.Job) { all()(s, job); job.Tasks = job.Tasks[4:] }, nil},
		{"there is no mirror", func(s *health.State, job *health.Job) {
			all(aged(-40*day, -60*day), of(-day))(s, job)
			job.Places = job.Places[:1]
		}, nil},
		{"none is known, and the only store is down", func(s *health.State, job *health.Job) {
			all()(s, job)
			job.Backups, job.Places = nil, []health.Place{{Store: "main", Down: "no route"}}
		}, []string{"store_down/app/main/"}},
		{"none is known of an old one, and the own store is down", func(s *health.State, job *health.Job) {
			all(in(-20*day), of(-day))(s, job)
			job.Places[0] = health.Place{Store: "main", Down: "no route"}
		}, []string{"store_down/app/main/"}},
		{"long ago, as a mirror tells, and the own store is down", func(s *health.State, job *health.Job) {
			all(aged(-40*day, -60*day), of(-8*day))(s, job)
			job.Places[0] = health.Place{Store: "main", Down: "no route"}
		}, []string{"store_down/app/main/"}},
		{"none ever in the own store, and the mirror is down", func(s *health.State, job *health.Job) {
			all()(s, job)
			job.Places[1] = health.Place{Store: "away", Down: "no route"}
		}, []string{"store_down/app/away/", newest, old}},
		{"the mirror is down", func(s *health.State, job *health.Job) {
			all(aged(-40*day, -60*day), of(-day))(s, job)
			job.Places[1] = health.Place{Store: "away", Down: "no route"}
		}, []string{"store_down/app/away/"}},
	} {
		c.run(t)
	}
}

func TestDrillTexts(t *testing.T) {
	s := good()
	s.Jobs[0].Proofs = []health.Proof{proof(-10*day, -10*day, holdfast.Proven, "main")}
	s.Jobs[0].Tasks = s.Jobs[0].Tasks[:2]
	f := told(t, s, health.DrillOverdue)
	if f.Text != "the last drill of any backup that passed is 10 days old, and one is due every 7 days" || !f.Since.Equal(at.Add(-10*day+7*day+12*hour)) {
		t.Errorf("since %v: %s", f.Since, f.Text)
	}
	for _, c := range []struct {
		task       holdfast.Task
		text, hint string
	}{
		{holdfast.TaskDrill, "no drill of any backup ever passed, and one is due every 7 days", "`holdfast drill --job app`"},
		{holdfast.TaskDrillCopy, "no drill from a mirror ever passed, and one is due every 7 days", "`holdfast drill --job app --pick mirror`"},
		{holdfast.TaskDrillOld, "no drill of an old backup ever passed, and one is due every 7 days", "`holdfast drill --job app --pick random --older-than 14d`"},
	} {
		s.Jobs[0].Proofs, s.Jobs[0].Tasks = nil, []health.Task{{Task: c.task, Interval: 7 * day}}
		if f := told(t, s, health.DrillOverdue); f.Text != c.text || !strings.Contains(f.Hint, c.hint) {
			t.Errorf("%s: %s", f.Text, f.Hint)
		}
	}
}
