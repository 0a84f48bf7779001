package foreign

import (
	"bufio"
	"bytes"
	"cmp"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/xi2/xz"

	"holdfast"
	"holdfast/internal/seal"
)

// maxWindow bounds the memory that a compressed file can ask for: what stock zstd and xz take without being told to.
const maxWindow = 128 << 20

// layerOf recognises a layer by the first bytes of what it wraps.
func layerOf(head []byte) (Layer, bool) {
	if layer, is := sealOf(head); is {
		return layer, true
	}
	for _, known := range []struct {
		magic string
		layer Layer
	}{
		{"\x1f\x8b\x08", Gzip},
		{"\x28\xb5\x2f\xfd", Zstd},
		{"\xfd7zXZ\x00", XZ},
	} {
		if bytes.HasPrefix(head, []byte(known.magic)) {
			return known.layer, true
		}
	}
	// A block or, of nothing at all, the end of the stream follows the level.
	const block, end = "1AY&SY", "\x17\x72\x45\x38\x50\x90"
	if len(head) >= 10 && bytes.HasPrefix(head, []byte("BZh")) && '1' <= head[3] && head[3] <= '9' {
		if next := string(head[4:10]); next == block || next == end {
			return Bzip2, true
		}
	}
	return "", false
}

// decompress returns what below holds compressed, and closes it with itself.
func decompress(layer Layer, below *peeker) (io.ReadCloser, error) {
	source := &source{in: below.Reader}
	d := &decompressor{layer: layer, source: source, below: below, end: func() {}}
	switch layer {
	case Gzip:
		d.plain = &members{source: source}
	case Zstd:
		decoder, err := zstd.NewReader(source, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderLowmem(true), zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("start zstd: %w", err), below.Close())
		}
		d.plain, d.end = decoder, decoder.Close
	case XZ:
		decoder, err := xz.NewReader(source, maxWindow)
		if err != nil {
			return nil, errors.Join(d.explain(err), below.Close())
		}
		d.plain = decoder
	case Bzip2:
		d.plain = bzip2.NewReader(source)
	}
	return d, nil
}

// source remembers the error of what is below, which tells more than what a decompressor makes of it.
type source struct {
	in    *bufio.Reader
	err   error
	ended bool
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.in.Read(p)
	s.note(err)
	return n, err
}

// ReadByte keeps decompressors from reading beyond their end.
func (s *source) ReadByte() (byte, error) {
	c, err := s.in.ReadByte()
	s.note(err)
	return c, err
}

func (s *source) note(err error) {
	switch {
	case err == io.EOF:
		s.ended = true
	case err != nil:
		s.err = err
	}
}

type decompressor struct {
	layer  Layer
	source *source
	below  io.Closer
	plain  io.Reader
	end    func()
}

func (d *decompressor) Read(p []byte) (int, error) {
	n, err := d.plain.Read(p)
	if err == io.EOF {
		err = d.finish()
	}
	if err != nil && err != io.EOF {
		err = d.explain(err)
	}
	return n, err
}

// finish returns io.EOF if nothing is left below.
func (d *decompressor) finish() error {
	if d.source.err != nil {
		return d.source.err
	}
	if _, err := d.source.ReadByte(); err != nil {
		return err
	}
	return errTrailing
}

var errTrailing = errors.New("there is something else behind its end")

func (d *decompressor) explain(err error) error {
	if d.source.err != nil {
		return d.source.err
	}
	var large error
	if errors.Is(err, zstd.ErrWindowSizeExceeded) || errors.Is(err, xz.ErrMemlimit) {
		large = fmt.Errorf("%w: the %s layer needs more than %d MiB of memory to be read", holdfast.ErrCannotTest, d.layer, maxWindow>>20)
	}
	switch {
	case large != nil:
		return holdfast.WithHint(large, fmt.Sprintf("unpack it with %s, then give the file that came out", d.layer))
	case errors.Is(err, errTrailing), errors.Is(err, zstd.ErrMagicMismatch):
		return holdfast.WithHint(damaged(fmt.Errorf("the %s layer: %w", d.layer, errTrailing)),
			"what stands before may be whole: unpack it by hand with "+string(d.layer)+", look, and give the result")
	case errors.Is(err, io.ErrUnexpectedEOF), d.source.ended:
		// A flipped bit can make a decompressor look for more than there is.
		return holdfast.WithHint(damaged(fmt.Errorf("the %s layer ends too early: it was cut short, or is damaged: %w", d.layer, io.ErrUnexpectedEOF)),
			"the file was not written to its end, or not copied to its end: take another copy of it, or an older one")
	}
	return holdfast.WithHint(damaged(fmt.Errorf("the %s layer is damaged: %w", d.layer, err)), "take another copy of the file, or an older one")
}

func (d *decompressor) Close() error {
	d.end()
	return d.below.Close()
}

// members reads the members of a gzip file. Zeros behind them, which fill up the blocks of tapes and disks, are taken as
// gzip itself takes them.
type members struct {
	source *source
	gzip   *gzip.Reader
}

func (m *members) Read(p []byte) (int, error) {
	if m.gzip == nil {
		r, err := gzip.NewReader(m.source)
		if err != nil {
			return 0, err
		}
		m.gzip = r
	}
	m.gzip.Multistream(false)
	n, err := m.gzip.Read(p)
	if err != io.EOF {
		return n, err
	}
	switch err := m.next(); {
	case err != nil:
		return n, err
	case n > 0:
		return n, nil
	}
	return m.Read(p)
}

// next begins the next member.
func (m *members) next() error {
	head, err := m.source.in.Peek(2)
	if len(head) == 2 && head[0] == 0x1f && head[1] == 0x8b {
		return m.gzip.Reset(m.source)
	}
	if err != nil && err != io.EOF {
		m.source.note(err)
		return err
	}
	for {
		c, err := m.source.ReadByte()
		if err != nil {
			return err
		}
		if c != 0 {
			return errTrailing
		}
	}
}

// unseal opens a sealed layer. What comes out was authenticated, unless the layer cannot do that: then the file says so.
func (f *File) unseal(layer Layer, below func() (io.ReadCloser, error)) (io.ReadCloser, error) {
	opened, err := seal.OpenForeign(below, seal.ForeignOptions{Identities: f.opt.Identities, Iterations: f.opt.Iterations})
	if err != nil {
		return nil, inOurWords(layer, err)
	}
	if Layer(opened.Format) != layer {
		return nil, errors.Join(f.changed(), opened.Close())
	}
	f.Unauthenticated = f.Unauthenticated || !opened.Authenticated
	f.Weak = cmp.Or(f.Weak, opened.Weak)
	return &unsealed{opened, layer}, nil
}

type unsealed struct {
	*seal.Foreign
	layer Layer
}

func (u *unsealed) Read(p []byte) (int, error) {
	n, err := u.Foreign.Read(p)
	if err != nil && err != io.EOF {
		err = inOurWords(u.layer, err)
	}
	return n, err
}

// inOurWords tells damage of a seal without speaking of a difference: nothing was recorded that it could be one to.
func inOurWords(layer Layer, err error) error {
	if !errors.Is(err, seal.ErrDamaged) {
		return err
	}
	var own damage
	if errors.As(err, &own) {
		return err // of the file below
	}
	text := strings.ReplaceAll(err.Error(), holdfast.ErrDifference.Error()+": ", "")
	return holdfast.WithHint(damaged(fmt.Errorf("the %s layer: %s", layer, strings.TrimPrefix(text, "unseal: "))), "the file was changed, or not copied to its end: take another copy, or an older one")
}

// sealOf recognises a seal.
func sealOf(head []byte) (Layer, bool) {
	format, is := seal.Detect(head)
	return Layer(format), is
}
