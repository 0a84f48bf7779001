package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/health"
	"holdfast/internal/report"
	"holdfast/internal/volume"
)

// volume adds a volume: what is configured, what its header says, and its backups that were found.
func (g *gdprFill) volume(ctx context.Context, c config.Volume, headers health.Job) {
	v := report.GDPRVolume{
		Name: c.Name, Device: c.Device, Mount: c.Mount, Data: volume.Volume{Mount: c.Mount, Data: c.Data}.DataPath(), Job: c.Job, Source: c.Source, Tell: c.Tell,
		Unread: downPlaces(headers.Places),
	}
	for _, h := range c.Holders {
		v.Holders = append(v.Holders, report.GDPRHolder{Name: h.Name, Contact: h.Contact, Role: h.Role, MFA: h.MFA, Since: h.Since, Until: h.Until})
	}
	for _, place := range headers.Places {
		for _, at := range place.Times {
			b := slices.IndexFunc(headers.Backups, func(b health.Backup) bool { return b.Time.Equal(at) })
			if b >= 0 {
				v.Headers = append(v.Headers, report.GDPRHeader{Store: place.Store, Object: fmt.Sprintf("backup %s of job %s", headers.Backups[b].ID, headers.Name), Time: at})
			}
		}
	}
	slices.SortStableFunc(v.Headers, func(x, y report.GDPRHeader) int { return x.Time.Compare(y.Time) })
	g.header(ctx, &v)
	g.report.Volumes = append(g.report.Volumes, v)
}

// header adds what the machine shows of a volume.
func (g *gdprFill) header(ctx context.Context, v *report.GDPRVolume) {
	d, err := g.app.disk(g.cfg, v.Name)
	if err != nil {
		v.Error = holdfast.Sentence(err)
		v.GuardError = v.Error
		return
	}
	host := volume.Host{Now: g.app.Now}
	if v.Guarded, err = host.Guarded(d.volume); err != nil {
		v.GuardError = holdfast.Sentence(err)
	}
	status, err := host.Status(ctx, d.volume)
	if err != nil {
		v.Error = holdfast.Sentence(err)
		return
	}
	v.State = string(status.State)
	header := status.Header
	if header.UUID == "" && status.State != volume.NotLUKS {
		why := map[volume.State]string{volume.Missing: "there is no " + v.Device, volume.Creating: "it was never finished"}[status.State]
		v.Error = cmp.Or(status.Detail, why, "its header was not read")
		return
	}
	v.LUKS2, v.Cipher, v.KeyBits = header.UUID != "", header.Cipher, header.KeyBits
	for _, s := range header.Slots {
		v.Slots = append(v.Slots, report.GDPRSlot{Number: s.Number, Role: string(s.Role), Created: s.Created, KDF: s.KDF, MemoryKiB: s.MemoryKiB})
	}
}
