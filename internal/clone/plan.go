package clone

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"io/fs"
	"path"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// file is one file of the original, whatever number of names it has.
type file struct {
	source entry    // as the walk saw it, under its first name
	names  []string // in the walk's order
	kept   *entry   // the copy that is there under the first name, when its contents may be the right ones
	old    vouched  // the ledger's entry; without a path there is none

	written bool // in this pass
	lost    bool // it changed under the reading: there is nothing to verify
	other   bool // the copy that was there turned out to have other contents

	read time.Time // when the reading of the original began
	sum  [sha256.Size]byte
}

func (f *file) name() string { return f.names[0] }

// clear takes from the copy what is in the way, and what the original does not have when that is asked for; what is below goes too.
func (p *pass) clear(ctx context.Context) error {
	wanted := make(map[string]entry, len(p.source))
	for _, e := range p.source {
		wanted[e.rel] = e
	}
	doomed := map[string]bool{}
	for i, e := range p.there {
		want, known := wanted[e.rel]
		// The root comes first and is a folder on both sides.
		doomed[e.rel] = i > 0 && (doomed[path.Dir(e.rel)] || known && want.kind() != e.kind() || !known && p.removes)
	}
	p.has = make(map[string]entry, len(p.there))
	for _, e := range slices.Backward(p.there) {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if !doomed[e.rel] {
			p.has[e.rel] = e
			continue
		}
		if err := p.to.in(e.rel, func(dir int, name string) error { return remove(dir, name, e.isDir()) }); err != nil {
			return p.to.wrap("remove", e.rel, err)
		}
		if _, known := wanted[e.rel]; !known {
			p.report.Removed++
		}
	}
	return nil
}

// plan finds out which names are one file, and which copies may be kept.
func (p *pass) plan() error {
	first := map[node]*file{}
	for _, e := range p.source {
		if !e.isFile() {
			continue
		}
		p.report.Files++
		p.report.Bytes += e.Size
		if f := first[e.node()]; f != nil {
			f.names = append(f.names, e.rel)
			continue
		}
		f := &file{source: e, names: []string{e.rel}, old: p.old[e.rel]}
		p.files = append(p.files, f)
		if e.links > 1 {
			first[e.node()] = f
		}
	}
	// A copy that also has a name that is not of its file must stay as it is under that one.
	linked := map[node][]string{}
	for rel, e := range p.has {
		if e.isFile() {
			linked[e.node()] = append(linked[e.node()], rel)
		}
	}
	for _, f := range p.files {
		copied, there := p.has[f.name()]
		if !there {
			continue
		}
		if copied.links > 1 {
			// A name of it may have been removed since.
			err := p.to.in(f.name(), func(dir int, name string) (err error) {
				copied, err = look(dir, name, f.name())
				return err
			})
			if err != nil {
				return p.to.wrap("look at", f.name(), err)
			}
		}
		foreign := slices.ContainsFunc(linked[copied.node()], func(rel string) bool { return !slices.Contains(f.names, rel) })
		if !foreign && int(copied.links) == len(linked[copied.node()]) && copied.Size == f.source.Size && copied.Mtime == f.source.Mtime {
			f.kept = &copied
		}
	}
	return nil
}

// todo are the files that the ledger does not vouch for, the largest first, so that no worker is left alone with one in the end; the entries of the
// others are taken over.
func (p *pass) todo() []*file {
	var todo []*file
	for _, f := range p.files {
		if f.kept != nil && f.old.Path != nil && f.old.vouches(f.source.ident, f.kept.ident) {
			p.report.Skipped++
			p.ledger.files = append(p.ledger.files, f.old)
			continue
		}
		todo = append(todo, f)
	}
	slices.SortStableFunc(todo, func(a, b *file) int { return cmp.Compare(b.source.Size, a.source.Size) })
	return todo
}

// folders makes the folders that are missing, for root alone until all is in them.
func (p *pass) folders(ctx context.Context) error {
	for _, e := range p.source {
		if _, there := p.has[e.rel]; there || !e.isDir() {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := p.to.in(e.rel, func(dir int, name string) error { return unix.Mkdirat(dir, name, 0o700) }); err != nil {
			return p.to.wrap("make folder", e.rel, err)
		}
	}
	return nil
}

// link gives files their other names.
func (p *pass) link(ctx context.Context) error {
	for _, f := range p.files {
		for _, other := range f.names[1:] {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			err := p.to.in(f.name(), func(dir int, name string) error {
				first, err := look(dir, name, f.name())
				if errors.Is(err, fs.ErrNotExist) && f.lost {
					return nil
				} else if err != nil {
					return err
				}
				return p.to.in(other, func(otherDir int, otherName string) error {
					have, err := look(otherDir, otherName, other)
					if err == nil && have.node() == first.node() {
						return nil
					}
					if err := remove(otherDir, otherName, false); err != nil {
						return err
					}
					return unix.Linkat(dir, name, otherDir, otherName, 0)
				})
			})
			if err != nil {
				return p.to.wrap("link", other, err)
			}
		}
	}
	return nil
}

// others makes symbolic links and FIFOs.
func (p *pass) others(ctx context.Context) error {
	for _, e := range p.source {
		if e.isDir() || e.isFile() {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := p.other(e); err != nil {
			return err
		}
	}
	return nil
}

func (p *pass) other(e entry) error {
	var want attributes
	target := ""
	err := p.from.in(e.rel, func(dir int, name string) (err error) {
		if want, err = attributesOf(dir, name, e.rel); err == nil && e.kind() == unix.S_IFLNK {
			target, err = readlink(dir, name)
		}
		return err
	})
	if gone(err) || errors.Is(err, unix.EINVAL) || err == nil && want.entry != e {
		return p.changed(e.rel)
	} else if err != nil {
		return p.from.wrap("read", e.rel, err)
	}
	err = p.to.in(e.rel, func(dir int, name string) error {
		_, err := look(dir, name, e.rel)
		there := err == nil
		if there && e.kind() == unix.S_IFLNK {
			have, err := readlink(dir, name)
			if err != nil {
				return err
			}
			there = have == target
		}
		if !there {
			if err := remove(dir, name, false); err != nil {
				return err
			}
			if e.kind() == unix.S_IFLNK {
				err = unix.Symlinkat(target, dir, name)
			} else {
				err = unix.Mkfifoat(dir, name, 0o600)
			}
			if err != nil {
				return err
			}
		}
		return dress(dir, name, want)
	})
	if err != nil {
		return p.to.wrap("make", e.rel, err)
	}
	return nil
}

func readlink(dir int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(dir, name, buf)
	return string(buf[:max(n, 0)]), err
}

// dressFolders gives the folders their attributes, the deepest first: what is made in one changes its time, and its mode may forbid it.
func (p *pass) dressFolders(ctx context.Context) error {
	for _, e := range slices.Backward(p.source) {
		if !e.isDir() {
			continue
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		var want attributes
		err := p.from.in(e.rel, func(dir int, name string) (err error) {
			want, err = attributesOf(dir, name, e.rel)
			return err
		})
		if gone(err) || err == nil && want.entry != e {
			// In a folder that went away there may still be something to keep apart: it stays closed to others until the next pass.
			if err := p.changed(e.rel); err != nil {
				return err
			}
		} else if err != nil {
			return p.from.wrap("read", e.rel, err)
		}
		if !want.isDir() {
			continue
		}
		if err := p.to.in(e.rel, func(dir int, name string) error { return dress(dir, name, want) }); err != nil {
			return p.to.wrap("change", e.rel, err)
		}
	}
	return nil
}
