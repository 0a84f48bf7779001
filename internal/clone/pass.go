package clone

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"holdfast"
)

// pass is one run of Copy.
type pass struct {
	Options
	from, to *tree
	old      map[string]vouched
	removes  bool // what only the copy has

	source []entry
	files  []*file
	there  []entry          // the copy, as the walk saw it
	has    map[string]entry // what of it was not removed

	mu       sync.Mutex // guards what follows, and calls Observe
	ledger   *Ledger
	report   Report
	progress Progress
}

func begin(from, to string, was *Ledger, o Options) (p *pass, err error) {
	p = &pass{Options: o, removes: was != nil || o.Still, ledger: &Ledger{}}
	if p.from, err = openTree(from); err != nil {
		return nil, err
	}
	made := os.Mkdir(to, 0o700)
	if p.to, err = openTree(to); err != nil {
		return nil, errors.Join(err, p.from.close())
	}
	if err = p.bind(was); err != nil {
		p.close()
		if made == nil {
			err = errors.Join(err, os.Remove(to))
		}
		return nil, err
	}
	return p, nil
}

func (p *pass) bind(was *Ledger) error {
	for _, pair := range [][2]*tree{{p.from, p.to}, {p.to, p.from}} {
		if inside, err := pair[0].holds(pair[1]); err != nil {
			return err
		} else if inside {
			return holdfast.WithHint(fmt.Errorf("%w: %s is in %s, or the same folder", holdfast.ErrUsage, pair[1].path, pair[0].path), "copy to a folder that is beside the other")
		}
	}
	var err error
	if p.ledger.from, err = placeOf(p.from); err != nil {
		return err
	}
	if p.ledger.to, err = placeOf(p.to); err != nil {
		return err
	}
	p.old, err = was.byPath(p.ledger.from, p.ledger.to)
	return err
}

// close has nothing to lose: both are folders that were read.
func (p *pass) close() { _, _ = p.from.close(), p.to.close() }

func (p *pass) run(ctx context.Context) error {
	if err := p.look(ctx); err != nil {
		return err
	}
	if err := p.clear(ctx); err != nil {
		return err
	}
	if err := p.plan(); err != nil {
		return err
	}
	if err := p.folders(ctx); err != nil {
		return err
	}
	// What only seemed to be there already is copied in a second round; a third one would find nothing to do.
	for todo, first := p.todo(), true; first || len(todo) > 0; first = false {
		began := time.Now()
		p.start(Copying, todo)
		if err := p.each(ctx, todo, p.take); err != nil {
			return err
		}
		if err := p.finish(ctx); err != nil {
			return err
		}
		p.report.Copying += time.Since(began)

		began = time.Now()
		p.start(Verifying, todo)
		err := p.each(ctx, todo, p.verify)
		p.report.Verifying += time.Since(began)
		if err != nil {
			return err
		}
		var again []*file
		for _, f := range todo {
			if f.other {
				f.other = false
				again = append(again, f)
			}
		}
		todo = again
	}
	if !p.Still {
		return nil
	}
	return p.still(ctx)
}

// look lists both sides before anything is changed, so that a mount or a device below either ends the pass there.
func (p *pass) look(ctx context.Context) error {
	found, err := p.from.walk(ctx, p.excluded, p.changed)
	if err != nil {
		return err
	}
	for _, e := range found {
		switch e.kind() {
		case unix.S_IFSOCK:
			p.report.Sockets = append(p.report.Sockets, e.rel)
		case unix.S_IFDIR, unix.S_IFREG, unix.S_IFLNK, unix.S_IFIFO:
			p.source = append(p.source, e)
		default:
			return holdfast.WithHint(fmt.Errorf("%s is a device: it is not copied", p.from.name(e.rel)), "remove it: a database's folder has none")
		}
	}
	p.there, err = p.walkCopy(ctx)
	return err
}

func (p *pass) walkCopy(ctx context.Context) ([]entry, error) {
	return p.to.walk(ctx, func(string) bool { return false }, func(rel string) error {
		return difference(p.to.name(rel), "went away: somebody else works on the copy")
	})
}

func (p *pass) excluded(rel string) bool { return p.Exclude != nil && p.Exclude(rel) }

// changed notes what was not still: an error when it was to be.
func (p *pass) changed(rel string) error {
	if p.Still {
		return holdfast.WithHint(difference(p.from.name(rel), "changed while it was copied"), "find out who writes there, stop it, and start again")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.report.Changed = append(p.report.Changed, rel)
	return nil
}

// each does something with all files, on several at once.
func (p *pass) each(ctx context.Context, files []*file, do func(context.Context, *file, []byte) error) error {
	group, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range min(p.Workers, len(files)) {
		group.Go(func() error {
			buf := make([]byte, bufferSize)
			for {
				i := next.Add(1) - 1
				if i >= int64(len(files)) {
					return nil
				}
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if err := do(ctx, files[i], buf); err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}

func (p *pass) start(phase Phase, files []*file) {
	p.progress = Progress{Phase: phase, OfFiles: int64(len(files))}
	for _, f := range files {
		p.progress.OfBytes += f.source.Size
	}
	p.advance(0, 0)
}

func (p *pass) advance(files, bytes int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.progress.Files += files
	p.progress.Bytes += bytes
	if p.Observe != nil {
		p.Observe(p.progress)
	}
}

// finish makes all that is not the contents of files, and has everything written out.
func (p *pass) finish(ctx context.Context) error {
	if err := p.others(ctx); err != nil {
		return err
	}
	if err := p.link(ctx); err != nil {
		return err
	}
	if err := p.dressFolders(ctx); err != nil {
		return err
	}
	touched := time.Now()
	if err := unix.Syncfs(p.to.fd); err != nil {
		return p.to.wrap("write out", ".", err)
	}
	// A reading vouches only for what was not written to just before it.
	timer := time.NewTimer(targetAge + time.Millisecond - time.Since(touched))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// still looks at everything again: the original must be what it was, and the copy the same.
func (p *pass) still(ctx context.Context) error {
	now, err := p.from.walk(ctx, p.excluded, p.changed)
	if err != nil {
		return err
	}
	was := make(map[string]entry, len(p.source))
	for _, e := range p.source {
		was[e.rel] = e
	}
	for _, e := range now {
		if e.kind() == unix.S_IFSOCK {
			continue
		}
		if was[e.rel] != e {
			return p.changed(e.rel)
		}
		delete(was, e.rel)
	}
	for rel := range was {
		return p.changed(rel)
	}
	copied, err := p.walkCopy(ctx)
	if err != nil {
		return err
	}
	has := make(map[string]entry, len(copied))
	for _, e := range copied {
		has[e.rel] = e
	}
	for _, e := range p.source {
		if what := e.differs(has[e.rel]); what != "" {
			return difference(p.to.name(e.rel), "is not as in %s: %s", filepath.Dir(p.from.name(e.rel)), what)
		}
		delete(has, e.rel)
	}
	for rel := range has {
		return difference(p.to.name(rel), "is not in the original")
	}
	return nil
}

// differs says what of a copy is not as it must be, as far as it can be seen without opening it.
func (e entry) differs(c entry) string {
	switch {
	case c.rel == "":
		return "it is missing"
	case e.mode != c.mode:
		return fmt.Sprintf("its mode is %#o, not %#o", c.mode, e.mode)
	case e.uid != c.uid || e.gid != c.gid:
		return fmt.Sprintf("its owner is %d:%d, not %d:%d", c.uid, c.gid, e.uid, e.gid)
	case e.Mtime != c.Mtime:
		return "its time of change"
	case e.isFile() && e.Size != c.Size:
		return fmt.Sprintf("its size is %d, not %d", c.Size, e.Size)
	}
	return ""
}
