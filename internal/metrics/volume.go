package metrics

import (
	"math"

	"holdfast/internal/health"
)

func ofVolume(name, help string, value func(v *health.Volume) float64) family {
	return family{"volume_" + name, help, func(v *view, t *text) {
		for i := range v.Volumes {
			t.add(value(&v.Volumes[i]), "volume", v.Volumes[i].Name)
		}
	}}
}

func ofVolumeKey(name, help string, value func(k health.VolumeKey) float64) family {
	return family{"volume_key_" + name, help, func(v *view, t *text) {
		for _, volume := range v.Volumes {
			for _, role := range health.VolumeRoles() {
				key, _ := volume.Key(role)
				t.add(value(key), "role", role, "volume", volume.Name)
			}
		}
	}}
}

// known is a figure, or NaN where it was not found out.
func known(is bool, value float64) float64 {
	if !is {
		return math.NaN()
	}
	return value
}

// volumeFamilies are about encrypted volumes. Where none is configured, there are none.
func volumeFamilies(volumes []health.Volume) []family {
	if len(volumes) == 0 {
		return nil
	}
	return []family{
		{"volume_state", "What a volume is found as: 1 for its state, 0 for the others, and for all of them while nobody knows.", func(v *view, t *text) {
			for _, volume := range v.Volumes {
				for _, state := range health.VolumeStates() {
					t.add(flag(volume.State == state), "state", string(state), "volume", volume.Name)
				}
			}
		}},
		ofVolume("wanted", "Whether a volume is to be mounted.", func(v *health.Volume) float64 { return flag(v.Wanted) }),
		ofVolume("luks", "Whether the device of a volume has a LUKS2 header.", func(v *health.Volume) float64 { return flag(v.LUKS) }),
		ofVolume("guarded", "Whether nobody can write into the bare mount point.", func(v *health.Volume) float64 { return flag(v.Guarded) }),
		ofVolume("slots", "Keys that open a volume; NaN: its header was not read.", func(v *health.Volume) float64 { return known(v.LUKS, float64(v.Slots)) }),
		ofVolume("size_bytes", "The size of the file system of a volume; NaN: not known.", func(v *health.Volume) float64 { return known(v.Size > 0, float64(v.Size)) }),
		ofVolume("used_bytes", "What is used of it; NaN: not known.", func(v *health.Volume) float64 { return known(v.Size > 0, float64(v.Used)) }),
		ofVolume("busy_ratio", "The share of the time that the device worked when it was last measured; NaN: it was not.", func(v *health.Volume) float64 { return known(v.Span > 0, v.Busy) }),
		ofVolume("busy_since_timestamp_seconds", "Since when that is above what is told as busy; 0: it is not.", func(v *health.Volume) float64 { return when(v.BusySince) }),
		ofVolume("latency_seconds", "What an operation of the device took on average when it was last measured; NaN: it was not.", func(v *health.Volume) float64 { return known(v.Span > 0, v.Latency.Seconds()) }),
		ofVolume("latency_baseline_seconds", "What it took before; NaN: not measured.", func(v *health.Volume) float64 { return known(v.BaselineLatency > 0, v.BaselineLatency.Seconds()) }),
		ofVolume("query_seconds", "What the test query takes; NaN: not measured.", func(v *health.Volume) float64 { return known(v.Query > 0, v.Query.Seconds()) }),
		ofVolume("query_baseline_seconds", "What it took before; NaN: not measured.", func(v *health.Volume) float64 { return known(v.BaselineQuery > 0, v.BaselineQuery.Seconds()) }),
		ofVolume("unlocks_failed", "How many tries to unlock failed in the last 24 hours.", func(v *health.Volume) float64 { return float64(v.FailedUnlocks) }),
		ofVolume("unlock_last_failed_timestamp_seconds", "When one was refused last; 0: never.", func(v *health.Volume) float64 { return when(v.LastFailed) }),
		ofVolume("header_backup_timestamp_seconds", "When the newest backup of the header was made; 0: there is none.", func(v *health.Volume) float64 { return when(v.HeaderBackup) }),
		ofVolume("header_backup_due_timestamp_seconds", "When that is too old; 0: there is none.", func(v *health.Volume) float64 { return when(v.HeaderDue()) }),
		ofVolume("header_changed_timestamp_seconds", "When a key of the header was last changed; 0: not known.", func(v *health.Volume) float64 { return when(v.HeaderChanged) }),
		ofVolumeKey("created_timestamp_seconds", "When the key of a role was made, the oldest of several; 0: there is none, or it is not known.", func(k health.VolumeKey) float64 { return when(k.Created) }),
		ofVolumeKey("rotation_due_timestamp_seconds", "When the key of a role is due to be replaced: a year after it was made; 0: not known.", func(k health.VolumeKey) float64 { return when(k.Due()) }),
		ofVolumeKey("checked_timestamp_seconds", "When the key of a role last opened its slot; 0: never.", func(k health.VolumeKey) float64 { return when(k.Checked) }),
		ofVolume("holders_checked_timestamp_seconds", "When it was last confirmed who holds the keys; 0: never.", func(v *health.Volume) float64 { return when(v.HoldersChecked) }),
		ofVolume("migration_since_timestamp_seconds", "When a migration was begun that is neither finished nor rolled back; 0: there is none.", func(v *health.Volume) float64 {
			if v.Migration == "" {
				return 0
			}
			return when(v.MigrationSince)
		}),
	}
}
