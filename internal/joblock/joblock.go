// Package joblock lets one run at a time hold a job on this host, and remembers what a run began until it has ended.
//
// It hides where that is kept. Its laws: the kernel releases a lock when its process ends, so there is no stale lock to
// clear; the record of a run is removed only when nothing of the run is left to clean up. It does not keep runs on
// different hosts apart: their backups have different names and cannot meet.
package joblock

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"holdfast"
)

// Lock is a held job.
type Lock struct {
	Record        // of what was stored
	Hooks  Record // of hooks that are still to be run
	file   *os.File
	again  int // how often it is held besides
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
	return &Lock{Record{stem + ".json"}, Record{stem + ".hooks.json"}, file, 0}, nil
}

// Again lets the run that holds the lock hold it once more; it takes as many releases as holds to let the job go.
func (l *Lock) Again() *Lock {
	l.again++
	return l
}

// Release lets the job go.
func (l *Lock) Release() error {
	if l.again > 0 {
		l.again--
		return nil
	}
	return l.file.Close()
}
