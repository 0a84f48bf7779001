package files

import (
	"archive/tar"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"

	"golang.org/x/sys/unix"
)

const (
	// smallFile is the largest content that is read before its header is written, so that it can be read again.
	smallFile = 4 << 20
	// memory bounds the content of small files held at a time.
	memory = 32 << 20
	// maxReads is how often a small file that changes is read before it is stored as it is.
	maxReads = 5
)

// large is the open content of a file that is read while it is written to the stream.
type large struct {
	fd      int
	before  unix.Stat_t
	hash    hash.Hash
	index   int   // the segment being read
	pos     int64 // how far the hash has come
	changed bool
}

// load reads what belongs to e beyond what its folder told.
func (p *pass) load(e *entry) {
	if err := p.loadEntry(e); err != nil {
		e.err = err
		// ELOOP, ENXIO and ENOTDIR: the name now belongs to a link, a socket, something else.
		for _, gone := range []error{unix.ENOENT, unix.ELOOP, unix.ENXIO, unix.ENOTDIR} {
			e.gone = e.gone || errors.Is(err, gone)
		}
	}
}

func (p *pass) loadEntry(e *entry) error {
	switch e.rec.kind {
	case tar.TypeReg:
		return p.loadFile(e)
	case tar.TypeSymlink:
		room := make([]byte, 256)
		for {
			n, err := quiet(func() (int, error) { return unix.Readlinkat(e.at.fd, e.base, room) })
			if errors.Is(err, unix.EINVAL) { // no longer a link
				return unix.ENOENT
			}
			if err != nil {
				return err
			}
			if n < len(room) {
				e.rec.target = string(room[:n])
				break
			}
			room = make([]byte, 2*len(room))
		}
	}
	var err error
	e.xattrs, err = leafXattrs(e.at.fd, e.base)
	return err
}

// loadFile reads a small file whole and opens a large one.
func (p *pass) loadFile(e *entry) error {
	for range maxReads {
		stable, err := p.readOnce(e)
		if err != nil || stable {
			return err
		}
	}
	e.rec.changed = true
	return nil
}

// readOnce reports whether the file stood still meanwhile.
func (p *pass) readOnce(e *entry) (stable bool, err error) {
	fd, err := p.openat(e.at.fd, e.base, 0)
	if err != nil {
		return false, err
	}
	keep := false
	defer func() {
		if !keep {
			unix.Close(fd)
		}
	}()
	var before, after unix.Stat_t
	if err := unix.Fstat(fd, &before); err != nil {
		return false, err
	}
	if before.Mode&unix.S_IFMT != unix.S_IFREG {
		return false, unix.ENOENT
	}
	if e.xattrs, err = descriptorXattrs(fd); err != nil {
		return false, err
	}
	e.segments = nil
	if before.Blocks*512 < before.Size {
		if e.segments, err = dataSegments(fd, before.Size); err != nil {
			return false, err
		}
	}
	e.id = inodeOf(&before)
	p.describe(&e.rec, e.rec.name, &before)
	if before.Size > smallFile {
		keep = true
		e.large = &large{fd: fd, before: before, hash: sha256.New()}
		return true, nil
	}
	if e.body, err = p.readAll(fd, before.Size, e.body); err != nil {
		return false, err
	}
	p.wasRead(e.rec.name)
	if err := unix.Fstat(fd, &after); err != nil {
		return false, err
	}
	if int64(len(e.body)) != before.Size {
		e.segments = nil
	}
	e.rec.size = int64(len(e.body))
	sum := sha256.Sum256(e.body)
	e.rec.digest = hexDigest(sum[:])
	if e.segments != nil {
		e.body = pack(e.body, e.segments)
	}
	return same(&before, &after), nil
}

func same(a, b *unix.Stat_t) bool {
	return a.Size == b.Size && a.Mtim == b.Mtim && a.Ctim == b.Ctim
}

// readAll reads size bytes, fewer when the file ends before. A file that claims to be empty, as those of /proc do, is
// read to its end all the same.
func (p *pass) readAll(fd int, size int64, room []byte) ([]byte, error) {
	want := size
	if size == 0 {
		want = blockSize
	}
	if room = room[:0]; int64(cap(room)) < want {
		p.buffers.put(room)
		room = p.buffers.take(int(want))
	}
	for int64(len(room)) < want {
		n, err := quiet(func() (int, error) { return unix.Read(fd, room[len(room):want]) })
		if err != nil {
			return nil, err
		}
		if n == 0 {
			break
		}
		room = room[:len(room)+n]
		if size == 0 && int64(len(room)) == want {
			if want *= 2; want > smallFile {
				return nil, fmt.Errorf("it claims to be empty and holds more than %d bytes", smallFile)
			}
			larger := append(p.buffers.take(int(want)), room...)
			p.buffers.put(room)
			room = larger
		}
	}
	return room, nil
}

// dataSegments asks the file system where a sparse file has data. Every segment but one at the end of the file is
// made of whole blocks, for readers expect each to begin a block. It returns nil when there is no hole.
func dataSegments(fd int, size int64) ([]segment, error) {
	var all []segment
	var end int64
	for end < size {
		start, err := unix.Seek(fd, end, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) { // a hole up to the end
			break
		}
		if errors.Is(err, unix.EINVAL) { // a file system that does not tell
			all, end = nil, size
			break
		}
		if err != nil {
			return nil, fmt.Errorf("find data: %w", err)
		}
		if start >= size {
			break
		}
		stop, err := unix.Seek(fd, start, unix.SEEK_HOLE)
		if err != nil {
			return nil, fmt.Errorf("find hole: %w", err)
		}
		start &^= blockSize - 1
		stop = min(stop+padding(stop), size)
		if last := len(all) - 1; last >= 0 && start <= end {
			all[last].length = stop - all[last].offset
		} else {
			all = append(all, segment{start, stop - start})
		}
		end = stop
	}
	if _, err := unix.Seek(fd, 0, unix.SEEK_SET); err != nil {
		return nil, err
	}
	if end == size && (len(all) == 0 || len(all) == 1 && all[0].offset == 0) {
		return nil, nil
	}
	if end < size { // what follows the last data is told by an empty segment
		all = append(all, segment{size, 0})
	}
	return all, nil
}

// pack moves the segments' data together.
func pack(content []byte, segments []segment) []byte {
	packed := content[:0]
	for _, s := range segments {
		packed = append(packed, content[s.offset:s.offset+s.length]...)
	}
	return packed
}
