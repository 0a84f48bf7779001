package archive

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"holdfast"
	"holdfast/internal/seal"
)

const (
	checkFormat    = "holdfast-check-1"
	checkNamespace = "holdfast-check"
)

// CheckEntry is what a listing tells of one check of a key. Nothing in it is authenticated.
type CheckEntry struct {
	Job  holdfast.JobName
	Time time.Time
	Key  string // the key's ID as it stands in names
	ID   holdfast.BackupID
}

// Of reports whether the check was of the key with this ID.
func (c CheckEntry) Of(keyID string) bool { return c.Key == keyInName(keyID) }

// keyInName writes a key's ID with a dash for whatever is neither letter nor digit: an object's name has no colon.
func keyInName(id string) string {
	return strings.Map(func(r rune) rune {
		if r < utf8.RuneSelf && (unicode.IsLetter(r) || unicode.IsDigit(r)) {
			return r
		}
		return '-'
	}, id)
}

// Check is the plain, signed record that a key opened a backup.
type Check struct {
	Format   string            `json:"format"`
	ID       holdfast.BackupID `json:"id"` // of the record
	Job      holdfast.JobName  `json:"job"`
	Backup   holdfast.BackupID `json:"backup"`
	Manifest string            `json:"manifest_sha256"`
	Key      string            `json:"key"`
	Time     time.Time         `json:"time"`
	Host     string            `json:"host"`
	Who      string            `json:"who"`
	Version  string            `json:"version"`
	Signer   string            `json:"signer"`
}

func (c CheckEntry) name(suffix string) string {
	return fmt.Sprintf("%s%s/%s.%s.%s.%s", checkPrefix, c.Job, c.Time.Format(timeLayout), c.Key, c.ID, suffix)
}

var checkRule = regexp.MustCompile(`^checks/([^/]+)/(\d{8}T\d{6}Z)\.([A-Za-z0-9-]{1,64})\.([a-z0-9]+)\.json$`)

func parseCheck(name string) (CheckEntry, bool) {
	m := checkRule.FindStringSubmatch(name)
	if m == nil {
		return CheckEntry{}, false
	}
	job, jobErr := holdfast.ParseJobName(m[1])
	at, timeErr := time.Parse(timeLayout, m[2])
	id, idErr := holdfast.ParseBackupID(m[4])
	entry := CheckEntry{Job: job, Time: at, Key: m[3], ID: id}
	return entry, errors.Join(jobErr, timeErr, idErr) == nil && entry.name("json") == name
}

// Opens proves that the identities alone, one with its passphrase mostly, open b: its facts are read to their authenticated end, and thrown away. It fails
// with seal.ErrNoIdentity when b is not sealed to them, and with holdfast.ErrDifference when b is damaged.
func (b *Backup) Opens(ctx context.Context, identities ...seal.Identity) error {
	alone := *b.archive
	alone.opt.Identities = identities
	with := *b
	with.archive = &alone
	_, err := with.facts(ctx)
	return err
}

// PutCheck stores the signed record that c.Key opened b at c.Time; the rest of c is filled in. The record itself is
// written last.
func (a *Archive) PutCheck(ctx context.Context, b *Backup, c Check) (Check, error) {
	if a.opt.Signer == nil {
		return Check{}, errNoSigner()
	}
	c.Format, c.ID, c.Job, c.Backup, c.Manifest = checkFormat, holdfast.NewBackupID(), b.Entry.Job, b.Entry.ID, b.Digest
	c.Time, c.Version = c.Time.UTC().Truncate(time.Second), a.opt.Version
	c.Signer = a.opt.Signer.PublicKey().Fingerprint()
	entry := CheckEntry{Job: c.Job, Time: c.Time, Key: keyInName(c.Key), ID: c.ID}
	if _, ok := parseCheck(entry.name("json")); !ok {
		return Check{}, fmt.Errorf("%w: no record can be called %s", holdfast.ErrUsage, entry.name("json"))
	}
	if err := a.putRecord(ctx, entry.record(), &c); err != nil {
		return Check{}, err
	}
	return c, nil
}

func (e CheckEntry) record() signedRecord {
	return signedRecord{"check " + string(e.ID), checkNamespace, e.name}
}

// Checks lists the records of checks, oldest first, from names alone.
func (a *Archive) Checks(ctx context.Context) ([]CheckEntry, error) {
	var checks []CheckEntry
	for object, err := range a.store.List(ctx, checkPrefix) {
		if err != nil {
			return nil, fmt.Errorf("list checks of keys: %w", err)
		}
		if entry, ok := parseCheck(object.Name); ok {
			checks = append(checks, entry)
		}
	}
	slices.SortStableFunc(checks, func(x, y CheckEntry) int { return x.Time.Compare(y.Time) })
	return checks, nil
}

// ReadCheck reads a record, checks that it is signed and says what its name says, and reports whether its signer is
// trusted. What is not so is holdfast.ErrDifference.
func (a *Archive) ReadCheck(ctx context.Context, entry CheckEntry) (Check, bool, error) {
	var c Check
	trusted, err := a.readRecord(ctx, entry.record(), &c)
	if err != nil {
		return Check{}, false, err
	}
	if c.Format != checkFormat || c.ID != entry.ID || c.Job != entry.Job || !entry.Of(c.Key) || !c.Time.Equal(entry.Time) {
		return Check{}, false, fmt.Errorf("%w: check %s says other things than its name", holdfast.ErrDifference, entry.ID)
	}
	return c, trusted, nil
}
