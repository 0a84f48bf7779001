// Package files captures file trees as one PAX tar stream and brings them back.
//
// It hides tar, sparse maps, extended attributes, owner names, and how a tree is walked while others write to it.
//
// Its laws:
//   - A symbolic link is never followed below a root: every step is an openat with O_NOFOLLOW from the folder's
//     descriptor, so that a path swapped in the middle of a walk cannot lead out of the root.
//   - What is stored is what was hashed: a fact's digest is made from the very bytes that went into the stream.
//   - Nothing is left out in silence: what changed, vanished, could not be read or cannot be stored is a note, or
//     fails the source.
//   - A restore writes into a staging folder only, through [os.Root], and believes nothing in the stream that the
//     facts do not say as well.
//   - A restored tree is read back by the code that captured it.
//
// It is not its job to compress, to seal, to compare facts, or to know what the files mean.
//
// BUG: a file that is written without a change of its size within one tick of the kernel's clock (4 ms before Linux
// 6.13), or through a memory map, may be stored torn without being noticed. Databases have sources of their own.
//
// BUG: SELinux and integrity labels and inode flags (chattr) are not stored: they are a matter of the target's policy.
package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/source"
)

// Options say what to capture.
type Options struct {
	// Name is the source's name; the item is called Name.tar.
	Name holdfast.SourceName
	// Roots are the files and folders to capture, at least one.
	Roots []Root
	// Excludes are patterns of what to leave out, see [ParseExcludes]. A root is never excluded.
	Excludes []string
	// OneFilesystem keeps the walk on the file system of each root. A mount point is stored as an empty folder.
	OneFilesystem bool
	// TolerateUnreadable leaves out, with a note, what cannot be read. By default it fails the source.
	TolerateUnreadable bool
	// Secret marks the source as one that must be restored for its owner alone; the capture itself is no different.
	Secret bool
}

// otherFilesystems stands among the exclusions for OneFilesystem.
const otherFilesystems = "other file systems"

// Root is one file or folder to capture.
type Root struct {
	Path string // absolute; its members are stored under the same path without the first slash
	// Optional makes a missing root a note instead of an error.
	Optional bool
}

// Source is a set of file trees.
type Source struct {
	opt Options
	// wasRead is called by tests between the reading of a small file and the look at whether it changed.
	wasRead func(member string)
}

var _ source.Source = (*Source)(nil)

// New returns the source that opt describes. Mistakes in opt are reported by Capture and Diagnose.
func New(opt Options) *Source {
	opt.Roots = slices.Clone(opt.Roots)
	opt.Excludes = slices.Clone(opt.Excludes)
	return &Source{opt: opt, wasRead: func(string) {}}
}

// tree is a root as a pass walks it.
type tree struct {
	path   string // where it is
	member string // its name in the stream; "." is the stream's own root
}

// plan is what a capture has to read: options made sense of, roots looked up.
type plan struct {
	trees    []tree
	excludes Excludes
	missing  []string // optional roots that do not exist
}

func (s *Source) plan() (plan, error) {
	var p plan
	if len(s.opt.Roots) == 0 {
		return p, holdfast.WithHint(fmt.Errorf("%w: source %s names no file and no folder", holdfast.ErrUsage, s.opt.Name),
			"give the source at least one root")
	}
	excludes, err := ParseExcludes(s.opt.Excludes)
	if err != nil {
		return p, err
	}
	p.excludes = excludes
	for _, root := range s.opt.Roots {
		t, err := lookUp(root.Path)
		switch {
		case err == nil && slices.Contains(p.trees, t): // named twice, stored once
		case err == nil:
			p.trees = append(p.trees, t)
		case root.Optional && errors.Is(err, os.ErrNotExist):
			p.missing = append(p.missing, root.Path)
		default:
			return p, err
		}
	}
	return p, nil
}

// lookUp finds a root. A root that is a symbolic link is refused: to store the link alone would look like a backup of
// what it points to.
func lookUp(path string) (tree, error) {
	if !filepath.IsAbs(path) {
		return tree{}, holdfast.WithHint(fmt.Errorf("%w: root %q is not an absolute path", holdfast.ErrUsage, path),
			"begin the path with a slash")
	}
	path = filepath.Clean(path)
	info, err := os.Lstat(path)
	if err != nil {
		hint := "run as a user who can read it"
		if errors.Is(err, os.ErrNotExist) {
			hint = "correct the path, or mark the root as optional"
		}
		return tree{}, holdfast.WithHint(fmt.Errorf("look up root %s: %w", path, err), hint)
	}
	if info.Mode().Type() == os.ModeSymlink {
		hint := "name what it points to"
		if target, err := filepath.EvalSymlinks(path); err == nil {
			hint = "name what it points to: " + target
		}
		return tree{}, holdfast.WithHint(fmt.Errorf("root %s is a symbolic link", path), hint)
	}
	member := strings.TrimPrefix(path, "/")
	if member == "" {
		member = "."
	}
	return tree{path, member}, nil
}

// Capture looks up the roots. Files cannot be pinned: each is taken at the moment it is read.
func (s *Source) Capture(ctx context.Context, observe holdfast.Observer) (source.Capture, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p, err := s.plan()
	if err != nil {
		return nil, err
	}
	c := &capture{opt: s.opt, plan: p, observe: observe, wasRead: s.wasRead}
	for _, path := range p.missing {
		c.warn(fmt.Sprintf("optional root %s does not exist", path))
	}
	return c, nil
}

// capture is a plan that is being read.
type capture struct {
	opt     Options
	plan    plan
	observe holdfast.Observer
	wasRead func(member string)

	mu     sync.Mutex // guards what follows
	read   *source.Facts
	closed bool
}

var _ source.Capture = (*capture)(nil)

func (c *capture) warn(message string) {
	if c.observe != nil {
		c.observe(holdfast.Event{Kind: holdfast.EventWarning, Source: c.opt.Name, Message: message})
	}
}

func itemName(name holdfast.SourceName) string { return string(name) + ".tar" }

// Items returns the one item there is.
func (c *capture) Items() []source.Item {
	return []source.Item{{Name: itemName(c.opt.Name), Hint: source.Stream, Open: c.open}}
}

// open starts a pass. Each pass reads the files anew and has facts of its own; the capture's are those of the last
// pass that was read to its end and closed.
func (c *capture) open(ctx context.Context) (io.ReadCloser, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, fmt.Errorf("open %s: the capture is closed", itemName(c.opt.Name))
	}
	p := &pass{
		trees:         c.plan.trees,
		excludes:      c.plan.excludes,
		oneFilesystem: c.opt.OneFilesystem,
		tolerate:      c.opt.TolerateUnreadable,
		warn:          c.warn,
		wasRead:       c.wasRead,
	}
	p.whole = func() error {
		facts, err := c.facts(p)
		if err != nil {
			return err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.read = &facts
		return nil
	}
	return p.start(ctx), nil
}

func (c *capture) facts(p *pass) (source.Facts, error) {
	facts, err := p.facts()
	if err != nil {
		return facts, err
	}
	if facts.Driver, err = placed(facts.Driver, c.plan.trees, &p.owners); err != nil {
		return facts, err
	}
	for _, path := range c.plan.missing {
		facts.Notes = append(facts.Notes, fmt.Sprintf("optional root %s does not exist", path))
	}
	facts.Exclusions = slices.Clone(c.opt.Excludes)
	if c.opt.OneFilesystem {
		facts.Exclusions = append(facts.Exclusions, otherFilesystems)
	}
	return facts, nil
}

// Facts tells what the last whole pass read.
func (c *capture) Facts(context.Context) (source.Facts, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.read == nil {
		return source.Facts{}, fmt.Errorf("facts of source %s: %s was not read to its end", c.opt.Name, itemName(c.opt.Name))
	}
	return *c.read, nil
}

// Close ends the capture; it holds nothing.
func (c *capture) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return nil
}

// quiet repeats a system call that a signal interrupted.
func quiet[T any](call func() (T, error)) (T, error) {
	for {
		value, err := call()
		if !errors.Is(err, unix.EINTR) {
			return value, err
		}
	}
}
