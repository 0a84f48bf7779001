package survey

import (
	"slices"
	"sync"
	"time"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/health"
)

// look is what is found of one job on the way.
type look struct {
	in     []*archive.Archive // by place of the job; nil where it cannot be looked at
	lists  [][]archive.Entry  // likewise
	merged []archive.Entry    // of runs, oldest first; the same as job.Backups
	failed time.Time          // when the newest run began that made no backup; zero: none did
	keys   []string

	mu  sync.Mutex // guards what follows while manifests are read
	job health.Job
}

func newLook(job Job, lists []listed) *look {
	l := &look{job: health.Job{Name: job.Name}}
	for _, at := range placesOf(job, lists) {
		p := health.Place{Store: at.Store}
		repo, own := at.Archive, at.entries[job.Name]
		if at.err != nil {
			p.Down, repo = holdfast.Sentence(at.err), nil
		}
		for _, entry := range own {
			checked(&p, entry)
		}
		if failed := at.failed[job.Name]; failed.After(l.failed) {
			l.failed = failed
		}
		l.in, l.lists, l.job.Places = append(l.in, repo), append(l.lists, own), append(l.job.Places, p)
	}
	for _, entry := range archive.Merge(l.lists...) {
		if ofRun(entry) {
			l.merged = append(l.merged, entry)
			l.job.Backups = append(l.job.Backups, health.Backup{ID: entry.ID, Kind: entry.Kind, Time: entry.Time, Complete: entry.Complete, Stored: entry.Size})
		}
	}
	return l
}

// placesOf are the places of a job, in its order.
func placesOf(job Job, lists []listed) []listed {
	var all []listed
	if len(job.Stores) == 0 {
		for _, l := range lists {
			_, failed := l.failed[job.Name]
			if l.err != nil || failed || len(l.entries[job.Name]) > 0 {
				all = append(all, l)
			}
		}
		return all
	}
	for _, store := range job.Stores {
		if at := slices.IndexFunc(lists, func(l listed) bool { return l.Store == store }); at >= 0 {
			all = append(all, lists[at])
		}
	}
	return all
}

// checked takes in what is recorded of one copy.
func checked(p *health.Place, entry archive.Entry) {
	if entry.Damaged() {
		p.Damaged++
	} else if v, is := entry.Verified(); is && v.Time.After(p.Verified) {
		p.Verified = v.Time
	}
	if entry.Hidden || entry.Versions > 1 {
		p.Hidden++
	}
}

// ofRun leaves out what was kept before an overwrite, what was imported, and backups that were made by sealing another one anew.
func ofRun(entry archive.Entry) bool {
	return entry.From == "" && slices.Contains([]string{"full", "hourly", "manual"}, entry.Kind)
}

// drop takes out a backup that turned out to be none.
func (l *look) drop(i int) {
	l.merged, l.job.Backups = slices.Delete(l.merged, i, i+1), slices.Delete(l.job.Backups, i, i+1)
}

// doubt takes out every complete backup from the i-th on.
func (l *look) doubt(i int) {
	keep := i
	for ; i < len(l.merged); i++ {
		if !l.merged[i].Complete {
			l.merged[keep], l.job.Backups[keep] = l.merged[i], l.job.Backups[i]
			keep++
		}
	}
	l.merged, l.job.Backups = l.merged[:keep], l.job.Backups[:keep]
}

// copies counts what each place has of the backups, and notes which are in a mirror. A copy that was sealed anew has the time of its original, and may be all there is of it.
func (l *look) copies() {
	type run struct {
		time int64
		kind string
	}
	known := map[run]bool{}
	for _, entry := range l.merged {
		if entry.Complete {
			known[run{entry.Time.Unix(), entry.Kind}] = true
		}
	}
	mirrored := map[run]bool{}
	for place, entries := range l.lists {
		p := &l.job.Places[place]
		for _, entry := range entries {
			if place > 0 && ofRun(entry) {
				mirrored[run{entry.Time.Unix(), entry.Kind}] = true
			}
			if ofRun(entry) && entry.Complete && known[run{entry.Time.Unix(), entry.Kind}] {
				p.Times = append(p.Times, entry.Time)
			}
		}
		slices.SortFunc(p.Times, time.Time.Compare)
		if p.Copies = len(p.Times); p.Copies > 0 {
			p.Newest = p.Times[p.Copies-1]
		}
	}
	for i, b := range l.job.Backups {
		l.job.Backups[i].Mirrored = mirrored[run{b.Time.Unix(), b.Kind}]
	}
}

// attempts says of each kind of backup how the last try ended, as far as the stores tell.
func (l *look) attempts() {
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
		// A record of a failed run does not say of which kind it was: it is told of the one that has a record of every run.
		if task == holdfast.TaskBackup && l.failed.After(t.Attempt) {
			t.Attempt, t.Result = l.failed, "failed"
		}
		if !t.Attempt.IsZero() {
			l.job.Tasks = append(l.job.Tasks, t)
		}
	}
}

// damaged counts a copy whose manifest is not what was signed.
func (l *look) damaged(place int, entry archive.Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !entry.Damaged() { // that was counted
		l.job.Places[place].Damaged++
	}
}

// unreadable tells of a place whose names can be listed and whose objects cannot be read.
func (l *look) unreadable(place int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.job.Places[place].Down = holdfast.Sentence(err)
}
