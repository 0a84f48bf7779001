package health

import (
	"fmt"
	"time"
)

// volume judges an encrypted volume.
func (j *judge) volume(v Volume) {
	j.volumeState(v)
	if !v.Guarded && !v.GuardUnseen {
		j.ofVolume(v, VolumeElsewhere, "guard", time.Time{}, "its bare mount point is not guarded: while it is not mounted, a server could begin an empty database there",
			"`holdfast volume guard "+v.Name+"`")
	}
	if v.LUKS && v.State != Creating {
		j.volumeSlots(v)
	}
	if at := v.LastFailed; v.FailedUnlocks > 0 || !at.IsZero() && j.At.Sub(at) <= VolumeFailedFor {
		j.ofVolume(v, VolumeUnlockFailed, "", at, count(max(v.FailedUnlocks, 1), "try", "tries")+" to unlock it failed in the last 24 hours",
			"`holdfast audit show --event VOLUME_UNLOCK --last 20` says who tried, when and from where; if it was none of you: docs/volume-keys.md")
	}
	j.volumeRoom(v)
	j.volumePace(v)
	j.volumeHeader(v)
	j.volumeKeys(v)
	j.volumeHolders(v)
	if since := v.MigrationSince; v.Migration != "" && j.At.Sub(since) > VolumeMigrationFor {
		j.ofVolume(v, VolumeMigration, "", since, "its migration is not finished ("+v.Migration+"), and what was there before lies unsealed on the old disk",
			"`holdfast volume migrate status "+v.Name+"`, then `holdfast volume migrate finish "+v.Name+"`, or rollback: docs/volume-migrate.md")
	}
}

// volumeState judges where the volume is.
func (j *judge) volumeState(v Volume) {
	with := func(alarm Alarm, text, hint string) {
		if v.Detail != "" {
			text += ": " + v.Detail
		}
		j.ofVolume(v, alarm, "", time.Time{}, text, hint)
	}
	look := "`holdfast volume status " + v.Name + "` says more"
	switch v.State {
	case Mounted, Locked, Opened:
		if !v.LUKS && !v.HeaderUnseen {
			with(VolumeNotLUKS, "its header cannot be read from its device", "do not lock it while it works: without a header nothing opens it again; docs/volumes.md says how to bring the header back")
		}
		switch {
		case !v.Wanted || v.State == Mounted:
		case v.State == Opened:
			with(VolumeLocked, "it is open, but not mounted", "`holdfast volume unlock "+v.Name+"` mounts it")
		default:
			with(VolumeLocked, "it is locked, and what is on it cannot be reached", "`holdfast volume unlock "+v.Name+"`, then start the server")
		}
	case Missing:
		with(VolumeNotLUKS, "its device is not there", "is the disk attached, and the file system mounted that its file is on? "+look)
	case NotLUKS:
		with(VolumeNotLUKS, "its device has no LUKS2 header", "write nothing there; a backup of the header opens it again: docs/volumes.md")
	case Creating:
		with(VolumeNotLUKS, "it was never made to its end", "`holdfast volume create --name "+v.Name+"` makes it anew")
	case Elsewhere:
		with(VolumeElsewhere, "something else is mounted where it belongs", "stop what writes there, and unmount it; "+look)
	case Covered:
		with(VolumeElsewhere, "files lie in its bare mount point, unsealed", "stop what wrote them, and move them away: it is not mounted over files")
	default:
		with(VolumeNotLUKS, "nobody knows what state it is in", look)
	}
}

// volumeSlots judges which keys open it. A header with fewer than two lacks a role.
func (j *judge) volumeSlots(v Volume) {
	for _, role := range VolumeRoles() {
		n := 0
		for _, k := range v.Keys {
			if k.Role == role {
				n++
			}
		}
		switch {
		case n == 0:
			j.ofVolume(v, VolumeSlots, role, time.Time{}, "it has no "+role+" key ("+count(v.Slots, "slot", "slots")+" in all): whoever loses the other one loses everything",
				"`holdfast volume key add "+v.Name+" --role "+role+"`")
		case n > 1:
			j.ofVolume(v, VolumeSlots, role, time.Time{}, fmt.Sprintf("%d %s keys open it: a rotation was not ended, and the old passphrase still opens it", n, role),
				"`holdfast volume key rotate "+v.Name+" --role "+role+"` ends it")
		}
	}
	if unknown := v.Slots - len(v.Keys); unknown > 0 {
		j.ofVolume(v, VolumeSlots, "unknown", time.Time{}, count(unknown, "slot", "slots")+" of it were not made by Holdfast: nobody knows who can open it",
			"`holdfast volume key list "+v.Name+"` names them; if nobody of you made them: docs/volume-keys.md")
	}
}

// volumeRoom judges how full its file system is.
func (j *judge) volumeRoom(v Volume) {
	if v.Size <= 0 {
		return
	}
	share := float64(v.Used) / float64(v.Size)
	text := fmt.Sprintf("it is full to %d %%", int(100*share))
	const hint = "make room, or a larger volume: a database that cannot write stops"
	if share > VolumeFillingAt {
		j.ofVolume(v, VolumeFilling, "", time.Time{}, text, hint)
	}
	if share > VolumeFullAt {
		j.ofVolume(v, VolumeFull, "", time.Time{}, text, hint)
	}
}

// volumePace judges how busy the device is, and how slow.
func (j *judge) volumePace(v Volume) {
	status := "`holdfast volume status " + v.Name + "` shows it; "
	if since := v.BusySince; v.Span > 0 && v.Busy > VolumeBusyAt && !since.IsZero() && j.At.Sub(since) >= VolumeBusyFor {
		j.ofVolume(v, VolumeBusy, "", since, fmt.Sprintf("its device works %d %% of the time, and has for %s", int(100*v.Busy), Span(j.At.Sub(since))), status+"`iostat -x 5` and pg_stat_activity say what it does")
	}
	times := float64(v.Latency) / float64(max(v.BaselineLatency, 1))
	if v.Span > 0 && v.BaselineLatency > 0 && v.Latency > leastLatency && times > VolumeLatencyTimes {
		j.ofVolume(v, VolumeSlow, "latency", time.Time{}, fmt.Sprintf("an operation of its device takes %s, %.1f times its baseline of %s", brief(v.Latency), times, brief(v.BaselineLatency)),
			status+"`iostat -x 5` says whether it is the disk")
	}
	if over := float64(v.Query)/float64(max(v.BaselineQuery, 1)) - 1; v.BaselineQuery > 0 && over > VolumeQueryOver {
		j.ofVolume(v, VolumeSlow, "query", time.Time{}, fmt.Sprintf("the test query takes %s, %.0f %% more than its baseline of %s", brief(v.Query), 100*over, brief(v.BaselineQuery)),
			status+"`holdfast volume benchmark` says what sealing costs here")
	}
}

// brief writes a duration with three digits or so.
func brief(d time.Duration) string {
	if d >= time.Millisecond {
		return d.Round(10 * time.Microsecond).String()
	}
	return d.String()
}
