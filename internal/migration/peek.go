package migration

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// Peeked is what a state file says to whoever only wants to know whether there is a migration.
type Peeked struct {
	Open     bool // it was begun, and neither finished nor rolled back
	Step     Step // the last step that ended
	From, To string
	Since    time.Time
}

// Peek reads a state file. No file says nothing.
func Peek(path string) (Peeked, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Peeked{}, nil
	}
	if err != nil {
		return Peeked{}, fmt.Errorf("read the state of the migration: %w", err)
	}
	var s state
	if err := json.Unmarshal(data, &s); err != nil || s.Version != stateVersion {
		return Peeked{}, damaged(path)
	}
	p := Peeked{Open: s.Course != "" && s.Course != ended && s.Course != rehearsing, Step: s.Done, From: s.From, To: s.To}
	if len(s.Phases) > 0 {
		p.Since = s.Phases[0].Began
	} else if info, err := os.Stat(path); err == nil {
		p.Since = info.ModTime()
	}
	return p, nil
}
