package volume

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// canary proves by the bytes themselves that what is written on a volume is sealed below it. A random marker goes into a file; the file system
// says where on its device that lies; there the opened device has the marker, and the raw device, as far behind its header, has not. Without
// the first half a wrong place would look sealed. And when the file gets another marker, the bytes at the raw place must change: so it is
// the place.
type canary struct {
	file        string // on the mounted volume; made, and removed
	mapper, raw string // the opened device, and what has its sealed bytes
	offset      int64  // of the data on raw, bytes
	find        func(f *os.File) (place, error)
}

// place is where the first bytes of a file lie on the device of its file system.
type place struct{ at, length int64 }

const (
	canarySize = 256 << 10
	markerSize = 32 // random bytes: nobody else writes them, and sealed bytes have them by no chance
	leastPlace = 4 << 10
	scanChunk  = 1 << 20
)

// marker is what a canary's file is filled with.
type marker [markerSize]byte

func newMarker() marker {
	var m marker
	_, _ = rand.Read(m[:]) // never fails, says crypto/rand
	return m
}

// errBare: the raw device has what was written.
var errBare = errors.New("the marker lies in clear on the raw device")

// prove returns a sentence on what was seen. full reads the whole raw device.
func (c canary) prove(ctx context.Context, full bool) (said string, err error) {
	f, err := os.OpenFile(c.file, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(c.file)) }()
	first, second := newMarker(), newMarker()
	before, _, err := c.round(f, first)
	if err != nil {
		return "", err
	}
	after, found, err := c.round(f, second)
	if err != nil {
		return "", err
	}
	if bytes.Equal(before, after) {
		return "", fmt.Errorf("the raw bytes at %d did not change when the file did: they are not its place, so nothing is proven", c.offset+found.at)
	}
	if full {
		if err := c.scan(ctx, [][]byte{first[:], second[:]}); err != nil {
			return "", err
		}
		return "the whole raw device was read: it has the marker nowhere", nil
	}
	return fmt.Sprintf("%d bytes of a marker were written: the opened device has them, the raw device has others there", found.length), nil
}

// round writes a marker, and compares. It returns the raw bytes.
func (c canary) round(f *os.File, m marker) (raw []byte, found place, err error) {
	if _, err := f.WriteAt(bytes.Repeat(m[:], canarySize/markerSize), 0); err != nil {
		return nil, found, err
	}
	if err := f.Sync(); err != nil {
		return nil, found, err
	}
	if found, err = c.find(f); err != nil {
		return nil, found, fmt.Errorf("find where the marker lies: %w", err)
	}
	found.length = min(found.length, canarySize)
	if found.length < leastPlace {
		return nil, found, fmt.Errorf("the marker lies in pieces of %d bytes: too small to compare", found.length)
	}
	open, err := readAt(c.mapper, found.at, found.length)
	if err != nil {
		return nil, found, err
	}
	if !bytes.Equal(open, bytes.Repeat(m[:], int(found.length)/markerSize)) {
		return nil, found, fmt.Errorf("the opened device does not have the marker at %d: the place is wrong, so nothing is proven", found.at)
	}
	if raw, err = readAt(c.raw, c.offset+found.at, found.length); err != nil {
		return nil, found, err
	}
	if bytes.Contains(raw, m[:]) {
		return nil, found, fmt.Errorf("%w, at %d", errBare, c.offset+found.at)
	}
	return raw, found, nil
}

// readAt reads what the disk has, and not what the kernel still knows of an earlier read of it: a mapping writes past that.
func readAt(path string, at, length int64) (data []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := forget(f); err != nil {
		return nil, err
	}
	data = make([]byte, length)
	_, err = f.ReadAt(data, at)
	return data, err
}

func forget(f *os.File) error {
	return control(f, func(fd int) error { return unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED) })
}

// scan looks for markers in all of the raw device.
func (c canary) scan(ctx context.Context, markers [][]byte) (err error) {
	f, err := os.Open(c.raw)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := forget(f); err != nil {
		return err
	}
	const overlap = markerSize - 1
	buffer := make([]byte, overlap+scanChunk)
	kept, at := 0, int64(0)
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := io.ReadFull(f, buffer[kept:])
		filled := buffer[:kept+n]
		for _, m := range markers {
			if i := bytes.Index(filled, m); i >= 0 {
				return fmt.Errorf("%w, at %d", errBare, at-int64(kept)+int64(i))
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		}
		if err != nil {
			return err
		}
		at += int64(n)
		kept = copy(buffer, filled[max(0, len(filled)-overlap):])
	}
}

// fiemap asks the file system where a file begins (Documentation/filesystems/fiemap.rst of Linux).
func fiemap(f *os.File) (place, error) {
	const (
		request   = 0xc020660b                                     // FS_IOC_FIEMAP
		sync      = 0x1                                            // FIEMAP_FLAG_SYNC
		uncertain = 0x2 | 0x4 | 0x8 | 0x80 | 0x100 | 0x200 | 0x800 // no place, not yet, or not as plain blocks
	)
	var ask struct {
		start, length                  uint64
		flags, mapped, count, reserved uint32
		logical, physical, size        uint64
		reserved64                     [2]uint64
		extentFlags                    uint32
		reserved32                     [3]uint32
	}
	ask.length, ask.flags, ask.count = canarySize, sync, 1
	err := control(f, func(fd int) error {
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(unsafe.Pointer(&ask))); errno != 0 {
			return errno
		}
		return nil
	})
	if err != nil {
		return place{}, err
	}
	if ask.mapped != 1 || ask.logical != 0 || ask.extentFlags&uncertain != 0 {
		return place{}, fmt.Errorf("the file system does not say (%d extents, flags %#x)", ask.mapped, ask.extentFlags)
	}
	return place{int64(ask.physical), int64(ask.size)}, nil
}
