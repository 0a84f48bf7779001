package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"holdfast"
)

const (
	pinFormat    = "holdfast-pin-1"
	pinNamespace = "holdfast-pin"

	actionPin   = "pin"
	actionUnpin = "unpin"
	foreverName = "forever"
)

// PinEntry is what a listing tells of one pin or unpin.
type PinEntry struct {
	Time   time.Time
	Pinned bool      // false: an unpin
	Until  time.Time // of a pin; zero: for ever
	ID     holdfast.BackupID
}

// Pin is the plain, signed record that a backup is kept whatever the rules say, or no longer.
type Pin struct {
	Format  string            `json:"format"`
	ID      holdfast.BackupID `json:"id"` // of the record
	Action  string            `json:"action"`
	Job     holdfast.JobName  `json:"job"`
	Backup  holdfast.BackupID `json:"backup"`
	Until   *time.Time        `json:"until,omitempty"` // nil: for ever
	Reason  string            `json:"reason"`
	Time    time.Time         `json:"time"`
	Host    string            `json:"host"`
	Who     string            `json:"who"`
	Version string            `json:"version"`
	Signer  string            `json:"signer"`
}

func (p PinEntry) order(q PinEntry) int {
	return cmp.Or(p.Time.Compare(q.Time), cmp.Compare(p.ID, q.ID))
}

func (e Entry) pinName(p PinEntry, suffix string) string {
	action := actionUnpin
	if p.Pinned {
		action = actionPin + "." + foreverName
		if !p.Until.IsZero() {
			action = actionPin + "." + p.Until.Format(timeLayout)
		}
	}
	return fmt.Sprintf("%s%s/%s.%s.%s.%s", pinPrefix, e.key(), p.Time.Format(timeLayout), action, p.ID, suffix)
}

var pinRule = regexp.MustCompile(`^pins/([^/]+/\d{8}T\d{6}Z\.[a-z0-9]+)/(\d{8}T\d{6}Z)\.(unpin|pin\.(?:forever|\d{8}T\d{6}Z))\.([a-z0-9]+)\.json$`)

// parsePin reads a record's name; key is the job and stem of the backup it speaks of.
func parsePin(name string) (key string, pin PinEntry, ok bool) {
	m := pinRule.FindStringSubmatch(name)
	if m == nil {
		return "", PinEntry{}, false
	}
	at, timeErr := time.Parse(timeLayout, m[2])
	id, idErr := holdfast.ParseBackupID(m[4])
	pin = PinEntry{Time: at, Pinned: m[3] != actionUnpin, ID: id}
	var untilErr error
	if pin.Pinned && m[3] != actionPin+"."+foreverName {
		pin.Until, untilErr = time.Parse(timeLayout, m[3][len(actionPin)+1:])
	}
	return m[1], pin, errors.Join(timeErr, idErr, untilErr) == nil
}

// PinnedAt reports whether a pin holds at a time, by the names of the records alone.
func (e Entry) PinnedAt(now time.Time) bool {
	if len(e.Pins) == 0 {
		return false
	}
	last := e.Pins[len(e.Pins)-1]
	return last.Pinned && (last.Until.IsZero() || now.Before(last.Until))
}

// PutPin stores that entry is kept until a time (zero: for ever), or with pinned false, that it is pinned no longer.
func (a *Archive) PutPin(ctx context.Context, entry Entry, pinned bool, until time.Time, p Pin) (Pin, error) {
	if a.opt.Signer == nil {
		return Pin{}, errNoSigner()
	}
	at := p.Time.UTC().Truncate(time.Second)
	if n := len(entry.Pins); n > 0 && !at.After(entry.Pins[n-1].Time) {
		at = entry.Pins[n-1].Time.Add(time.Second) // the newest record decides, and this is the newest
	}
	record := PinEntry{Time: at, Pinned: pinned, ID: holdfast.NewBackupID()}
	p.Action = actionUnpin
	if pinned {
		p.Action = actionPin
		if !until.IsZero() {
			record.Until = until.UTC().Truncate(time.Second)
			p.Until = &record.Until
		}
	}
	p.Format, p.ID, p.Job, p.Backup, p.Time, p.Version = pinFormat, record.ID, entry.Job, entry.ID, at, a.opt.Version
	p.Signer = a.opt.Signer.PublicKey().Fingerprint()
	return p, a.putRecord(ctx, pinRecord(entry, record), &p)
}

func pinRecord(entry Entry, p PinEntry) signedRecord {
	return signedRecord{"pin " + string(p.ID), pinNamespace, func(suffix string) string { return entry.pinName(p, suffix) }}
}

// ReadPin reads a record, checks that it is signed and says what its name says, and reports whether its signer is trusted.
func (a *Archive) ReadPin(ctx context.Context, entry Entry, pin PinEntry) (Pin, bool, error) {
	var p Pin
	trusted, err := a.readRecord(ctx, pinRecord(entry, pin), &p)
	if err != nil {
		return Pin{}, false, err
	}
	var until time.Time
	if p.Until != nil {
		until = *p.Until
	}
	if p.Format != pinFormat || p.ID != pin.ID || p.Backup != entry.ID || p.Job != entry.Job || !p.Time.Equal(pin.Time) ||
		(p.Action == actionPin) != pin.Pinned || !until.Equal(pin.Until) {
		return Pin{}, false, fmt.Errorf("%w: pin %s says other things than its name", holdfast.ErrDifference, pin.ID)
	}
	return p, trusted, nil
}

func errNoSigner() error {
	return holdfast.WithHint(errors.New("this host has no signing key"), "make one with `holdfast init`")
}
