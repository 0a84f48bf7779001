// Package joblock lets one run at a time hold a job on this host, and remembers what a run began until it has ended.
//
// It hides where that is kept. Its laws: the kernel releases a lock when its process ends, so there is no stale lock to
// clear; the record of a run is removed only when nothing of the run is left to clean up. It does not keep runs on
// different hosts apart: their backups have different names and cannot meet.
package joblock

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/durable"
)

// Lock is a held job.
type Lock struct {
	file   *os.File
	record string
}

// Acquire takes the lock of job on store (its address) under the folder dir. When another process holds it the error
// wraps holdfast.ErrBusy.
func Acquire(dir, store string, job holdfast.JobName) (*Lock, error) {
	if err := os.MkdirAll(filepath.Join(dir, "runs"), 0o700); err != nil {
		return nil, holdfast.WithHint(fmt.Errorf("make the state folder: %w", err), "choose another with --state or HOLDFAST_STATE")
	}
	sum := sha256.Sum256([]byte(store))
	stem := filepath.Join(dir, "runs", string(job)+"-"+hex.EncodeToString(sum[:6]))
	file, err := os.OpenFile(stem+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, holdfast.WithHint(fmt.Errorf("lock job %s: %w", job, err), "choose another state folder with --state or HOLDFAST_STATE")
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		closeErr := file.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, holdfast.WithHint(fmt.Errorf("%w: %s", holdfast.ErrBusy, job), "wait for it to end; a lock never outlives its process")
		}
		return nil, errors.Join(fmt.Errorf("lock job %s: %w", job, err), closeErr)
	}
	return &Lock{file, stem + ".json"}, nil
}

// Begun records what this run began, as any value that encodes to JSON.
func (l *Lock) Begun(run any) error {
	data, err := json.Marshal(run)
	if err != nil {
		return fmt.Errorf("encode the record of the run: %w", err)
	}
	if err := durable.WriteFile(l.record, data, 0o600); err != nil {
		return fmt.Errorf("record the run: %w", err)
	}
	return nil
}

// Left reads into run what an earlier run began and did not end. It reports whether there is any.
func (l *Lock) Left(run any) (bool, error) {
	data, err := os.ReadFile(l.record)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the record of the last run: %w", err)
	}
	if err := json.Unmarshal(data, run); err != nil {
		return false, holdfast.WithHint(fmt.Errorf("read the record of the last run: %w", err), "remove "+l.record)
	}
	return true, nil
}

// Ended forgets the record.
func (l *Lock) Ended() error {
	if err := os.Remove(l.record); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget the record of the run: %w", err)
	}
	return nil
}

// Release lets the job go.
func (l *Lock) Release() error { return l.file.Close() }
