package archive

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/seal"
	"holdfast/internal/source"
	"holdfast/internal/store"
)

const formatName = "holdfast-archive-1"

// Role says what an object of a backup is.
type Role string

// The roles.
const (
	RoleData  Role = "data"
	RoleFacts Role = "facts"
	RoleText  Role = "text"
)

// Manifest is the commit object of a backup; docs/archive-format.md, "Manifest".
type Manifest struct {
	Format     string            `json:"format"`
	ID         holdfast.BackupID `json:"id"`
	Job        holdfast.JobName  `json:"job"`
	Host       string            `json:"host"`
	Time       time.Time         `json:"time"`
	Finished   time.Time         `json:"finished"`
	Kind       string            `json:"kind"`
	Reason     string            `json:"reason"`
	Complete   bool              `json:"complete"`
	Sources    []SourceEntry     `json:"sources"`
	Missing    []MissingSource   `json:"missing"`
	Items      []ItemEntry       `json:"items"`
	Seal       string            `json:"seal"`
	Keys       []string          `json:"keys"`
	Signer     string            `json:"signer"`
	Versions   map[string]string `json:"versions"`
	Exclusions int               `json:"exclusions"`
	Resealed   *Resealed         `json:"resealed,omitempty"` // nil for an original
}

// Resealed says what a copy was made of; docs/archive-format.md, "Re-sealed copies".
type Resealed struct {
	From           holdfast.BackupID `json:"from"`
	FromManifest   string            `json:"from_manifest_sha256"`
	Original       holdfast.BackupID `json:"original"`
	OriginalSigner string            `json:"original_signer"`
	Time           time.Time         `json:"time"`
	Host           string            `json:"host"`
	Who            string            `json:"who"`
	Version        string            `json:"version"`
}

// SourceEntry is a source that the backup holds.
type SourceEntry struct {
	Name   holdfast.SourceName `json:"name"`
	Kind   holdfast.Kind       `json:"kind"`
	Secret bool                `json:"secret"`
}

// MissingSource is a source of the job that the backup does not hold.
type MissingSource struct {
	Name     holdfast.SourceName `json:"name"`
	Kind     holdfast.Kind       `json:"kind"`
	Optional bool                `json:"optional"`
	Why      string              `json:"why"` // "failed" or "absent"
}

// ItemEntry is one stored item.
type ItemEntry struct {
	Source       holdfast.SourceName `json:"source"`
	Name         string              `json:"name"`
	Object       string              `json:"object"`
	Parts        int                 `json:"parts"`
	PlainSize    int64               `json:"plain_size"`
	StoredSize   int64               `json:"stored_size"`
	StoredSHA256 string              `json:"stored_sha256"`
	Compression  string              `json:"compression"`
	Opening      *seal.Opening       `json:"opening,omitempty"` // nil when it is not sealed, or by a holdfast that knew only age
	Role         Role                `json:"role"`
	Seconds      float64             `json:"seconds"`
}

// sealedFacts is the content of the facts object.
type sealedFacts struct {
	Sources     map[holdfast.SourceName]source.Facts `json:"sources"`
	PlainSHA256 map[string]string                    `json:"plain_sha256"`
	Missing     map[holdfast.SourceName]string       `json:"missing"`
}

func (m *Manifest) size() int64 {
	var size int64
	for _, item := range m.Items {
		size += item.StoredSize
	}
	return size
}

func decodeManifest(data []byte, id holdfast.BackupID) (Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return Manifest{}, fmt.Errorf("%w: the manifest of %s is not readable: %w", holdfast.ErrDifference, id, err)
	}
	if m.Format != formatName {
		return Manifest{}, holdfast.WithHint(fmt.Errorf("the manifest of %s has format %q, and this holdfast reads %q", id, m.Format, formatName),
			"use a newer holdfast")
	}
	return m, nil
}

// parseManifest reads a manifest and holds it against the name it was stored under.
func parseManifest(data []byte, entry Entry) (Manifest, error) {
	m, err := decodeManifest(data, entry.ID)
	if err != nil {
		return Manifest{}, err
	}
	named := Entry{Job: m.Job, Time: m.Time, ID: m.ID, Kind: m.Kind, Complete: m.Complete, Size: m.size()}
	named.Format, named.Sealed = parseSeal(m.Seal)
	if named.commitName() != entry.commitName() || !m.Time.Equal(entry.Time) || named.Format != entry.Format {
		return Manifest{}, fmt.Errorf("%w: the manifest of %s says other things than the name it is stored under: one of them was changed",
			holdfast.ErrDifference, entry.ID)
	}
	seen := make(map[string]bool, len(m.Items))
	for _, item := range m.Items {
		if err := item.checkOpening(entry); err != nil {
			return Manifest{}, err
		}
		bad := item.Parts < 1 || item.Parts > maxParts || item.StoredSize < 0 || item.PlainSize < 0 || strings.Contains(item.Object, "/") ||
			store.CheckName(item.Object) != nil || item.Role != RoleData && item.Role != RoleFacts && item.Role != RoleText
		for part := range item.Parts {
			if bad || seen[partName(item.Object, part)] {
				bad = true
				break
			}
			seen[partName(item.Object, part)] = true
		}
		if bad {
			return Manifest{}, fmt.Errorf("%w: the manifest of %s lists item %q in a way no holdfast writes", holdfast.ErrDifference, entry.ID, item.Object)
		}
	}
	return m, nil
}

// sealed reports whether the item of a backup is sealed: all are that are not for everybody.
func (i ItemEntry) sealed(entry Entry) bool { return entry.Sealed && i.Role != RoleText }

// opening tells how the item of a backup is opened; zero when it is not sealed.
func (i ItemEntry) opening(entry Entry) seal.Opening {
	switch {
	case !i.sealed(entry):
		return seal.Opening{}
	case i.Opening == nil:
		return seal.Opening{Format: seal.Age}
	}
	return *i.Opening
}

// checkOpening refuses an item that opens otherwise than its backup is said to be sealed.
func (i ItemEntry) checkOpening(entry Entry) error {
	if i.opening(entry).Format != entry.Format && i.sealed(entry) || i.Opening != nil && !i.sealed(entry) {
		return fmt.Errorf("%w: the manifest of %s says that %s opens otherwise than the backup is sealed", holdfast.ErrDifference, entry.ID, i.Object)
	}
	return nil
}
