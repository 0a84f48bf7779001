package joblock

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"holdfast"
	"holdfast/internal/durable"
)

// Record is what a run noted that its successor must know if it dies.
type Record struct{ path string }

// Begun notes what this run began, as any value that encodes to JSON.
func (r Record) Begun(run any) error {
	data, err := json.Marshal(run)
	if err != nil {
		return fmt.Errorf("encode the record of the run: %w", err)
	}
	if err := durable.WriteFile(r.path, data, 0o600); err != nil {
		return holdfast.WithHint(fmt.Errorf("record the run: %w", err), "make room in "+filepath.Dir(r.path)+", or choose a state folder on another disk with --state or HOLDFAST_STATE")
	}
	return nil
}

// Left reads into run what an earlier run began and did not end. It reports whether there is any.
func (r Record) Left(run any) (bool, error) {
	data, err := os.ReadFile(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the record of the last run: %w", err)
	}
	if err := json.Unmarshal(data, run); err != nil {
		return false, holdfast.WithHint(fmt.Errorf("read the record of the last run: %w", err), "remove "+r.path)
	}
	return true, nil
}

// Ended forgets the record.
func (r Record) Ended() error {
	if err := os.Remove(r.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget the record of the run: %w", err)
	}
	return nil
}
