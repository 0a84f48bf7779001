package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast/internal/retention"
	"holdfast/internal/seal"
)

// The names that scripts use for what Holdfast has names of its own for. They count where there is no configuration file, and
// after Holdfast's own; whatever one of them says that does not count is told in a warning.
const (
	aliasDir            = "BACKUP_DIR"
	aliasPassphrase     = "BACKUP_ENCRYPT_PASSPHRASE"
	aliasPassphraseFile = "BACKUP_ENCRYPT_PASSPHRASE_FILE"
	aliasRetention      = "BACKUP_RETENTION_DAYS"
	aliasEnable         = "ENABLE_BACKUPS"
)

// aliasDirDefault is what BACKUP_DIR means when others of the aliases are set and it is not.
const aliasDirDefault = "./backups"

// mostRetention is a hundred years of days.
const mostRetention = 36500

// Aliases lists the variables of scripts.
func Aliases() []Variable {
	return []Variable{
		{Name: aliasDir, Doc: "Where backups are kept: the path of a folder.", Fallback: aliasDirDefault, Flag: envStore},
		{Name: aliasPassphrase, Doc: "Seals to this passphrase, as `HOLDFAST_SEAL` says: age, openpgp (as `gpg --symmetric`) or openssl (as `openssl enc`). This host can then read its own backups.", Fallback: "none", Flag: envRecipient},
		{Name: aliasPassphraseFile, Doc: "File with the passphrase, which only its owner can read (mode 0600).", Fallback: "none", Flag: envRecipient},
		{Name: aliasRetention, Doc: "How many days backups are kept when `holdfast prune`, or `backup --prune`, deletes old ones.", Fallback: "for ever"},
		{Name: aliasEnable, Doc: "`false` switches `holdfast backup` off: it says so, does nothing, and ends with 0. Also with a configuration file.", Fallback: "true"},
	}
}

// aliased is what the aliases come to.
type aliased struct {
	disabled bool
	settings []Setting
	warnings []string
}

// aliasSwitches reads what has no counterpart in a file: whether to back up at all. What else scripts set is shown with it.
func (r *reader) aliasSwitches() aliased {
	var a aliased
	if text, found := r.lookup(aliasEnable); found {
		switch strings.ToLower(strings.TrimSpace(text)) {
		case "true", "yes", "on", "1":
		case "false", "no", "off", "0":
			a.disabled = true
		default:
			r.fault(place{where: "environment " + aliasEnable}, "must be true or false, not %q", text)
		}
		a.settings = append(a.settings, Setting{aliasEnable, strconv.FormatBool(!a.disabled), "environment " + aliasEnable})
	}
	if text, found := r.lookup(aliasRetention); found {
		a.settings = append(a.settings, Setting{aliasRetention, text, "environment " + aliasRetention})
	}
	return a
}

// aliases puts what the aliases say where nothing else says it.
func (r *reader) aliases(d *draft, flags Flags, o *overlaid) {
	r.aliasStore(d, flags, o)
	r.aliasKey(d, flags, o)
	r.aliasKeep(d, o)
}

// aliasKeep lets jobs without a rule keep what scripts kept.
func (r *reader) aliasKeep(d *draft, o *overlaid) {
	text, found := r.lookup(aliasRetention)
	if !found {
		return
	}
	at := place{where: "environment " + aliasRetention}
	days, err := parseNumber(text, 1, mostRetention)
	if err != nil {
		r.fault(at, "%s, not %q", err, text)
		return
	}
	if r.file != "" {
		o.warnings = append(o.warnings, idleAlias(aliasRetention, "there is a configuration file, "+r.file))
		return
	}
	for _, j := range d.jobs {
		j.Keep = Keep{Given: true, Policy: retention.Policy{Default: retention.Rule{Within: time.Duration(days) * day}}}
		r.origins["jobs."+string(j.Name)+".keep.within"] = at
	}
}

func (r *reader) aliasStore(d *draft, flags Flags, o *overlaid) {
	text, found := r.lookup(aliasDir)
	at := place{where: "environment " + aliasDir}
	switch {
	case r.file != "":
		if found {
			o.warnings = append(o.warnings, idleAlias(aliasDir, "there is a configuration file, "+r.file))
		}
		return
	case flags.To != "" || flags.Store != "":
		return
	case o.store.found():
		own, err := workingPath(text)
		if found && (err != nil || !slices.ContainsFunc(d.stores, func(s Store) bool { return s.Path == own })) {
			o.warnings = append(o.warnings, idleAlias(aliasDir, envStore+" goes before it"))
		}
		return
	case !found:
		set := slices.ContainsFunc(Aliases(), func(v Variable) bool { _, found := r.lookup(v.Name); return found })
		if !set {
			return
		}
		text, at = aliasDirDefault, place{where: "default of " + aliasDir}
	}
	o.store = r.addStore(d, given{text, at})
	for _, j := range d.jobs {
		j.store = located(o.store)
		r.origins["jobs."+string(j.Name)+".store"] = at
	}
}

// aliasKey makes a key of the passphrase, and seals to it what is sealed to nobody else.
func (r *reader) aliasKey(d *draft, flags Flags, o *overlaid) {
	var name string
	var ref SecretRef
	if _, found := r.lookup(aliasPassphrase); found {
		name, ref = aliasPassphrase, SecretRef{env: aliasPassphrase, lookup: r.lookup}
	}
	if path, found := r.lookup(aliasPassphraseFile); found {
		if name != "" {
			r.fault(place{where: "environment " + aliasPassphraseFile}, "%s is set too; give one of them", aliasPassphrase)
			return
		}
		absolute, err := workingPath(path)
		if err != nil {
			r.fault(place{where: "environment " + aliasPassphraseFile}, "%s", err)
			return
		}
		name, ref = aliasPassphraseFile, SecretRef{file: absolute}
	}
	if name == "" {
		return
	}
	if r.file != "" {
		o.warnings = append(o.warnings, idleAlias(name, "there is a configuration file, "+r.file))
		return
	}
	at := place{where: "environment " + name}
	key := Key{Name: unique("passphrase", func(name string) bool {
		return slices.ContainsFunc(d.keys, func(k draftKey) bool { return k.Name == name })
	}), Passphrase: ref, Format: seal.Age}
	// A passphrase can seal in each of the formats: what is asked for is what it is made for.
	if sealing := r.given("--seal", flags.Seal, envSeal); slices.Contains(formats(), sealing.text) {
		key.Format = seal.Format(sealing.text)
		r.origins["keys."+key.Name+".format"] = sealing.at
	}
	d.keys = append(d.keys, draftKey{Key: key, at: at})
	r.origins["keys."+key.Name+".passphrase"] = at
	for _, j := range d.jobs {
		switch {
		case j.Seal == SealNone:
			o.warnings = append(o.warnings, fmt.Sprintf("%s is set and does nothing: backups are not sealed, because %s says none", name, strings.TrimPrefix(j.places["seal"].String(), "environment ")))
		case len(j.recipients) > 0:
			if len(flags.Recipients) == 0 && flags.RecipientsFile == "" {
				o.warnings = append(o.warnings, idleAlias(name, j.recipients[0].at.where+" goes before it"))
			}
		default:
			path := "jobs." + string(j.Name) + ".recipients"
			j.recipients = []located{{key.Name, at}}
			r.origins[path] = at
		}
	}
}

func idleAlias(name, why string) string {
	return fmt.Sprintf("the variable %s is set and does nothing: %s", name, strings.TrimPrefix(why, "environment "))
}
