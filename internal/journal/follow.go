package journal

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast"
	"holdfast/internal/store"
)

// atOnce is how many objects a Follower reads at once.
const atOnce = 8

// Follower reads the end of a chain in stores, and from then on what is new: what a machine that watches needs, and no proof of what lies
// before. It belongs to one goroutine.
type Follower struct {
	Chain string
	Trust Trust
	Since time.Time // at first objects are left out that lie before one that begins earlier

	last int64  // number of the newest record that was told; 0: none was yet
	hash string // of its line
}

// Follow tells the records that s has and that were not told before, oldest first. They are checked as [VerifyStore] does it, from the first one
// that was told on: signatures, numbers, and that each follows the one before, also if that came from another store. Otherwise it fails with
// holdfast.ErrDifference, and nothing is told from there on.
func (f *Follower) Follow(ctx context.Context, s *store.Store, each func(Record)) error {
	objects, _, err := inStore(ctx, s, f.Chain+"/")
	if err != nil {
		return err
	}
	objects = slices.DeleteFunc(objects, func(p pushed) bool { return p.last <= f.last })
	c := newChecker(f.Trust)
	if f.last > 0 {
		c.seen[f.last] = f.hash
	}
	var texts [][]byte // of objects, the newest first
	for enough := false; len(objects) > 0 && !enough; {
		some := objects[max(0, len(objects)-atOnce):]
		objects = objects[:len(objects)-len(some)]
		data, signatures, err := readAll(ctx, s, some)
		if err != nil {
			return err
		}
		for i := len(some) - 1; i >= 0 && !enough; i-- {
			if err := c.holds(some[i], data[i], signatures[i]); err != nil {
				return err
			}
			texts = append(texts, data[i])
			begins, err := firstTime(data[i])
			if err != nil {
				return err
			}
			enough = f.last == 0 && begins.Before(f.Since)
		}
	}
	for _, data := range slices.Backward(texts) {
		if _, err := eachLine(data, func(line []byte) error { return f.take(line, each) }); err != nil {
			return err
		}
	}
	return nil
}

// readAll reads objects at once.
func readAll(ctx context.Context, s *store.Store, objects []pushed) (data, signatures [][]byte, err error) {
	data, signatures = make([][]byte, len(objects)), make([][]byte, len(objects))
	group, ctx := errgroup.WithContext(ctx)
	for i, p := range objects {
		group.Go(func() (err error) {
			data[i], signatures[i], err = p.read(ctx, s)
			return err
		})
	}
	return data, signatures, group.Wait()
}

// firstTime is the time of the first record of an object.
func firstTime(data []byte) (time.Time, error) {
	line, _, _ := bytes.Cut(data, []byte("\n"))
	r, err := parseLine(line)
	return r.Time, err
}

// take tells a record that follows the last one.
func (f *Follower) take(line []byte, each func(Record)) error {
	r, err := parseLine(line)
	switch {
	case err != nil:
		return fmt.Errorf("%w: record %d is not readable: %w", holdfast.ErrDifference, f.last+1, err)
	case f.last > 0 && r.Seq <= f.last:
		return nil // objects may overlap, and then say the same
	case f.last > 0 && r.Seq != f.last+1:
		return fmt.Errorf("%w: record %d comes behind record %d: what was between is gone", holdfast.ErrDifference, r.Seq, f.last)
	case f.last > 0 && r.Prev != f.hash:
		return fmt.Errorf("%w: record %d does not follow the one before it: one of the two was changed", holdfast.ErrDifference, r.Seq)
	}
	f.last, f.hash = r.Seq, hashOf(line)
	each(r)
	return nil
}
