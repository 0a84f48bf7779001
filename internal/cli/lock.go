package cli

import (
	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/joblock"
)

// held is the lock that an invocation holds for all that it does.
type held struct {
	lock    *joblock.Lock
	address string
	job     holdfast.JobName
}

// lockJob holds job on a store. Two spellings of one folder are one store; a folder that is not there yet has one only.
func (a *app) lockJob(cfg *config.Config, store config.Store, job holdfast.JobName) (*joblock.Lock, error) {
	address := storeAddress(store)
	if a.held.lock != nil && a.held.address == address && a.held.job == job {
		return a.held.lock.Again(), nil
	}
	return joblock.Acquire(cfg.State, address, job)
}

// holdJob is lockJob for a run on whose way the job is locked again: a restore with hooks keeps a safety copy.
func (a *app) holdJob(cfg *config.Config, store config.Store, job holdfast.JobName) (*joblock.Lock, error) {
	lock, err := a.lockJob(cfg, store, job)
	if err == nil {
		a.held = held{lock, storeAddress(store), job}
	}
	return lock, err
}
