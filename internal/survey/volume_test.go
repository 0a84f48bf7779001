package survey_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"holdfast/internal/health"
	"holdfast/internal/journal"
	"holdfast/internal/survey"
)

// ofVolume takes in records of the volume pg-data, unless they are of another one, and completes that.
func ofVolume(at time.Time, records ...journal.Record) health.Volume {
	var r survey.Records
	for _, rec := range records {
		if rec.Volume == "" {
			rec.Volume = "pg-data"
		}
		r.Add(rec)
	}
	v := health.Volume{Name: "pg-data"}
	for _, role := range health.VolumeRoles() {
		v.Keys = append(v.Keys, health.VolumeKey{Role: role})
	}
	r.CompleteVolume(&v, at)
	return v
}

// want is a volume of which nothing is recorded, but for what change says.
func want(change func(v *health.Volume)) health.Volume {
	v := ofVolume(start)
	change(&v)
	return v
}

// checked is when the keys were last tried, the operational one first.
func checked(operational, recovery time.Time) func(v *health.Volume) {
	return func(v *health.Volume) { v.Keys[0].Checked, v.Keys[1].Checked = operational, recovery }
}

func nothing(*health.Volume) {}

func TestRecordsOfVolumes(t *testing.T) {
	at := func(hours int) time.Time { return start.Add(time.Duration(hours) * hour) }
	record := func(hours int, event journal.Event, result, detail string) journal.Record {
		return journal.Record{Time: at(hours), Event: event, Result: result, Detail: detail}
	}
	measured := func(hours int, result string, latency, query float64) journal.Record {
		r := record(hours, journal.VolumeMeasured, result, "benchmark")
		r.Figures = map[string]float64{"latency_seconds": latency, "query_seconds": query}
		return r
	}
	var none time.Time
	for _, c := range []struct {
		name    string
		records []journal.Record
		want    func(v *health.Volume)
	}{
		{"none", nil, nothing},
		{"an unlock", []journal.Record{record(1, journal.VolumeUnlocked, "good", "by the operational key")}, checked(at(1), none)},
		{"an unlock in an emergency", []journal.Record{record(1, journal.VolumeUnlocked, "good", "by the recovery key")}, checked(none, at(1))},
		{"an unlock by a key of nobody's", []journal.Record{record(1, journal.VolumeUnlocked, "good", "")}, nothing},
		{"a wrong passphrase", []journal.Record{record(1, journal.VolumeUnlocked, "failed", "wrong passphrase")}, func(v *health.Volume) { v.FailedUnlocks, v.LastFailed = 1, at(1) }},
		{"the right one, and its file system is broken", []journal.Record{record(1, journal.VolumeUnlocked, "failed", "by the operational key")}, func(v *health.Volume) { v.FailedUnlocks, v.LastFailed = 1, at(1) }},
		{
			"several of them, and then the right one", []journal.Record{
				record(1, journal.VolumeUnlocked, "failed", "wrong passphrase"), record(2, journal.VolumeUnlocked, "failed", "wrong passphrase"),
				record(3, journal.VolumeUnlocked, "good", "by the operational key"),
			},
			func(v *health.Volume) {
				checked(at(3), none)(v)
				v.FailedUnlocks, v.LastFailed = 2, at(2)
			},
		},

		{"a key was tried", []journal.Record{record(1, journal.VolumeKeyChecked, "good", "recovery")}, checked(none, at(1))},
		{"both were, one after the other", []journal.Record{record(1, journal.VolumeKeyChecked, "good", "operational"), record(2, journal.VolumeKeyChecked, "good", "recovery")}, checked(at(1), at(2))},
		{"one was, and later did not open it", []journal.Record{record(1, journal.VolumeKeyChecked, "good", "recovery"), record(2, journal.VolumeKeyChecked, "failed", "recovery")}, checked(none, at(1))},
		{"one was again", []journal.Record{record(1, journal.VolumeKeyChecked, "good", "recovery"), record(2, journal.VolumeKeyChecked, "good", "recovery")}, checked(none, at(2))},
		{"verified", []journal.Record{record(1, journal.VolumeVerified, "good", "with both keys")}, checked(at(1), at(1))},
		{"verified without keys", []journal.Record{record(1, journal.VolumeVerified, "good", "without keys")}, nothing},
		{"verified, and not good", []journal.Record{record(1, journal.VolumeVerified, "difference", "with both keys; not good: canary")}, nothing},

		{"created", []journal.Record{record(1, journal.VolumeCreated, "good", "/srv/pg.luks")}, func(v *health.Volume) { v.HeaderChanged = at(1) }},
		{"a key came", []journal.Record{record(1, journal.VolumeKeyAdded, "good", "recovery")}, func(v *health.Volume) { v.HeaderChanged = at(1) }},
		{"a key was replaced", []journal.Record{record(1, journal.VolumeKeyRotated, "good", "recovery: slot 1 went, slot 2 came")}, func(v *health.Volume) { v.HeaderChanged = at(1) }},
		{"a key went", []journal.Record{record(1, journal.VolumeKeyRemoved, "good", "slot 2")}, func(v *health.Volume) { v.HeaderChanged = at(1) }},
		{"sealed anew", []journal.Record{record(1, journal.VolumeReencrypted, "good", "")}, func(v *health.Volume) { v.HeaderChanged = at(1) }},
		{"a key was replaced in part, perhaps", []journal.Record{record(1, journal.VolumeKeyRotated, "good", "recovery"), record(2, journal.VolumeKeyRotated, "interrupted", "recovery")}, func(v *health.Volume) { v.HeaderChanged = at(2) }},
		{"a key was replaced, by a clock that was set back", []journal.Record{record(9, journal.VolumeCreated, "good", ""), record(2, journal.VolumeKeyRotated, "good", "recovery")}, func(v *health.Volume) { v.HeaderChanged = at(2) }},

		{"the holders were asked", []journal.Record{record(1, journal.CustodiansChecked, "good", "Anna, Ben")}, func(v *health.Volume) { v.HoldersChecked = at(1) }},
		{"and later one of them was missing", []journal.Record{record(1, journal.CustodiansChecked, "good", "Anna, Ben"), record(2, journal.CustodiansChecked, "incomplete", "Anna")}, func(v *health.Volume) { v.HoldersChecked = at(1) }},

		{"measured", []journal.Record{measured(1, "good", 0.002, 1.5)}, func(v *health.Volume) { v.BaselineLatency, v.BaselineQuery = 2*time.Millisecond, 1500*time.Millisecond }},
		{"measured again, without the query", []journal.Record{measured(1, "good", 0.002, 1.5), measured(2, "good", 0.003, 0)}, func(v *health.Volume) { v.BaselineLatency = 3 * time.Millisecond }},
		{"measured again, in vain", []journal.Record{measured(1, "good", 0.002, 1.5), measured(2, "failed", 9, 9)}, func(v *health.Volume) { v.BaselineLatency, v.BaselineQuery = 2*time.Millisecond, 1500*time.Millisecond }},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(want(c.want), ofVolume(at(10), c.records...)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			for i := range c.records {
				c.records[i].Volume = "pg-more"
			}
			if diff := cmp.Diff(want(nothing), ofVolume(at(10), c.records...)); diff != "" {
				t.Errorf("of another volume: -want +got:\n%s", diff)
			}
		})
	}
	for _, event := range []journal.Event{
		journal.VolumeLocked, journal.VolumeHeader, journal.VolumeMigrated, journal.VolumeRolledBack, journal.VolumeMigrationEnd, journal.VolumeEmergency,
	} {
		for _, result := range []string{"good", "failed"} {
			if diff := cmp.Diff(want(nothing), ofVolume(at(10), record(1, event, result, "by the recovery key"))); diff != "" {
				t.Errorf("%s, %s: -want +got:\n%s", event, result, diff)
			}
		}
	}
}

// TestFailedUnlocks: those of the last 24 hours count, and when one last failed is known for longer.
func TestFailedUnlocks(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var records []journal.Record
		count, last := 0, time.Time{}
		for range rapid.IntRange(0, 6).Draw(t, "tries") {
			rec := journal.Record{Event: journal.VolumeUnlocked, Result: "failed", Detail: "wrong passphrase"}
			ago := rapid.SampledFrom([]time.Duration{0, time.Second, day - time.Second, day, day + time.Second, 9 * day, -time.Second, -day}).Draw(t, "ago")
			if rec.Time = start.Add(-ago); rapid.Bool().Draw(t, "opens") {
				rec.Result, rec.Detail = "good", "by the operational key"
			} else {
				if last = rec.Time; ago >= 0 && ago <= health.VolumeFailedFor {
					count++
				}
			}
			records = append(records, rec)
		}
		if v := ofVolume(start, records...); v.FailedUnlocks != count || !v.LastFailed.Equal(last) {
			t.Fatalf("%d failed, last at %v; want %d, %v", v.FailedUnlocks, v.LastFailed, count, last)
		}
	})
}

// TestVolumesAreApart: what is recorded of a volume is the same whatever is recorded between of other volumes and of jobs, and says nothing
// of a job.
func TestVolumesAreApart(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		draw := func() journal.Record {
			return journal.Record{
				Event: rapid.SampledFrom(journal.Events()).Draw(t, "event"), Result: rapid.SampledFrom([]string{"good", "failed", "interrupted"}).Draw(t, "result"),
				Detail: rapid.SampledFrom([]string{"", "by the operational key", "recovery", "with both keys", "backup"}).Draw(t, "detail"), Store: "main", Job: "app",
				Time:    start.Add(-time.Duration(rapid.IntRange(0, 100).Draw(t, "ago")) * hour),
				Figures: map[string]float64{"latency_seconds": rapid.Float64Range(0, 1).Draw(t, "latency"), "free": 1},
			}
		}
		var alone, all []journal.Record
		var jobs, mixed survey.Records
		for range rapid.IntRange(0, 20).Draw(t, "records") {
			rec := draw()
			rec.Volume = rapid.SampledFrom([]string{"pg-data", "pg-more", ""}).Draw(t, "volume")
			if rec.Volume == "pg-data" {
				alone = append(alone, rec)
			}
			if rec.Volume == "" {
				jobs.Add(rec)
			} else {
				all = append(all, rec)
			}
			mixed.Add(rec)
		}
		got := ofVolume(start)
		mixed.CompleteVolume(&got, start)
		if diff := cmp.Diff(ofVolume(start, alone...), got); diff != "" {
			t.Fatalf("of %v: -alone +mixed:\n%s", all, diff)
		}
		plain, job := health.Job{Name: "app", Places: []health.Place{{Store: "main"}}}, health.Job{Name: "app", Places: []health.Place{{Store: "main"}}}
		jobs.Complete(&plain)
		mixed.Complete(&job)
		if diff := cmp.Diff(plain, job); diff != "" || !slices.Equal(jobs.Stores(), mixed.Stores()) || fmt.Sprint(jobs.Free("main")) != fmt.Sprint(mixed.Free("main")) {
			t.Fatalf("of the job: -alone +mixed:\n%s", diff)
		}
	})
}

// TestKeysOfARole: of two keys of a role, as a rotation leaves them that was interrupted, it is not known which one it was.
func TestKeysOfARole(t *testing.T) {
	var r survey.Records
	r.Add(journal.Record{Volume: "pg-data", Time: start, Event: journal.VolumeKeyChecked, Result: "good", Detail: "operational"})
	v := health.Volume{Name: "pg-data", Keys: []health.VolumeKey{{Role: "operational"}, {Role: "operational", Created: start}, {Role: "recovery"}}}
	r.CompleteVolume(&v, start)
	if want := []health.VolumeKey{{Role: "operational", Checked: start}, {Role: "operational", Created: start, Checked: start}, {Role: "recovery"}}; !slices.Equal(v.Keys, want) {
		t.Errorf("keys %v, want %v", v.Keys, want)
	}
}

// TestRecordOfAVolume: what a command says of its volume is what comes back from the disk.
func TestRecordOfAVolume(t *testing.T) {
	j, err := journal.Open(journal.Options{Dir: t.TempDir(), Host: "web", Now: func() time.Time { return start }})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := j.Append(t.Context(), journal.Record{Event: journal.VolumeUnlocked, Volume: "pg-data", Result: "failed", Detail: "wrong passphrase"}); err != nil {
		t.Fatal(err)
	}
	var r survey.Records
	if err := j.Read(journal.Filter{}, func(rec journal.Record) error {
		r.Add(rec)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	v := health.Volume{Name: "pg-data"}
	if r.CompleteVolume(&v, start.Add(time.Minute)); v.FailedUnlocks != 1 || !v.LastFailed.Equal(start) {
		t.Errorf("told as %+v", v)
	}
}
