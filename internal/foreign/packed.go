package foreign

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"
)

// packed is the folder of pg_dump -Fd as a script keeps it: in a tar that holds nothing else.
type packed struct {
	members map[string]string // names in the folder, by those in the tar
	sizes   []Member          // in the order of the tar
}

// memberName is how pg_dump -Fd calls its files.
var memberName = regexp.MustCompile(`^(?:toc\.dat|blobs(?:_[0-9]+)?\.toc|(?:blob_)?[0-9]+\.dat(?:\.gz|\.zst|\.lz4)?)$`)

// mayBePacked reports by the head of a tar whether it is worth to be read whole in search of such a folder.
func mayBePacked(head []byte) bool {
	archive := tar.NewReader(bytes.NewReader(head))
	for {
		h, err := archive.Next()
		if err != nil {
			return false
		}
		if h.Typeflag == tar.TypeDir {
			continue
		}
		if h.Name == tocName { // so begins a tar of pg_dump -Ft too, which has nothing compressed in it
			start := make([]byte, tocStart)
			_, err := io.ReadFull(archive, start)
			return err == nil && tocCompressed(start)
		}
		return memberName.MatchString(path.Base(h.Name))
	}
}

// tocStart is how many bytes of a toc.dat tocCompressed looks at.
const tocStart = 16

// tocCompressed reports whether what a toc.dat tells of is compressed: behind the magic, three bytes of version and three on
// sizes and format comes the algorithm, or before version 1.15 the level as a number with its sign first.
func tocCompressed(toc []byte) bool {
	if !bytes.HasPrefix(toc, []byte("PGDMP")) {
		return false
	}
	if toc[5] > 1 || toc[6] >= 15 {
		return toc[11] != 0
	}
	return slices.ContainsFunc(toc[12:], func(b byte) bool { return b != 0 })
}

// unpackable reads a tar to its end and takes it for a folder of pg_dump -Fd if that, and nothing else, is in it. A tar that
// cannot be read is left to the reading that counts.
func (f *File) unpackable(ctx context.Context) error {
	r, err := f.Reader(ctx)
	if err != nil {
		return err
	}
	found, whole := lookThrough(r)
	if whole {
		_, err := io.Copy(io.Discard, r)
		whole = err == nil
	}
	if err := r.Close(); ctx.Err() != nil || err != nil {
		return errors.Join(context.Cause(ctx), err)
	}
	// What pg_dump -Ft writes has these names too, and nothing compressed.
	if whole && f.Content == PgTar {
		whole = slices.ContainsFunc(found.sizes, func(m Member) bool {
			_, compressed := memberLayer(m.Name)
			return compressed
		})
	}
	if whole {
		f.Content, f.packed, f.dumps = PgDirectory, found, nil
	}
	return nil
}

// lookThrough reports whether a tar holds one folder of pg_dump -Fd and nothing else.
func lookThrough(r io.Reader) (*packed, bool) {
	archive := tar.NewReader(r)
	found := &packed{members: map[string]string{}}
	folder, isDump := "", false
	for {
		h, err := archive.Next()
		if err == io.EOF {
			return found, isDump
		}
		if err != nil {
			return nil, false
		}
		if h.Typeflag == tar.TypeDir {
			continue
		}
		within, name := path.Split(strings.TrimPrefix(h.Name, "./"))
		if len(found.sizes) == 0 {
			folder = within
		}
		_, twice := found.members[h.Name]
		if h.Typeflag != tar.TypeReg || within != folder || twice || !memberName.MatchString(name) {
			return nil, false
		}
		if name == tocName {
			isDump = beginsDump(archive)
		}
		found.members[h.Name] = name
		found.sizes = append(found.sizes, Member{name, h.Size})
	}
}

func beginsDump(r io.Reader) bool {
	head := make([]byte, 5)
	_, err := io.ReadFull(r, head)
	return err == nil && string(head) == "PGDMP"
}

// walkPacked is Walk for a folder in a tar.
func (f *File) walkPacked(ctx context.Context, each func(m Member, r io.Reader) error) error {
	r, err := f.Reader(ctx)
	if err != nil {
		return err
	}
	archive := tar.NewReader(r)
	for err == nil {
		var h *tar.Header
		if h, err = archive.Next(); err != nil || h.Typeflag == tar.TypeDir {
			continue
		}
		name, known := f.packed.members[h.Name]
		if !known {
			err = fmt.Errorf("read %s: %w", f.Name(), f.changed())
			continue
		}
		guarded := guardMember(name, archive)
		err = each(Member{name, h.Size}, guarded)
		if err == nil {
			_, err = io.Copy(io.Discard, guarded)
		}
		if err = errors.Join(err, guarded.Close()); err != nil {
			err = fmt.Errorf("read %s: file %s: %w", f.Name(), name, err)
		}
	}
	if err == io.EOF {
		err = nil
	}
	// What the reader says of the bytes tells more than what they did to the tar.
	if _, readErr := io.Copy(io.Discard, r); readErr != nil {
		err = readErr
	}
	return errors.Join(err, r.Close())
}

// noteDumps notes the folders of pg_dump -Fd among the files of a tar, of which nobody restores a database.
func (f *File) noteDumps(r io.Reader) error {
	f.dumps = nil
	archive := tar.NewReader(r)
	for {
		h, err := archive.Next()
		if err != nil {
			return nil // whoever unpacks it says what is wrong with it
		}
		if h.Typeflag == tar.TypeReg && path.Base(h.Name) == tocName && beginsDump(archive) {
			f.dumps = append(f.dumps, path.Dir(h.Name))
		}
	}
}
