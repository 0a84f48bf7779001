package survey

import (
	"strings"
	"time"

	"holdfast/internal/health"
	"holdfast/internal/journal"
)

// volumeRecords is what a journal tells of one encrypted volume.
type volumeRecords struct {
	failed  []time.Time          // tries to unlock that failed
	changed time.Time            // a key, or the volume key
	checked map[string]time.Time // keys, by their role: when they last opened the volume
	holders time.Time            // when they were last asked
	latency time.Duration        // as it was last measured on plain storage
	query   time.Duration
}

// addVolume takes in a record about a volume.
func (r *Records) addVolume(rec journal.Record) {
	v := r.volumes[rec.Volume]
	good := rec.Result == "good"
	switch rec.Event {
	case journal.VolumeUnlocked:
		if good {
			v.opened(rec)
		} else {
			v.failed = append(v.failed, rec.Time)
		}
	case journal.VolumeKeyChecked:
		if good {
			v.opened(rec)
		}
	case journal.VolumeVerified:
		if good && strings.HasPrefix(rec.Detail, "with both keys") {
			for _, role := range health.VolumeRoles() {
				set(&v.checked, role, rec.Time)
			}
		}
	case journal.VolumeCreated, journal.VolumeKeyAdded, journal.VolumeKeyRotated, journal.VolumeKeyRemoved, journal.VolumeReencrypted:
		// What failed may have been done in part.
		v.changed = rec.Time
	case journal.CustodiansChecked:
		if good {
			v.holders = rec.Time
		}
	case journal.VolumeMeasured:
		if good {
			v.latency, v.query = span(rec.Figures["latency_seconds"]), span(rec.Figures["query_seconds"])
		}
	}
	set(&r.volumes, rec.Volume, v)
}

// opened takes down that the key of a role opened the volume.
func (v *volumeRecords) opened(rec journal.Record) {
	for _, role := range health.VolumeRoles() {
		if strings.Contains(rec.Detail, role) {
			set(&v.checked, role, rec.Time)
		}
	}
}

// CompleteVolume adds to what was seen of a volume at a moment what was recorded of it.
func (r *Records) CompleteVolume(v *health.Volume, at time.Time) {
	rec := r.volumes[v.Name]
	for _, failed := range rec.failed {
		if !failed.After(at) && at.Sub(failed) <= health.VolumeFailedFor {
			v.FailedUnlocks++
		}
		v.LastFailed = failed
	}
	v.HeaderChanged, v.HoldersChecked = rec.changed, rec.holders
	v.BaselineLatency, v.BaselineQuery = rec.latency, rec.query
	for i, key := range v.Keys {
		v.Keys[i].Checked = rec.checked[key.Role]
	}
}
