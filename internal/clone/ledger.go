package clone

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/durable"
)

// ErrLedger marks a ledger that is damaged, or of other folders.
var ErrLedger = errors.New("unusable ledger")

const ledgerHint = "remove it and go on without: everything is then read again on both sides"

// Ledger is what each file was when both of its sides were read and were the same. It vouches for nothing but the two folders that it was made of.
// It is not changed after it was returned, and may be used from several goroutines.
type Ledger struct {
	from, to place
	files    []vouched // sorted by path once it is returned
}

// place tells a folder from another of the same name: a volume that was made anew, a disk that is not mounted.
type place struct {
	Path  string `json:"path"`
	Inode uint64 `json:"inode"`
	FSID  uint64 `json:"fsid"`
}

func placeOf(t *tree) (place, error) {
	var st unix.Statfs_t
	if err := unix.Fstatfs(t.fd, &st); err != nil {
		return place{}, t.wrap("look at", ".", err)
	}
	return place{t.path, t.root.Inode, uint64(uint32(st.Fsid.Val[0]))<<32 | uint64(uint32(st.Fsid.Val[1]))}, nil
}

// vouched is a file that was verified. Path is bytes: names need not be UTF-8.
type vouched struct {
	Path       []byte    `json:"path"` // the first of its names
	Source     ident     `json:"source"`
	SourceRead time.Time `json:"source_read"` // when that began
	Target     ident     `json:"target"`
	TargetRead time.Time `json:"target_read"`
	SHA256     []byte    `json:"sha256"`
}

const (
	// sourceAge is how old a change must be before a reading to be seen by it for sure: clocks of file systems go in ticks.
	sourceAge = 2 * time.Second
	// targetAge is the same of the copy, which nobody else writes to, and which lies on a file system of ours: two of the slowest kernel's ticks.
	targetAge = 20 * time.Millisecond
)

// vouches reports whether both sides are what they were when they were read, and would show a change after that.
func (v vouched) vouches(source, target ident) bool {
	return v.Source == source && v.Target == target && source.settled(v.SourceRead, sourceAge) && target.settled(v.TargetRead, targetAge)
}

// Files is how many it vouches for.
func (l *Ledger) Files() int { return len(l.files) }

const magic = "holdfast clone ledger 1 "

type ledgerFile struct {
	From  place     `json:"from"`
	To    place     `json:"to"`
	Files []vouched `json:"files"`
}

// Save writes it to path, durably, readable by its owner alone.
func (l *Ledger) Save(path string) error {
	body, err := json.Marshal(ledgerFile{l.from, l.to, l.files})
	if err != nil {
		return fmt.Errorf("write ledger: %w", err)
	}
	sum := sha256.Sum256(body)
	return durable.WriteFile(path, append([]byte(magic+hex.EncodeToString(sum[:])+"\n"), body...), 0o600)
}

// LoadLedger reads one that Save wrote. One that is damaged is refused with [ErrLedger]; one that is not there is [fs.ErrNotExist].
func LoadLedger(path string) (*Ledger, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read ledger: %w", err)
	}
	l, err := parseLedger(data)
	if err != nil {
		return nil, holdfast.WithHint(fmt.Errorf("read %s: %w", path, err), ledgerHint)
	}
	return l, nil
}

func parseLedger(data []byte) (*Ledger, error) {
	head, body, _ := bytes.Cut(data, []byte("\n"))
	sum := sha256.Sum256(body)
	if string(head) != magic+hex.EncodeToString(sum[:]) {
		return nil, fmt.Errorf("%w: it is damaged, or was written by another version", ErrLedger)
	}
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	var f ledgerFile
	if err := decoder.Decode(&f); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrLedger, err)
	}
	return &Ledger{f.From, f.To, f.Files}, nil
}

// byPath are its files, of these two folders and no others.
func (l *Ledger) byPath(from, to place) (map[string]vouched, error) {
	if l == nil {
		return nil, nil
	}
	if l.from != from || l.to != to {
		return nil, holdfast.WithHint(fmt.Errorf("%w: it is of %s and %s, or of other folders that stood there, not of %s and %s", ErrLedger, l.from.Path, l.to.Path, from.Path, to.Path), ledgerHint)
	}
	all := make(map[string]vouched, len(l.files))
	for _, v := range l.files {
		all[string(v.Path)] = v
	}
	return all, nil
}
