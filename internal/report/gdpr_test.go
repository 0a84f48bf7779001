package report_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/journal"
	"holdfast/internal/report"
)

func day(text string) time.Time {
	t, err := time.Parse(time.DateOnly, text)
	if err != nil {
		panic("report_test: " + err.Error())
	}
	return t
}

// record is a good one of the job app, or with a volume one of that.
func record(id, at, event, volume string, change ...func(*report.GDPRRecord)) report.GDPRRecord {
	r := report.GDPRRecord{ID: "web1-abc " + id, Time: day(at).Add(9 * time.Hour), Event: event, Who: "anna via sudo", Host: "web1", Address: "203.0.113.9", Volume: volume, Result: "good"}
	if volume == "" {
		r.Job = "app"
	}
	for _, c := range change {
		c(&r)
	}
	return r
}

func result(text string) func(*report.GDPRRecord) {
	return func(r *report.GDPRRecord) { r.Result = text }
}

func on(host string) func(*report.GDPRRecord) {
	return func(r *report.GDPRRecord) { r.Host = host }
}

func drilled(r *report.GDPRRecord) {
	r.Result, r.Host, r.Backup = "proven", "desk", "40323samuq"
	r.Figures = map[string]float64{"compared": 1200, "rto_seconds": 1800}
}

// site is an installation that lacks nothing.
func site() report.GDPR {
	return report.GDPR{
		Host: "web1", Version: "1.0", Config: "/etc/holdfast/holdfast.yaml", Made: day("2026-11-30").Add(10 * time.Hour), From: day("2026-09-01"), Until: day("2026-12-01"),
		Stores: []report.GDPRStore{
			{Name: "main", Kind: "local", Where: "/srv/backups"},
			{Name: "s3", Kind: "s3", Where: "s3.fr-par.scw.cloud/acme", OffSite: true, Transit: "TLS", Lock: "object lock for 30 days"},
		},
		Jobs: []report.GDPRJob{{
			Name: "app", Seal: "age", Stores: []string{"main", "s3"}, Keep: []string{"14 daily", "12 monthly"}, Backups: 20, DrillEvery: 40 * 24 * time.Hour, RPO: 24 * time.Hour, RTO: 4 * time.Hour,
			Sources: []report.GDPRSource{{Name: "db", Kind: holdfast.KindPostgres}, {Name: "secrets", Kind: holdfast.KindFiles, Secret: true}},
			Keys: []report.GDPRKey{
				{Name: "ops", ID: "age1q9zrv38s4qe", Holder: "Anna", Created: day("2026-02-01"), Expires: day("2027-02-01"), Checked: day("2026-11-01"), CheckedBy: "keycheck/ops"},
				{Name: "safe", ID: "age1zvkyg2lqzra", Holder: "Ben", Created: day("2026-02-01"), Checked: day("2026-11-01"), CheckedBy: "keycheck/safe"},
			},
			Oldest: report.GDPRBackup{ID: "d1p2tsg0ab", Time: day("2026-01-02")}, Newest: report.GDPRBackup{ID: "40323samuq", Time: day("2026-11-30")},
		}},
		Volumes: []report.GDPRVolume{{
			Name: "pg-data", Device: "/dev/sdb1", Mount: "/srv/pg", Data: "/srv/pg/pgdata", Job: "app", Source: "db", State: "mounted", LUKS2: true, Cipher: "aes-xts-plain64", KeyBits: 512, Guarded: true,
			Slots: []report.GDPRSlot{
				{Number: 0, Role: "operational", Created: day("2026-10-01"), KDF: "argon2id", MemoryKiB: 1 << 20}, {Number: 1, Role: "recovery", Created: day("2026-10-01"), KDF: "argon2id", MemoryKiB: 1 << 20},
			},
			Headers: []report.GDPRHeader{{Store: "main", Object: "volume/pg-data/1", Time: day("2026-08-01")}, {Store: "s3", Object: "volume/pg-data/2", Time: day("2026-10-02")}},
			Holders: []report.GDPRHolder{
				{Name: "Anna", Contact: "+49 30 1", Role: "operational", MFA: true, Since: day("2026-01-01")}, {Name: "Ben", Contact: "+49 30 2", Role: "recovery", MFA: true},
			},
			Tell: []string{"DPO, +49 30 3"},
		}},
		Chains: []report.GDPRChain{{Name: "web1-abc", Own: true, Records: 9, Signed: 9, Last: 9, Stores: []string{"s3"}, Checked: day("2026-11-30")}},
		Records: []report.GDPRRecord{
			record("1", "2026-01-01", "KEY_CREATED", "", func(r *report.GDPRRecord) { r.Job, r.Detail = "", "init; signing key SHA256:x" }),
			record("2", "2026-10-01", "VOLUME_KEY_ROTATED", "pg-data"),
			record("3", "2026-11-01", "VOLUME_VERIFIED", "pg-data"),
			record("4", "2026-11-01", "VOLUME_KEY_CHECK", "pg-data"),
			record("5", "2026-11-01", "CUSTODIANS_CHECKED", "pg-data"),
			record("6", "2026-11-02", "PRUNE_DONE", ""),
			record("7", "2026-11-03", "DRILL", "", drilled),
			record("8", "2026-11-04", "REVIEW", "", func(r *report.GDPRRecord) { r.Job, r.Reason = "", "nothing unusual" }),
			record("9", "2026-11-05", "PRUNED", ""),
		},
	}
}

func texts(g report.GDPR) []string {
	missing := []string{}
	for _, line := range g.Missing() {
		missing = append(missing, line.Missing)
	}
	return missing
}

// TestGDPRMissing has each rule that says what is missing: the change that breaks it, alone.
func TestGDPRMissing(t *testing.T) {
	if got := texts(site()); len(got) > 0 {
		t.Fatalf("a site that lacks nothing lacks %q", got)
	}
	job := func(change func(*report.GDPRJob)) func(*report.GDPR) {
		return func(g *report.GDPR) { change(&g.Jobs[0]) }
	}
	key := func(change func(*report.GDPRKey)) func(*report.GDPR) {
		return func(g *report.GDPR) { change(&g.Jobs[0].Keys[0]) }
	}
	vol := func(change func(*report.GDPRVolume)) func(*report.GDPR) {
		return func(g *report.GDPR) { change(&g.Volumes[0]) }
	}
	drop := func(event string) func(*report.GDPR) {
		return func(g *report.GDPR) {
			g.Records = slices.DeleteFunc(g.Records, func(r report.GDPRRecord) bool { return r.Event == event })
		}
	}
	add := func(r report.GDPRRecord) func(*report.GDPR) {
		return func(g *report.GDPR) { g.Records = append(g.Records, r) }
	}
	early := func(event string) func(*report.GDPR) { // before a quarter ago
		return func(g *report.GDPR) {
			for i := range g.Records {
				if g.Records[i].Event == event {
					g.Records[i].Time = day("2026-08-20")
				}
			}
		}
	}
	for _, c := range []struct {
		name   string
		change func(*report.GDPR)
		want   []string
	}{
		{"no job", func(g *report.GDPR) { g.Jobs = nil }, []string{"nothing is backed up"}},
		{"no source", job(func(j *report.GDPRJob) { j.Sources = nil }), []string{"job app backs up nothing"}},
		{"no seal", job(func(j *report.GDPRJob) { j.Seal, j.Keys = "none", nil }), []string{"the backups of job app are not sealed: whoever reads a store of it reads them"}},
		{"passphrase", job(func(j *report.GDPRJob) { j.Passphrase = true }), []string{"job app has no key pair: this host can open its backups"}},
		{"one key", job(func(j *report.GDPRJob) { j.Keys = j.Keys[:1] }), []string{"fewer than two people are known to be able to open the backups of job app"}},
		{"two keys of one person", key(func(k *report.GDPRKey) { k.Holder = "Ben" }), []string{"fewer than two people are known to be able to open the backups of job app"}},
		{"no holder", func(g *report.GDPR) {
			g.Jobs[0].Keys = append(g.Jobs[0].Keys, report.GDPRKey{Name: "third", Created: day("2026-02-01"), Checked: day("2026-11-01")})
		}, []string{"nobody is written down as the holder of key third"}},
		{"no day", key(func(k *report.GDPRKey) { k.Created = time.Time{} }), []string{"it is not written down when key ops was made"}},
		{"expired", key(func(k *report.GDPRKey) { k.Expires = day("2026-11-29") }), []string{"key ops has expired"}},
		{"expires today", key(func(k *report.GDPRKey) { k.Expires = day("2026-11-30") }), []string{}},
		{"expires on the last day of a span that is over", func(g *report.GDPR) {
			g.Until, g.Jobs[0].Keys[0].Expires = day("2026-11-30"), day("2026-11-29")
		}, []string{}},
		{"a year old", key(func(k *report.GDPRKey) { k.Created = day("2025-11-30") }), []string{"key ops is older than 12 months"}},
		{"a year old tomorrow", key(func(k *report.GDPRKey) { k.Created = day("2025-12-01") }), []string{}},
		{"never checked", key(func(k *report.GDPRKey) { k.Checked = time.Time{} }), []string{"no identity was ever shown to open what is sealed to key ops"}},
		{"long ago checked", key(func(k *report.GDPRKey) { k.Checked = day("2026-08-20") }), []string{"key ops was not checked for 100 days"}},
		{"in the open on the way", func(g *report.GDPR) { g.Stores[1].Transit = "" }, []string{"what is sent to store s3 is not encrypted on the way"}},
		{"all here", func(g *report.GDPR) { g.Stores[1].OffSite = false }, []string{"all copies of job app are on this machine"}},
		{"off-site, but another job's", job(func(j *report.GDPRJob) { j.Stores = j.Stores[:1] }), []string{"all copies of job app are on this machine", "whoever takes over this host can delete every copy of job app"}},
		{"no lock", func(g *report.GDPR) { g.Stores[1].Lock = "" }, []string{"whoever takes over this host can delete every copy of job app"}},
		{"no volume", func(g *report.GDPR) { g.Volumes = nil }, []string{"the server of source db keeps its data on no encrypted volume that is known here"}},
		{"another source's volume", vol(func(v *report.GDPRVolume) { v.Source = "" }), []string{"the server of source db keeps its data on no encrypted volume that is known here"}},
		{"not LUKS2", vol(func(v *report.GDPRVolume) { v.LUKS2 = false }), []string{"volume pg-data is not a LUKS2 volume"}},
		{"another cipher", vol(func(v *report.GDPRVolume) { v.Cipher = "aes-cbc-essiv:sha256" }), []string{"the cipher of volume pg-data is not aes-xts"}},
		{"256 bits", vol(func(v *report.GDPRVolume) { v.KeyBits = 256 }), []string{"the key of volume pg-data has 256 bits, which with XTS is AES-128"}},
		{"pbkdf2", vol(func(v *report.GDPRVolume) { v.Slots[1].KDF = "pbkdf2" }), []string{"a key of volume pg-data is not derived by argon2id"}},
		{"one key", vol(func(v *report.GDPRVolume) { v.Slots = v.Slots[:1] }), []string{"volume pg-data has no recovery key"}},
		{"a key of nobody", vol(func(v *report.GDPRVolume) {
			v.Slots = append(v.Slots, report.GDPRSlot{Number: 2, KDF: "argon2id", Created: day("2026-10-01")})
		}), []string{"volume pg-data has a key that nobody wrote down what it is for"}},
		{"no day of a key", vol(func(v *report.GDPRVolume) { v.Slots[0].Created = time.Time{} }), []string{"it is not known when the operational key in slot 0 of pg-data was made"}},
		{"an old key", vol(func(v *report.GDPRVolume) { v.Slots[1].Created = day("2025-11-01") }), []string{"the recovery key in slot 1 of pg-data is older than 12 months"}},
		{"never verified", drop("VOLUME_VERIFIED"), []string{"it was never verified that the data of volume pg-data is sealed on its device"}},
		{"badly verified", add(record("10", "2026-11-20", "VOLUME_VERIFIED", "pg-data", result("difference"))), []string{"the last verification of volume pg-data failed"}},
		{"long ago verified", early("VOLUME_VERIFIED"), []string{"volume pg-data was not verified for 100 days"}},
		{"keys never tried", drop("VOLUME_KEY_CHECK"), []string{"nobody ever tried whether the keys of volume pg-data open it"}},
		{"keys tried in vain", func(g *report.GDPR) { g.Records[3].Result = "failed" }, []string{"nobody ever tried whether the keys of volume pg-data open it"}},
		{"keys tried long ago", early("VOLUME_KEY_CHECK"), []string{"the keys of volume pg-data were not tried for 100 days"}},
		{"no header backup", vol(func(v *report.GDPRVolume) { v.Headers = nil }), []string{"the header of volume pg-data has no backup: a damaged one loses all data on it"}},
		{"header backup before the last key", add(record("10", "2026-11-20", "VOLUME_KEY_ADDED", "pg-data")), []string{"a key of volume pg-data was changed after the newest backup of its header"}},
		{"a key that was not added", add(record("10", "2026-11-20", "VOLUME_KEY_ADDED", "pg-data", result("failed"))), []string{}},
		{"another volume's key", add(record("10", "2026-11-20", "VOLUME_KEY_ADDED", "other")), []string{}},
		{"no guard", vol(func(v *report.GDPRVolume) { v.Guarded = false }), []string{"the mount point of volume pg-data has no guard: while it is locked, a server could write its data in the open there"}},
		{"no drill", drop("DRILL"), []string{"no backup of job app was ever proven by a drill", "how long a restore of job app takes was never measured"}},
		{"a failed drill", add(record("10", "2026-11-20", "DRILL", "", result("difference"))), []string{"the last drill of job app failed"}},
		{"a drill that could not test", add(record("10", "2026-11-20", "DRILL", "", result("cannot-test"))), []string{}},
		{"a drill of long ago", func(g *report.GDPR) { g.Records[6].Time = day("2026-10-20") }, []string{"no drill of job app passed for 40 days"}},
		{"a drill of long ago, where nothing is said", func(g *report.GDPR) { g.Records[6].Time, g.Jobs[0].DrillEvery = day("2026-08-20"), 0 }, []string{"no drill of job app passed for 100 days"}},
		{"too slow", job(func(j *report.GDPRJob) { j.RTO = 10 * time.Minute }), []string{"a restore of job app took longer than the 10m that were promised"}},
		{"no promise", job(func(j *report.GDPRJob) { j.RTO = 0 }), []string{"nothing is promised for how long a restore of job app may take"}},
		{"no rule", job(func(j *report.GDPRJob) { j.Keep = nil }), []string{"no rule says how long backups of job app are kept"}},
		{"no prune", drop("PRUNE_DONE"), []string{"the rules of job app were never carried out"}},
		{"no prune that went well", func(g *report.GDPR) { g.Records[5].Result = "failed" }, []string{"the rules of job app were never carried out"}},
		{"a prune of long ago", early("PRUNE_DONE"), []string{"no prune of job app went through for 100 days"}},
		{"no backup", job(func(j *report.GDPRJob) { j.Newest, j.Oldest, j.Backups = report.GDPRBackup{}, report.GDPRBackup{}, 0 }), []string{"job app has no complete backup"}},
		{"an old backup", job(func(j *report.GDPRJob) { j.Newest.Time = day("2026-11-28") }), []string{"the newest backup of job app is older than the 24h that may be lost (RPO)"}},
		{"no journal", func(g *report.GDPR) { g.Chains = nil }, []string{"nothing was recorded on this host"}},
		{"unsigned", func(g *report.GDPR) { g.Chains[0].Signed = 7 }, []string{"the last 2 records of chain web1-abc are not signed"}},
		{"one unsigned", func(g *report.GDPR) { g.Chains[0].Signed = 8 }, []string{"the last record of chain web1-abc is not signed"}},
		{"in no store", func(g *report.GDPR) { g.Chains[0].Stores = nil }, []string{"chain web1-abc is in no store: losing the host loses it"}},
		{"not whole", func(g *report.GDPR) { g.Chains[0].Problem = "record 3 was changed" }, []string{"chain web1-abc is not whole"}},
		{"not verified", func(g *report.GDPR) { g.Chains[0].Checked = time.Time{} }, []string{"chain web1-abc was not verified"}},
		{"no review", drop("REVIEW"), []string{"nobody ever looked at the audit trail"}},
		{"a review of long ago", early("REVIEW"), []string{"nobody looked at the audit trail for 100 days"}},
		{"no journal here", func(g *report.GDPR) { g.Chains[0].Own = false }, []string{"nothing was recorded on this host"}},
		{"journal gone", func(g *report.GDPR) { g.Chains, g.Lost = nil, "it is gone, and store s3 has 9 records of this host" }, []string{"the journal of this host is gone, and was there"}},
		{"emergency", add(record("10", "2026-11-20", "VOLUME_EMERGENCY", "pg-data")), []string{"after the emergency of 2026-11-20 not both keys of volume pg-data were replaced"}},
		{"emergency of a volume that is gone", add(record("10", "2026-11-20", "VOLUME_EMERGENCY", "gone")), []string{"nothing shows that the keys of volume gone, which is not configured, were replaced after the emergency of 2026-11-20"}},
		{"emergency, one key", func(g *report.GDPR) {
			g.Records, g.Volumes[0].Slots[0].Created = append(g.Records, record("10", "2026-11-20", "VOLUME_EMERGENCY", "pg-data")), day("2026-11-20")
		}, []string{"after the emergency of 2026-11-20 not both keys of volume pg-data were replaced"}},
		{"emergency, both keys", func(g *report.GDPR) {
			g.Records = append(g.Records, record("10", "2026-11-20", "VOLUME_EMERGENCY", "pg-data"))
			g.Volumes[0].Slots[0].Created, g.Volumes[0].Slots[1].Created = day("2026-11-20"), day("2026-11-21")
		}, []string{}},
		{"one custodian", vol(func(v *report.GDPRVolume) { v.Holders = v.Holders[:1] }), []string{"volume pg-data has fewer than two custodians"}},
		{"one with both keys", vol(func(v *report.GDPRVolume) { v.Holders[1].Name = "Anna" }), []string{"volume pg-data has fewer than two custodians"}},
		{"two of one role", vol(func(v *report.GDPRVolume) { v.Holders[1].Role = "operational" }), []string{"nobody holds the recovery key of volume pg-data"}},
		{"no contact", vol(func(v *report.GDPRVolume) { v.Holders[0].Contact = "" }), []string{"nothing says how to reach Anna, custodian of volume pg-data"}},
		{"no second factor", vol(func(v *report.GDPRVolume) { v.Holders[1].MFA = false }), []string{"Ben, custodian of volume pg-data, has no second factor"}},
		{"one left", vol(func(v *report.GDPRVolume) {
			v.Holders = append(v.Holders, report.GDPRHolder{Name: "Cleo", Role: "recovery", Until: day("2026-11-20")})
		}), []string{"Cleo has left, and the recovery key of volume pg-data is the one that they had"}},
		{"one left before the key was made", vol(func(v *report.GDPRVolume) {
			v.Holders = append(v.Holders, report.GDPRHolder{Name: "Cleo", Role: "recovery", Until: day("2026-09-20")})
		}), []string{}},
		{"one leaves today", vol(func(v *report.GDPRVolume) { v.Holders[1].Until = day("2026-11-30") }), []string{}},
		{"custodians not asked", drop("CUSTODIANS_CHECKED"), []string{"the custodians of volume pg-data were never checked"}},
		{"custodians asked long ago", early("CUSTODIANS_CHECKED"), []string{"the custodians of volume pg-data were not checked for 100 days"}},
		{"nobody to tell", vol(func(v *report.GDPRVolume) { v.Tell = nil }), []string{"nobody is named who must be told when volume pg-data is compromised"}},
		{"a record of after the span", func(g *report.GDPR) { g.Until = day("2026-11-04") }, []string{"nobody ever looked at the audit trail"}},
	} {
		g := site()
		c.change(&g)
		if got := texts(g); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
		for _, line := range g.Missing() {
			if line.Fix == "" || line.Article == "" || line.Record == "" {
				t.Errorf("%s: %q does not say what to do, what says so, or what it serves: %+v", c.name, line.Missing, line)
			}
		}
	}
}

// line finds the line of a section.
func line(t *testing.T, g report.GDPR, section, what string) report.GDPRLine {
	t.Helper()
	for _, s := range g.Sections() {
		if s.Title != section {
			continue
		}
		for _, l := range s.Lines {
			if l.What == what {
				return l
			}
		}
	}
	t.Fatalf("no line %q in section %q", what, section)
	return report.GDPRLine{}
}

// TestGDPRProtection: what is said to be protected is only said when something shows it.
func TestGDPRProtection(t *testing.T) {
	const theft, live = "A stolen disk", "A compromise of the running host"
	for _, c := range []struct {
		name, section, what string
		change              func(*report.GDPR)
		value, record       string
	}{
		{"verified", theft, "volume pg-data", func(*report.GDPR) {}, "the data cannot be read without a passphrase of it, or an older header and a passphrase of that time", "web1-abc 3"},
		{"not verified", theft, "volume pg-data", func(g *report.GDPR) { g.Records[2].Result = "difference" }, "what lies on it cannot be read without a passphrase of it; that the data lies there was not shown", "header of /dev/sdb1"},
		{"header not read", theft, "volume pg-data", func(g *report.GDPR) { g.Volumes[0].Error = "denied" }, "nothing is said: no LUKS2 header was read", "header of /dev/sdb1"},
		{"not LUKS2", theft, "volume pg-data", func(g *report.GDPR) { g.Volumes[0].LUKS2 = false }, "nothing is said: no LUKS2 header was read", "header of /dev/sdb1"},
		{"on no volume", theft, "source db of job app", func(g *report.GDPR) { g.Volumes = nil }, "on no volume that is known here: as readable as the disk that its server uses", "/etc/holdfast/holdfast.yaml"},
		{"sealed", theft, "backups of job app in main", func(*report.GDPR) {}, "names of jobs, sources and hosts, times and sizes; no content without an identity", "/etc/holdfast/holdfast.yaml"},
		{"not sealed", theft, "backups of job app in main", func(g *report.GDPR) { g.Jobs[0].Seal = "none" }, "can be read: they are not sealed", "/etc/holdfast/holdfast.yaml"},
		{"passphrase", theft, "backups of job app in main", func(g *report.GDPR) { g.Jobs[0].Passphrase = true }, "can be read by whoever finds the passphrase on the same disks", "/etc/holdfast/holdfast.yaml"},
		{"mounted", live, "volume pg-data", func(*report.GDPR) {}, "mounted: all of it can be read, and the key that is in the kernel's memory too. It protects nothing against them", "state when this was made"},
		{"locked", live, "volume pg-data", func(g *report.GDPR) { g.Volumes[0].State = "locked" }, "locked: it cannot be read now; from the next unlock on it can", "state when this was made"},
		{"no state", live, "volume pg-data", func(g *report.GDPR) { g.Volumes[0].State = "" }, "nothing is said: its state is not known", "state when this was made"},
		{"no identity here", live, "backups of job app", func(*report.GDPR) {}, "cannot be read: no identity is configured, and no record has one made or used on this host", "journal web1-abc"},
		{"drilled here", live, "backups of job app", func(g *report.GDPR) { g.Records[6].Host = "web1" }, "an identity may have been on this host on 2026-11-03 (DRILL); no record can show that it left", "web1-abc 7"},
		{"a drill here that could not test", live, "backups of job app", func(g *report.GDPR) {
			g.Records = append(g.Records, record("10", "2026-11-20", "DRILL", "", result("refused")))
		}, "cannot be read: no identity is configured, and no record has one made or used on this host", "journal web1-abc"},
		{"key made here", live, "backups of job app", func(g *report.GDPR) { g.Records[0].Detail = "init; key age1q" }, "an identity may have been on this host on 2026-01-01 (KEY_CREATED); no record can show that it left", "web1-abc 1"},
		{"key replaced here", live, "backups of job app", func(g *report.GDPR) { g.Records = append(g.Records, record("10", "2026-11-20", "KEY_ROTATION", "")) }, "an identity may have been on this host on 2026-11-20 (KEY_ROTATION); no record can show that it left", "web1-abc 10"},
		{"restored here", live, "backups of job app", func(g *report.GDPR) { g.Records = append(g.Records, record("10", "2026-11-20", "RESTORE", "")) }, "an identity may have been on this host on 2026-11-20 (RESTORE); no record can show that it left", "web1-abc 10"},
		{"another job's", live, "backups of job app", func(g *report.GDPR) {
			g.Records = append(g.Records, record("10", "2026-11-20", "RESTORE", "", func(r *report.GDPRRecord) { r.Job = "b" }))
		}, "cannot be read: no identity is configured, and no record has one made or used on this host", "journal web1-abc"},
		{"restored here, under another name of the host", live, "backups of job app", func(g *report.GDPR) {
			g.Records = append(g.Records, record("10", "2026-11-20", "RESTORE", "", on("db1"), func(r *report.GDPRRecord) { r.Own = true }))
		}, "an identity may have been on this host on 2026-11-20 (RESTORE); no record can show that it left", "web1-abc 10"},
		{"restored elsewhere", live, "backups of job app", func(g *report.GDPR) {
			g.Records = append(g.Records, record("10", "2026-11-20", "RESTORE", "", on("desk")))
		}, "cannot be read: no identity is configured, and no record has one made or used on this host", "journal web1-abc"},
		{"identity configured", live, "backups of job app", func(g *report.GDPR) { g.Identity = "/root/id" }, "can be read if /root/id, which the configuration names, opens them", "/etc/holdfast/holdfast.yaml"},
		{"live passphrase", live, "backups of job app", func(g *report.GDPR) { g.Jobs[0].Passphrase = true }, "can be read: the passphrase is on this host", "/etc/holdfast/holdfast.yaml"},
		{"live and not sealed", live, "backups of job app", func(g *report.GDPR) { g.Jobs[0].Seal = "none" }, "can be read: they are not sealed", "/etc/holdfast/holdfast.yaml"},
		{"records not all read", live, "backups of job app", func(g *report.GDPR) { g.Unread = []string{"store s3"} }, "not shown: the records that would say whether an identity was here could not all be read", "journal web1-abc"},
		{"records not whole", live, "backups of job app", func(g *report.GDPR) { g.Chains[0].Problem = "changed" }, "not shown: the records that would say whether an identity was here could not all be read", "journal web1-abc"},
		{"no records of this host", live, "backups of job app", func(g *report.GDPR) { g.Chains[0].Own = false }, "not shown: the records that would say whether an identity was here could not all be read", "journal web1-abc"},
		{"no records", live, "backups of job app", func(g *report.GDPR) { g.Chains = nil }, "not shown: the records that would say whether an identity was here could not all be read", "no journal"},
		{"locked store", live, "backups of job app, deletion", func(*report.GDPR) {}, "cannot be deleted in s3", "/etc/holdfast/holdfast.yaml"},
		{"no locked store", live, "backups of job app, deletion", func(g *report.GDPR) { g.Stores[1].Lock = "" }, "all copies can be deleted with the access that this host has", "/etc/holdfast/holdfast.yaml"},
	} {
		g := site()
		c.change(&g)
		if got := line(t, g, c.section, c.what); got.Value != c.value || got.Record != c.record {
			t.Errorf("%s: %q by %q, want %q by %q", c.name, got.Value, got.Record, c.value, c.record)
		}
	}
}

// TestGDPRIncidents: what has to be looked at is told, with the number of its record, and nothing else is.
func TestGDPRIncidents(t *testing.T) {
	reason := func(r *report.GDPRRecord) { r.Reason = "stolen" }
	for _, c := range []struct {
		r    report.GDPRRecord
		want bool
	}{
		{record("10", "2026-11-20", "VOLUME_UNLOCK", "pg-data", result("failed")), true},
		{record("10", "2026-11-20", "VOLUME_UNLOCK", "pg-data"), false},
		{record("10", "2026-11-20", "VOLUME_EMERGENCY", "pg-data"), true},
		{record("10", "2026-11-20", "VOLUME_REENCRYPTED", "pg-data"), true},
		{record("10", "2026-11-20", "VOLUME_ROLLED_BACK", "pg-data"), true},
		{record("10", "2026-11-20", "VOLUME_VERIFIED", "pg-data", result("difference")), true},
		{record("10", "2026-11-20", "VOLUME_KEY_CHECK", "pg-data", result("failed")), true},
		{record("10", "2026-11-20", "VOLUME_KEY_ROTATED", "pg-data", reason), true},
		{record("10", "2026-11-20", "VOLUME_KEY_ROTATED", "pg-data"), false},
		{record("10", "2026-11-20", "KEY_ROTATION", "", reason), true},
		{record("10", "2026-11-20", "EMERGENCY_ACCESS", ""), true},
		{record("10", "2026-11-20", "REFUSED", "", result("refused")), true},
		{record("10", "2026-11-20", "JOURNAL_REBUILT", ""), true},
		{record("10", "2026-11-20", "BACKUP_CREATED", ""), false},
		{record("10", "2026-11-20", "DRILL", "", result("difference")), true},
		{record("10", "2026-11-20", "DRILL", "", result("failed")), true},
		{record("10", "2026-11-20", "DRILL", "", result("proven")), false},
		{record("10", "2026-11-20", "DRILL", "", result("restores")), false},
		{record("10", "2026-11-20", "VERIFIED", "", result("difference")), true},
		{record("10", "2026-11-20", "VERIFIED", "", result("failed")), false},
		{record("10", "2026-08-20", "EMERGENCY_ACCESS", ""), false},
		{record("10", "2026-12-01", "EMERGENCY_ACCESS", ""), false},
	} {
		g := site()
		g.Records = append(g.Records, c.r)
		found := false
		for _, s := range g.Sections() {
			for _, l := range s.Lines {
				found = found || s.Title == "Incidents" && l.Record == c.r.ID && strings.HasPrefix(l.What, c.r.Event)
			}
		}
		if found != c.want {
			t.Errorf("%s %s of %s with reason %q: told as an incident %t, want %t", c.r.Event, c.r.Result, c.r.Time.Format(time.DateOnly), c.r.Reason, found, c.want)
		}
	}
}

// TestGDPRWords: an event is one that the journal has, or a misspelt one would never be found in it.
func TestGDPRWords(t *testing.T) {
	known := map[string]bool{}
	for _, event := range journal.Events() {
		known[string(event)] = true
	}
	word := regexp.MustCompile(`"([A-Z]{4,}(?:_[A-Z]+)*)"`)
	files, err := filepath.Glob("gdpr*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range word.FindAllStringSubmatch(string(text), -1) {
			if found++; !known[match[1]] {
				t.Errorf("%s: %s is no event of the journal", file, match[1])
			}
		}
	}
	if found < 30 {
		t.Errorf("only %d words found: this test looks at nothing", found)
	}
}
