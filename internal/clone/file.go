package clone

import (
	"context"
	"crypto/sha256"
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"holdfast"
)

// take reads a file of the original, and writes its copy unless there is one that may be it.
func (p *pass) take(ctx context.Context, f *file, buf []byte) error {
	err := p.from.in(f.name(), func(dir int, name string) error {
		original, err := openFile(dir, name)
		if err != nil {
			return err
		}
		defer original.Close()
		return p.read(ctx, f, dir, name, original, buf)
	})
	switch {
	case gone(err), errors.Is(err, unix.ENXIO), errors.Is(err, errShort):
		f.lost = true
	case errors.As(err, new(writeError)):
		return p.to.wrap("write", f.name(), err)
	case err != nil && ctx.Err() != nil:
		return err
	case err != nil:
		return p.from.wrap("read", f.name(), err)
	}
	p.advance(1, 0)
	if f.lost {
		return p.changed(f.name())
	}
	return nil
}

// read reads a file that is open. What is changing is copied too: most of it will be the same in the next pass, and its times will not.
func (p *pass) read(ctx context.Context, f *file, dir int, name string, original *os.File, buf []byte) error {
	f.read = p.Now()
	want, err := attributesOf(dir, name, f.name())
	if err != nil {
		return err
	}
	opened, err := look(int(original.Fd()), "", f.name())
	if err != nil {
		return err
	}
	if !opened.isFile() || opened.Inode != want.Inode {
		f.lost = true
		return nil
	}
	f.lost = want.entry != f.source
	advise(original, unix.FADV_SEQUENTIAL)
	c := content{from: original, size: want.Size, sum: sha256.New(), buf: buf, seen: func(bytes int64) { p.advance(0, bytes) }}
	if f.kept != nil && !f.lost {
		err = p.keep(ctx, f, want, &c)
	} else {
		err = p.write(ctx, f, want, &c)
	}
	if err != nil {
		return err
	}
	c.sum.Sum(f.sum[:0])
	after, err := look(dir, name, f.name())
	f.lost = f.lost || after != want.entry
	return err
}

// keep only hashes, and gives the copy that is there its attributes.
func (p *pass) keep(ctx context.Context, f *file, want attributes, c *content) error {
	if err := c.copy(ctx); err != nil {
		return err
	}
	if err := p.to.in(f.name(), func(dir int, name string) error { return dress(dir, name, want) }); err != nil {
		return writeError{err}
	}
	return nil
}

// write makes the copy anew.
func (p *pass) write(ctx context.Context, f *file, want attributes, c *content) error {
	var failed error // of the original
	err := p.to.in(f.name(), func(dir int, name string) error {
		if err := remove(dir, name, false); err != nil {
			return err
		}
		fd, err := openIn(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
		if err != nil {
			return err
		}
		c.to = os.NewFile(uintptr(fd), name)
		failed = c.copy(ctx)
		if err := c.to.Close(); err != nil || failed != nil {
			return err
		}
		return dress(dir, name, want)
	})
	f.written = true
	if err != nil {
		err = writeError{err}
	}
	return errors.Join(failed, err)
}

// verify reads the copy again, from the disk when that is asked for, and has the ledger vouch for it.
func (p *pass) verify(ctx context.Context, f *file, buf []byte) error {
	if f.lost {
		p.advance(1, 0)
		return nil
	}
	var sum [sha256.Size]byte
	v := vouched{Path: []byte(f.name()), Source: f.source.ident, SourceRead: f.read, TargetRead: p.Now(), SHA256: f.sum[:]}
	err := p.to.in(f.name(), func(dir int, name string) error {
		copied, err := openFile(dir, name)
		if err != nil {
			return err
		}
		defer copied.Close()
		before, err := look(int(copied.Fd()), "", f.name())
		if err != nil {
			return err
		}
		if p.Drop {
			advise(copied, unix.FADV_DONTNEED)
		}
		advise(copied, unix.FADV_SEQUENTIAL)
		c := content{from: copied, size: before.Size, sum: sha256.New(), buf: buf, seen: func(bytes int64) { p.advance(0, bytes) }}
		if err := c.copy(ctx); err != nil {
			return err
		}
		c.sum.Sum(sum[:0])
		after, err := look(dir, name, f.name())
		if err == nil && (after != before || !after.isFile() || after.Size != f.source.Size) {
			return difference(p.to.name(f.name()), "changed while it was read: somebody else works on the copy")
		}
		v.Target = after.ident
		return err
	})
	switch {
	case errors.Is(err, holdfast.ErrDifference), err != nil && ctx.Err() != nil:
		return err
	case gone(err):
		return difference(p.to.name(f.name()), "went away: somebody else works on the copy")
	case err != nil:
		return p.to.wrap("read", f.name(), err)
	}
	p.advance(1, 0)
	if sum != f.sum {
		return p.differs(f)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ledger.files = append(p.ledger.files, v)
	if f.written {
		p.report.Copied++
		p.report.CopiedBytes += f.source.Size
	} else {
		p.report.Hashed++
	}
	return nil
}

// differs decides about a copy that has other bytes than the original.
func (p *pass) differs(f *file) error {
	if f.written {
		return holdfast.WithHint(difference(p.to.name(f.name()), "does not give back what was written"), "do not use this disk; look at what the kernel says about it (dmesg)")
	}
	// The original has the hash that both had when they were verified: it is the copy that changed.
	if f.old.Source == f.source.ident && string(f.old.SHA256) == string(f.sum[:]) {
		if p.Still {
			return holdfast.WithHint(difference(p.to.name(f.name()), "is not what it was when it was verified, and the original is"), "find out who writes to the copy, or whether its disk fails (dmesg)")
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.report.Mended = append(p.report.Mended, f.name())
	}
	f.other, f.kept = true, nil
	return nil
}

// advise tells the kernel what will be read how. DONTNEED drops what is written out by then, which makes the next reading one of the disk.
func advise(f *os.File, advice int) { _ = unix.Fadvise(int(f.Fd()), 0, 0, advice) }
