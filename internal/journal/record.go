package journal

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"holdfast"
)

// Event is what happened. docs/audit.md tells what each word means.
type Event string

// The events.
const (
	BackupCreated    Event = "BACKUP_CREATED"
	BackupIncomplete Event = "BACKUP_INCOMPLETE"
	BackupFailed     Event = "BACKUP_FAILED"
	// Interrupted is a run of the service whose process ended before it did.
	Interrupted  Event = "RUN_INTERRUPTED"
	Mirrored     Event = "MIRRORED"
	Verified     Event = "VERIFIED"
	Drilled      Event = "DRILL"
	Restored     Event = "RESTORE"
	Decrypted    Event = "DECRYPT"
	Shown        Event = "SHOW"
	Linked       Event = "LINK"
	Pruned       Event = "PRUNED"
	PruneDone    Event = "PRUNE_DONE"
	PruneBlocked Event = "PRUNE_BLOCKED"
	Pinned       Event = "PIN"
	Unpinned     Event = "UNPIN"
	Imported     Event = "IMPORT"
	KeyCreated   Event = "KEY_CREATED"
	KeyImported  Event = "KEY_IMPORT"
	KeyExported  Event = "KEY_EXPORT"
	KeyRotation  Event = "KEY_ROTATION"
	KeyChecked   Event = "KEY_CHECK"
	Resealed     Event = "KEY_RESEAL"
	// EmergencyAccess is a restore or a decryption that somebody called one.
	EmergencyAccess Event = "EMERGENCY_ACCESS"
	Refused         Event = "REFUSED"
	Reviewed        Event = "REVIEW"
	Expired         Event = "JOURNAL_EXPIRED"
	Rebuilt         Event = "JOURNAL_REBUILT"

	// A try to unlock that failed is a VolumeUnlocked that is not good.
	VolumeCreated      Event = "VOLUME_CREATED"
	VolumeUnlocked     Event = "VOLUME_UNLOCK"
	VolumeLocked       Event = "VOLUME_LOCK"
	VolumeVerified     Event = "VOLUME_VERIFIED"
	VolumeGuarded      Event = "VOLUME_GUARD"
	VolumeHeader       Event = "VOLUME_HEADER_BACKUP"
	VolumeKeyAdded     Event = "VOLUME_KEY_ADDED"
	VolumeKeyRotated   Event = "VOLUME_KEY_ROTATED"
	VolumeKeyRemoved   Event = "VOLUME_KEY_REMOVED"
	VolumeKeyChecked   Event = "VOLUME_KEY_CHECK"
	VolumeReencrypted  Event = "VOLUME_REENCRYPTED"
	VolumeMigrated     Event = "VOLUME_MIGRATED"
	VolumeRolledBack   Event = "VOLUME_ROLLED_BACK"
	VolumeMigrationEnd Event = "VOLUME_MIGRATION_FINISHED"
	VolumeMeasured     Event = "VOLUME_MEASURED"
	VolumeEmergency    Event = "VOLUME_EMERGENCY"
	CustodiansChecked  Event = "CUSTODIANS_CHECKED"
)

// Events are all of them.
func Events() []Event {
	return []Event{
		BackupCreated, BackupIncomplete, BackupFailed, Interrupted, Mirrored, Verified, Drilled, Restored, Decrypted, EmergencyAccess, Shown, Linked, Pruned, PruneDone, PruneBlocked, Pinned, Unpinned, Imported,
		KeyCreated, KeyImported, KeyExported, KeyRotation, KeyChecked, Resealed, Refused, Reviewed, Rebuilt, Expired,
		VolumeCreated, VolumeUnlocked, VolumeLocked, VolumeVerified, VolumeGuarded, VolumeHeader, VolumeKeyAdded, VolumeKeyRotated, VolumeKeyRemoved, VolumeKeyChecked, VolumeReencrypted,
		VolumeMigrated, VolumeRolledBack, VolumeMigrationEnd, VolumeMeasured, VolumeEmergency, CustodiansChecked,
	}
}

// Who is who did something, as the system says. It is a claim, no proof.
type Who struct {
	User    string // "anna", "anna via sudo"
	Host    string
	Address string // of the SSH login, or "local"
}

// Record is one thing that was done. It holds no secret, and no name from inside of the data.
type Record struct {
	Seq     int64
	Prev    string // hash of the line before
	Time    time.Time
	Event   Event
	Who     Who
	Task    holdfast.Task // which kind of work it was, where the event leaves that open
	Job     holdfast.JobName
	Backup  holdfast.BackupID
	Store   string
	Volume  string // the encrypted volume that it is about
	Result  string
	Reason  string
	Detail  string
	Figures map[string]float64
	Version string
}

// onDisk is a record as it lies in a line.
type onDisk struct {
	Seq     int64              `json:"seq"`
	Prev    string             `json:"prev"`
	Time    time.Time          `json:"time"`
	Event   Event              `json:"event"`
	User    string             `json:"user"`
	Host    string             `json:"host"`
	Address string             `json:"address"`
	Task    holdfast.Task      `json:"task,omitempty"`
	Job     holdfast.JobName   `json:"job,omitempty"`
	Backup  holdfast.BackupID  `json:"backup,omitempty"`
	Store   string             `json:"store,omitempty"`
	Volume  string             `json:"volume,omitempty"`
	Result  string             `json:"result"`
	Reason  string             `json:"reason,omitempty"`
	Detail  string             `json:"detail,omitempty"`
	Figures map[string]float64 `json:"figures,omitempty"`
	Version string             `json:"version"`
}

// mostText bounds what a person may give as a reason: the whole line must be readable back.
const mostText = 4 << 10

func (r Record) encode() ([]byte, error) {
	for _, text := range []*string{&r.Reason, &r.Detail} {
		if len(*text) > mostText {
			*text = strings.ToValidUTF8((*text)[:mostText], "") + "…"
		}
	}
	line, err := json.Marshal(onDisk{r.Seq, r.Prev, r.Time, r.Event, r.Who.User, r.Who.Host, r.Who.Address, r.Task, r.Job, r.Backup, r.Store, r.Volume, r.Result, r.Reason, r.Detail, r.Figures, r.Version})
	if err != nil {
		return nil, fmt.Errorf("encode record: %w", err)
	}
	if len(line) > maxLine {
		return nil, fmt.Errorf("the record has %d bytes, and %d are possible", len(line), maxLine)
	}
	return line, nil
}

// parseLine reads a line without its line break. Keys that are not known are for later versions.
func parseLine(line []byte) (Record, error) {
	if len(line) > maxLine {
		return Record{}, errors.New("it is too long")
	}
	var d onDisk
	if err := json.Unmarshal(line, &d); err != nil {
		return Record{}, err
	}
	if d.Seq < 1 || len(d.Prev) != 64 || d.Event == "" {
		return Record{}, errors.New("it is no record")
	}
	return Record{
		Seq: d.Seq, Prev: d.Prev, Time: d.Time, Event: d.Event, Who: Who{d.User, d.Host, d.Address}, Task: d.Task, Job: d.Job, Backup: d.Backup, Store: d.Store, Volume: d.Volume,
		Result: d.Result, Reason: d.Reason, Detail: d.Detail, Figures: d.Figures, Version: d.Version,
	}, nil
}

func hashOf(line []byte) string {
	sum := sha256.Sum256(line)
	return hex.EncodeToString(sum[:])
}

// Text is the record as a line for people and for syslog: `[2026-11-22T02:00:00Z] BACKUP_CREATED by anna from 203.0.113.9 (nightly) job=app`.
// Nothing in a field can end the line or begin another.
func (r Record) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "[%s] %s by %s from %s", r.Time.UTC().Format(time.RFC3339), r.Event, plain(r.Who.User), plain(r.Who.Address))
	if r.Reason != "" {
		fmt.Fprintf(&b, " (%s)", plain(r.Reason))
	}
	for _, field := range []struct{ name, value string }{
		{"host", r.Who.Host}, {"job", string(r.Job)}, {"backup", string(r.Backup)}, {"store", r.Store}, {"volume", r.Volume}, {"result", r.Result},
	} {
		if field.value != "" {
			fmt.Fprintf(&b, " %s=%s", field.name, plain(field.value))
		}
	}
	if r.Detail != "" {
		fmt.Fprintf(&b, " detail=%q", r.Detail)
	}
	return b.String()
}

// plain keeps a text on its line and control characters away from terminals.
func plain(text string) string {
	if text == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' || unicode.Is(unicode.Cf, r) {
			return '?'
		}
		return r
	}, text)
}

// Filter chooses records. Its zero value chooses all.
type Filter struct {
	After        int64     // only records with a higher number: what was read before need not be read again
	Since, Until time.Time // zero: no bound; Until is not included
	Events       []Event
	Job          holdfast.JobName
	Backup       holdfast.BackupID // or the beginning of one
	Volume       string
	User         string
	Last         int // only the newest so many; 0: all
}

// Matches reports whether a record is one of those chosen, whatever Last says.
func (f Filter) Matches(r Record) bool {
	switch {
	case r.Seq <= f.After:
		return false
	case !f.Since.IsZero() && r.Time.Before(f.Since), !f.Until.IsZero() && !r.Time.Before(f.Until):
		return false
	case len(f.Events) > 0 && !slices.Contains(f.Events, r.Event):
		return false
	case f.Job != "" && r.Job != f.Job, f.Backup != "" && !strings.HasPrefix(string(r.Backup), string(f.Backup)):
		return false
	case f.Volume != "" && r.Volume != f.Volume:
		return false
	case f.User != "" && r.Who.User != f.User && !strings.HasPrefix(r.Who.User, f.User+" via "):
		return false
	}
	return true
}

// Newest are the last so many of these records as Last says; all when it is 0.
func (f Filter) Newest(records []Record) []Record {
	if f.Last == 0 {
		return records
	}
	return records[max(0, len(records)-f.Last):]
}

// Read tells the records that match, oldest first; before it fails, those that it could read.
func (j *Journal) Read(f Filter, each func(Record) error) error {
	var chosen []Record
	err := j.linesAfter(f.After, func(line []byte) error {
		r, err := parseLine(line)
		if err == nil && f.Matches(r) {
			chosen = append(chosen, r)
		}
		return err
	})
	if err != nil {
		err = fmt.Errorf("read the journal: %w", err)
	}
	for _, r := range f.Newest(chosen) {
		if err := each(r); err != nil {
			return err
		}
	}
	return err
}

// Origin is where the login came from that runs this, as the environment says: the address of an SSH client, or "local".
func Origin(lookup func(string) (string, bool)) string {
	for _, name := range []string{"SSH_CONNECTION", "SSH_CLIENT"} {
		if value, found := lookup(name); found {
			if fields := strings.Fields(value); len(fields) > 0 {
				return fields[0]
			}
		}
	}
	return "local"
}

// eachLine calls do for every line that ends in a line break, and returns how many bytes those are.
func eachLine(data []byte, do func(line []byte) error) (int, error) {
	whole := 0
	for {
		end := bytes.IndexByte(data[whole:], '\n')
		if end < 0 {
			return whole, nil
		}
		if err := do(data[whole : whole+end]); err != nil {
			return whole, err
		}
		whole += end + 1
	}
}
