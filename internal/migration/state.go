package migration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"holdfast"
	"holdfast/internal/durable"
)

// Step is something that was done. The state file has the last one, and what is being done.
type Step string

// The steps of moving, in their order.
const (
	Planned     Step = "planned"
	Copied      Step = "copied"       // while the server runs
	Closed      Step = "closed"       // applications are shut out
	FactsTaken  Step = "facts-taken"  // and the fixed queries measured
	Stopped     Step = "stopped"      // after a checkpoint; the control data is written down
	FinalCopied Step = "final-copied" // and both sides compared
	Verified    Step = "verified"     // the control data of both sides is one
	Switched    Step = "switched"
	Started     Step = "started"
	Healthy     Step = "healthy"
	Compared    Step = "compared" // facts, and the fixed queries
	Watched     Step = "watching" // applications are let in; the old directory is kept
)

// The ends.
const (
	Finished   Step = "finished"    // the old directory was removed
	RolledBack Step = "rolled-back" // the server has the old directory, as it was
	WentBack   Step = "restored"    // the server has a directory restored from a backup of the volume; the old one is kept
)

// order returns how far a step of moving is.
func order(s Step) int {
	return slices.Index([]Step{Planned, Copied, Closed, FactsTaken, Stopped, FinalCopied, Verified, Switched, Started, Healthy, Compared, Watched}, s)
}

// course is what is under way.
type course string

const (
	moving      course = "moving"
	rehearsing  course = "rehearsing"
	rollingBack course = "rolling-back"
	restoring   course = "restoring"
	finishing   course = "finishing"
	ended       course = "ended"
)

// stateVersion is that of the file. An unknown one is refused: it may stand for steps that this program does not know.
const stateVersion = 1

// state is the content of the state file. It has nothing of the data, and no name of a table.
type state struct {
	Version int    `json:"version"`
	Volume  string `json:"volume"`
	From    string `json:"from"`
	To      string `json:"to"`

	Course course `json:"course,omitempty"` // "": only what a rehearsal measured
	Was    course `json:"was,omitempty"`    // while a rehearsal is under way: what was before
	Done   Step   `json:"done,omitempty"`   // the last step that ended
	Doing  Step   `json:"doing,omitempty"`  // the step that began, and may have ended
	Ours   bool   `json:"ours,omitempty"`   // what is in the data folder was put there by a migration

	Size     int64         `json:"size,omitempty"`
	Rate     time.Duration `json:"rate,omitempty"`
	Phases   []Phase       `json:"phases,omitempty"`
	Proof    Proof         `json:"proof,omitzero"`
	Facts    string        `json:"facts,omitempty"`    // SHA-256 of the file of facts
	Stopped  ControlData   `json:"stopped,omitzero"`   // of the old directory
	Before   time.Duration `json:"before,omitempty"`   // the fixed queries on the old directory
	After    time.Duration `json:"after,omitempty"`    // and on the volume
	Closed   time.Time     `json:"closed,omitzero"`    // applications were shut out
	Opened   time.Time     `json:"opened,omitzero"`    // applications were let in again
	Back     time.Time     `json:"back,omitzero"`      // the way back began
	WayBack  time.Duration `json:"way_back,omitempty"` // how long it took
	Downtime time.Duration `json:"downtime,omitempty"` // from Closed to healthy
	ShutOut  time.Duration `json:"shut_out,omitempty"` // from Closed to Opened

	Reason   string            `json:"reason,omitempty"`
	Backup   holdfast.BackupID `json:"backup,omitempty"`
	Removing string            `json:"removing,omitempty"` // the directory that finish removes
	Entries  []Entry           `json:"entries,omitempty"`  // for the audit trail, until they are there
	Notes    []string          `json:"notes,omitempty"`
}

// passed reports whether a step of moving has begun, or ended.
func (s state) passed(step Step) bool { return max(order(s.Done), order(s.Doing)) >= order(step) }

// shut reports whether the applications may have been shut out, and have certainly not been let in again.
func (s state) shut() bool { return s.passed(Closed) && !s.passed(Watched) }

// load reads the state file; found is false if there is none.
func (m Migration) load() (s state, found bool, err error) {
	data, err := os.ReadFile(m.o.State)
	if errors.Is(err, fs.ErrNotExist) {
		return state{Version: stateVersion, Volume: m.o.Volume, From: m.o.From, To: m.o.To}, false, nil
	}
	if err != nil {
		return state{}, false, fmt.Errorf("read the state of the migration: %w", err)
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&s); err != nil || s.Version != stateVersion || s.Done != "" && s.Course == "" {
		return state{}, false, damaged(m.o.State)
	}
	if s.Volume != m.o.Volume || s.From != m.o.From || s.To != m.o.To {
		if s.Course == "" || s.Course == ended {
			return state{Version: stateVersion, Volume: m.o.Volume, From: m.o.From, To: m.o.To, Rate: s.Rate, Entries: s.Entries}, false, nil
		}
		return state{}, false, holdfast.WithHint(fmt.Errorf("%w: a migration of %s to %s is under way, not one of %s to %s", holdfast.ErrUsage, s.From, s.To, m.o.From, m.o.To),
			"name the same directories")
	}
	return s, true, nil
}

// damaged is the error of a state file that says nothing.
func damaged(path string) error {
	return holdfast.WithHint(fmt.Errorf("the state file %s is damaged, or of another version of holdfast", path),
		"find out which directory the server has and whether applications are shut out; then rename the file")
}

func (m Migration) save(s state) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		panic("migration: " + err.Error()) // the type has nothing that JSON lacks
	}
	if err := durable.WriteFile(m.o.State, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("write down where the migration stands: %w", err)
	}
	return nil
}
