// Package foreign reads backup files that other tools made: it says what a file is, and opens it.
//
// It hides layers: seals (age, OpenPGP, openssl), compressions (gzip, zstd, xz, bzip2) and contents (SQL, the archives of
// pg_dump, tar, SQLite images) are told by their bytes, never by a name. It also keeps the records of imports.
//
// Its laws: a reader of a file returns io.EOF only when every layer ended whole, with nothing behind its end, and the
// bytes are those of the reading before; memory is bounded whatever a file claims; a file, and a folder that is
// imported, is never written to.
//
// It is not its job to restore anything, to know a driver, or to judge what is missing from a file: nothing was recorded
// when it was made.
package foreign

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"holdfast"
	"holdfast/internal/seal"
)

// Layer is one wrapping of a file's content.
type Layer string

// The layers.
const (
	Age     Layer = "age"
	OpenPGP Layer = "openpgp"
	OpenSSL Layer = "openssl"
	Gzip    Layer = "gzip"
	Zstd    Layer = "zstd"
	XZ      Layer = "xz"
	Bzip2   Layer = "bzip2"
)

// Seals reports whether the layer needs a key.
func (l Layer) Seals() bool { return l == Age || l == OpenPGP || l == OpenSSL }

// maxLayers is more than anybody wraps on purpose.
const maxLayers = 8

// Options say how a file is opened.
type Options struct {
	// Identities open seals; passphrases are among them.
	Identities []seal.Identity
	// Iterations are those of openssl enc -pbkdf2 -iter. 0: 10,000, as openssl without -iter.
	Iterations int
	// Trust takes a file that unpacks to more than a thousand times its size.
	Trust bool
}

// Sums are sizes and SHA-256 digests, in lower-case hexadecimal, of a file as it lies there and of its content.
type Sums struct {
	Size        int64
	SHA256      string
	PlainSize   int64
	PlainSHA256 string
}

// File is a file that was recognised. It is not safe for concurrent use.
type File struct {
	Path    string // absolute
	Layers  []Layer
	Content Content
	// Remark says more of what the content is where that is unknown: "a zip archive".
	Remark string
	// Unauthenticated says that a layer does not notice changed bytes: openssl enc.
	Unauthenticated bool
	// Weak tells how a key was made of a passphrase, where it can be found by trying: as in [seal.Foreign].
	Weak string

	opt    Options
	info   os.FileInfo
	opened io.ReadCloser // by the recognition, and not read yet
	tarred bool          // it may be a folder of pg_dump -Fd in a tar, by its head
	packed *packed       // a folder of pg_dump -Fd in a tar; nil: none
	dumps  []string      // folders of pg_dump -Fd among the files of a tar that was read to its end
	seen   *Sums         // of the first whole reading
	stored string        // SHA-256 of the file as it lies there, once it was read to its end
}

// Open recognises the file at path, or the folder of pg_dump -Fd, also in a tar of its own, which is read whole for that. A seal that no identity opens is [seal.ErrNoIdentity];
// the file is returned with it, recognised as far as that. Damage is an error that satisfies holdfast.ErrDifference. The
// caller closes the file.
func Open(ctx context.Context, path string, opt Options) (*File, error) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("find %s: %w", path, err)
	}
	info, err := os.Stat(absolute)
	if err != nil {
		return nil, holdfast.WithHint(fmt.Errorf("%w: %w", holdfast.ErrUsage, err), "check the path")
	}
	f := &File{Path: absolute, opt: opt, info: info}
	if info.IsDir() {
		return f, f.recogniseFolder()
	}
	if !info.Mode().IsRegular() {
		return nil, holdfast.WithHint(fmt.Errorf("%w: %s is neither a file nor a folder", holdfast.ErrUsage, path), "give a file: it is read more than once")
	}
	if err := f.recognise(ctx, nil); err != nil {
		if f.Content = Unknown; errors.Is(err, seal.ErrNoIdentity) {
			f.Content = Sealed
		}
		return f, errors.Join(fmt.Errorf("open %s: %w", f.Name(), err), f.Close())
	}
	if f.tarred {
		if err := f.unpackable(ctx); err != nil {
			return f, errors.Join(fmt.Errorf("open %s: %w", f.Name(), err), f.Close())
		}
	}
	return f, nil
}

// Recognise tells what the file at path is as far as it shows without any key. A file that is damaged where it begins is
// returned with the error, recognised as far as that.
func Recognise(ctx context.Context, path string) (*File, error) {
	f, err := Open(ctx, path, Options{})
	if errors.Is(err, seal.ErrNoIdentity) && f != nil {
		err = nil // it shows nothing more
	}
	if err != nil {
		return f, err
	}
	return f, f.Close()
}

// Name is the last part of the path.
func (f *File) Name() string { return filepath.Base(f.Path) }

// Sealed reports whether a key is needed to read the file.
func (f *File) Sealed() bool { return slices.ContainsFunc(f.Layers, Layer.Seals) }

// Folder reports whether the path is that of a folder, which has no bytes of its own to be read.
func (f *File) Folder() bool { return f.info.IsDir() }

// Dumps are the folders of pg_dump -Fd, by their names, among the files of a tar. They are known once a reader of it returned
// io.EOF.
func (f *File) Dumps() []string { return f.dumps }

// String tells layers and content in words: "SQL, gzip, openpgp".
func (f *File) String() string {
	if f.packed != nil {
		return describe(f.Content, append(slices.Clone(f.Layers), Layer(Tar)))
	}
	return describe(f.Content, f.Layers)
}

func describe(content Content, layers []Layer) string {
	var parts []string
	if content != Sealed || len(layers) == 0 {
		parts = append(parts, content.String())
	}
	for _, layer := range slices.Backward(layers) {
		parts = append(parts, string(layer))
	}
	return strings.Join(parts, ", ")
}

// Close ends what the recognition opened and nobody read.
func (f *File) Close() error {
	if f.opened == nil {
		return nil
	}
	err := f.opened.Close()
	f.opened = nil
	return err
}

// Sums returns sizes and digests. Before a reader of the file returned io.EOF it returns false.
func (f *File) Sums() (Sums, bool) {
	if f.seen == nil {
		return Sums{}, false
	}
	return *f.seen, true
}

// Reader reads the content. It returns io.EOF only when every layer was whole. Further readers must give what the first
// whole one gave: another error says that the file changed meanwhile.
func (f *File) Reader(ctx context.Context) (io.ReadCloser, error) {
	if f.Folder() {
		return nil, fmt.Errorf("read %s: a folder has no bytes of its own", f.Name())
	}
	if f.opened == nil {
		// Not nil: a file without layers must still have none.
		if err := f.recognise(ctx, append([]Layer{}, f.Layers...)); err != nil {
			return nil, errors.Join(fmt.Errorf("open %s: %w", f.Name(), err), f.Close())
		}
	}
	r := &reader{ctx: ctx, file: f, inner: f.opened, hash: sha256.New()}
	f.opened = nil
	switch {
	case f.Content == PgTar, f.packed != nil:
		return guardTar(r), nil
	case f.Content == Tar:
		return newGuard(r, f.noteDumps), nil
	}
	return r, nil
}

// recognise opens one layer after another and looks at what comes out of each. With known layers it must find the same.
func (f *File) recognise(ctx context.Context, known []Layer) error {
	var found []Layer
	open := func() (io.ReadCloser, error) { return f.openRaw(ctx) }
	current, err := open()
	for err == nil {
		buffered := &peeker{bufio.NewReaderSize(current, headSize), current}
		f.opened = buffered
		head, peekErr := buffered.Peek(headSize)
		if peekErr != nil && peekErr != io.EOF {
			return peekErr
		}
		layer, is := layerOf(head)
		if !is {
			if known == nil {
				f.Content, f.Remark = contentOf(head)
				f.tarred = (f.Content == Tar || f.Content == PgTar) && mayBePacked(head)
			}
			break
		}
		if len(found) == maxLayers {
			return damaged(fmt.Errorf("it has more than %d layers", maxLayers))
		}
		found = append(found, layer)
		if known == nil {
			f.Layers = found
		}
		below := open
		f.opened = nil
		if layer.Seals() {
			// It may have to be read twice, so it opens what it lies in itself.
			open = func() (io.ReadCloser, error) { return f.unseal(layer, below) }
			if err := buffered.Close(); err != nil {
				return err
			}
			current, err = open()
			continue
		}
		open = func() (io.ReadCloser, error) {
			in, err := below()
			if err != nil {
				return nil, err
			}
			return decompress(layer, &peeker{bufio.NewReaderSize(in, headSize), in})
		}
		current, err = decompress(layer, buffered)
	}
	if err != nil {
		return err
	}
	if known != nil && !slices.Equal(known, found) {
		return f.changed()
	}
	f.Layers = found
	return nil
}

func (f *File) changed() error {
	return damaged(holdfast.WithHint(errors.New("it changed while it was read"), "wait until whoever writes it is done, then run again"))
}

// peeker is a buffered reader with the Close of what it reads.
type peeker struct {
	*bufio.Reader
	io.Closer
}

// openRaw opens the file as it lies there. Each whole reading of it must give the same bytes.
func (f *File) openRaw(ctx context.Context) (io.ReadCloser, error) {
	file, err := os.Open(f.Path)
	if err != nil {
		return nil, holdfast.WithHint(err, "run as a user who may read it")
	}
	return &raw{ctx: ctx, file: f, inner: file, hash: sha256.New()}, nil
}

type raw struct {
	ctx   context.Context // of the reading it lives for
	file  *File
	inner *os.File
	hash  hash.Hash
}

func (r *raw) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	n, err := r.inner.Read(p)
	r.hash.Write(p[:n])
	if err == io.EOF {
		sum := hex.EncodeToString(r.hash.Sum(nil))
		if r.file.stored != "" && r.file.stored != sum {
			return n, r.file.changed()
		}
		r.file.stored = sum
	}
	return n, err
}

func (r *raw) Close() error { return r.inner.Close() }

// A file that unpacks to bombFactor times its size, and to more than bombFloor bytes, is a bomb until somebody vouches for it.
const (
	bombFactor = 1000
	bombFloor  = 256 << 20
)

// Bound is how many bytes a content of this file may come to before it is a bomb; 0: any number, for somebody vouches for it.
func (f *File) Bound() int64 {
	if f.opt.Trust {
		return 0
	}
	return max(bombFloor, bombFactor*f.info.Size())
}

// reader reads the content of a file and holds it against the reading before.
type reader struct {
	ctx   context.Context // of the reading it lives for
	file  *File
	inner io.ReadCloser
	hash  hash.Hash
	size  int64
	err   error
}

func (r *reader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.inner.Read(p)
	r.hash.Write(p[:n])
	r.size += int64(n)
	stored := r.file.info.Size()
	switch {
	case r.ctx.Err() != nil:
		err = context.Cause(r.ctx)
	case !r.file.opt.Trust && r.size > r.file.Bound():
		err = holdfast.WithHint(damaged(fmt.Errorf("read %s: %d bytes unpack to more than %d: this is a bomb", r.file.Name(), stored, r.size)),
			"if you know the file, give --trust")
	case err == io.EOF:
		err = r.finish()
	case err != nil:
		err = fmt.Errorf("read %s: %w", r.file.Name(), err)
	}
	r.err = err
	if err != nil && err != io.EOF {
		return 0, err
	}
	return n, err
}

func (r *reader) finish() error {
	sums := Sums{Size: r.file.info.Size(), SHA256: r.file.stored, PlainSize: r.size, PlainSHA256: hex.EncodeToString(r.hash.Sum(nil))}
	if sums.SHA256 == "" {
		// No layer may stop before the end of what it lies in.
		return damaged(fmt.Errorf("read %s: there is more behind its end", r.file.Name()))
	}
	if r.file.seen == nil {
		r.file.seen = &sums
	} else if *r.file.seen != sums {
		return fmt.Errorf("read %s: %w", r.file.Name(), r.file.changed())
	}
	return io.EOF
}

func (r *reader) Close() error {
	if r.err == nil {
		r.err = os.ErrClosed
	}
	return r.inner.Close()
}

// damage is an error that says by itself what is wrong with a file, and satisfies holdfast.ErrDifference.
type damage struct{ error }

func (d damage) Unwrap() []error { return []error{d.error, holdfast.ErrDifference} }

func damaged(err error) error { return damage{err} }

// Damaged says of a file that something is wrong with it, in words of its own: the error satisfies holdfast.ErrDifference.
func Damaged(err error, hint string) error { return holdfast.WithHint(damaged(err), hint) }
