// Package survey finds out what is known about jobs: from the names, manifests and verdicts in their stores, and from the records of a
// journal. What it finds is a [health.State].
//
// It hides which object tells what, and what need not be read twice. Its laws: it only reads, and needs no identity; what a name alone
// says of a drill counts only when the signed verdict says the same; a store that cannot be looked at is told as such, and hides nothing of
// the others. It is not its job to judge (health does), to know schedules, or to open anything that is sealed.
package survey

import (
	"context"
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

// Job says where the copies of a job belong, its own store first; none: wherever they are found.
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
	// atOnce is how many objects are read at once.
	atOnce = 8
)

// Surveyor looks at stores again and again, and remembers what cannot change. It is safe for concurrent use.
type Surveyor struct {
	mu     sync.Mutex // guards what follows
	facts  map[holdfast.BackupID]facts
	proofs map[holdfast.BackupID]health.Proof
}

// facts are what a manifest says.
type facts struct {
	items []health.Item
	took  time.Duration
	keys  []string
}

// Found is what a look at all stores found.
type Found struct {
	Jobs []health.Job
	Keys map[holdfast.JobName][]string // IDs that the newest complete backup of a job is sealed to
}

// Look lists every place and reads what it must. With jobs it tells of those, in their order; without, of every job that a place holds.
func (s *Surveyor) Look(ctx context.Context, places []Place, jobs []Job) (Found, error) {
	listed := make([][]archive.Entry, len(places))
	errs := make([]error, len(places))
	failed := make([]map[holdfast.JobName]time.Time, len(places))
	var listing errgroup.Group
	for i, place := range places {
		listing.Go(func() error {
			if errs[i] = place.Err; errs[i] == nil {
				listed[i], errs[i] = place.Archive.List(ctx, "")
			}
			if errs[i] == nil {
				failed[i], errs[i] = place.Archive.FailedRuns(ctx)
			}
			return nil
		})
	}
	_ = listing.Wait() // every function returns nil: errs has what went wrong
	if ctx.Err() != nil {
		return Found{}, context.Cause(ctx)
	}
	if len(jobs) == 0 {
		jobs = everyJob(places, listed)
	}
	found := Found{Keys: map[holdfast.JobName][]string{}}
	var reading errgroup.Group
	reading.SetLimit(atOnce)
	looks := make([]look, len(jobs))
	for i, job := range jobs {
		looks[i] = newLook(job, places, listed, errs, failed)
		reading.Go(func() error {
			s.read(ctx, &looks[i])
			return nil
		})
	}
	_ = reading.Wait() // likewise: what cannot be read is not known
	for i := range looks {
		found.Jobs = append(found.Jobs, looks[i].job)
		found.Keys[looks[i].job.Name] = looks[i].keys
	}
	if ctx.Err() != nil {
		return Found{}, context.Cause(ctx)
	}
	return found, nil
}

// everyJob lists the jobs that places hold backups of, with the places that do.
func everyJob(places []Place, listed [][]archive.Entry) []Job {
	var jobs []Job
	for i, entries := range listed {
		for _, entry := range entries {
			at := slices.IndexFunc(jobs, func(j Job) bool { return j.Name == entry.Job })
			if at < 0 {
				jobs, at = append(jobs, Job{Name: entry.Job}), len(jobs)
			}
			if !slices.Contains(jobs[at].Stores, places[i].Store) {
				jobs[at].Stores = append(jobs[at].Stores, places[i].Store)
			}
		}
	}
	return jobs
}

// look is what is found of one job on the way.
type look struct {
	job    health.Job
	in     []*archive.Archive // by place of the job; nil where it cannot be looked at
	lists  [][]archive.Entry  // likewise: of the job alone
	merged []archive.Entry    // of runs, oldest first
	keys   []string
}

func newLook(job Job, places []Place, listed [][]archive.Entry, errs []error, failed []map[holdfast.JobName]time.Time) look {
	l := look{job: health.Job{Name: job.Name}}
	var lastFailed time.Time
	for i, place := range places {
		if !slices.Contains(job.Stores, place.Store) {
			continue
		}
		p := health.Place{Store: place.Store}
		var own []archive.Entry
		for _, entry := range listed[i] {
			if entry.Job == job.Name {
				own = append(own, entry)
			}
		}
		if errs[i] != nil {
			p.Down = holdfast.Sentence(errs[i])
			l.in, l.lists = append(l.in, nil), append(l.lists, nil)
		} else {
			l.in, l.lists = append(l.in, place.Archive), append(l.lists, own)
			for _, entry := range own {
				countCopy(&p, entry)
			}
		}
		if at := failed[i][job.Name]; at.After(lastFailed) {
			lastFailed = at
		}
		l.job.Places = append(l.job.Places, p)
	}
	for _, entry := range archive.Merge(l.lists...) {
		if !ofRun(entry) {
			continue
		}
		l.merged = append(l.merged, entry)
		l.job.Backups = append(l.job.Backups, health.Backup{ID: entry.ID, Kind: entry.Kind, Time: entry.Time, Complete: entry.Complete, Stored: entry.Size})
	}
	l.attempts(lastFailed)
	return l
}

func countCopy(p *health.Place, entry archive.Entry) {
	if entry.Damaged() {
		p.Damaged++
	} else if v, is := entry.Verified(); is && v.Time.After(p.Verified) {
		p.Verified = v.Time
	}
	if ofRun(entry) && entry.Complete {
		p.Copies++
		if entry.Time.After(p.Newest) {
			p.Newest = entry.Time
		}
	}
}

// ofRun leaves out what was kept before an overwrite, what was imported, and backups that were made by sealing another one anew.
func ofRun(entry archive.Entry) bool {
	return entry.From == "" && slices.Contains([]string{"full", "hourly", "manual"}, entry.Kind)
}

// attempts says of each kind of backup how the last try ended, as far as the stores tell.
func (l *look) attempts(failed time.Time) {
	for _, task := range []holdfast.Task{holdfast.TaskBackup, holdfast.TaskHourly} {
		t := health.Task{Task: task}
		for _, entry := range l.merged {
			if (entry.Kind == "hourly") != (task == holdfast.TaskHourly) {
				continue
			}
			t.Attempt, t.Result = entry.Time, "incomplete"
			if entry.Complete {
				t.Success, t.Result = entry.Time, "good"
			}
		}
		// A record of a failed run does not say of which kind it was: it is told of the one that comes most often.
		if task == holdfast.TaskBackup && failed.After(t.Attempt) {
			t.Attempt, t.Result = failed, "failed"
		}
		if !t.Attempt.IsZero() {
			l.job.Tasks = append(l.job.Tasks, t)
		}
	}
}

// read opens the manifests and proofs that matter.
func (s *Surveyor) read(ctx context.Context, l *look) {
	for _, i := range compared(l.job.Backups) {
		f, known := s.factsOf(ctx, l, l.merged[i])
		if !known {
			continue
		}
		l.job.Backups[i].Items, l.job.Backups[i].Took = f.items, f.took
		if newest, _ := l.job.Newest(); newest.ID == l.merged[i].ID {
			l.keys = f.keys
		}
	}
	for _, c := range candidates(l) {
		l.job.Proofs = append(l.job.Proofs, s.proofOf(ctx, l, c))
	}
	slices.SortStableFunc(l.job.Proofs, func(x, y health.Proof) int { return x.Time.Compare(y.Time) })
}

// compared chooses the backups whose manifests are read: the newest complete one, those of its kind in the days before, evenly, and the
// newest one of all.
func compared(backups []health.Backup) []int {
	newest := -1
	for i := len(backups) - 1; i >= 0 && newest < 0; i-- {
		if backups[i].Complete {
			newest = i
		}
	}
	if newest < 0 {
		return nil
	}
	var earlier []int
	for i := range newest {
		b := backups[i]
		if b.Complete && b.Kind == backups[newest].Kind && backups[newest].Time.Sub(b.Time) <= window {
			earlier = append(earlier, i)
		}
	}
	chosen := []int{newest}
	step := max(1, (len(earlier)+mostManifests-1)/mostManifests)
	for i := len(earlier) - 1; i >= 0; i -= step {
		chosen = append(chosen, earlier[i])
	}
	return chosen
}

// factsOf reads a manifest in the first place that has it.
func (s *Surveyor) factsOf(ctx context.Context, l *look, entry archive.Entry) (facts, bool) {
	s.mu.Lock()
	f, known := s.facts[entry.ID]
	s.mu.Unlock()
	if known {
		return f, true
	}
	b := l.open(ctx, entry, nil)
	if b == nil {
		return facts{}, false
	}
	f = facts{took: b.Manifest.Finished.Sub(b.Manifest.Time), keys: b.Manifest.Keys}
	for _, item := range b.Manifest.Items {
		if item.Role == archive.RoleData {
			f.items = append(f.items, health.Item{Source: item.Source, Name: item.Name, Plain: item.PlainSize, Stored: item.StoredSize})
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.facts == nil {
		s.facts = map[holdfast.BackupID]facts{}
	}
	s.facts[entry.ID] = f
	return f, true
}

// open opens a backup in the first place that has it and may be read. With in it is looked for there alone.
func (l *look) open(ctx context.Context, entry archive.Entry, in *archive.Archive) *archive.Backup {
	for i, repo := range l.in {
		if repo == nil || in != nil && repo != in {
			continue
		}
		at := slices.IndexFunc(l.lists[i], func(e archive.Entry) bool { return e.ID == entry.ID })
		if at < 0 {
			continue
		}
		if b, err := repo.Open(ctx, l.lists[i][at]); err == nil {
			return b
		}
	}
	return nil
}

// candidate is a proof whose name says something that matters.
type candidate struct {
	entry archive.Entry
	proof archive.ProofEntry
	place int // where it lies; of the job
}

// candidates are the newest drill of all, and the newest that passed: of any backup, of an old one, and in a mirror alone.
func candidates(l *look) []candidate {
	var newest, passed, old, copied *candidate
	first := map[holdfast.BackupID]bool{} // proofs in the job's own store
	for i, entries := range l.lists {
		for _, entry := range entries {
			for _, proof := range entry.Proofs {
				if i == 0 {
					first[proof.ID] = true
				}
				c := &candidate{entry, proof, i}
				later(&newest, c)
				if proof.Verdict != holdfast.Proven {
					continue
				}
				later(&passed, c)
				if proof.Time.Sub(entry.Time) >= health.Old {
					later(&old, c)
				}
				if i > 0 && !first[proof.ID] && l.in[0] != nil {
					later(&copied, c)
				}
			}
		}
	}
	var all []candidate
	for _, c := range []*candidate{newest, passed, old, copied} {
		if c != nil && !slices.ContainsFunc(all, func(other candidate) bool { return other.proof.ID == c.proof.ID }) {
			all = append(all, *c)
		}
	}
	return all
}

func later(into **candidate, c *candidate) {
	if *into == nil || c.proof.Time.After((*into).proof.Time) {
		*into = c
	}
}

// proofOf reads a verdict. What cannot be read, or says something else than its name, is told and counts for nothing.
func (s *Surveyor) proofOf(ctx context.Context, l *look, c candidate) health.Proof {
	s.mu.Lock()
	p, known := s.proofs[c.proof.ID]
	s.mu.Unlock()
	if known {
		return p
	}
	p = health.Proof{Time: c.proof.Time, Backup: c.entry.ID, Of: c.entry.Time, Verdict: c.proof.Verdict, Store: l.job.Places[c.place].Store}
	b := l.open(ctx, c.entry, l.in[c.place])
	if b == nil {
		return p
	}
	proof, _, err := l.in[c.place].ReadProof(ctx, b, c.proof)
	if err != nil {
		return p
	}
	p.Trusted, p.Compared, p.Differ, p.Phases = true, proof.Facts, proof.Differences, proof.Seconds
	for _, seconds := range proof.Seconds {
		p.RTO += time.Duration(seconds * float64(time.Second))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proofs == nil {
		s.proofs = map[holdfast.BackupID]health.Proof{}
	}
	s.proofs[c.proof.ID] = p
	return p
}
