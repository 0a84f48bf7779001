package retention_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"holdfast"
	"holdfast/internal/retention"
)

const day = 24 * time.Hour

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func id(n int) holdfast.BackupID { return holdfast.BackupID(fmt.Sprintf("b%09d", n)) }

// every makes n complete backups, one each step.
func every(step time.Duration, from time.Time, n int) []retention.Backup {
	var all []retention.Backup
	for i := range n {
		all = append(all, retention.Backup{ID: id(i), Kind: retention.Full, Time: from.Add(time.Duration(i) * step), Complete: true})
	}
	return all
}

// one is the input of a job with one store that has everything, right after the newest backup.
func one(policy retention.Policy, backups []retention.Backup) retention.Input {
	store := retention.Store{Name: "main", Reachable: true, Policy: policy, Copies: map[holdfast.BackupID]retention.Copy{}}
	now := time.Time{}
	for _, b := range backups {
		store.Copies[b.ID] = retention.Copy{Present: true}
		if b.Time.After(now) {
			now = b.Time
		}
	}
	return retention.Input{Now: now.Add(time.Minute), Backups: backups, Stores: []retention.Store{store}}
}

// kept are the times that a plan keeps in its first store.
func kept(in retention.Input) []string {
	var times []string
	for _, d := range retention.Decide(in).Stores[0].Decisions {
		if d.Keep {
			times = append(times, d.Time.In(location(in)).Format("2006-01-02 15:04"))
		}
	}
	return times
}

func location(in retention.Input) *time.Location {
	if z := in.Stores[0].Policy.Zone; z != nil {
		return z
	}
	return time.UTC
}

// live lets a job run for so many days with one backup at each of the hours, pruned after each. It is how a rule is lived with: what it
// once chose must stay chosen.
func live(t testing.TB, policy retention.Policy, from time.Time, days int, hours ...int) []string {
	t.Helper()
	var backups []retention.Backup
	var deleted []time.Time
	n := 0
	var in retention.Input
	for d := range days {
		for _, hour := range hours {
			at := time.Date(from.Year(), from.Month(), from.Day()+d, hour, 0, 0, 0, from.Location())
			backups = append(backups, retention.Backup{ID: id(n), Kind: retention.Full, Time: at, Complete: true})
			n++
			in = one(policy, backups)
			in.Deleted = deleted
			plan := retention.Decide(in).Stores[0]
			if plan.Blocked != "" {
				t.Fatalf("on %s: blocked: %s", at, plan.Blocked)
			}
			backups = nil
			for _, decision := range plan.Decisions {
				if decision.Keep {
					backups = append(backups, decision.Backup)
				} else {
					deleted = append(deleted, decision.Time)
				}
			}
		}
	}
	return kept(one(policy, backups))
}

func TestFourHundredDays(t *testing.T) {
	policy := retention.Policy{Default: retention.Rule{Daily: 7, Weekly: 4, Monthly: 12, Yearly: -1}}
	got := live(t, policy, time.Date(2025, 10, 25, 0, 0, 0, 0, time.UTC), 400, 2)
	want := []string{
		"2025-10-25", "2026-01-01", // the first ones of their years
		"2026-02-01", "2026-03-01", "2026-04-01", "2026-05-01", "2026-06-01", "2026-07-01", "2026-08-01", "2026-09-01", "2026-10-01", "2026-11-01",
		"2026-11-02", "2026-11-09", "2026-11-16", "2026-11-22", "2026-11-23", "2026-11-24", "2026-11-25", "2026-11-26", "2026-11-27", "2026-11-28",
	}
	for i := range want {
		want[i] += " 02:00"
	}
	// Of 12 months the oldest is December 2025.
	want = slices.Insert(want, 1, "2025-12-01 02:00")
	if !slices.Equal(got, want) {
		t.Errorf("kept\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestPoliciesOfScripts(t *testing.T) {
	from := time.Date(2019, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		name   string
		policy retention.Policy
		days   int
		hours  []int
		count  int
		first  string
	}{
		{"30 days, weekly for 90 days, monthly for a year, yearly for 7", retention.Policy{Default: retention.Rule{Daily: 30, Weekly: 13, Monthly: 12, Yearly: 7}}, 9 * 365, []int{2}, 0, "2021-01-01 02:00"},
		{"90 days flat", retention.Policy{Default: retention.Rule{Within: 90 * day}}, 400, []int{2}, 91, ""},
		{"hourly and daily", retention.Policy{Default: retention.Rule{Hourly: 24, Daily: 7}}, 60, []int{0, 4, 8, 12, 16, 20}, 24 + 3, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := live(t, c.policy, from, c.days, c.hours...)
			if c.count > 0 && len(got) != c.count || c.first != "" && got[0] != c.first {
				t.Errorf("%d are kept, the first is %s:\n%s", len(got), got[0], strings.Join(got, "\n"))
			}
		})
	}
}

func TestKindsAreCountedApart(t *testing.T) {
	var backups []retention.Backup
	from := time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)
	for i := range 20 * 24 {
		kind := retention.Hourly
		if i%24 == 2 {
			kind = retention.Full
		}
		backups = append(backups, retention.Backup{ID: id(i), Kind: kind, Time: from.Add(time.Duration(i) * time.Hour), Complete: true})
	}
	backups[100].Kind, backups[5].Kind, backups[7].Kind = retention.Manual, retention.Safety, retention.Imported
	in := one(retention.Policy{Default: retention.Rule{Daily: 7}, Kinds: map[retention.Kind]retention.Rule{retention.Hourly: {Last: 30}}}, backups)
	count := map[retention.Kind]int{}
	for _, d := range retention.Decide(in).Stores[0].Decisions {
		if d.Keep {
			count[d.Kind]++
		}
	}
	// An imported file is counted with the others, and is none of the first 7 days.
	if count[retention.Hourly] != 30 || count[retention.Full] != 7 || count[retention.Manual] != 1 || count[retention.Safety] != 1 || count[retention.Imported] != 0 {
		t.Errorf("kept are %v", count)
	}
}

func TestPeriodsWhereClocksChange(t *testing.T) {
	for _, c := range []struct {
		name  string
		zone  string
		rule  retention.Rule
		times []string
		want  []string
	}{
		// 02:30 comes twice on 25 October 2026: two hours, one day.
		{"autumn hours", "Europe/Berlin", retention.Rule{Hourly: 9}, []string{"2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"}, []string{"2026-10-25 02:30", "2026-10-25 02:30"}},
		{"autumn day", "Europe/Berlin", retention.Rule{Daily: 9}, []string{"2026-10-24T22:10:00Z", "2026-10-25T01:30:00Z", "2026-10-25T22:59:00Z", "2026-10-25T23:01:00Z"}, []string{"2026-10-25 00:10", "2026-10-26 00:01"}},
		{"spring day", "Europe/Berlin", retention.Rule{Daily: 9}, []string{"2026-03-28T23:30:00Z", "2026-03-29T21:59:00Z", "2026-03-29T22:01:00Z"}, []string{"2026-03-29 00:30", "2026-03-30 00:01"}},
		{"leap day", "Europe/Berlin", retention.Rule{Daily: 9}, []string{"2028-02-28T12:00:00Z", "2028-02-29T12:00:00Z", "2028-03-01T12:00:00Z"}, []string{"2028-02-28 13:00", "2028-02-29 13:00", "2028-03-01 13:00"}},
		// 31 December 2026 to 3 January 2027 are week 53 of 2026.
		{"week 53", "Europe/Berlin", retention.Rule{Weekly: 9}, []string{"2026-12-28T12:00:00Z", "2026-12-31T12:00:00Z", "2027-01-03T12:00:00Z", "2027-01-04T12:00:00Z"}, []string{"2026-12-28 13:00", "2027-01-04 13:00"}},
		// In Cairo the clock goes from 23:59 on 27 April 2023, a Thursday, to 01:00. In Beirut 26 March 2023, a Sunday,
		// begins at 01:00, and the week of that day at midnight.
		{"no midnight", "Africa/Cairo", retention.Rule{Daily: 9}, []string{"2023-04-27T20:00:00Z", "2023-04-27T22:30:00Z", "2023-04-28T20:59:00Z", "2023-04-28T21:01:00Z"}, []string{"2023-04-27 22:00", "2023-04-28 01:30", "2023-04-29 00:01"}},
		{"week after no midnight", "Asia/Beirut", retention.Rule{Weekly: 9}, []string{"2023-03-19T21:59:00Z", "2023-03-19T22:01:00Z", "2023-03-26T20:59:00Z", "2023-03-26T21:01:00Z"}, []string{"2023-03-19 23:59", "2023-03-20 00:01", "2023-03-27 00:01"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			place := zone(t, c.zone)
			var backups []retention.Backup
			for i, text := range c.times {
				at, err := time.Parse(time.RFC3339, text)
				if err != nil {
					t.Fatal(err)
				}
				backups = append(backups, retention.Backup{ID: id(i), Kind: retention.Full, Time: at, Complete: true})
			}
			in := one(retention.Policy{Default: c.rule, Zone: place, MinAge: time.Nanosecond}, backups)
			got := kept(in)
			// The newest is kept in any case.
			if last := backups[len(backups)-1].Time.In(place).Format("2006-01-02 15:04"); c.want[len(c.want)-1] != last {
				t.Fatalf("the case should end with what is kept: %s", last)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("kept %q, want %q", got, c.want)
			}
		})
	}
}

func TestWhy(t *testing.T) {
	from := time.Date(2026, 9, 1, 2, 0, 0, 0, time.UTC) // a Tuesday
	backups := every(day, from, 40)                     // to 10 October
	backups[10].Pinned = true
	backups[11].Pinned, backups[11].PinnedUntil = true, time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)
	backups[12].Proven = true
	backups[13].Complete = false
	backups[39].Complete = false
	backups[38].DrillFailed = true
	in := one(retention.Policy{Default: retention.Rule{Daily: 3, Weekly: 2}}, backups)
	in.Stores[0].Copies[id(14)] = retention.Copy{Present: true, Locked: true, LockedUntil: in.Now.Add(48 * time.Hour)}
	in.Stores[0].Copies[id(15)] = retention.Copy{Present: true, Damaged: true}
	why := map[int]string{}
	for i, d := range retention.Decide(in).Stores[0].Decisions {
		why[i] = d.Why
	}
	for n, want := range map[int]string{
		0: "not kept: daily 38 of 3, weekly 6 of 2", 3: "not kept: daily 35 of 3", 10: "pinned", 11: "pinned until 2027-01-01", 12: "protected: the newest proven one",
		13: "incomplete, and a complete one is newer", 14: "locked by the store until 2026-10-12",
		27: "weekly 2 of 2, until 12 Oct 2026", 34: "weekly 1 of 2, until 19 Oct 2026",
		36: "daily 3 of 3, until 10 Oct 2026", 38: "daily 1 of 3, until 12 Oct 2026", 39: "younger than 1 day",
	} {
		if why[n] != want {
			t.Errorf("day %d: %q, want %q", n, why[n], want)
		}
	}
}

func TestBlocks(t *testing.T) {
	from := time.Date(2026, 9, 1, 2, 0, 0, 0, time.UTC)
	policy := retention.Policy{Default: retention.Rule{Daily: 3}, Interval: day}
	for _, c := range []struct {
		name   string
		change func(*retention.Input)
		want   string
	}{
		{"all is well", func(*retention.Input) {}, ""},
		{"the newest run failed", func(in *retention.Input) {
			in.LastRun = &retention.Run{Time: from.AddDate(0, 0, 40), Failed: true}
		}, "the newest run, of 2026-10-11 02:00, failed"},
		{"two days without a backup", func(in *retention.Input) { in.Now = in.Now.Add(2*day - 2*time.Minute) }, ""},
		{"longer", func(in *retention.Input) { in.Now = in.Now.Add(2 * day) }, "the newest complete backup here is of 2026-10-10 02:00, and one is expected every 1 day"},
		{"a clock a year ahead", func(in *retention.Input) { in.Now = in.Now.AddDate(1, 0, 0) }, "the newest complete backup here is of"},
		{"a clock an hour behind", func(in *retention.Input) { in.Now = in.Now.Add(-time.Hour) }, "is in the future"},
		{"a backup under a clock a year ahead", func(in *retention.Input) { jump(in, 365*day, 1) }, "the clock may have jumped, or backups stopped for 366 days before 2027-10-"},
		{"and a week of them", func(in *retention.Input) { jump(in, 365*day, 7) }, "the clock may have jumped"},
		{"backups stopped for 10 days and went on for 9", func(in *retention.Input) { jump(in, 9*day, 10) }, "the clock may have jumped, or backups stopped for 10 days"},
		{"and for 10", func(in *retention.Input) { jump(in, 9*day, 11) }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := one(policy, every(day, from, 40))
			c.change(&in)
			plan := retention.Decide(in).Stores[0]
			if c.want == "" && plan.Blocked != "" || !strings.Contains(plan.Blocked, c.want) {
				t.Errorf("blocked: %q, want %q", plan.Blocked, c.want)
			}
			in.Force = true
			forced := retention.Decide(in).Stores[0]
			if forced.Blocked != "" {
				t.Errorf("in spite of force: %q", forced.Blocked)
			}
			if last := forced.Decisions[len(forced.Decisions)-1]; !last.Keep {
				t.Error("force deletes the newest one")
			}
		})
	}
}

// jump adds n daily backups after a pause.
func jump(in *retention.Input, pause time.Duration, n int) {
	newest := in.Backups[len(in.Backups)-1].Time
	for _, b := range every(day, newest.Add(pause+day), n) {
		b.ID = "x" + b.ID[1:]
		in.Backups = append(in.Backups, b)
		in.Stores[0].Copies[b.ID] = retention.Copy{Present: true}
		in.Now = b.Time.Add(time.Minute)
	}
}

// What two stores would each leave to the other stays in both.
func TestCopiesAreNotLeftToEachOther(t *testing.T) {
	from := time.Date(2026, 9, 1, 2, 0, 0, 0, time.UTC)
	in := one(retention.Policy{Default: retention.Rule{Daily: 3}}, every(day, from, 40))
	box := retention.Store{Name: "box", Reachable: true, Policy: retention.Policy{Default: retention.Rule{Daily: 5}}, Copies: in.Stores[0].Copies}
	archive := retention.Store{Name: "archive", Policy: retention.Policy{Default: retention.Rule{Monthly: 12}}}
	in.Stores = append(in.Stores, box, archive)
	for i, s := range retention.Decide(in).Stores[:2] {
		if d := s.Decisions[0]; !d.Keep || d.Why != "protected: the last copy anywhere of a backup that store archive keeps" {
			t.Errorf("store %d: the first of September: %v, %s", i, d.Keep, d.Why)
		}
		if d := s.Decisions[2]; d.Keep {
			t.Errorf("store %d: the third is kept: %s", i, d.Why)
		}
	}
	in.Stores[2].Reachable = true
	in.Stores[2].Copies = map[holdfast.BackupID]retention.Copy{id(0): {Present: true}}
	for i, s := range retention.Decide(in).Stores[:2] {
		if d := s.Decisions[0]; d.Keep {
			t.Errorf("store %d: although archive has it: %s", i, d.Why)
		}
	}
}

func TestRuleText(t *testing.T) {
	for _, c := range []struct {
		rule    retention.Rule
		text    string
		longest time.Duration
	}{
		{retention.Rule{}, "nothing", 0},
		{retention.Rule{Daily: 7, Weekly: 4, Monthly: 12, Yearly: -1}, "7 daily, 4 weekly, 12 monthly, yearly for ever", 0},
		{retention.Rule{Last: 3, Within: 90 * day}, "3 last, within 90 days", 90 * day},
		{retention.Rule{Daily: 30, Weekly: 13}, "30 daily, 13 weekly", 91 * day},
		{retention.Rule{Forever: true}, "everything, for ever", 0},
	} {
		if c.rule.String() != c.text || c.rule.Longest() != c.longest {
			t.Errorf("%+v is %q for %v, want %q for %v", c.rule, c.rule.String(), c.rule.Longest(), c.text, c.longest)
		}
	}
}

// history draws what may have happened to a job.
func history(t *rapid.T) retention.Input {
	zones := []*time.Location{nil, time.UTC}
	for _, name := range []string{"Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Cairo"} {
		z, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		zones = append(zones, z)
	}
	in := retention.Input{Force: rapid.Bool().Draw(t, "force")}
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(rapid.IntRange(0, 300*24).Draw(t, "begin")) * time.Hour)
	steps := []time.Duration{time.Minute, time.Hour, day, day, day, 3 * day, 40 * day, 400 * day, -2 * time.Hour, -300 * day}
	kinds := []retention.Kind{retention.Full, retention.Full, retention.Hourly, retention.Manual, retention.Safety, retention.Imported}
	for i := range rapid.IntRange(0, 60).Draw(t, "backups") {
		in.Backups = append(in.Backups, retention.Backup{
			ID: id(i), Time: at, Kind: rapid.SampledFrom(kinds).Draw(t, "kind"),
			Complete: rapid.IntRange(0, 5).Draw(t, "complete") > 0, Proven: rapid.IntRange(0, 6).Draw(t, "proven") == 0,
			DrillFailed: rapid.IntRange(0, 9).Draw(t, "failed") == 0, Pinned: rapid.IntRange(0, 15).Draw(t, "pinned") == 0,
		})
		b := &in.Backups[i]
		b.Proven = b.Proven && !b.DrillFailed
		at = at.Add(rapid.SampledFrom(steps).Draw(t, "step"))
	}
	in.Now = at.Add(rapid.SampledFrom([]time.Duration{0, time.Hour, 30 * time.Hour, 500 * day, -time.Hour}).Draw(t, "now"))
	if rapid.Bool().Draw(t, "run") {
		in.LastRun = &retention.Run{Time: in.Now.Add(-time.Minute), Failed: rapid.Bool().Draw(t, "run failed")}
	}
	count := func(name string) int { return rapid.SampledFrom([]int{0, 0, 1, 2, 7, -1}).Draw(t, name) }
	rule := func() retention.Rule {
		return retention.Rule{
			Last: count("last"), Hourly: count("hourly"), Daily: count("daily"), Weekly: count("weekly"), Monthly: count("monthly"), Yearly: count("yearly"),
			Within: rapid.SampledFrom([]time.Duration{0, 0, day, 90 * day}).Draw(t, "within"), Forever: rapid.IntRange(0, 20).Draw(t, "forever") == 0,
		}
	}
	for i := range rapid.IntRange(1, 3).Draw(t, "stores") {
		s := retention.Store{
			Name: fmt.Sprintf("store%d", i), Reachable: rapid.IntRange(0, 4).Draw(t, "reachable") > 0, Copies: map[holdfast.BackupID]retention.Copy{},
			Policy: retention.Policy{Default: rule(), Zone: rapid.SampledFrom(zones).Draw(t, "zone"), Interval: rapid.SampledFrom([]time.Duration{0, time.Hour, 7 * day}).Draw(t, "interval"), MinAge: rapid.SampledFrom([]time.Duration{0, time.Minute, 3 * day}).Draw(t, "min age")},
		}
		if rapid.Bool().Draw(t, "kinds") {
			s.Policy.Kinds = map[retention.Kind]retention.Rule{retention.Hourly: rule(), retention.Manual: rule()}
		}
		for _, b := range in.Backups {
			if !s.Reachable {
				continue
			}
			c := retention.Copy{Present: rapid.IntRange(0, 6).Draw(t, "present") > 0}
			c.Damaged = c.Present && rapid.IntRange(0, 9).Draw(t, "damaged") == 0
			c.Doubtful = c.Present && rapid.IntRange(0, 19).Draw(t, "doubtful") == 0
			c.Superseded = c.Present && rapid.IntRange(0, 15).Draw(t, "superseded") == 0
			if c.Present && rapid.IntRange(0, 12).Draw(t, "locked") == 0 {
				c.Locked = true
				if days := rapid.IntRange(-5, 5).Draw(t, "until"); days != 0 {
					c.LockedUntil = in.Now.Add(time.Duration(days) * day)
				}
			}
			s.Copies[b.ID] = c
		}
		in.Stores = append(in.Stores, s)
	}
	return in
}

// after is the input once everything was deleted that the plan deletes.
func after(in retention.Input, plan retention.Plan) retention.Input {
	next := in
	next.Stores = slices.Clone(in.Stores)
	held := map[holdfast.BackupID]bool{}
	for i, s := range plan.Stores {
		copies := map[holdfast.BackupID]retention.Copy{}
		for id, c := range in.Stores[i].Copies {
			copies[id] = c
		}
		for _, d := range s.Decisions {
			if !d.Keep && s.Blocked == "" {
				delete(copies, d.ID)
				next.Deleted = append(slices.Clone(next.Deleted), d.Time)
			}
		}
		next.Stores[i].Copies = copies
		for id, c := range copies {
			held[id] = held[id] || c.Present
		}
	}
	next.Backups = slices.DeleteFunc(slices.Clone(in.Backups), func(b retention.Backup) bool { return !held[b.ID] })
	return next
}

func TestLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := history(t)
		plan := retention.Decide(in)
		byID := map[holdfast.BackupID]retention.Backup{}
		for _, b := range in.Backups {
			byID[b.ID] = b
		}
		good := func(s retention.Store, b retention.Backup) bool {
			c := s.Copies[b.ID]
			return s.Reachable && c.Present && !c.Damaged && !c.Doubtful && b.Complete && !b.DrillFailed
		}
		left := after(in, plan)
		for i, s := range plan.Stores {
			if !in.Stores[i].Reachable && (s.Blocked == "" || len(s.Decisions) > 0) {
				t.Fatalf("%s cannot be reached, and %d are decided", s.Store, len(s.Decisions))
			}
			stays := func(b retention.Backup) bool { return left.Stores[i].Copies[b.ID].Present }
			copyOf := func(b retention.Backup) retention.Copy { return in.Stores[i].Copies[b.ID] }
			had := func(b retention.Backup) bool { return copyOf(b).Present }
			newest := func(match func(retention.Backup) bool) (found retention.Backup, any bool) {
				for _, b := range in.Backups {
					if had(b) && match(b) && (!any || b.Time.After(found.Time) || b.Time.Equal(found.Time) && b.ID > found.ID) {
						found, any = b, true
					}
				}
				return found, any
			}
			if b, any := newest(func(b retention.Backup) bool { return b.Complete && !copyOf(b).Superseded && !copyOf(b).Doubtful }); any && !stays(b) {
				t.Fatalf("%s: the newest complete backup %s goes", s.Store, b.ID)
			}
			if b, any := newest(func(b retention.Backup) bool { return good(in.Stores[i], b) && !copyOf(b).Superseded }); any && !stays(b) {
				t.Fatalf("%s: the newest whole backup %s goes", s.Store, b.ID)
			}
			if b, any := newest(func(b retention.Backup) bool { return b.Proven }); any && !stays(b) {
				t.Fatalf("%s: the newest proven backup %s goes", s.Store, b.ID)
			}
			for _, d := range s.Decisions {
				if !had(d.Backup) {
					t.Fatalf("%s: %s is decided and is not there", s.Store, d.ID)
				}
				if d.Why == "" {
					t.Fatalf("%s: %s has no reason", s.Store, d.ID)
				}
				if d.Keep {
					continue
				}
				c := copyOf(d.Backup)
				if d.Pinned || c.Doubtful || c.Locked && (c.LockedUntil.IsZero() || c.LockedUntil.After(in.Now)) {
					t.Fatalf("%s: %s goes and is pinned or locked", s.Store, d.ID)
				}
				if least := cmp.Or(in.Stores[i].Policy.MinAge, day); in.Now.Sub(d.Time) < least {
					t.Fatalf("%s: %s goes and is younger than %s", s.Store, d.ID, least)
				}
			}
			if b, any := newest(func(b retention.Backup) bool {
				return b.Complete && !copyOf(b).Doubtful && b.Kind != retention.Safety && b.Kind != retention.Imported
			}); !in.Force && in.Stores[i].Reachable && s.Blocked == "" && (!any || in.Now.Sub(b.Time) > 2*cmp.Or(in.Stores[i].Policy.Interval, 26*time.Hour)) {
				t.Fatalf("%s: not blocked, and its newest backup is overdue or there is none", s.Store)
			}
			failed := in.LastRun != nil && in.LastRun.Failed
			fromFuture := slices.ContainsFunc(in.Backups, func(b retention.Backup) bool { return b.Time.Sub(in.Now) > 5*time.Minute })
			if !in.Force && (failed || fromFuture) && s.Blocked == "" {
				t.Fatalf("%s: not blocked; the newest run failed: %v, a backup from the future: %v", s.Store, failed, fromFuture)
			}
		}
		superseded := func(b retention.Backup) bool {
			some := slices.ContainsFunc(in.Stores, func(s retention.Store) bool { return s.Copies[b.ID].Superseded })
			return some && !slices.ContainsFunc(in.Stores, func(s retention.Store) bool { return s.Copies[b.ID].Present && !s.Copies[b.ID].Superseded })
		}
		// What some policy keeps, by itself, of everything, has a good copy afterwards if it had one before.
		for _, s := range in.Stores {
			all := s
			all.Reachable, all.Copies = true, map[holdfast.BackupID]retention.Copy{}
			for _, b := range in.Backups {
				all.Copies[b.ID] = retention.Copy{Present: true, Superseded: superseded(b)}
			}
			alone := retention.Decide(retention.Input{Now: in.Now, Backups: in.Backups, Stores: []retention.Store{all}, Force: true}).Stores[0]
			for _, d := range alone.Decisions {
				if d.Rule == "" {
					continue
				}
				before := slices.ContainsFunc(in.Stores, func(s retention.Store) bool { return good(s, d.Backup) })
				still := slices.ContainsFunc(left.Stores, func(s retention.Store) bool { return good(s, d.Backup) })
				if before && !still {
					t.Fatalf("the last good copy of %s goes, which %s keeps: %s", d.ID, s.Name, d.Why)
				}
			}
		}
		// Deciding again deletes nothing more, and the order of the input changes nothing.
		for i, s := range retention.Decide(left).Stores {
			for _, d := range s.Decisions {
				if !d.Keep && s.Blocked == "" && plan.Stores[i].Blocked == "" {
					t.Fatalf("%s: a second time %s goes too: %s", s.Store, d.ID, d.Why)
				}
			}
		}
		mixed := in
		mixed.Backups = slices.Clone(in.Backups)
		rand.New(rand.NewPCG(1, 2)).Shuffle(len(mixed.Backups), func(i, j int) { mixed.Backups[i], mixed.Backups[j] = mixed.Backups[j], mixed.Backups[i] })
		if fmt.Sprint(retention.Decide(mixed)) != fmt.Sprint(plan) {
			t.Fatal("the order of the backups changes the decision")
		}
	})
}

func BenchmarkDecide10000(b *testing.B) {
	backups := every(time.Hour, time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC), 10_000)
	in := one(retention.Policy{Default: retention.Rule{Hourly: 48, Daily: 30, Weekly: 13, Monthly: 12, Yearly: -1}, Zone: zone(b, "Europe/Berlin")}, backups)
	in.Stores = append(in.Stores, in.Stores[0], in.Stores[0])
	for b.Loop() {
		if plan := retention.Decide(in); len(plan.Stores[2].Decisions) != 10_000 {
			b.Fatal("decisions are missing")
		}
	}
}
