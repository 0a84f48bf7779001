package cli

import (
	"context"
	"errors"
	"time"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/health"
	"holdfast/internal/volume"
)

// volumeLook is what is remembered of a volume from one look to the next: load is told by the difference of two.
type volumeLook struct {
	at        time.Time
	counters  volume.Counters
	counted   bool
	busySince time.Time
	query     time.Duration
	queried   time.Time
}

// queryEvery is how often the test queries run: they read a part of the database.
const queryEvery = time.Hour

// volumesOf finds out what is known of the volumes of the configuration. What cannot be looked at is told as a state that nobody knows.
func (a *app) volumesOf(ctx context.Context, cfg *config.Config, l *lookout) []health.Volume {
	var all []health.Volume
	for _, c := range cfg.Volumes {
		all = append(all, a.volumeOf(ctx, cfg, c, l))
	}
	return all
}

func (a *app) volumeOf(ctx context.Context, cfg *config.Config, c config.Volume, l *lookout) (v health.Volume) {
	v = health.Volume{Name: c.Name, Wanted: true}
	for _, h := range c.Holders {
		left := time.Time{}
		if !h.Until.IsZero() {
			left = h.Until.AddDate(0, 0, 1)
		}
		v.Holders = append(v.Holders, health.VolumeHolder{Role: h.Role, Left: left})
	}
	defer func() { l.records.CompleteVolume(&v, a.Now()) }()
	if m, err := a.migrationOf(cfg, c.Name); err != nil {
		a.printer.warn(holdfast.Sentence(err))
	} else {
		v.Migration, v.MigrationSince = m.step, m.since
	}
	d, err := a.disk(cfg, c.Name)
	if err != nil {
		v.Detail = holdfast.Sentence(err)
		return v
	}
	host := volume.Host{Now: a.Now}
	status, err := host.Status(ctx, d.volume)
	if err != nil {
		v.Detail = holdfast.Sentence(err)
		return v
	}
	v.State, v.Detail, v.Guarded, v.LUKS = health.VolumeState(status.State), status.Detail, status.Guarded, status.Header.UUID != ""
	v.HeaderUnseen, v.GuardUnseen = status.HeaderUnseen, status.GuardUnseen
	v.Slots, v.Size, v.Used = len(status.Header.Slots), status.Size, status.Used
	for _, slot := range status.Header.Slots {
		if slot.Role != "" {
			v.Keys = append(v.Keys, health.VolumeKey{Role: string(slot.Role), Created: slot.Created})
		}
	}
	if entries, err := a.headerBackups(ctx, cfg, d); err != nil {
		a.printer.warn("copies of the header of volume " + c.Name + ": " + holdfast.Sentence(err))
	} else {
		v.HeaderBackup = newestHeader(entries)
	}
	if status.State == volume.Mounted {
		a.measure(ctx, cfg, d, host, l, &v)
	}
	return v
}

// measure takes how busy and how slow the volume is.
func (a *app) measure(ctx context.Context, cfg *config.Config, d disk, host volume.Host, l *lookout, v *health.Volume) {
	before := l.volumes[d.config.Name]
	now := volumeLook{at: a.Now(), query: before.query, queried: before.queried}
	var err error
	if now.counters, err = host.Counters(d.volume); err == nil {
		now.counted = true
		if before.counted {
			load := now.counters.Since(before.counters)
			v.Span, v.Busy, v.Latency = load.Span, load.Busy, load.Latency
			if load.Busy > health.VolumeBusyAt {
				if now.busySince = before.busySince; now.busySince.IsZero() {
					now.busySince = before.at
				}
			}
			v.BusySince = now.busySince
		}
	}
	if d.config.Source != "" && now.at.Sub(before.queried) >= queryEvery {
		now.queried, now.query = now.at, 0
		if took, err := a.probeOf(ctx, cfg, d); err == nil {
			now.query = took
		} else if !errors.Is(err, context.Canceled) {
			a.printer.warn("the test queries on volume " + d.config.Name + ": " + holdfast.Sentence(err))
		}
	}
	v.Query = now.query
	if l.volumes == nil {
		l.volumes = map[string]volumeLook{}
	}
	l.volumes[d.config.Name] = now
}
