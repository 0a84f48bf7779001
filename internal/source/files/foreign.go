package files

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/source"
)

// maxForeign bounds the members of an archive of another tool: each is remembered.
const maxForeign = 1_000_000

// Foreign is a tar of another tool that was read to its end. What stands in it is taken for what was stored: facts were
// not recorded when it was made.
type Foreign struct {
	Facts source.Facts
	// Bytes is what all files are long together, holes counted: more than the tar where it holds sparse files.
	Bytes int64
	last  map[string]int // by member: the number of the entry that counts, the last of its name
}

// Survey reads a tar of another tool to its end. It believes what the archive says, and refuses, with an error that
// satisfies holdfast.ErrDifference, what would lead out of a folder. Names may begin with "./" or "/" and stand there twice, the
// later one counts; attributes that are not restored are left out. Files that are longer than limit together make it a bomb: a
// sparse file of a few bytes can be as long as it likes. 0: no limit.
func Survey(ctx context.Context, r io.Reader, limit int64) (Foreign, error) {
	s := survey{ctx: ctx, limit: limit, last: map[string]int{}, index: map[string]int{}, buffer: make([]byte, 1<<20)}
	input := &ending{Reader: r}
	archive := tar.NewReader(input)
	for entry := 0; ; entry++ {
		if ctx.Err() != nil {
			return Foreign{}, context.Cause(ctx)
		}
		h, err := archive.Next()
		if errors.Is(err, io.EOF) && !input.reached {
			break
		}
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		if err == nil {
			err = s.take(h, archive, entry)
		}
		if err != nil {
			return Foreign{}, asForeign(fmt.Errorf("read the tar: %w", err))
		}
	}
	for {
		n, err := input.Read(s.buffer)
		if slices.ContainsFunc(s.buffer[:n], func(c byte) bool { return c != 0 }) {
			return Foreign{}, asForeign(errors.New("read the tar: there is something behind its end"))
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return Foreign{}, err
		}
	}
	return s.end()
}

type survey struct {
	ctx     context.Context // of Survey
	records []record
	index   map[string]int // into records, by member
	last    map[string]int
	notes   map[string]int
	bytes   int64
	limit   int64
	buffer  []byte
}

func (s *survey) note(what string) {
	if s.notes == nil {
		s.notes = map[string]int{}
	}
	s.notes[what]++
}

func (s *survey) take(h *tar.Header, content io.Reader, entry int) error {
	if skip, err := adapt(h, s.note); skip || err != nil {
		return err
	}
	name := strings.TrimSuffix(h.Name, "/")
	shown := factName(name)
	if !filepath.IsLocal(name) {
		return fmt.Errorf("%s: its path leads out of the archive", shown)
	}
	r, _, err := fromHeader(h, name)
	if err != nil {
		return err
	}
	if r.kind == tar.TypeLink {
		i, found := s.index[h.Linkname]
		if !found || s.records[i].kind == tar.TypeDir {
			return fmt.Errorf("%s: it is a hard link to %s, which is no file that comes before it", shown, factName(h.Linkname))
		}
		first := h.Linkname
		if s.records[i].first != "" {
			first = s.records[i].first
		}
		*r = s.records[i]
		r.name, r.first = name, first
	} else if r.kind == tar.TypeReg {
		if s.limit > 0 && r.size > s.limit-s.bytes {
			return holdfast.WithHint(foreignError{fmt.Errorf("%s: its files are longer than %d bytes together: this is a bomb", shown, s.limit)},
				"if you know the file, give --trust")
		}
		if r.digest, err = s.digest(content, r.size); err != nil {
			return fmt.Errorf("%s: %w", shown, err)
		}
		s.bytes += r.size
	}
	if err := s.placed(name, r.kind); err != nil {
		return err
	}
	if i, again := s.index[name]; again {
		s.note("stands in the archive more than once, the last one counts")
		s.records[i] = *r
	} else {
		if len(s.records) == maxForeign {
			return fmt.Errorf("it has more than %d entries: this is a bomb", maxForeign)
		}
		s.index[name] = len(s.records)
		s.records = append(s.records, *r)
	}
	s.last[name] = entry
	return nil
}

// placed refuses what lies in something that is no folder: through a link it would come to lie elsewhere.
func (s *survey) placed(name string, kind byte) error {
	if i, again := s.index[name]; again && (s.records[i].kind == tar.TypeDir) != (kind == tar.TypeDir) {
		return fmt.Errorf("%s: the archive has it both as a folder and as something else", factName(name))
	}
	for parent := path.Dir(name); parent != "."; parent = path.Dir(parent) {
		if i, found := s.index[parent]; found && s.records[i].kind != tar.TypeDir {
			return fmt.Errorf("%s: it lies in %s, which is no folder", factName(name), factName(parent))
		}
	}
	return nil
}

func (s *survey) digest(content io.Reader, size int64) (string, error) {
	h := sha256.New()
	n, err := io.CopyBuffer(struct{ io.Writer }{h}, struct{ io.Reader }{content}, s.buffer)
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	return hexDigest(h.Sum(nil)), err
}

func (s *survey) end() (Foreign, error) {
	slices.SortFunc(s.records, func(a, b record) int { return strings.Compare(a.name, b.name) })
	facts, err := makeFacts(s.records, time.Now())
	if err != nil {
		return Foreign{}, err
	}
	for what, count := range s.notes {
		facts.Notes = append(facts.Notes, fmt.Sprintf("%s (%d entries)", what, count))
	}
	slices.Sort(facts.Notes)
	return Foreign{Facts: facts, Bytes: s.bytes, last: s.last}, nil
}

// adapt puts a header of another tool into the words that [Place] takes. skip says that it is none of a member.
func adapt(h *tar.Header, note func(string)) (skip bool, err error) {
	switch h.Typeflag {
	case tar.TypeXGlobalHeader, 'V': // settings of the archive; its label
		return true, nil
	case tar.TypeCont:
		h.Typeflag = tar.TypeReg
	case tar.TypeGNUSparse:
		h.Typeflag = tar.TypeReg
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords["GNU.sparse.major"] = "0" // zeros may become holes
	case 'D': // a folder of an incremental archive, with a list of what it held
		h.Typeflag = tar.TypeDir
	}
	if strings.HasPrefix(h.Name, "/") {
		note("a slash before the name was taken away")
	}
	h.Name = tidyPath(h.Name)
	if h.Typeflag == tar.TypeLink {
		h.Linkname = tidyPath(h.Linkname)
		if h.Linkname == h.Name {
			return true, nil // GNU tar writes this for a file that it was told to store twice
		}
	}
	for key := range h.PAXRecords {
		if encoded, is := strings.CutPrefix(key, xattrPrefix); is && !kept(decodeXattrName(encoded)) {
			delete(h.PAXRecords, key)
			note("has an attribute that is not restored")
		}
	}
	h.Mode &= 0o7777
	return false, nil
}

// tidyPath takes away what says nothing: a slash before, a dot, a slash behind. What leads upwards stays, to be refused.
func tidyPath(name string) string {
	var parts []string
	for part := range strings.SplitSeq(name, "/") {
		if part != "" && part != "." {
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 {
		return "."
	}
	return strings.Join(parts, "/")
}

// Adapted lets a place take the tar that was surveyed.
func (f Foreign) Adapted(p *Place) *Place {
	entry := -1
	p.adapt = func(h *tar.Header) (bool, error) {
		entry++
		skip, err := adapt(h, func(string) {})
		return skip || f.last[strings.TrimSuffix(h.Name, "/")] != entry, err
	}
	return p
}

// foreignError is what is wrong with an archive of another tool: damage that says by itself what it is.
type foreignError struct{ error }

func (e foreignError) Unwrap() []error { return []error{e.error, holdfast.ErrDifference} }

func asForeign(err error) error {
	// What is below tells damage itself; and a reading that was stopped accuses nobody.
	if errors.Is(err, holdfast.ErrDifference) || errors.Is(err, holdfast.ErrInterrupted) || errors.Is(err, holdfast.ErrCannotTest) ||
		errors.Is(err, context.Canceled) {
		return err
	}
	hint := "the archive is damaged, or was made to do harm: take another copy, or look into it with tar --list"
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = fmt.Errorf("the tar is cut short: %w", err)
		hint = "the archive was not finished, or not copied to its end: take another copy, or an older one"
	}
	return holdfast.WithHint(foreignError{err}, hint)
}
