package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/config"
)

// copyState is what one store has of one backup.
type copyState struct {
	Store    string     `json:"store"`
	State    string     `json:"state"` // missing, partial, present, verified, damaged, unknown
	Level    string     `json:"level,omitempty"`
	Verified *time.Time `json:"verified,omitempty"` // nil when it was not
	Remark   string     `json:"remark,omitempty"`
}

func (c copyState) String() string {
	text := c.Store
	switch c.State {
	case "present":
	case "verified":
		text += " " + c.Level
	case "damaged":
		text += " DAMAGED"
	case "unknown":
		text += " ?"
	default:
		text += " " + c.State
	}
	if c.Remark != "" {
		text += " (" + c.Remark + ")"
	}
	return text
}

func stateOf(store string, entry archive.Entry) copyState {
	state := copyState{Store: store, State: "present"}
	if v, is := entry.Verified(); is {
		state.State, state.Level, state.Verified = "verified", v.Level.String(), &v.Time
	}
	if entry.Damaged() {
		state.State = "damaged"
	}
	switch {
	case entry.Hidden:
		state.Remark = "hidden by a delete marker"
	case entry.Versions > 1:
		state.Remark = fmt.Sprintf("%d versions, the oldest counts", entry.Versions)
	}
	return state
}

// listed is what all stores of a job know of its backups.
type listed struct {
	entries []archive.Entry // with the proofs and pins of all stores, oldest first
	copies  map[holdfast.BackupID][]copyState
	stores  []config.Store
	down    []error
}

// mostPartial bounds how many missing copies are looked at for what there is of them: each is a listing.
const mostPartial = 20

// listEverywhere lists every store of a job at once. One that cannot be reached is told, and its copies are unknown.
func (a *app) listEverywhere(ctx context.Context, cfg *config.Config, f *storeFlags, job holdfast.JobName) (listed, error) {
	places, err := cfg.AllStores(job)
	if err != nil {
		return listed{}, err
	}
	keys, err := trusted(cfg, f)
	if err != nil {
		return listed{}, err
	}
	all := listed{copies: map[holdfast.BackupID][]copyState{}, stores: places}
	repos := make([]*archive.Archive, len(places))
	found := make([][]archive.Entry, len(places))
	errs := make([]error, len(places))
	var group errgroup.Group
	for i, place := range places {
		group.Go(func() error {
			if repos[i], errs[i] = a.repository(ctx, place, access{trusted: keys}); errs[i] == nil {
				found[i], errs[i] = repos[i].List(ctx, job)
			}
			return nil
		})
	}
	_ = group.Wait() // every function returns nil: errs has what went wrong
	if len(places) == 1 && errs[0] != nil {
		return listed{}, errs[0]
	}
	merged := archive.Merge(found...)
	for i, place := range places {
		if errs[i] != nil {
			all.down = append(all.down, fmt.Errorf("store %s: %w", place.Name, errs[i]))
		}
	}
	all.entries = merged
	a.stateCopies(ctx, cfg, &all, repos, found, errs)
	return all, nil
}

// stateCopies says of every backup what each store of its job has of it, and where else it is.
func (a *app) stateCopies(ctx context.Context, cfg *config.Config, all *listed, repos []*archive.Archive, found [][]archive.Entry, errs []error) {
	belongs := map[holdfast.JobName]func(store string) bool{}
	for _, entry := range all.entries {
		if belongs[entry.Job] == nil {
			own, err := cfg.AllStores(entry.Job)
			belongs[entry.Job] = func(store string) bool {
				return err != nil || storeAt(own, store) >= 0
			}
		}
	}
	var mu sync.Mutex // guards what the goroutines find
	partial := map[string]bool{}
	var group errgroup.Group
	group.SetLimit(4)
	has := make([]map[holdfast.BackupID]archive.Entry, len(all.stores))
	for i, place := range all.stores {
		has[i] = map[holdfast.BackupID]archive.Entry{}
		for _, entry := range found[i] {
			has[i][entry.ID] = entry
		}
		asked := 0
		for n := len(all.entries) - 1; n >= 0 && errs[i] == nil && asked < mostPartial; n-- {
			entry := all.entries[n]
			if _, there := has[i][entry.ID]; there || !belongs[entry.Job](place.Name) {
				continue
			}
			asked++
			group.Go(func() error {
				if some, err := repos[i].HasSome(ctx, entry); err == nil && some {
					mu.Lock()
					partial[place.Name+"/"+string(entry.ID)] = true
					mu.Unlock()
				}
				return nil
			})
		}
	}
	_ = group.Wait() // a copy that cannot be looked at stays "missing": its manifest is
	for _, entry := range all.entries {
		var states []copyState
		for i, place := range all.stores {
			own, there := has[i][entry.ID]
			switch {
			case !there && !belongs[entry.Job](place.Name):
			case errs[i] != nil:
				states = append(states, copyState{Store: place.Name, State: "unknown"})
			case there:
				states = append(states, stateOf(place.Name, own))
			case partial[place.Name+"/"+string(entry.ID)]:
				states = append(states, copyState{Store: place.Name, State: "partial"})
			default:
				states = append(states, copyState{Store: place.Name, State: "missing"})
			}
		}
		all.copies[entry.ID] = states
	}
}

func copiesText(states []copyState) string {
	var all []string
	for _, s := range states {
		all = append(all, s.String())
	}
	return strings.Join(all, ", ")
}

// downError makes a listing that lacks stores an incomplete one.
func (l listed) downError() error {
	if len(l.down) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %w", holdfast.ErrIncomplete, errors.Join(l.down...))
}
