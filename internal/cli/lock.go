package cli

import (
	"path/filepath"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/joblock"
)

// lockJob holds job on a store. Two spellings of one folder are one store; a folder that is not there yet has one only.
func lockJob(cfg *config.Config, store config.Store, job holdfast.JobName) (*joblock.Lock, error) {
	address := store.Path
	if real, err := filepath.EvalSymlinks(address); err == nil {
		address = real
	}
	return joblock.Acquire(cfg.State, address, job)
}
