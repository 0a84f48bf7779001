package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// theft tells what somebody has who has the disks and not the running host: a thief, or who gets a disk that was given back.
func (g GDPR) theft() GDPRSection {
	s := GDPRSection{Title: "A stolen disk", Note: "What somebody can read who has this host's disks without power: a thief, or whoever gets a disk that went back to the provider."}
	for _, v := range g.Volumes {
		line := GDPRLine{What: v.name(), Record: "header of " + v.Device, Article: Sealing}
		verified := g.last(func(r GDPRRecord) bool { return v.of(r, "VOLUME_VERIFIED") })
		switch {
		case v.Error != "" || !v.LUKS2:
			line.Value = "nothing is said: no LUKS2 header was read"
		case verified.ID == "" || !verified.good():
			line.Value = "what lies on it cannot be read without a passphrase of it; that the data lies there was not shown"
		default:
			line.Value, line.Record = "the data cannot be read without a passphrase of it, or an older header and a passphrase of that time", verified.ID
		}
		s.Lines = append(s.Lines, line)
	}
	for _, line := range g.volumes().Lines {
		if strings.HasPrefix(line.What, "source ") {
			s.Lines = append(s.Lines, GDPRLine{What: line.What, Value: "on no volume that is known here: as readable as the disk that its server uses", Record: line.Record, Article: Sealing})
		}
	}
	for _, job := range g.Jobs {
		here := g.storesOf(job, func(s GDPRStore) bool { return !s.OffSite })
		if len(here) == 0 {
			continue
		}
		line := GDPRLine{What: fmt.Sprintf("backups of job %s in %s", job.Name, strings.Join(here, ", ")), Record: g.config(), Article: Sealing}
		switch {
		case job.Seal == "none":
			line.Value = "can be read: they are not sealed"
		case job.Passphrase:
			line.Value = "can be read by whoever finds the passphrase on the same disks"
		default:
			line.Value = "names of jobs, sources and hosts, times and sizes; no content without an identity"
		}
		s.Lines = append(s.Lines, line)
	}
	s.Lines = append(s.Lines, GDPRLine{What: "everything else on the disks", Value: "not looked at: the system, logs, swap, other data. A whole sealed disk protects those", Record: "no record", Article: Sealing})
	return s
}

// live tells what somebody has who is root on the running host.
func (g GDPR) live() GDPRSection {
	s := GDPRSection{Title: "A compromise of the running host", Note: "What somebody can do who is root here while everything runs. No encryption of disks helps against that."}
	for _, v := range g.Volumes {
		line := GDPRLine{What: v.name(), Record: "state when this was made", Article: Resilience}
		switch v.State {
		case "locked":
			line.Value = "locked: it cannot be read now; from the next unlock on it can"
		case "mounted", "open":
			line.Value = v.State + ": all of it can be read, and the key that is in the kernel's memory too. It protects nothing against them"
		default:
			line.Value = "nothing is said: its state is " + cmp.Or(v.State, "not known")
		}
		s.Lines = append(s.Lines, line)
	}
	for _, job := range g.Jobs {
		s.Lines = append(s.Lines, g.exposed(job))
		locked := g.storesOf(job, func(s GDPRStore) bool { return s.Lock != "" })
		text := "all copies can be deleted with the access that this host has"
		if len(locked) > 0 {
			text = "cannot be deleted in " + strings.Join(locked, ", ")
		}
		s.Lines = append(s.Lines, GDPRLine{What: fmt.Sprintf("backups of job %s, deletion", job.Name), Value: text, Record: g.config(), Article: Resilience})
	}
	s.Lines = append(s.Lines, GDPRLine{What: "the live data", Value: "can be read and changed, and backups made from then on can be false", Record: "no record", Article: Resilience})
	return s
}

// exposed tells whether root here can read a job's backups, as far as settings and records show it. A record of this host is one of the chain here,
// for a host is named anew sometimes, or one with its name, for a chain may have been lost.
func (g GDPR) exposed(job GDPRJob) GDPRLine {
	line := GDPRLine{What: fmt.Sprintf("backups of job %s", job.Name), Record: g.config(), Article: Sealing}
	opened := g.last(func(r GDPRRecord) bool {
		return (r.Own || r.Host == g.Host) && (r.Job == job.Name || r.Job == "") && r.opens()
	})
	switch {
	case job.Seal == "none":
		line.Value = "can be read: they are not sealed"
	case job.Passphrase:
		line.Value = "can be read: the passphrase is on this host"
	case g.Identity != "":
		line.Value = fmt.Sprintf("can be read if %s, which the configuration names, opens them", g.Identity)
	case opened.ID != "":
		line.Value, line.Record = fmt.Sprintf("an identity may have been on this host on %s (%s); no record can show that it left", opened.Time.UTC().Format(time.DateOnly), opened.Event), opened.ID
	case !g.recorded() || len(g.unread()) > 0:
		line.Value, line.Record = "not shown: the records that would say whether an identity was here could not all be read", g.chains()
	default:
		line.Value, line.Record = "cannot be read: no identity is configured, and no record has one made or used on this host", g.chains()
	}
	return line
}

// opens reports whether the record shows that an identity of backups was where it was made.
func (r GDPRRecord) opens() bool {
	switch {
	case r.is("KEY_CREATED"):
		return r.good() && !strings.Contains(r.Detail, "signing key") // a signer opens nothing
	case r.is("KEY_ROTATION"):
		return r.good() // a rotation to a public half from elsewhere is recorded in the same way
	case r.is("DRILL"):
		return slices.Contains([]string{"proven", "difference"}, r.Result)
	}
	return r.is("RESTORE", "DECRYPT", "EMERGENCY_ACCESS", "SHOW", "KEY_CHECK", "KEY_RESEAL", "KEY_EXPORT") && r.good()
}
