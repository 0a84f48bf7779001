package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast"
)

// roles are those of a volume's keys: one is used every day, the other lies in an envelope.
func roles() []string { return []string{"operational", "recovery"} }

// volumes tells of each encrypted volume what its header and its records say, and of each PostgreSQL source whether it lies on one.
func (g GDPR) volumes() GDPRSection {
	s := GDPRSection{Title: "Encrypted volumes"}
	for _, v := range g.Volumes {
		s.Lines = append(s.Lines, g.volume(v)...)
	}
	for _, job := range g.Jobs {
		for _, src := range job.Sources {
			if src.Kind != holdfast.KindPostgres || slices.ContainsFunc(g.Volumes, func(v GDPRVolume) bool { return v.Job == job.Name && v.Source == src.Name }) {
				continue
			}
			s.Lines = append(s.Lines, GDPRLine{What: fmt.Sprintf("source %s of job %s", src.Name, job.Name), Value: "on no volume of this configuration", Record: g.config(), Article: Sealing}.
				lacks(true, fmt.Sprintf("the server of source %s keeps its data on no encrypted volume that is known here", src.Name), "`holdfast volume create`, or set `volumes.NAME.source`"))
		}
	}
	if len(s.Lines) == 0 {
		s.Note = "There are none, and there is no PostgreSQL source."
	}
	return s
}

func (v GDPRVolume) name() string { return "volume " + v.Name }

// of matches records of the volume.
func (v GDPRVolume) of(r GDPRRecord, events ...string) bool {
	return r.Volume == v.Name && r.is(events...)
}

func (g GDPR) volume(v GDPRVolume) []GDPRLine {
	name := v.name()
	lines := []GDPRLine{{What: name, Value: fmt.Sprintf("%s, for %s, data in %s; now: %s", v.Device, v.Mount, v.Data, cmp.Or(v.State, "not known")), Record: g.config(), Article: Records}}
	if v.Error != "" {
		lines = append(lines, GDPRLine{What: name + ": header", Value: "not seen", Record: v.Device, Article: Sealing, Unseen: "it could not be read, and nothing shows that the volume is encrypted"})
	} else {
		lines = append(lines, g.cipher(v), g.derivation(v), g.slots(v))
		for _, slot := range v.Slots {
			lines = append(lines, g.slot(v, slot))
		}
	}
	return append(lines, g.verified(v), g.keysTried(v), g.header(v), g.guard(v))
}

func (g GDPR) guard(v GDPRVolume) GDPRLine {
	line := GDPRLine{What: v.name() + ": guard", Value: "the bare mount point takes no files", Record: v.Mount, Article: Sealing}
	switch {
	case v.GuardError != "":
		line.Value, line.Unseen = "not seen", "the bare mount point could not be looked at"
	case !v.Guarded:
		line.Value = "none"
	}
	return line.lacks(!v.Guarded, fmt.Sprintf("the mount point of %s has no guard: while it is locked, a server could write its data in the open there", v.name()),
		hintf("`holdfast volume guard %s`", v.Name))
}

func (g GDPR) cipher(v GDPRVolume) GDPRLine {
	name, fix := v.name(), "a new volume, and `holdfast volume migrate`"
	value := fmt.Sprintf("%s, %d bits", v.Cipher, v.KeyBits)
	if v.KeyBits == xtsBits && strings.HasPrefix(v.Cipher, "aes-xts") {
		value += " (two keys of AES-256)"
	}
	if v.LUKS2 {
		value = "LUKS2, " + value
	} else {
		value = "no LUKS2 header"
	}
	return GDPRLine{What: name + ": cipher", Value: value, Record: "header of " + v.Device, Article: Sealing}.
		lacks(!v.LUKS2, name+" is not a LUKS2 volume", fix).
		lacks(!strings.HasPrefix(v.Cipher, "aes-xts"), fmt.Sprintf("the cipher of %s is not aes-xts", name), fix).
		lacks(v.KeyBits < xtsBits, fmt.Sprintf("the key of %s has %d bits, which with XTS is AES-%d", name, v.KeyBits, v.KeyBits/2), fix)
}

// derivation tells how passphrases become keys.
func (g GDPR) derivation(v GDPRVolume) GDPRLine {
	var each []string
	weak := false
	for _, slot := range v.Slots {
		each = append(each, fmt.Sprintf("slot %d %s, %d MiB", slot.Number, slot.KDF, slot.MemoryKiB>>10))
		weak = weak || slot.KDF != "argon2id"
	}
	return GDPRLine{What: v.name() + ": passphrases", Value: or(each, "none"), Record: "header of " + v.Device, Article: Sealing}.
		lacks(weak, "a key of "+v.name()+" is not derived by argon2id", hintf("`holdfast volume key rotate %s`", v.Name))
}

func (g GDPR) slots(v GDPRVolume) GDPRLine {
	var have, without []string
	for _, slot := range v.Slots {
		have = append(have, fmt.Sprintf("%s (slot %d)", cmp.Or(slot.Role, "of nobody's knowledge"), slot.Number))
	}
	for _, role := range roles() {
		if _, some := v.slotOf(role); !some {
			without = append(without, role)
		}
	}
	return GDPRLine{What: v.name() + ": keys", Value: or(have, "none"), Record: "header of " + v.Device, Article: Resilience}.
		lacks(len(without) > 0, fmt.Sprintf("%s has no %s key", v.name(), strings.Join(without, " and no ")), hintf("`holdfast volume key add %s`", v.Name)).
		lacks(slices.ContainsFunc(v.Slots, func(s GDPRSlot) bool { return !slices.Contains(roles(), s.Role) }),
			fmt.Sprintf("%s has a key that nobody wrote down what it is for", v.name()), hintf("`holdfast volume key list %s`", v.Name))
}

func (v GDPRVolume) slotOf(role string) (GDPRSlot, bool) {
	for _, slot := range slices.Backward(v.Slots) {
		if slot.Role == role {
			return slot, true
		}
	}
	return GDPRSlot{}, false
}

func (g GDPR) slot(v GDPRVolume, slot GDPRSlot) GDPRLine {
	what := strings.TrimSpace(fmt.Sprintf("%s key in slot %d of %s", slot.Role, slot.Number, v.Name))
	made := "not known"
	if !slot.Created.IsZero() {
		made = g.ago(slot.Created)
	}
	rotate := hintf("`holdfast volume key rotate %s`", v.Name)
	return GDPRLine{What: v.name() + ": " + strings.TrimSpace(slot.Role+" key") + fmt.Sprintf(" of slot %d made", slot.Number), Value: made, Record: "header of " + v.Device, Article: Testing}.
		lacks(slot.Created.IsZero(), "it is not known when the "+what+" was made", rotate).
		lacks(g.yearOld(slot.Created), "the "+what+" is older than 12 months", rotate)
}

// verified tells when it was last seen that the data is on the mapper, and nothing of it readable on the device.
func (g GDPR) verified(v GDPRVolume) GDPRLine {
	last := g.last(func(r GDPRRecord) bool { return v.of(r, "VOLUME_VERIFIED") })
	value := "never"
	if last.ID != "" {
		value = last.Result + ", " + g.ago(last.Time)
	}
	fix := hintf("`holdfast volume verify %s`", v.Name)
	return GDPRLine{What: v.name() + ": data is on it, and not readable on the device", Value: value, Record: cmp.Or(last.ID, "no record"), Article: Sealing}.
		absent(g.unreadHere(), last.ID == "", "it was never verified that the data of "+v.name()+" is sealed on its device", fix).
		lacks(!last.good(), "the last verification of "+v.name()+" failed", fix).
		absent(g.unreadHere(), g.older(last.Time, quarter), v.name()+" was not verified for 100 days", fix)
}

func (g GDPR) keysTried(v GDPRVolume) GDPRLine {
	last := g.last(func(r GDPRRecord) bool { return v.of(r, "VOLUME_KEY_CHECK") && r.good() })
	fix := hintf("`holdfast volume key check %s`", v.Name)
	return GDPRLine{What: v.name() + ": keys tried", Value: g.ago(last.Time), Record: cmp.Or(last.ID, "no record"), Article: Testing}.
		absent(g.unreadHere(), last.ID == "", "nobody ever tried whether the keys of "+v.name()+" open it", fix).
		absent(g.unreadHere(), g.older(last.Time, quarter), "the keys of "+v.name()+" were not tried for 100 days", fix)
}

// header tells of the backups of the header, which must be newer than the last change of a key.
func (g GDPR) header(v GDPRVolume) GDPRLine {
	changed := g.last(func(r GDPRRecord) bool {
		return v.of(r, "VOLUME_KEY_ADDED", "VOLUME_KEY_ROTATED", "VOLUME_KEY_REMOVED", "VOLUME_REENCRYPTED") && r.good()
	})
	line := GDPRLine{What: v.name() + ": backup of the header", Value: "none", Record: "stores", Article: Resilience}
	fix := hintf("`holdfast volume header backup %s`", v.Name)
	if len(v.Headers) == 0 {
		return line.absent(v.Unread, true, "the header of "+v.name()+" has no backup: a damaged one loses all data on it", fix)
	}
	newest := slices.MaxFunc(v.Headers, func(x, y GDPRHeader) int { return x.Time.Compare(y.Time) })
	line.Value, line.Record = fmt.Sprintf("%s, in store %s; %d in all", g.ago(newest.Time), newest.Store, len(v.Headers)), newest.Object
	return line.absent(v.Unread, newest.Time.Before(changed.Time), "a key of "+v.name()+" was changed after the newest backup of its header", fix).unsure(v.Unread)
}

// holders tells who has the keys of volumes, and whether somebody asked them.
func (g GDPR) holders() GDPRSection {
	s := GDPRSection{Title: "Custodians of volumes"}
	for _, v := range g.Volumes {
		var here, of []string // one person may have both keys
		for _, h := range v.Holders {
			if !g.left(h) {
				of = append(of, h.Role)
				if !slices.Contains(here, h.Name) {
					here = append(here, h.Name)
				}
			}
			s.Lines = append(s.Lines, g.holder(v, h))
		}
		var without []string
		for _, role := range roles() {
			if !slices.Contains(of, role) {
				without = append(without, role)
			}
		}
		key := hintf("`volumes.%s.holders`", v.Name)
		checked := g.last(func(r GDPRRecord) bool {
			return r.is("CUSTODIANS_CHECKED") && r.good() && (r.Volume == v.Name || r.Volume == "")
		})
		check := hintf("`holdfast volume holders check %s`", v.Name)
		s.Lines = append(s.Lines,
			GDPRLine{What: v.name() + ": custodians", Value: or(here, "nobody"), Record: g.config(), Article: Resilience}.
				lacks(len(here) < custodians, v.name()+" has fewer than two custodians", "set "+key).
				lacks(len(without) > 0, fmt.Sprintf("nobody holds the %s key of %s", strings.Join(without, " and the "), v.name()), "set "+key),
			GDPRLine{What: v.name() + ": custodians asked", Value: g.ago(checked.Time), Record: cmp.Or(checked.ID, "no record"), Article: Testing}.
				absent(g.unreadHere(), checked.ID == "", "the custodians of "+v.name()+" were never checked", check).
				absent(g.unreadHere(), g.older(checked.Time, quarter), "the custodians of "+v.name()+" were not checked for 100 days", check),
			GDPRLine{What: v.name() + ": told within an hour of a compromise", Value: or(v.Tell, "nobody"), Record: g.config(), Article: Notice}.
				lacks(len(v.Tell) == 0, "nobody is named who must be told when "+v.name()+" is compromised", hintf("set `volumes.%s.tell`", v.Name)))
	}
	if len(g.Volumes) == 0 {
		s.Note = "There are no volumes. Holders of the keys of backups are above."
	}
	return s
}

// left reports whether the custodian has gone. On their last day they are still there.
func (g GDPR) left(h GDPRHolder) bool {
	return !h.Until.IsZero() && !g.now().Before(h.Until.AddDate(0, 0, 1))
}

func (g GDPR) holder(v GDPRVolume, h GDPRHolder) GDPRLine {
	value := []string{h.Role, cmp.Or(h.Contact, "no contact"), map[bool]string{true: "with a second factor", false: "without a second factor"}[h.MFA]}
	if !h.Since.IsZero() {
		value = append(value, "since "+h.Since.Format(time.DateOnly))
	}
	if !h.Until.IsZero() {
		value = append(value, "until "+h.Until.Format(time.DateOnly))
	}
	slot, some := v.slotOf(h.Role)
	line := GDPRLine{What: fmt.Sprintf("%s: %s", v.name(), h.Name), Value: strings.Join(value, ", "), Record: g.config(), Article: Records}
	if g.left(h) {
		return line.lacks(some && slot.Created.Before(h.Until), fmt.Sprintf("%s has left, and the %s key of %s is the one that they had", h.Name, h.Role, v.name()),
			hintf("`holdfast volume key rotate %s`", v.Name))
	}
	fix := hintf("set it in `volumes.%s.holders`", v.Name)
	return line.lacks(h.Contact == "", fmt.Sprintf("nothing says how to reach %s, custodian of %s", h.Name, v.name()), fix).
		lacks(!h.MFA, fmt.Sprintf("%s, custodian of %s, has no second factor", h.Name, v.name()), fix)
}
