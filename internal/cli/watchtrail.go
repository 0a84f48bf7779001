package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"holdfast"
	"holdfast/internal/health"
	"holdfast/internal/journal"
	"holdfast/internal/survey"
)

// trailFor is how far back a watchman reads what hosts recorded.
const trailFor = 14 * 24 * time.Hour

// trail is the journal of a host, as far as stores have it.
type trail struct {
	journal.Follower
	records survey.Records
	host    string // as its newest record says
	last    int64  // number of that
}

// trails follow all journals that stores hold, by their chains. Their zero value has seen nothing.
type trails map[string]*trail

// follow reads what is new in the stores that can be looked at, and returns what is wrong with a journal; "" when nothing is. seen are the numbers
// of the newest records that were seen in each store, by the store and the chain; they are brought up to date.
func (w *watchman) follow(ctx context.Context, down map[string]string, seen map[string]map[string]int64) (broken string) {
	wrong := func(text string) {
		if broken == "" {
			broken = text
		}
	}
	holds := map[string]chainStore{} // which store has most of a chain
	most := map[string]int64{}
	for _, where := range w.stores {
		if down[where.Name] != "" {
			continue
		}
		there, err := w.app.chainsIn(ctx, where)
		if err != nil {
			w.app.printer.warn(fmt.Sprintf("store %s: the journals in it cannot be listed: %s", where.Name, holdfast.Sentence(err)))
			continue
		}
		now := map[string]int64{}
		for _, c := range there.chains {
			if now[c.Chain] = c.Last; c.Last > most[c.Chain] {
				holds[c.Chain], most[c.Chain] = there, c.Last
			}
		}
		if seen[where.Name] == nil {
			seen[where.Name] = map[string]int64{}
		}
		for _, chain := range slices.Sorted(maps.Keys(seen[where.Name])) {
			if before := seen[where.Name][chain]; now[chain] < before {
				wrong(fmt.Sprintf("store %s had record %d of the journal %s, and has no more than record %d: its end was cut off", where.Name, before, chain, now[chain]))
			}
		}
		for chain, last := range now {
			seen[where.Name][chain] = max(last, seen[where.Name][chain])
		}
	}
	for _, chain := range slices.Sorted(maps.Keys(holds)) {
		err := w.trail(chain).read(ctx, holds[chain])
		switch {
		case errors.Is(err, holdfast.ErrDifference):
			wrong(fmt.Sprintf("store %s, journal %s: %s", holds[chain].name, chain, holdfast.Sentence(err)))
		case err != nil && ctx.Err() == nil:
			w.app.printer.warn(fmt.Sprintf("store %s: journal %s cannot be read: %s", holds[chain].name, chain, holdfast.Sentence(err)))
		}
	}
	return broken
}

func (w *watchman) trail(chain string) *trail {
	if w.trails == nil {
		w.trails = trails{}
	}
	if w.trails[chain] == nil {
		w.trails[chain] = &trail{Follower: journal.Follower{Chain: chain, Trust: w.keys, Since: w.app.Now().Add(-trailFor)}}
	}
	return w.trails[chain]
}

func (t *trail) read(ctx context.Context, from chainStore) error {
	return t.Follow(ctx, from.Store, func(r journal.Record) {
		t.records.Add(r)
		t.host, t.last = r.Who.Host, r.Seq
	})
}

// sorted are the trails in the order of their chains.
func (all trails) sorted() []*trail {
	var sorted []*trail
	for _, chain := range slices.Sorted(maps.Keys(all)) {
		sorted = append(sorted, all[chain])
	}
	return sorted
}

// complete adds to a job what hosts recorded of it. A prune that is blocked in a store that this watchman does not know, or calls by another name,
// is told with the first one that it does know.
func (all trails) complete(job *health.Job) {
	for _, t := range all.sorted() {
		t.records.Complete(job)
		for _, b := range t.records.Blocks(job.Name) {
			known := slices.ContainsFunc(job.Places, func(p health.Place) bool { return p.Store == b.Store })
			if !known && len(job.Places) > 0 && job.Places[0].Blocked == "" {
				job.Places[0].Blocked, job.Places[0].Since = fmt.Sprintf("in store %s of %s: %s", b.Store, t.host, b.Why), b.Since
			}
		}
	}
}

// disks are the stores of hosts whose room they recorded lately.
func (all trails) disks(now time.Time) []health.Store {
	var disks []health.Store
	for _, t := range all.sorted() {
		for _, name := range t.records.Stores() {
			used := t.records.Free(name)
			if last := used[len(used)-1]; now.Sub(last.Time) < trailFor {
				disks = append(disks, health.Store{Name: name + " of " + t.host, Free: last.Free, Used: used})
			}
		}
	}
	return disks
}

// audit is what a watchman knows of the journals of hosts.
func (all trails) audit(now time.Time, broken string) health.Audit {
	a := health.Audit{Checked: now, Broken: broken}
	for _, t := range all {
		a.Records += t.last
	}
	return a
}
