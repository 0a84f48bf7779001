package health_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"holdfast/internal/health"
)

// goodVolume is one that nothing is wrong with.
func goodVolume() health.Volume {
	return health.Volume{
		Name: "pg-data", State: health.Mounted, Wanted: true, LUKS: true, Guarded: true, Slots: 2,
		Keys: []health.VolumeKey{{"operational", at.Add(-200 * day), at.Add(-20 * day)}, {"recovery", at.Add(-50 * day), time.Time{}}},
		Size: 100 * size, Used: 60 * size,
		Span: 5 * time.Minute, Busy: 0.4, Latency: 900 * time.Microsecond, BaselineLatency: 500 * time.Microsecond, Query: 11 * time.Millisecond, BaselineQuery: 10 * time.Millisecond,
		LastFailed: at.Add(-3 * day), HeaderBackup: at.Add(-20 * day), HeaderChanged: at.Add(-50 * day),
		Holders:        []health.VolumeHolder{{Role: "operational"}, {Role: "operational"}, {Role: "recovery"}},
		HoldersChecked: at.Add(-80 * day),
	}
}

// TestVolumes changes one thing of a volume that is well. Each edge is tried on both of its sides.
func TestVolumes(t *testing.T) {
	state := func(state health.VolumeState, luks bool) func(*health.Volume) {
		return func(v *health.Volume) { v.State, v.LUKS = state, luks }
	}
	for _, c := range []struct {
		name   string
		change func(v *health.Volume)
		want   []string
	}{
		{"nothing", func(*health.Volume) {}, nil},
		{"locked", state(health.Locked, true), []string{"volume_locked///pg-data/"}},
		{"open", state(health.Opened, true), []string{"volume_locked///pg-data/"}},
		{"locked, and not wanted", func(v *health.Volume) { v.State, v.Wanted = health.Locked, false }, nil},
		{"missing", state(health.Missing, false), []string{"volume_not_luks///pg-data/"}},
		{"missing, and not wanted", func(v *health.Volume) { v.State, v.LUKS, v.Wanted = health.Missing, false, false }, []string{"volume_not_luks///pg-data/"}},
		{"not LUKS", state(health.NotLUKS, false), []string{"volume_not_luks///pg-data/"}},
		{"creating", state(health.Creating, true), []string{"volume_not_luks///pg-data/"}},
		{"creating, with one key", func(v *health.Volume) { v.State, v.Slots, v.Keys = health.Creating, 1, v.Keys[:1] }, []string{"volume_not_luks///pg-data/"}},
		{"not known", state("", true), []string{"volume_not_luks///pg-data/"}},
		{"a word that nobody knows", state("dancing", true), []string{"volume_not_luks///pg-data/"}},
		{"mounted, and its header is gone", state(health.Mounted, false), []string{"volume_not_luks///pg-data/"}},
		{"locked, and its header is gone", state(health.Locked, false), []string{"volume_not_luks///pg-data/", "volume_locked///pg-data/"}},
		{"elsewhere", state(health.Elsewhere, true), []string{"volume_elsewhere///pg-data/"}},
		{"covered", state(health.Covered, true), []string{"volume_elsewhere///pg-data/"}},
		{"the header is not seen", func(v *health.Volume) { v.LUKS, v.Keys, v.Slots, v.HeaderUnseen = false, nil, 0, true }, nil},
		{"the guard is not seen", func(v *health.Volume) { v.Guarded, v.GuardUnseen = false, true }, nil},
		{"not guarded", func(v *health.Volume) { v.Guarded = false }, []string{"volume_elsewhere///pg-data/guard"}},
		{"covered and not guarded", func(v *health.Volume) { v.State, v.Guarded = health.Covered, false }, []string{"volume_elsewhere///pg-data/", "volume_elsewhere///pg-data/guard"}},

		{"one slot", func(v *health.Volume) { v.Slots, v.Keys = 1, v.Keys[1:] }, []string{"volume_slots///pg-data/operational"}},
		{"two slots, of which one is nobody's", func(v *health.Volume) { v.Keys = v.Keys[:1] }, []string{"volume_slots///pg-data/recovery", "volume_slots///pg-data/unknown"}},
		{"a third that is nobody's", func(v *health.Volume) { v.Slots = 3 }, []string{"volume_slots///pg-data/unknown"}},
		{"a rotation that was not ended", func(v *health.Volume) {
			v.Slots, v.Keys = 3, append(v.Keys, health.VolumeKey{Role: "recovery", Created: at, Checked: at})
		}, []string{"volume_slots///pg-data/recovery"}},
		{"no slot", func(v *health.Volume) { v.Slots, v.Keys = 0, nil }, []string{"volume_slots///pg-data/operational", "volume_slots///pg-data/recovery"}},

		{"an unlock failed a day ago", func(v *health.Volume) { v.LastFailed = at.Add(-day) }, []string{"volume_unlock_failed///pg-data/"}},
		{"an unlock failed before that", func(v *health.Volume) { v.LastFailed = at.Add(-day - 1) }, nil},
		{"an unlock failed, by a clock that is off", func(v *health.Volume) { v.LastFailed = at.Add(90 * day) }, []string{"volume_unlock_failed///pg-data/"}},
		{"an unlock failed, nobody knows when", func(v *health.Volume) { v.FailedUnlocks, v.LastFailed = 1, time.Time{} }, []string{"volume_unlock_failed///pg-data/"}},
		{"none ever failed", func(v *health.Volume) { v.LastFailed = time.Time{} }, nil},

		{"80 %", func(v *health.Volume) { v.Used = 80 * size }, nil},
		{"more than 80 %", func(v *health.Volume) { v.Used = 80*size + 1 }, []string{"volume_filling///pg-data/"}},
		{"95 %", func(v *health.Volume) { v.Used = 95 * size }, []string{"volume_filling///pg-data/"}},
		{"more than 95 %", func(v *health.Volume) { v.Used = 95*size + 1 }, []string{"volume_full///pg-data/", "volume_filling///pg-data/"}},
		{"its size is not known", func(v *health.Volume) { v.Size = 0 }, nil},

		{"busy for ten minutes", func(v *health.Volume) { v.Busy, v.BusySince = 0.91, at.Add(-10*time.Minute) }, []string{"volume_busy///pg-data/"}},
		{"busy for less", func(v *health.Volume) { v.Busy, v.BusySince = 1, at.Add(-10*time.Minute+1) }, nil},
		{"90 % is not busy", func(v *health.Volume) { v.Busy, v.BusySince = 0.9, at.Add(-hour) }, nil},
		{"busy, and nobody knows since when", func(v *health.Volume) { v.Busy = 1 }, nil},
		{"busy when it was last measured, and that is not now", func(v *health.Volume) { v.Span, v.Busy, v.BusySince = 0, 1, at.Add(-hour) }, nil},
		{"three times the latency", func(v *health.Volume) { v.Latency = 3 * v.BaselineLatency }, nil},
		{"more than that", func(v *health.Volume) { v.Latency = 3*v.BaselineLatency + 1 }, []string{"volume_slow///pg-data/latency"}},
		{"a hundred times almost nothing", func(v *health.Volume) { v.BaselineLatency, v.Latency = 10*time.Microsecond, time.Millisecond }, nil},
		{"latency without a baseline", func(v *health.Volume) { v.BaselineLatency, v.Latency = 0, hour }, nil},
		{"latency that was not measured", func(v *health.Volume) { v.Span, v.Latency = 0, hour }, nil},
		{"queries take 15 % more", func(v *health.Volume) { v.BaselineQuery, v.Query = 100, 115 }, nil},
		{"queries take longer", func(v *health.Volume) { v.BaselineQuery, v.Query = 100, 116 }, []string{"volume_slow///pg-data/query"}},
		{"queries without a baseline", func(v *health.Volume) { v.BaselineQuery, v.Query = 0, hour }, nil},
		{"all is slow", func(v *health.Volume) { v.Latency, v.Query = hour, hour }, []string{"volume_slow///pg-data/latency", "volume_slow///pg-data/query"}},

		{"the header's backup is 30 days old", func(v *health.Volume) { v.HeaderBackup = at.Add(-30 * day) }, nil},
		{"it is older", func(v *health.Volume) { v.HeaderBackup = at.Add(-30*day - 1) }, []string{"volume_header_backup///pg-data/"}},
		{"there is none", func(v *health.Volume) { v.HeaderBackup = time.Time{} }, []string{"volume_header_backup///pg-data/"}},
		{"it lies in the future", func(v *health.Volume) { v.HeaderBackup = at.Add(day) }, []string{"volume_header_backup///pg-data/"}},
		{"a key was changed after it", func(v *health.Volume) { v.HeaderChanged = at.Add(-20*day + time.Second) }, []string{"volume_header_backup///pg-data/"}},
		{"a key was changed in the same second", func(v *health.Volume) { v.HeaderChanged = at.Add(-20*day + 999*time.Millisecond) }, nil},

		{"a key is a year old", func(v *health.Volume) { v.Keys[1].Created, v.Keys[1].Checked = at.Add(-365*day), at }, nil},
		{"it is older", func(v *health.Volume) { v.Keys[1].Created, v.Keys[1].Checked = at.Add(-365*day-1), at }, []string{"volume_key_due///pg-data/recovery/age"}},
		{"nobody tried it for 100 days", func(v *health.Volume) { v.Keys[0].Checked = at.Add(-100 * day) }, nil},
		{"nor before", func(v *health.Volume) { v.Keys[0].Checked = at.Add(-100*day - 1) }, []string{"volume_key_due///pg-data/operational/check"}},
		{"its check lies in the future", func(v *health.Volume) { v.Keys[0].Checked = at.Add(hour) }, []string{"volume_key_due///pg-data/operational/check"}},
		{"nothing is known of its key", func(v *health.Volume) { v.Keys[0] = health.VolumeKey{Role: "operational"} }, []string{"volume_key_due///pg-data/operational/check"}},
		{"the old one of an unfinished rotation counts", func(v *health.Volume) {
			v.Slots, v.Keys = 3, append(v.Keys, health.VolumeKey{Role: "operational", Created: at.Add(-400 * day), Checked: at})
		}, []string{"volume_slots///pg-data/operational", "volume_key_due///pg-data/operational/age"}},
		{"a holder left", func(v *health.Volume) { v.Holders[0].Left = at.Add(-day) }, []string{"volume_key_due///pg-data/operational/holder"}},
		{"he left on the day on which the key was made", func(v *health.Volume) { v.Holders[0].Left = v.Keys[0].Created }, nil},
		{"he left before", func(v *health.Volume) { v.Holders[0].Left = v.Keys[0].Created.Add(-day) }, nil},
		{"he will leave", func(v *health.Volume) { v.Holders[0].Left = at.Add(1) }, nil},
		{"one of two left long ago", func(v *health.Volume) {
			v.Holders = []health.VolumeHolder{{Role: "recovery", Left: at.Add(-90 * day)}, {Role: "operational"}}
		}, []string{"volume_key_due///pg-data/holders"}},
		{"nobody holds it", func(v *health.Volume) { v.Holders = nil }, []string{"volume_key_due///pg-data/holders"}},
		{"holders were not confirmed for 100 days", func(v *health.Volume) {
			v.Keys[1].Created, v.Keys[1].Checked, v.HoldersChecked = at.Add(-300*day), at, at.Add(-100*day)
		}, nil},
		{"nor before", func(v *health.Volume) {
			v.Keys[1].Created, v.Keys[1].Checked, v.HoldersChecked = at.Add(-300*day), at, at.Add(-100*day-1)
		}, []string{"volume_key_due///pg-data/holders checked"}},
		{"holders of new keys were not confirmed yet", func(v *health.Volume) { v.HoldersChecked = time.Time{} }, nil},
		{"nobody knows how old its keys are, and who holds them", func(v *health.Volume) {
			v.Keys, v.HoldersChecked = []health.VolumeKey{{Role: "operational", Checked: at}, {Role: "recovery", Checked: at}}, time.Time{}
		}, []string{"volume_key_due///pg-data/holders checked"}},
		{"its device is gone, and with it what is known of its keys", func(v *health.Volume) {
			v.State, v.LUKS, v.Slots, v.Keys = health.Missing, false, 0, nil
		}, []string{"volume_not_luks///pg-data/"}},

		{"a migration for a week", func(v *health.Volume) { v.Migration, v.MigrationSince = "watching", at.Add(-7*day) }, nil},
		{"a migration for longer", func(v *health.Volume) { v.Migration, v.MigrationSince = "watching", at.Add(-7*day-1) }, []string{"volume_migration///pg-data/"}},
		{"a migration, nobody knows since when", func(v *health.Volume) { v.Migration = "copying" }, []string{"volume_migration///pg-data/"}},
		{"a migration that is over", func(v *health.Volume) { v.MigrationSince = at.Add(-90 * day) }, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, v := good(), goodVolume()
			c.change(&v)
			s.Volumes = []health.Volume{v}
			findings := health.Judge(s, health.Limits{})
			got := keys(findings)
			slices.Sort(got)
			if want := slices.Sorted(slices.Values(c.want)); !slices.Equal(got, want) {
				t.Errorf("found %q\nwant  %q", got, want)
			}
			for _, f := range findings {
				checkTexts(t, f)
				if f.Volume != "pg-data" || f.About() != "volume pg-data" || !f.Alarm.OfVolume() {
					t.Errorf("%s is about %q", f.Key(), f.About())
				}
				if f.Since.After(at) && f.Alarm != health.VolumeUnlockFailed {
					t.Errorf("%s begins in the future: %v", f.Key(), f.Since)
				}
			}
		})
	}
}

// TestVolumeTexts: figures are rounded so that they never tell more than there is, and what is known more is told on the same line.
func TestVolumeTexts(t *testing.T) {
	for want, c := range map[string]struct {
		alarm  health.Alarm
		change func(v *health.Volume)
	}{
		"it is full to 80 %": {health.VolumeFilling, func(v *health.Volume) { v.Used = 81*size - 1 }},
		"its device works 99 % of the time, and has for 26 min":                                {health.VolumeBusy, func(v *health.Volume) { v.Busy, v.BusySince = 0.999, at.Add(-26*time.Minute) }},
		"an operation of its device takes 12.35ms, 24.7 times its baseline of 500µs":           {health.VolumeSlow, func(v *health.Volume) { v.Latency = 12_345_678 }},
		"the test query takes 15ms, 50 % more than its baseline of 10ms":                       {health.VolumeSlow, func(v *health.Volume) { v.Query = 15 * time.Millisecond }},
		"3 tries to unlock it failed in the last 24 hours":                                     {health.VolumeUnlockFailed, func(v *health.Volume) { v.FailedUnlocks, v.LastFailed = 3, at }},
		"1 try to unlock it failed in the last 24 hours":                                       {health.VolumeUnlockFailed, func(v *health.Volume) { v.LastFailed = at }},
		"its operational key is known to 2 holders who left":                                   {health.VolumeKeyDue, func(v *health.Volume) { v.Holders = left(v.Holders) }},
		"it has no recovery key (1 slot in all): whoever loses the other one loses everything": {health.VolumeSlots, func(v *health.Volume) { v.Slots, v.Keys = 1, v.Keys[:1] }},
		"something else is mounted where it belongs: /dev/sdb1; ext4":                          {health.VolumeElsewhere, func(v *health.Volume) { v.State, v.Detail = health.Elsewhere, "/dev/sdb1\next4" }},
	} {
		s, v := good(), goodVolume()
		c.change(&v)
		s.Volumes = []health.Volume{v}
		if f := told(t, s, c.alarm); f.Text != want {
			t.Errorf("%q\nwant %q", f.Text, want)
		}
	}
}

// left are the first two holders gone, and others in their place.
func left(holders []health.VolumeHolder) []health.VolumeHolder {
	holders = append(holders, health.VolumeHolder{Role: "operational"})
	holders[0].Left, holders[1].Left = at.Add(-3*day), at.Add(-2*day)
	return holders
}

// TestHeaderInAStoreThatIsDown: whether there is a backup is not known, and that is told of the store.
func TestHeaderInAStoreThatIsDown(t *testing.T) {
	s, v := good(), goodVolume()
	v.HeaderBackup = time.Time{}
	s.Volumes, s.Stores[1].Down = []health.Volume{v}, "no route"
	if got, want := keys(health.Judge(s, health.Limits{})), []string{"store_down//away/"}; !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
	s.Volumes[0].HeaderBackup = at.Add(-31 * day)
	if f := told(t, s, health.VolumeHeaderBackup); !f.Since.Equal(at.Add(-day)) {
		t.Errorf("an old one is told as of %v: %s", f.Since, f.Text)
	}
}

// TestVolumesAreToldApart: the same of two volumes is two findings, and what is told first is the worst of them.
func TestVolumesAreToldApart(t *testing.T) {
	s, a, b := good(), goodVolume(), goodVolume()
	b.Name, a.State, b.State, b.Used = "other", health.Locked, health.Locked, 90*size
	s.Volumes = []health.Volume{a, b}
	if got, want := keys(health.Judge(s, health.Limits{})), []string{"volume_locked///pg-data/", "volume_locked///other/", "volume_filling///other/"}; !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
	if text := health.Sentence(s, health.Judge(s, health.Limits{})); !strings.HasPrefix(text, "CRITICAL: volume pg-data: it is locked") {
		t.Error(text)
	}
}

// TestKeyOfRole: of two keys of a role what is worse of each is known.
func TestKeyOfRole(t *testing.T) {
	v := health.Volume{Keys: []health.VolumeKey{{"recovery", at.Add(-day), at.Add(-hour)}, {"operational", at, at}, {"recovery", at, time.Time{}}}}
	if key, found := v.Key("recovery"); !found || key != (health.VolumeKey{Role: "recovery", Created: at.Add(-day)}) || !key.Due().Equal(at.Add(364*day)) {
		t.Errorf("%v, %t, due %v", key, found, key.Due())
	}
	if key, found := v.Key("none"); found || !key.Due().IsZero() {
		t.Errorf("a role without a key has %v", key)
	}
}

// drawVolume makes a volume of anything.
func drawVolume(t *rapid.T, name string) health.Volume {
	v := health.Volume{
		Name: name, State: rapid.SampledFrom(append(health.VolumeStates(), "")).Draw(t, "state"), Detail: drawWhy(t), Wanted: rapid.Bool().Draw(t, "wanted"),
		LUKS: rapid.Bool().Draw(t, "luks"), Guarded: rapid.Bool().Draw(t, "guarded"), Slots: rapid.IntRange(0, 4).Draw(t, "slots"), Size: drawSize(t), Used: drawSize(t),
		Span: drawSpan(t), Busy: rapid.Float64Range(0, 1).Draw(t, "busy"), BusySince: drawTime(t), Latency: drawSpan(t), BaselineLatency: drawSpan(t), Query: drawSpan(t), BaselineQuery: drawSpan(t),
		FailedUnlocks: rapid.IntRange(0, 1).Draw(t, "failed"), LastFailed: drawTime(t), HeaderBackup: drawTime(t), HeaderChanged: drawTime(t), HoldersChecked: drawTime(t),
		Migration: drawWhy(t), MigrationSince: drawTime(t),
	}
	for range rapid.IntRange(0, 3).Draw(t, "volume keys") {
		v.Keys = append(v.Keys, health.VolumeKey{Role: rapid.SampledFrom(health.VolumeRoles()).Draw(t, "role"), Created: drawTime(t), Checked: drawTime(t)})
	}
	for range rapid.IntRange(0, 3).Draw(t, "holders") {
		v.Holders = append(v.Holders, health.VolumeHolder{Role: rapid.SampledFrom(health.VolumeRoles()).Draw(t, "role"), Left: drawTime(t)})
	}
	return v
}

// takeFutureOf takes out of a volume what becomes better by itself, when its time has come.
func takeFutureOf(v *health.Volume) {
	for i := range v.Keys {
		for _, t := range []*time.Time{&v.Keys[i].Created, &v.Keys[i].Checked} {
			takeMoment(t)
		}
	}
	for _, t := range []*time.Time{&v.HeaderBackup, &v.HoldersChecked} {
		takeMoment(t)
	}
}

func takeMoment(t *time.Time) {
	if t.After(at) {
		*t = at
	}
}

// worseVolume are the things that can become worse with a volume.
func worseVolume() map[string]worsening {
	volume := func(do func(v *health.Volume)) func(*rapid.T, *health.State, *health.Job) {
		return func(_ *rapid.T, s *health.State, _ *health.Job) {
			if len(s.Volumes) > 0 {
				s.Volumes = slices.Clone(s.Volumes)
				s.Volumes[0].Keys = slices.Clone(s.Volumes[0].Keys)
				do(&s.Volumes[0])
			}
		}
	}
	return map[string]worsening{
		"a volume's guard is gone":       {volume(func(v *health.Volume) { v.Guarded = false }), nil},
		"a volume's header is damaged":   {volume(func(v *health.Volume) { v.LUKS = false }), []health.Alarm{health.VolumeSlots, health.VolumeKeyDue}},
		"a volume becomes full":          {volume(func(v *health.Volume) { v.Size = max(v.Size, 1); v.Used = v.Size }), nil},
		"an unlock fails":                {volume(func(v *health.Volume) { v.FailedUnlocks++; v.LastFailed = at }), nil},
		"a volume is busier":             {volume(func(v *health.Volume) { v.Busy = 1 }), nil},
		"a volume is slower":             {volume(func(v *health.Volume) { v.Latency, v.Query = 1<<62, 1<<62 }), nil},
		"the header's backup lies ahead": {volume(func(v *health.Volume) { v.HeaderBackup = at.AddDate(900, 0, 0) }), nil},
		"the volume's keys changed":      {volume(func(v *health.Volume) { v.HeaderChanged = at.AddDate(0, 0, 1) }), nil},
		"a volume's slot is nobody's":    {volume(func(v *health.Volume) { v.Slots++ }), nil},
		"its keys were never tried": {volume(func(v *health.Volume) {
			for i := range v.Keys {
				v.Keys[i].Checked = time.Time{}
			}
		}), nil},
		"nobody knows its holders": {volume(func(v *health.Volume) { v.HoldersChecked = time.Time{} }), nil},
		"all holders leave": {volume(func(v *health.Volume) {
			v.Holders = slices.Clone(v.Holders)
			for i := range v.Holders {
				v.Holders[i].Left = at
			}
		}), nil},
		"a volume is lost": {volume(func(v *health.Volume) { *v = health.Volume{Name: v.Name, State: health.Missing} }),
			slices.DeleteFunc(health.Alarms(), func(a health.Alarm) bool { return a == health.VolumeNotLUKS || !a.OfVolume() })},
	}
}
