package sqlite

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
	"modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"holdfast"
	"holdfast/internal/source"
)

// Target is where a restored database goes.
type Target struct {
	Path string
	// Overwrite allows a database at Path. It is moved aside, never deleted.
	Overwrite bool
	// KeepAs is where an overwritten database goes; its -wal, -shm and -journal go beside it. "":
	// Path.before_<time, UTC>.
	KeepAs string
	// Warn is told of what killed restores to the same place left and what became of it; nil: nobody is.
	Warn func(message string)
}

// Place is the staging of one restored database: a file beside its final place that only the owner of the process
// can read.
type Place struct {
	target    Target
	throwaway bool
	staged    string // the staging file's path
	lock      *os.File

	created   bool
	committed bool
	kept      string // what the former database is now called
	stored    source.Stored
}

var (
	_ source.Place      = (*Place)(nil)
	_ source.Asserter   = (*Place)(nil)
	_ source.Reversible = (*Place)(nil)
)

// Open prepares a restore to target. It fails with fs.ErrExist when there is a database and Overwrite is not set.
func Open(ctx context.Context, target Target) (*Place, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	path, err := filepath.Abs(target.Path)
	if err != nil {
		return nil, err
	}
	target.Path = path
	if err := target.free(); err != nil {
		return nil, err
	}
	if err := mustBeDirectory(filepath.Dir(path)); err != nil {
		return nil, holdfast.WithHint(fmt.Errorf("restore to %s: %w", path, err), "create the directory first")
	}
	tell := target.Warn
	if tell == nil {
		tell = func(string) {}
	}
	if err := removeLeftovers(path, tell); err != nil {
		return nil, err
	}
	return &Place{target: target, staged: path + stagingMark + rand.Text()}, nil
}

// Throwaway prepares a drill inside scratchDir, whose Commit fails. It fails with holdfast.ErrCannotTest when there
// is no room.
func Throwaway(ctx context.Context, scratchDir string, stored source.Stored) (*Place, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := mustBeDirectory(scratchDir); err != nil {
		return nil, fmt.Errorf("%w: scratch directory: %w", holdfast.ErrCannotTest, err)
	}
	var space unix.Statfs_t
	if err := unix.Statfs(scratchDir, &space); err != nil {
		return nil, fmt.Errorf("%w: scratch directory %s: %w", holdfast.ErrCannotTest, scratchDir, err)
	}
	need, have := recordedImage(stored).Bytes, int64(space.Bavail)*space.Bsize
	if need > have {
		return nil, holdfast.WithHint(
			fmt.Errorf("%w: the image has %d bytes, and %s has room for %d", holdfast.ErrCannotTest, need, scratchDir, have),
			"give a scratch directory with more room")
	}
	name := string(stored.Source) + ".sqlite.drill_" + rand.Text()
	return &Place{throwaway: true, staged: filepath.Join(scratchDir, name)}, nil
}

func mustBeDirectory(path string) error {
	info, err := os.Stat(path)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "open", Path: path, Err: unix.ENOTDIR}
	}
	return err
}

// recordedImage returns the fact of the image as it was captured, or a zero fact.
func recordedImage(stored source.Stored) source.Fact {
	for _, fact := range stored.Facts.Facts {
		if fact.Class == imageFact {
			return fact
		}
	}
	return source.Fact{}
}

// Restore implements source.Place.
func (p *Place) Restore(ctx context.Context, stored source.Stored) error {
	item, found := stored.Item(string(stored.Source) + ".sqlite")
	if !found {
		return fmt.Errorf("%w: the backup has no item %s.sqlite", holdfast.ErrDifference, stored.Source)
	}
	p.stored = stored
	if err := p.fill(ctx, item); err != nil {
		err = fmt.Errorf("restore %s: %w", item.Name, err)
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
			err = holdfast.WithHint(err, "make room in "+filepath.Dir(p.staged)+", or choose another place")
			if p.throwaway {
				err = fmt.Errorf("%w: %w", holdfast.ErrCannotTest, err)
			}
		}
		return err
	}
	return nil
}

func (p *Place) fill(ctx context.Context, item source.StoredItem) error {
	file, err := os.OpenFile(p.staged, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	p.created = true
	if p.lock, err = os.Open(p.staged); err == nil {
		err = unix.Flock(int(p.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("lock %s: %w", p.staged, err), file.Close())
	}
	reader, err := item.Open(ctx)
	if err != nil {
		return errors.Join(err, file.Close())
	}
	_, err = io.Copy(file, untilDone{ctx, reader})
	err = errors.Join(err, reader.Close())
	if err == nil {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// untilDone ends reading with its context.
type untilDone struct {
	ctx context.Context
	io.Reader
}

func (r untilDone) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

// Check implements source.Place. A database that is damaged in itself is an error that wraps holdfast.ErrDifference.
func (p *Place) Check(ctx context.Context) (source.Facts, error) {
	image, err := p.readImage(ctx)
	if err != nil {
		return source.Facts{}, fmt.Errorf("check the restored database: %w", err)
	}
	facts, err := p.readDatabase(ctx)
	if err != nil {
		return source.Facts{}, p.judge(err, image)
	}
	facts.Facts = append(facts.Facts, image)
	return facts, nil
}

// judge tells damage in the data from a check that could not be made, and damage done since the capture from damage
// that was captured.
func (p *Place) judge(err error, image source.Fact) error {
	recorded := recordedImage(p.stored)
	var failure *sqlite.Error
	if errors.As(err, &failure) && !errors.Is(err, holdfast.ErrDifference) {
		// SQLite has many words for bytes that it cannot make sense of, an I/O error among them. With other bytes
		// than were captured, all of them mean that.
		if image != recorded || hasCode(err, lib.SQLITE_CORRUPT) || hasCode(err, lib.SQLITE_NOTADB) {
			err = fmt.Errorf("%w: %w", holdfast.ErrDifference, err)
		}
	}
	err = fmt.Errorf("check the restored database: %w", err)
	if !errors.Is(err, holdfast.ErrDifference) {
		return err
	}
	if image != recorded {
		return holdfast.WithHint(err, "these are not the bytes that were captured: verify the backup (holdfast verify)")
	}
	return holdfast.WithHint(err, "these are the bytes that were captured, so the live database has this damage too, "+
		"or had it then: run PRAGMA integrity_check on it")
}

// readImage digests the staged file itself, so that bytes which no page accounts for are seen too.
func (p *Place) readImage(ctx context.Context) (source.Fact, error) {
	file, err := os.Open(p.staged)
	if err != nil {
		return source.Fact{}, err
	}
	digest := sha256.New()
	size, err := io.Copy(digest, untilDone{ctx, file})
	if err := errors.Join(err, file.Close()); err != nil {
		return source.Fact{}, err
	}
	return newImageFact(size, digest), nil
}

func (p *Place) readDatabase(ctx context.Context) (facts source.Facts, err error) {
	v, err := openStaged(ctx, p.staged)
	if err != nil {
		return source.Facts{}, err
	}
	defer func() { err = errors.Join(err, v.close()) }()
	notes, err := checkIntegrity(ctx, v)
	if err != nil {
		return source.Facts{}, err
	}
	facts, err = readFacts(ctx, v)
	if err != nil {
		return source.Facts{}, err
	}
	facts.Taken = p.stored.Facts.Taken
	facts.Driver = p.stored.Facts.Driver
	facts.Notes = append(facts.Notes, notes...)
	return facts, nil
}

// Assert implements source.Asserter. A first value of NULL, zero or an empty result is false.
func (p *Place) Assert(ctx context.Context, query string) (bool, error) {
	v, err := openStaged(ctx, p.staged)
	if err != nil {
		return false, fmt.Errorf("assert %q: %w", query, err)
	}
	value, err := v.first(ctx, query)
	if err := errors.Join(err, v.close()); err != nil {
		return false, fmt.Errorf("assert %q: %w", query, err)
	}
	switch value := value.(type) {
	case nil:
		return false, nil
	case int64:
		return value != 0, nil
	case float64:
		return value != 0, nil
	case string:
		if truth, err := strconv.ParseBool(strings.TrimSpace(value)); err == nil {
			return truth, nil
		}
	}
	return false, holdfast.WithHint(fmt.Errorf("assert %q: the first column is %q, neither true nor false", query, fmt.Sprint(value)),
		"write the assertion as a comparison: SELECT count(*) > 0 FROM …")
}

// first returns the first column of the first row of a query that may run long.
func (v *view) first(ctx context.Context, query string) (driver.Value, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	rows, err := v.conn.(driver.QueryerContext).QueryContext(ctx, query, nil)
	if err != nil {
		return nil, err
	}
	row := make([]driver.Value, len(rows.Columns()))
	if len(row) == 0 {
		return nil, errors.Join(errors.New("the statement returns nothing"), rows.Close())
	}
	if err = rows.Next(row); err != nil && err != io.EOF {
		rows.Close() // repeats the error
		return nil, err
	}
	return row[0], rows.Close()
}

// Close implements source.Place.
func (p *Place) Close() error {
	if p.lock != nil {
		defer p.lock.Close()
	}
	if !p.created || p.committed {
		return nil
	}
	if err := os.Remove(p.staged); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
