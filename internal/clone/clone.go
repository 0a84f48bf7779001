// Package clone copies a folder into another as it is, proves the copy by reading it, and does it again in little time: first while the folder is
// in use, then once more when it is still.
//
// It hides holes, hard links, attributes, what changes under its hands, and what need not be read twice. Linux only; /proc must be there. Its laws:
//   - It never leaves either root: it opens one name after the other, follows no link, and refuses what has a mount of its own in it.
//   - No byte counts as copied before it was written out, dropped from the page cache (with [Options.Drop]) and read again from the copy, and had
//     the hash of what was read from the original.
//   - A file keeps its hash from pass to pass only while inode, size, mtime and ctime of both sides are what they were, and the original's times
//     were at least two seconds older than that reading. All others are read anew on both sides.
//   - A file is never written in place: what is not good is removed, and made anew. So what is linked to it elsewhere stays as it is.
//   - A pass that was ended at any moment is made good by the next one, with or without a ledger.
//   - After a pass with [Options.Still] that returned nil, the copy is the original, and the original did not change meanwhile.
//
// Kept are contents, owners, modes, times of change to the nanosecond, extended attributes and with them ACLs and capabilities, hard links of files, holes,
// symbolic links as they are, FIFOs, empty folders, and those of the root itself. Not kept are times of access, flags of chattr(1), and hard links of what is no file. Sockets are
// left out and told; devices are refused. Space that was reserved and never written becomes a hole.
//
// Not found are bits that turn on the copy's disk after it was verified, while nobody touched the file: its ledger entry vouches for it. A pass without a ledger
// finds them. It is not its job to know what the files are, to stop who writes them, or to decide what a difference means.
package clone

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"slices"
	"time"

	"holdfast"
)

// Options of a pass.
type Options struct {
	Workers int // how many files at once; 0: as many as there are processors
	// Exclude says what is treated as if the original did not have it, by its path below the root, with all below it. It is called from one goroutine. nil: nothing.
	Exclude func(rel string) bool
	// Observe hears how far it is, after each file and each mebibyte, never twice at once; it must be quick. nil: nobody.
	Observe func(Progress)
	Now     func() time.Time // nil: time.Now
	// Drop drops what was written from the page cache before it is read again, so that the reading is one of the disk (posix_fadvise(2)).
	Drop bool
	// Still says that nobody writes to the original: whatever changes during the pass, and whatever differs after it, is an error.
	Still bool
}

// Phase is what a pass is at.
type Phase string

// The phases that have a progress. A file whose old copy turned out to be another is copied after it was verified: the phases then come again.
const (
	Copying   Phase = "copy"
	Verifying Phase = "verify"
)

// Progress is how far a phase is.
type Progress struct {
	Phase          Phase
	Files, OfFiles int64
	Bytes, OfBytes int64 // of contents, holes included
}

// Report is what a pass did. Paths are below the root, sorted.
type Report struct {
	Files, Bytes int64    // of the original: names of regular files, and their sizes, each hard link counted
	Copied       int64    // files that were written
	CopiedBytes  int64    // sizes of those
	Hashed       int64    // files that were read on both sides
	Skipped      int64    // files whose ledger entry vouched for them
	Removed      int64    // names that only the copy had
	Changed      []string // what changed or vanished while it was read; the next pass takes it
	Mended       []string // files whose copy had changed since it was verified, and not the original: written anew
	Sockets      []string // left out

	Copying, Verifying, Duration time.Duration // Copying: until all is on the disk; Verifying: reading it again
}

// Copy makes `to` what `from` is: both are folders, and the second may be missing when its parent is there. was is the ledger of an earlier pass over
// the same folders, nil when there was none; a ledger of other folders is refused with [ErrLedger].
//
// In a pass with a ledger, and in a still one, what only the copy has is removed; in the first pass only what is in the way. What changes while it is read is no
// error unless the pass is still: it is in [Report.Changed]. A still pass fails with [holdfast.ErrDifference] for it, and every pass does for a
// copy that does not give back what was written.
//
// The ledger that is returned holds what is verified, also with an error, so that another try need not read that again. It is nil when nothing was begun.
// Errors name the file. Two passes must not run into one folder at once.
func Copy(ctx context.Context, from, to string, was *Ledger, o Options) (*Ledger, Report, error) {
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	began := time.Now()
	p, err := begin(from, to, was, o)
	if err != nil {
		return nil, Report{}, err
	}
	defer p.close()
	err = p.run(ctx)
	slices.Sort(p.report.Changed)
	slices.Sort(p.report.Mended)
	p.report.Changed = slices.Compact(p.report.Changed)
	p.report.Duration = time.Since(began)
	slices.SortFunc(p.ledger.files, func(a, b vouched) int { return cmp.Compare(string(a.Path), string(b.Path)) })
	return p.ledger, p.report, err
}

// difference is the error of something that is not what it must be.
func difference(path, format string, args ...any) error {
	return fmt.Errorf("%w: %s %s", holdfast.ErrDifference, path, fmt.Sprintf(format, args...))
}
