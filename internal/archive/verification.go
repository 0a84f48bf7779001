package archive

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"holdfast"
)

const (
	verificationFormat    = "holdfast-verification-1"
	verificationNamespace = "holdfast-verification"

	resultGood    = "good"
	resultDamaged = "damaged"
)

// VerificationEntry is what a listing tells of one check of this store's copy of a backup. Nothing in it is authenticated.
type VerificationEntry struct {
	Time  time.Time
	Level holdfast.Level
	Good  bool
	ID    holdfast.BackupID
}

// Verification is the plain, signed record that a store's copy of a backup was checked.
type Verification struct {
	Format   string            `json:"format"`
	ID       holdfast.BackupID `json:"id"` // of the record
	Job      holdfast.JobName  `json:"job"`
	Backup   holdfast.BackupID `json:"backup"`
	Manifest string            `json:"manifest_sha256"`
	Level    string            `json:"level"`
	Result   string            `json:"result"`
	Time     time.Time         `json:"time"`
	Host     string            `json:"host"`
	Who      string            `json:"who"`
	Version  string            `json:"version"`
	Signer   string            `json:"signer"`
}

func (e Entry) verificationName(v VerificationEntry, suffix string) string {
	result := resultDamaged
	if v.Good {
		result = resultGood
	}
	return fmt.Sprintf("%s%s/%s.%s.%s.%s.%s", verificationPrefix, e.key(), v.Time.Format(timeLayout), v.Level, result, v.ID, suffix)
}

var verificationRule = regexp.MustCompile(`^verifications/([^/]+/\d{8}T\d{6}Z\.[a-z0-9]+)/(\d{8}T\d{6}Z)\.L([012])\.(good|damaged)\.([a-z0-9]+)\.json$`)

func parseVerification(name string) (key string, v VerificationEntry, ok bool) {
	m := verificationRule.FindStringSubmatch(name)
	if m == nil {
		return "", VerificationEntry{}, false
	}
	at, timeErr := time.Parse(timeLayout, m[2])
	level, levelErr := holdfast.ParseLevel(m[3])
	id, idErr := holdfast.ParseBackupID(m[5])
	return m[1], VerificationEntry{Time: at, Level: level, Good: m[4] == resultGood, ID: id}, errors.Join(timeErr, levelErr, idErr) == nil
}

// PutVerification stores that this store's copy of b was checked at v.Time, with which result. A copy that was found damaged
// counts for nothing when it is decided what may be deleted.
func (a *Archive) PutVerification(ctx context.Context, b *Backup, level holdfast.Level, good bool, v Verification) (Verification, error) {
	if a.opt.Signer == nil {
		return Verification{}, errNoSigner()
	}
	v.Format, v.ID, v.Job, v.Backup, v.Manifest = verificationFormat, holdfast.NewBackupID(), b.Entry.Job, b.Entry.ID, b.Digest
	v.Time, v.Version, v.Level = v.Time.UTC().Truncate(time.Second), a.opt.Version, level.String()
	v.Result = resultDamaged
	if good {
		v.Result = resultGood
	}
	v.Signer = a.opt.Signer.PublicKey().Fingerprint()
	return v, a.putRecord(ctx, verificationRecord(b.Entry, VerificationEntry{Time: v.Time, Level: level, Good: good, ID: v.ID}), &v)
}

func verificationRecord(entry Entry, v VerificationEntry) signedRecord {
	return signedRecord{"verification " + string(v.ID), verificationNamespace, func(suffix string) string { return entry.verificationName(v, suffix) }}
}

// ReadVerification reads a record, checks that it is signed, speaks of b and says what its name says, and reports whether its
// signer is trusted.
func (a *Archive) ReadVerification(ctx context.Context, b *Backup, entry VerificationEntry) (Verification, bool, error) {
	var v Verification
	trusted, err := a.readRecord(ctx, verificationRecord(b.Entry, entry), &v)
	if err != nil {
		return Verification{}, false, err
	}
	if v.Format != verificationFormat || v.ID != entry.ID || v.Job != b.Entry.Job || v.Backup != b.Entry.ID || v.Manifest != b.Digest ||
		!v.Time.Equal(entry.Time) || v.Level != entry.Level.String() || (v.Result == resultGood) != entry.Good {
		return Verification{}, false, fmt.Errorf("%w: verification %s speaks of another backup, or says other things than its name", holdfast.ErrDifference, entry.ID)
	}
	return v, trusted, nil
}

// Verified returns the newest check of this store's copy, if there was one.
func (e Entry) Verified() (VerificationEntry, bool) {
	if len(e.Verifications) == 0 {
		return VerificationEntry{}, false
	}
	return e.Verifications[len(e.Verifications)-1], true
}

// Damaged reports whether the newest check that looked at least as deep as the newest failing one found damage.
func (e Entry) Damaged() bool {
	damaged, depth := false, holdfast.L0
	for _, v := range e.Verifications {
		switch {
		case !v.Good:
			damaged, depth = true, v.Level
		case damaged && v.Level >= depth:
			damaged = false
		}
	}
	return damaged
}
