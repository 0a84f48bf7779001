package foreign

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"holdfast"
)

// tocName is the file that makes a folder one of pg_dump -Fd.
const tocName = "toc.dat"

// recogniseFolder takes the folder of pg_dump -Fd and no other.
func (f *File) recogniseFolder() error {
	head := make([]byte, 5)
	toc, err := os.Open(filepath.Join(f.Path, tocName))
	if err == nil {
		_, err = io.ReadFull(toc, head)
		err = errors.Join(err, toc.Close())
	}
	if err != nil || !bytes.Equal(head, []byte("PGDMP")) {
		return holdfast.WithHint(fmt.Errorf("%w: %s is a folder, and not one of pg_dump -Fd", holdfast.ErrUsage, f.Path),
			"give one file of it; `holdfast import` takes a whole folder of backups")
	}
	f.Content = PgDirectory
	return nil
}

// Member is a file in the folder of pg_dump -Fd.
type Member struct {
	Name string
	Size int64
}

// Members lists the files of the folder. Anything else in it is refused.
func (f *File) Members() ([]Member, error) {
	if f.packed != nil {
		return f.packed.sizes, nil
	}
	entries, err := os.ReadDir(f.Path) // in the order of names
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", f.Name(), err)
	}
	var members []Member
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil {
			return nil, fmt.Errorf("list %s: %w", f.Name(), err)
		}
		if !info.Mode().IsRegular() {
			return nil, holdfast.WithHint(fmt.Errorf("%w: %s holds %s, which pg_dump does not make", holdfast.ErrUsage, f.Name(), entry.Name()), "give the folder as pg_dump -Fd wrote it")
		}
		members = append(members, Member{entry.Name(), info.Size()})
	}
	return members, nil
}

// Walk reads every file of the folder once, in the order of names, and takes the sums: of a folder they are the size of all
// files, and the SHA-256 of the lines "SHA-256  NAME" as sha256sum prints them. A folder that changed since an earlier
// Walk is an error. One in a tar is read in the order of the tar, and its sums are those of the tar, as of every file.
func (f *File) Walk(ctx context.Context, each func(m Member, r io.Reader) error) error {
	if f.packed != nil {
		return f.walkPacked(ctx, each)
	}
	members, err := f.Members()
	if err != nil {
		return err
	}
	all := sha256.New()
	var size int64
	for _, m := range members {
		file, err := os.Open(filepath.Join(f.Path, m.Name))
		if err != nil {
			return fmt.Errorf("read %s: %w", f.Name(), err)
		}
		sum := sha256.New()
		counted := &counter{ctx: ctx, r: io.TeeReader(file, sum)}
		guarded := guardMember(m.Name, counted)
		err = each(m, guarded)
		if err == nil {
			_, err = io.Copy(io.Discard, guarded)
		}
		if err := errors.Join(err, guarded.Close(), file.Close()); err != nil {
			return fmt.Errorf("read %s: file %s: %w", f.Name(), m.Name, err)
		}
		size += counted.n
		fmt.Fprintf(all, "%s  %s\n", hex.EncodeToString(sum.Sum(nil)), m.Name)
	}
	digest := hex.EncodeToString(all.Sum(nil))
	sums := Sums{Size: size, SHA256: digest, PlainSize: size, PlainSHA256: digest}
	if f.seen != nil && *f.seen != sums {
		return fmt.Errorf("read %s: %w", f.Name(), f.changed())
	}
	f.seen = &sums
	return nil
}

// hashMembers takes the sums of Walk, of files that need not be whole.
func (f *File) hashMembers(ctx context.Context) (int64, string, error) {
	members, err := f.Members()
	if err != nil {
		return 0, "", err
	}
	all := sha256.New()
	var size int64
	for _, m := range members {
		n, sum, err := Hash(ctx, filepath.Join(f.Path, m.Name))
		if err != nil {
			return 0, "", fmt.Errorf("read %s: %w", f.Name(), err)
		}
		size += n
		fmt.Fprintf(all, "%s  %s\n", sum, m.Name)
	}
	return size, hex.EncodeToString(all.Sum(nil)), nil
}

// counter counts what is read, until its context ends.
type counter struct {
	ctx context.Context // of the Walk
	r   io.Reader
	n   int64
}

func (c *counter) Read(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, context.Cause(c.ctx)
	}
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
