package survey

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"holdfast"
	"holdfast/internal/archive"
	"holdfast/internal/health"
)

// candidate is a proof of which the name is known.
type candidate struct {
	entry  archive.Entry
	proof  archive.ProofEntry
	place  int  // where it lies, of the job; the first place that has it
	mirror bool // it is in a mirror, and not in the job's own store as far as names tell
}

// key is its whole name, wherever it lies: whoever gives the ID of a verdict to another one hides neither.
func (c candidate) key() proofKey { return proofKey{of: keyOf(c.entry), proof: c.proof} }

func (c candidate) proven() bool { return c.proof.Verdict == holdfast.Proven }

// candidates are all proofs, the newest first.
func candidates(l *look) []candidate {
	var all []candidate
	known := map[proofKey]bool{}
	for place, entries := range l.lists {
		for _, entry := range entries {
			for _, proof := range entry.Proofs {
				c := candidate{entry, proof, place, place > 0 && l.in[0] != nil}
				if !known[c.key()] {
					all, known[c.key()] = append(all, c), true
				}
			}
		}
	}
	slices.SortStableFunc(all, func(x, y candidate) int { return y.proof.Time.Compare(x.proof.Time) })
	return all
}

// proofs reads the verdicts that answer a question: how the newest drill ended; when the last one passed, of any backup, of an old one and
// in a mirror; which one failed, and whether it was made good since.
func (r reader) proofs(ctx context.Context, l *look, before, now memory) {
	all := candidates(l)
	told := map[proofKey]health.Proof{}
	// ask reads those that match, the newest first, until one is what was asked for.
	ask := func(match func(candidate) bool, enough func(health.Proof) bool) {
		tries := 0
		for _, c := range all {
			if !match(c) {
				continue
			}
			p, known := told[c.key()]
			if !known {
				var there bool
				if p, there = r.proofOf(ctx, l, c, before, now); !there {
					continue
				}
				told[c.key()] = p
			}
			if tries++; enough(p) || tries == mostFalse {
				return
			}
		}
	}
	any := func(health.Proof) bool { return true }
	counts := func(p health.Proof) bool { return p.Trusted }
	ask(func(candidate) bool { return true }, any)
	var proven []holdfast.SourceName
	ask(candidate.proven, func(p health.Proof) bool {
		if p.Trusted {
			proven = append(proven, p.Holds...)
		}
		return p.Trusted && (len(l.job.SourceNames()) == 0 || hasAll(proven, l.job.SourceNames()))
	})
	ask(func(c candidate) bool { return c.proven() && c.proof.Time.Sub(c.entry.Time) >= health.Old }, counts)
	ask(func(c candidate) bool { return c.proven() && c.mirror }, func(p health.Proof) bool {
		return p.Trusted && p.Store != l.job.Places[0].Store
	})
	for _, f := range failures(all) {
		ask(func(c candidate) bool { return c.key() == f.key() }, any)
		ask(func(c candidate) bool {
			return c.proven() && c.proof.Time.After(f.proof.Time) && !c.entry.Time.Before(f.entry.Time)
		}, counts)
	}
	for _, c := range slices.Backward(all) {
		if p, is := told[c.key()]; is {
			l.job.Proofs = append(l.job.Proofs, p)
		}
	}
}

// failures are the newest drill that failed, and the newest of the newest backup that failed one.
func failures(all []candidate) []candidate {
	var chosen []candidate
	for _, c := range all {
		if c.proof.Verdict != holdfast.Failed {
			continue
		}
		switch {
		case len(chosen) == 0:
			chosen = append(chosen, c)
		case c.entry.Time.After(chosen[len(chosen)-1].entry.Time):
			chosen = append(chosen[:1], c)
		}
	}
	return chosen
}

// proofOf reads a verdict; false: it is not there any more. What says something else than its name, or is signed by nobody who counts, is
// told as what its name says, and counts for nothing.
func (r reader) proofOf(ctx context.Context, l *look, c candidate, before, now memory) (health.Proof, bool) {
	place := l.job.Places[c.place].Store
	key := c.key()
	key.store = place
	if p, known := before.proofs[key]; known {
		now.proofs[key] = p
		return p, true
	}
	p := health.Proof{Time: c.proof.Time, Backup: c.entry.ID, Of: c.entry.Time, Verdict: c.proof.Verdict, Store: place}
	b, err := r.open(ctx, l, c.place, c.entry)
	if b == nil {
		return p, err != nil
	}
	var proof archive.Proof
	err = r.slot(ctx, func() (err error) {
		proof, _, err = l.in[c.place].ReadProof(ctx, b, c.proof)
		return err
	})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return p, false
	case errors.Is(err, holdfast.ErrDifference):
		return p, true
	case err != nil:
		if ctx.Err() == nil {
			l.unreadable(c.place, err)
		}
		return p, true
	}
	p.Trusted, p.Compared, p.Differ, p.Phases, p.Holds = true, proof.Facts, proof.Differences, proof.Seconds, holds(b.Manifest)
	for _, seconds := range proof.Seconds {
		p.RTO += span(seconds)
	}
	if p.Store = r.madeIn(ctx, l, c, b); p.Store != "" {
		now.proofs[key] = p
	}
	return p, true
}

// madeIn tells in which store a drill was made; "" when that is not known now. Its proof is written there, and mirrors get a copy. It
// outlives the backup in the job's own store, where no name leads to it any more.
func (r reader) madeIn(ctx context.Context, l *look, c candidate, b *archive.Backup) string {
	place := l.job.Places[c.place].Store
	switch {
	case c.place == 0:
		return place
	case l.in[0] == nil:
		return ""
	case slices.ContainsFunc(l.lists[0], func(e archive.Entry) bool { return e.ID == c.entry.ID }):
		return place
	}
	err := r.slot(ctx, func() error {
		_, _, err := l.in[0].ReadProof(ctx, b, c.proof)
		return err
	})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return place
	case err == nil:
		return l.job.Places[0].Store
	}
	return ""
}
