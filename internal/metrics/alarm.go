package metrics

import (
	"cmp"
	"slices"

	"holdfast/internal/health"
)

// slot is what an alarm can be raised for. Several findings of one alarm in one slot, such as two items of an odd size, are one series:
// what tells them apart is not bounded.
type slot struct {
	alarm              health.Alarm
	job, store, volume string
}

// slots are all that alarms can be raised for, raised or not.
func slots(v *view) []slot {
	var all []slot
	for _, alarm := range health.Alarms() {
		if alarm.OfVolume() {
			for _, volume := range v.Volumes {
				all = append(all, slot{alarm: alarm, volume: volume.Name})
			}
			continue
		}
		switch alarm {
		case health.CopyMissing, health.StoreDown, health.VerifyFailed, health.PruneBlocked:
			for _, j := range v.jobs {
				for _, place := range j.Places {
					all = append(all, slot{alarm: alarm, job: j.name, store: place.Store})
				}
			}
		case health.DiskFull:
			for _, store := range v.Stores {
				all = append(all, slot{alarm: alarm, store: store.Name})
			}
		case health.KeyDue, health.AuditBroken, health.ConfigChanged, health.QueueFailing, health.ChannelFailing:
			all = append(all, slot{alarm: alarm})
		default:
			if alarm == health.ClockOff { // of the host as well as of a job whose backups lie in the future
				all = append(all, slot{alarm: alarm})
			}
			for _, j := range v.jobs {
				all = append(all, slot{alarm: alarm, job: j.name})
			}
		}
	}
	return all
}

func alarmFamilies() []family {
	return []family{{"alarm", "Whether an alarm is raised. Its label backup_job or store is empty when it is not about one; it has the label volume when it is about one.", func(v *view, t *text) {
		raised := map[slot]bool{}
		for _, f := range v.findings {
			raised[slot{f.Alarm, string(f.Job), f.Store, f.Volume}] = true
		}
		add := func(s slot, value float64) {
			labels := []string{"alarm", string(s.alarm), "backup_job", s.job, "severity", s.alarm.Severity().String(), "store", s.store}
			if s.volume != "" {
				labels = append(labels, "volume", s.volume)
			}
			t.add(value, labels...)
		}
		for _, s := range slots(v) {
			add(s, flag(raised[s]))
			delete(raised, s)
		}
		// What is raised is shown even where nobody thought that it could be.
		var rest []slot
		for s := range raised {
			rest = append(rest, s)
		}
		slices.SortFunc(rest, func(x, y slot) int {
			return cmp.Or(cmp.Compare(x.alarm, y.alarm), cmp.Compare(x.job, y.job), cmp.Compare(x.store, y.store), cmp.Compare(x.volume, y.volume))
		})
		for _, s := range rest {
			add(s, 1)
		}
	}}}
}
