package foreign

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/seal"
	"holdfast/internal/store"
)

const (
	importFormat    = "holdfast-import-1"
	importNamespace = "holdfast-import"
	importPrefix    = "imports/"
	timeLayout      = "20060102T150405Z"
	// maxRecord bounds the files of one record, and with that what a reader has to hold of it.
	maxRecord      = 20_000
	maxRecordBytes = 64 << 20
	maxSignature   = 64 << 10
)

// Ledger keeps the records of imports in a store: docs/import.md. It is safe for concurrent use.
type Ledger struct {
	store   *store.Store
	trusted []seal.PublicKey
}

// NewLedger returns the ledger of a store. With trusted keys only records that one of them signed are taken.
func NewLedger(s *store.Store, trusted []seal.PublicKey) *Ledger { return &Ledger{s, trusted} }

// Record is one run of an import; docs/import.md, "The record".
type Record struct {
	Format  string            `json:"format"`
	ID      holdfast.BackupID `json:"id"`
	Job     holdfast.JobName  `json:"job"`
	Host    string            `json:"host"`
	Version string            `json:"version"`
	Signer  string            `json:"signer"`
	Time    time.Time         `json:"time"`
	Folder  string            `json:"folder"`
	Files   []RecordedFile    `json:"files"`
}

// RecordedFile is one file as it was when it was imported.
type RecordedFile struct {
	ID       holdfast.BackupID `json:"id"`
	Name     string            `json:"name"` // relative to the folder, slash-separated
	Time     time.Time         `json:"time"` // when the backup was made
	Modified time.Time         `json:"modified"`
	Size     int64             `json:"size"`
	SHA256   string            `json:"sha256"`
	Layers   []Layer           `json:"layers"`
	Content  Content           `json:"content"`
}

// Imported is a file that was imported.
type Imported struct {
	RecordedFile
	Job     holdfast.JobName
	Host    string
	Folder  string
	When    time.Time // of the import
	Signer  string    // fingerprint
	Trusted bool      // the signer is a trusted one
}

// Path is where the file was.
func (i Imported) Path() string { return filepath.Join(i.Folder, filepath.FromSlash(i.Name)) }

// What tells content and layers in words.
func (i Imported) What() string { return describe(i.Content, i.Layers) }

// Sealed reports whether a key is needed to read the file.
func (i Imported) Sealed() bool { return slices.ContainsFunc(i.Layers, Layer.Seals) }

var recordRule = regexp.MustCompile(`^imports/([^/]+)/(\d{8}T\d{6}Z)\.([a-z0-9]+)\.(\d+)\.json$`)

func (r *Record) name() string {
	return fmt.Sprintf("%s%s/%s.%s.%d.json", importPrefix, r.Job, r.Time.Format(timeLayout), r.ID, len(r.Files))
}

// put signs and stores a record; the record itself is written last.
func (l *Ledger) put(ctx context.Context, r Record, signer *seal.Signer) error {
	r.Format, r.Signer = importFormat, signer.PublicKey().Fingerprint()
	data, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode the record of the import: %w", err)
	}
	data = append(data, '\n')
	signature, err := signer.Sign(importNamespace, data)
	if err != nil {
		return fmt.Errorf("sign the record of the import: %w", err)
	}
	if err := l.store.Put(ctx, r.name()+".sig", bytes.NewReader(signature)); err != nil {
		return fmt.Errorf("store the signature of the import: %w", err)
	}
	if err := l.store.Put(ctx, r.name(), bytes.NewReader(data)); err != nil {
		return fmt.Errorf("store the record of the import: %w", err)
	}
	return nil
}

// List returns every imported file, oldest first, of one job if it is given. A record that is damaged, or signed by somebody
// else, is an error that satisfies holdfast.ErrDifference; the others are returned with it.
func (l *Ledger) List(ctx context.Context, job holdfast.JobName) ([]Imported, error) {
	within := importPrefix
	if job != "" {
		within += string(job) + "/"
	}
	var names []string
	for object, err := range l.store.List(ctx, within) {
		if err != nil {
			return nil, fmt.Errorf("list imports: %w", err)
		}
		if recordRule.MatchString(object.Name) {
			names = append(names, object.Name)
		}
	}
	var all []Imported
	var problems []error
	for _, name := range names {
		found, err := l.read(ctx, name)
		if err != nil {
			problems = append(problems, err)
		}
		all = append(all, found...)
	}
	return distinct(all), errors.Join(problems...)
}

// distinct keeps the oldest record of each file.
func distinct(all []Imported) []Imported {
	slices.SortStableFunc(all, func(a, b Imported) int { return a.When.Compare(b.When) })
	type key struct{ job, host, folder, name, sum string }
	seen := map[key]bool{}
	all = slices.DeleteFunc(all, func(i Imported) bool {
		k := key{string(i.Job), i.Host, i.Folder, i.Name, i.SHA256}
		again := seen[k]
		seen[k] = true
		return again
	})
	slices.SortStableFunc(all, func(a, b Imported) int {
		return cmp.Or(a.Time.Compare(b.Time), strings.Compare(string(a.ID), string(b.ID)))
	})
	return all
}

func (l *Ledger) read(ctx context.Context, name string) ([]Imported, error) {
	broken := func(err error) error {
		return fmt.Errorf("%w: record %s: %w", holdfast.ErrDifference, path.Base(name), err)
	}
	data, err := l.store.ReadAll(ctx, name, maxRecordBytes)
	if err != nil {
		return nil, fmt.Errorf("read the record of an import: %w", err)
	}
	signature, err := l.store.ReadAll(ctx, name+".sig", maxSignature)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, broken(errors.New("its signature is gone"))
	}
	if err != nil {
		return nil, fmt.Errorf("read the signature of an import: %w", err)
	}
	key, err := seal.Verify(signature, importNamespace, data)
	if err != nil {
		return nil, broken(fmt.Errorf("the signature does not fit the content, one of them was changed: %w", err))
	}
	known := slices.ContainsFunc(l.trusted, func(k seal.PublicKey) bool { return k.Fingerprint() == key.Fingerprint() })
	if len(l.trusted) > 0 && !known {
		return nil, holdfast.WithHint(broken(fmt.Errorf("signed by %s, which is not among the allowed signers", key.Fingerprint())),
			"if that host is yours, add its public key to allowed_signers")
	}
	r, err := parseRecord(data, name)
	if err != nil {
		return nil, err
	}
	var all []Imported
	for _, file := range r.Files {
		all = append(all, Imported{file, r.Job, r.Host, r.Folder, r.Time, key.Fingerprint(), known})
	}
	return all, nil
}

// parseRecord reads a record and holds it against the name it was stored under.
func parseRecord(data []byte, name string) (Record, error) {
	var r Record
	broken := func(text string) error {
		return fmt.Errorf("%w: record %s %s", holdfast.ErrDifference, path.Base(name), text)
	}
	if err := json.Unmarshal(data, &r); err != nil {
		return r, broken("is not readable: " + err.Error())
	}
	if r.Format != importFormat {
		return r, holdfast.WithHint(fmt.Errorf("record %s has format %q, and this holdfast reads %q", path.Base(name), r.Format, importFormat), "use a newer holdfast")
	}
	if _, err := holdfast.ParseJobName(string(r.Job)); err != nil || r.name() != name || !filepath.IsAbs(r.Folder) {
		return r, broken("says other things than the name it is stored under: one of them was changed")
	}
	for _, file := range r.Files {
		_, err := holdfast.ParseBackupID(string(file.ID))
		// A name that led out of the folder would make verify and restore read what was never imported.
		if local := filepath.FromSlash(file.Name); err != nil || !filepath.IsLocal(local) || filepath.Clean(local) != local || file.Size < 0 {
			return r, broken("lists file " + strconv.Quote(file.Name) + " in a way no holdfast writes")
		}
	}
	return r, nil
}
