package health

import (
	"slices"
	"strings"
	"time"

	"holdfast"
)

// Source is what is known of one source of a job, by the backups whose manifests were read.
type Source struct {
	Name    holdfast.SourceName
	Good    time.Time     // when the newest backup was made that holds it, complete or not; zero: none was seen
	Stored  int64         // its size in that one
	OffSite time.Time     // when the newest of those was made that a mirror has; zero: none was seen
	Proven  time.Time     // when the newest drill passed of a backup that holds it; zero: none was seen
	RTO     time.Duration // what bringing it back took then; 0: not known
}

// SourceNames are the sources that the newest backup holds or lacks.
func (j Job) SourceNames() []holdfast.SourceName {
	for _, b := range slices.Backward(j.Backups) {
		if b.Known() {
			return slices.Concat(b.Holds, b.Lacks)
		}
	}
	return nil
}

// Sources tells of each source, as seen at a moment. What lies in the future of that counts for nothing.
func (j Job) Sources(at time.Time) []Source {
	var all []Source
	for _, name := range j.SourceNames() {
		s := Source{Name: name}
		for _, b := range j.Backups {
			if b.Time.After(at.Add(ahead)) || !slices.Contains(b.Holds, name) {
				continue
			}
			s.Good, s.Stored = b.Time, b.stored(name)
			if b.Mirrored {
				s.OffSite = b.Time
			}
		}
		for _, p := range j.Proofs {
			if p.passed() && !p.Time.After(at.Add(ahead)) && slices.Contains(p.Holds, name) {
				s.Proven, s.RTO = p.Time, p.restored(name)
			}
		}
		all = append(all, s)
	}
	return all
}

// stored is the size of a source in the backup.
func (b Backup) stored(name holdfast.SourceName) int64 {
	var sum int64
	for _, item := range b.Items {
		if item.Source == name {
			sum += item.Stored
		}
	}
	return sum
}

// restored is what the steps of a drill took that were about one source.
func (p Proof) restored(name holdfast.SourceName) time.Duration {
	var sum float64
	for phase, seconds := range p.Phases {
		if _, of, _ := strings.Cut(phase, " "); of == string(name) {
			sum += seconds
		}
	}
	return time.Duration(sum * float64(time.Second))
}
