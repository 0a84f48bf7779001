// Package survey finds out what is known about jobs: from the names, manifests and verdicts in their stores, and from the records of a
// journal. What it finds is a [health.State].
//
// It hides which object tells what, and what need not be read twice. Its laws: it only reads, and needs no identity; what a name alone
// says of a drill counts only when the signed verdict says the same, and the newest backup only when its manifest does; a store that cannot
// be looked at is told as such, and hides nothing of the others. It is not its job to judge (health does), to know schedules or the time,
// or to open anything that is sealed.
package survey

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/health"
)

// Place is a store that is looked at.
type Place struct {
	Store   string
	Archive *archive.Archive // nil when it cannot be reached
	Err     error            // why
}

// Job says where the copies of a job belong, its own store first; none: wherever they are found, and in whatever cannot be looked at.
type Job struct {
	Name   holdfast.JobName
	Stores []string
}

const (
	// window is how far back the sizes of items are compared.
	window = 7 * 24 * time.Hour
	// mostManifests bounds how many manifests of one job are read for that. A job that backs up every hour is compared with every
	// sixth or so of the last week's.
	mostManifests = 30
	// mostFalse bounds how many backups of one job, and how many verdicts for one question, are read that turn out not to be what they
	// say: whoever can write into a store can add as many as they like.
	mostFalse = 5
	// atOnce is how many objects are read at once.
	atOnce = 8
)

// Surveyor looks at stores again and again, and remembers what cannot change. It is safe for concurrent use. What it remembers was
// believed by the signers that counted then: when others count, a new one is needed.
type Surveyor struct {
	mu   sync.Mutex // guards what follows; a memory that is in it does not change any more
	jobs map[holdfast.JobName]memory
}

// Found is what a look at all stores found.
type Found struct {
	Jobs []health.Job
	Keys map[holdfast.JobName][]string // IDs that the newest complete backup of a job is sealed to
	Down map[string]string             // why stores could not be looked at, by their names
}

// Look lists every place and reads what it must. With jobs it tells of those, in their order; without, of every job that a place holds
// something of, by their names. Its error is that of ctx alone: what cannot be looked at is told of each job and in Down.
func (s *Surveyor) Look(ctx context.Context, places []Place, jobs []Job) (Found, error) {
	lists := list(ctx, places)
	if ctx.Err() != nil {
		return Found{}, context.Cause(ctx)
	}
	if len(jobs) == 0 {
		jobs = everyJob(lists)
	}
	found := Found{Keys: map[holdfast.JobName][]string{}, Down: map[string]string{}}
	for _, l := range lists {
		if l.err != nil {
			found.Down[l.Store] = holdfast.Sentence(l.err)
		}
	}
	r := reader{s, make(chan struct{}, atOnce)}
	looks := make([]*look, len(jobs))
	var reading errgroup.Group
	reading.SetLimit(atOnce)
	for i, job := range jobs {
		looks[i] = newLook(job, lists)
		reading.Go(func() error {
			r.read(ctx, looks[i])
			return nil
		})
	}
	_ = reading.Wait() // every function returns nil: what cannot be read is not known
	if ctx.Err() != nil {
		return Found{}, context.Cause(ctx)
	}
	for _, l := range looks {
		found.Jobs = append(found.Jobs, l.job)
		found.Keys[l.job.Name] = l.keys
	}
	return found, nil
}

// listed is what the names in a place tell, by job.
type listed struct {
	Place
	err     error // why it could not be listed
	entries map[holdfast.JobName][]archive.Entry
	failed  map[holdfast.JobName]time.Time // when the newest run began that made no backup
}

func list(ctx context.Context, places []Place) []listed {
	lists := make([]listed, len(places))
	var group errgroup.Group
	for i, place := range places {
		group.Go(func() error {
			l := listed{Place: place, err: place.Err, entries: map[holdfast.JobName][]archive.Entry{}}
			var all []archive.Entry
			if l.err == nil {
				all, l.err = place.Archive.List(ctx, "")
			}
			if l.err == nil {
				l.failed, l.err = place.Archive.FailedRuns(ctx)
			}
			if l.err == nil {
				for _, entry := range all {
					l.entries[entry.Job] = append(l.entries[entry.Job], entry)
				}
			}
			lists[i] = l
			return nil
		})
	}
	_ = group.Wait() // every function returns nil
	return lists
}

func everyJob(lists []listed) []Job {
	names := map[holdfast.JobName]bool{}
	for _, l := range lists {
		for name := range l.entries {
			names[name] = true
		}
		for name := range l.failed {
			names[name] = true
		}
	}
	var jobs []Job
	for _, name := range slices.Sorted(maps.Keys(names)) {
		jobs = append(jobs, Job{Name: name})
	}
	return jobs
}
