package survey

import (
	"context"
	"slices"

	"holdfast"
	"holdfast/internal/archive"
)

// holds are the sources that a backup has.
func holds(m archive.Manifest) []holdfast.SourceName {
	var names []holdfast.SourceName
	for _, src := range m.Sources {
		names = append(names, src.Name)
	}
	return names
}

// hasAll reports whether everything that is wanted was found. As long as nobody knows what is wanted, it was not.
func hasAll(found, wanted []holdfast.SourceName) bool {
	return len(wanted) > 0 && !slices.ContainsFunc(wanted, func(name holdfast.SourceName) bool { return !slices.Contains(found, name) })
}

// sources reads manifests, the newest first, until it is known of every source of the job which backup holds it last, and which of those
// that a mirror has. Mostly the newest backup tells it all.
func (r reader) sources(ctx context.Context, l *look, before, now memory) {
	var anywhere, mirrored []holdfast.SourceName
	tries, failed := 0, 0
	for i := len(l.job.Backups) - 1; i >= 0 && tries < mostManifests && failed < mostFalse; i-- {
		b := &l.job.Backups[i]
		if wanted := l.job.SourceNames(); hasAll(anywhere, wanted) && (!b.Mirrored || hasAll(mirrored, wanted)) {
			continue
		}
		tries++
		if !b.Known() {
			f, err := r.factsOf(ctx, l, l.merged[i], before)
			if err != nil {
				failed++
				continue
			}
			l.note(i, f, now)
		}
		anywhere = append(anywhere, b.Holds...)
		if b.Mirrored {
			mirrored = append(mirrored, b.Holds...)
		}
	}
}
