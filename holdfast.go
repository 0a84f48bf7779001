// Package holdfast holds the words every other package speaks: jobs, sources, backups and their names, verdicts,
// events, and the errors that cross layers.
//
// It hides nothing and does nothing: no I/O, no clock, no dependency outside the standard library. A word has one
// meaning, the one in ARCHITECTURE.md, in code, on the command line and in the documentation.
package holdfast

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"regexp"
	"strings"
)

// Kind says what a source is.
type Kind string

// The kinds of sources.
const (
	KindPostgres Kind = "postgres"
	KindSQLite   Kind = "sqlite"
	KindFiles    Kind = "files"
)

// JobName names a job: lower-case letters, digits and dashes, at most 63 characters. It is part of object names, so
// it is never taken from a user without [ParseJobName].
type JobName string

// SourceName names a source within a job, under the same rule as [JobName].
type SourceName string

var nameRule = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// ParseJobName validates text as a job name.
func ParseJobName(text string) (JobName, error) {
	if !nameRule.MatchString(text) {
		return "", nameError("job", text)
	}
	return JobName(text), nil
}

// ParseSourceName validates text as a source name.
func ParseSourceName(text string) (SourceName, error) {
	if !nameRule.MatchString(text) {
		return "", nameError("source", text)
	}
	return SourceName(text), nil
}

func nameError(what, text string) error {
	return WithHint(fmt.Errorf("%w: %s name %q is not valid", ErrUsage, what, text),
		"use lower-case letters, digits and dashes, at most 63, beginning with a letter or digit")
}

// BackupID identifies one backup in all stores: ten characters of lower-case base32, 50 random bits.
type BackupID string

const idLength = 10

var idEncoding = base32.NewEncoding("abcdefghjkmnpqrstuvwxyz023456789").WithPadding(base32.NoPadding)

// NewBackupID draws a new random identifier.
func NewBackupID() BackupID {
	var raw [8]byte
	rand.Read(raw[:])
	return BackupID(idEncoding.EncodeToString(raw[:])[:idLength])
}

// ParseBackupID validates text as a whole identifier. Command lines also take a unique prefix; that is the business
// of whoever holds the list.
func ParseBackupID(text string) (BackupID, error) {
	if len(text) != idLength || strings.Trim(text, "abcdefghjkmnpqrstuvwxyz023456789") != "" {
		return "", WithHint(fmt.Errorf("%w: %q is not a backup ID", ErrUsage, text), "`holdfast list` shows the IDs")
	}
	return BackupID(text), nil
}

// Verdict is the outcome of a drill. They are never blurred: a drill that could not run proves nothing and accuses
// nothing.
type Verdict string

// The verdicts.
const (
	Proven     Verdict = "proven"
	Failed     Verdict = "failed"
	CannotTest Verdict = "cannot-test"
	// Restores is said of a file of another tool: all that is in it came back. Nothing was recorded when it was made, so
	// it is never Proven.
	Restores Verdict = "restores"
)

// Level says how deep a verification looks.
type Level int

// The levels of verification.
const (
	L0 Level = iota // every object exists and has its recorded size
	L1              // L0, and the SHA-256 of the stored bytes is the recorded one
	L2              // L1, and every item unseals to the recorded plaintext digest; needs an identity
)

func (l Level) String() string { return fmt.Sprintf("L%d", int(l)) }

// ParseLevel reads "L0", "L1" or "L2", in either case, or the bare digit.
func ParseLevel(text string) (Level, error) {
	switch strings.TrimPrefix(strings.ToUpper(text), "L") {
	case "0":
		return L0, nil
	case "1":
		return L1, nil
	case "2":
		return L2, nil
	}
	return 0, WithHint(fmt.Errorf("%w: verification level %q is not known", ErrUsage, text),
		"use L0 (exists), L1 (checksums) or L2 (decrypt and hash)")
}
