package files

import (
	"archive/tar"
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/source"
)

// landed is a member that was restored.
type landed struct {
	recorded record // as the archive tells it
	// What was set where it differs from that. Check takes a file that has what was set for one that has what was
	// recorded.
	mode     uint32
	uid, gid uint32
	anyOwner bool   // the owner could not be set
	xattrs   string // digest
	implicit bool   // a folder that the archive does not tell of
	absent   bool   // a device that was not made
	pending  []xattr
}

// adopt turns what was found of a member into what was recorded, where the difference is of our own making.
func (l *landed) adopt(r *record) {
	if r.mode == l.mode {
		r.mode = l.recorded.mode
	}
	if l.anyOwner || r.uid == l.uid && r.gid == l.gid {
		r.uid, r.gid = l.recorded.uid, l.recorded.gid
		r.user, r.group = l.recorded.user, l.recorded.group
	}
	if r.xattrs == l.xattrs {
		r.xattrs = l.recorded.xattrs
	}
}

// extraction is one restore under way.
type extraction struct {
	*Place
	ctx     context.Context // of Restore
	root    bool            // runs with all rights
	numbers numbers
	known   map[string]*source.Fact // by fact name
	// carried maps a member that is not selected, but holds the content of selected hard links, to the first of them.
	carried map[string]string
	heirs   map[string]string // of sets of hard links: the first selected one, as fact names

	folder     *os.File // the folder of the last member
	folderName string
	buffer     []byte
}

// bad reports an archive that is not what was stored.
func bad(format string, arguments ...any) error {
	return holdfast.WithHint(fmt.Errorf("%w: %w", holdfast.ErrDifference, fmt.Errorf(format, arguments...)),
		"the archive is damaged or was not made by this program: restore another backup, and find out who changed this one")
}

// Restore extracts the stored tar into staging. It may be called once. An archive that does not agree with its facts,
// or that tries to write elsewhere, is refused with an error that wraps [holdfast.ErrDifference].
func (p *Place) Restore(ctx context.Context, stored source.Stored) (err error) {
	if p.restored || len(p.landed) > 0 {
		return errors.New("restore files: this place was used before")
	}
	if stored.Kind != holdfast.KindFiles {
		return fmt.Errorf("%w: source %s is of kind %s, not files", holdfast.ErrUsage, stored.Source, stored.Kind)
	}
	item, found := stored.Item(itemName(stored.Source))
	if !found {
		return fmt.Errorf("%w: the backup of source %s has no item %s", holdfast.ErrDifference, stored.Source, itemName(stored.Source))
	}
	p.secret = (p.secret || stored.Secret) && !p.asWas
	x := &extraction{
		Place:   p,
		ctx:     ctx,
		root:    os.Geteuid() == 0,
		known:   map[string]*source.Fact{},
		carried: map[string]string{},
		heirs:   map[string]string{},
		buffer:  make([]byte, 1<<20),
	}
	defer x.leave()
	if err := x.prepare(stored.Facts); err != nil {
		return err
	}
	reader, err := item.Open(ctx)
	if err != nil {
		return fmt.Errorf("open %s: %w", item.Name, err)
	}
	err = x.extract(reader)
	if closeErr := reader.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("restore %s: %w", item.Name, err)
	}
	p.restored = true
	return nil
}

// prepare reads the facts.
func (x *extraction) prepare(facts source.Facts) error {
	var driver driverFacts
	if len(facts.Driver) > 0 {
		if err := json.Unmarshal(facts.Driver, &driver); err != nil {
			return fmt.Errorf("%w: read the facts' list of hard links: %w", holdfast.ErrDifference, err)
		}
	}
	x.group = groups(driver.Links)
	for i := range facts.Facts {
		fact := &facts.Facts[i]
		if fact.Class == class {
			x.known[fact.Name] = fact
			if strings.HasSuffix(fact.Text, changedMark) {
				x.changed[fact.Name] = true
			}
		}
	}
	if len(x.only) == 0 {
		return nil
	}
	chosen := map[string]bool{}
	for _, want := range x.only {
		want = strings.Trim(want, "/")
		prefix, hit := memberName(want)+"/", false
		for name := range x.known {
			if name == want || name == factName(want) || strings.HasPrefix(memberName(name), prefix) {
				chosen[name], hit = true, true
			}
		}
		if !hit {
			return holdfast.WithHint(fmt.Errorf("%w: the backup has no file and no folder %q", holdfast.ErrUsage, want),
				"`holdfast show` lists what there is")
		}
	}
	for name := range chosen {
		for parent := path.Dir(memberName(name)); parent != "."; parent = path.Dir(parent) {
			if shown := factName(parent); x.known[shown] != nil {
				chosen[shown] = true
			}
		}
	}
	x.selected = func(name string) bool { return chosen[name] }
	for name, set := range x.group {
		if first, found := x.heirs[set]; chosen[name] && (!found || name < first) {
			x.heirs[set] = name
		}
	}
	return nil
}

// ending notices whether an archive's end was read or only the end of its bytes, which archive/tar does not tell.
type ending struct {
	io.Reader
	reached bool
}

func (e *ending) Read(b []byte) (int, error) {
	n, err := e.Reader.Read(b)
	if n == 0 && errors.Is(err, io.EOF) {
		e.reached = true
	}
	return n, err
}

func (x *extraction) extract(reader io.Reader) error {
	input := &ending{Reader: bufio.NewReaderSize(reader, 1<<20)}
	archive := tar.NewReader(input)
	for {
		if err := x.ctx.Err(); err != nil {
			return context.Cause(x.ctx)
		}
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			if input.reached {
				return fmt.Errorf("read archive: it ends too early: %w", io.ErrUnexpectedEOF)
			}
			break
		}
		if errors.Is(err, tar.ErrHeader) || errors.Is(err, tar.ErrFieldTooLong) || errors.Is(err, tar.ErrInsecurePath) {
			return bad("read archive: %w", err)
		}
		if err != nil {
			return fmt.Errorf("read archive: %w", err)
		}
		if x.adapt != nil {
			if skip, err := x.adapt(h); err != nil || skip {
				if err != nil {
					return err
				}
				continue
			}
		}
		if err := x.member(h, archive); err != nil {
			return err
		}
	}
	for {
		n, err := input.Read(x.buffer)
		if slices.ContainsFunc(x.buffer[:n], func(c byte) bool { return c != 0 }) {
			return bad("read archive: there are bytes after its end")
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read archive: %w", err)
		}
	}
	return x.folders()
}

// member restores one entry of the archive.
func (x *extraction) member(h *tar.Header, content io.Reader) error {
	name := h.Name
	if h.Typeflag == tar.TypeDir {
		name = strings.TrimSuffix(name, "/")
	}
	shown := factName(name)
	switch {
	case strings.HasPrefix(name, "/"):
		return bad("%s: its path is absolute", shown)
	case !filepath.IsLocal(name):
		return bad("%s: its path leads out of the archive", shown)
	case path.Clean(name) != name, name == "." && h.Typeflag != tar.TypeDir:
		return bad("%s: its path is not a plain one", shown)
	}
	fact := x.known[shown]
	if fact == nil {
		return bad("%s: it is in the archive and not in the facts", shown)
	}
	r, xattrs, err := fromHeader(h, name)
	if err != nil {
		return err
	}
	if r.kind == tar.TypeReg && h.Typeflag != tar.TypeLink && r.size != fact.Bytes {
		return bad("%s: it has %d bytes in the archive and %d in the facts", shown, r.size, fact.Bytes)
	}
	if x.selected != nil && !x.selected(shown) {
		// Its content may be that of a hard link that was asked for.
		heir := x.heirs[x.group[shown]]
		if heir == "" || h.Typeflag == tar.TypeLink {
			return nil
		}
		r.name = memberName(heir)
		x.carried[name] = r.name
	}
	if h.Typeflag == tar.TypeLink && x.carried[h.Linkname] == name {
		return nil
	}
	if err := x.vacant(r); err != nil {
		return err
	}
	at, err := x.enter(path.Dir(r.name))
	if err != nil {
		return err
	}
	base := path.Base(r.name)
	if h.Typeflag == tar.TypeLink {
		return x.link(r, h.Linkname, at, base)
	}
	l := &landed{recorded: *r, mode: r.mode, uid: r.uid, gid: r.gid, pending: xattrs}
	if err := x.create(l, h, at, base, content); err != nil {
		return x.fault(r.name, err)
	}
	x.landed[r.name] = l
	return nil
}

// fromHeader reads what an archive tells of a member.
func fromHeader(h *tar.Header, name string) (*record, []xattr, error) {
	r := &record{
		name: name, kind: h.Typeflag, mode: uint32(h.Mode) & 0o7777, uid: uint32(h.Uid), gid: uint32(h.Gid),
		user: h.Uname, group: h.Gname, mtime: unix.NsecToTimespec(0),
	}
	r.mtime.Sec, r.mtime.Nsec = h.ModTime.Unix(), int64(h.ModTime.Nanosecond())
	switch h.Typeflag {
	case tar.TypeReg:
		r.size = h.Size
	case tar.TypeLink, tar.TypeDir, tar.TypeFifo:
	case tar.TypeSymlink:
		r.target = h.Linkname
	case tar.TypeChar, tar.TypeBlock:
		r.major, r.minor = uint32(h.Devmajor), uint32(h.Devminor)
	default:
		return nil, nil, bad("%s: its type %q is not known", factName(name), h.Typeflag)
	}
	var xattrs []xattr
	for key, value := range h.PAXRecords {
		if encoded, is := strings.CutPrefix(key, xattrPrefix); is {
			x := xattr{decodeXattrName(encoded), value}
			if !kept(x.name) {
				return nil, nil, bad("%s: extended attribute %s is none that is stored", factName(name), factName(x.name))
			}
			xattrs = append(xattrs, x)
		}
	}
	slices.SortFunc(xattrs, func(a, b xattr) int { return strings.Compare(a.name, b.name) })
	r.xattrs = xattrDigest(xattrs)
	return r, xattrs, nil
}
