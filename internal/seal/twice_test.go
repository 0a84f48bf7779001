package seal_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/iotest"

	"holdfast"
	"holdfast/internal/seal"
)

// changing opens first, then second, and counts what is closed.
type changing struct {
	streams []io.Reader
	opened  int
	closed  int
}

func (c *changing) open() (io.ReadCloser, error) {
	c.opened++
	return &closing{c.streams[c.opened-1], c}, nil
}

type closing struct {
	io.Reader
	c *changing
}

func (c *closing) Close() error {
	c.c.closed++
	return nil
}

func readAll(r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

const block = 4 << 20

func TestTwice(t *testing.T) {
	data := make([]byte, 2*block+100)
	rand.NewChaCha8([32]byte{}).Read(data)
	for _, size := range []int{0, 1, block - 1, block, block + 1, 2 * block, len(data)} {
		c := &changing{streams: []io.Reader{bytes.NewReader(data[:size]), iotest.HalfReader(bytes.NewReader(data[:size]))}}
		r, err := seal.Twice(c.open, func(r io.Reader) error {
			_, err := r.Read(make([]byte, 1)) // the rest is read also when nobody asks for it
			if err == io.EOF {
				err = nil
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(iotest.OneByteReader(io.LimitReader(r, 10)))
		rest, restErr := io.ReadAll(r)
		if got = append(got, rest...); err != nil || restErr != nil || !bytes.Equal(got, data[:size]) {
			t.Errorf("size %d: %d bytes, %v, %v", size, len(got), err, restErr)
		}
		if err := r.Close(); err != nil || c.opened != 2 || c.closed != 2 {
			t.Errorf("size %d: opened %d times, closed %d times, %v", size, c.opened, c.closed, err)
		}
	}
}

// Whoever changes a stream between two readings gets not one byte of the change through.
func TestTwiceOfAStreamThatChanges(t *testing.T) {
	data := make([]byte, 2*block+100)
	rand.NewChaCha8([32]byte{1}).Read(data)
	flipped := func(at int) []byte {
		other := bytes.Clone(data)
		other[at] ^= 1
		return other
	}
	for name, c := range map[string]struct {
		second []byte
		whole  int // blocks that are the same
	}{
		"the first byte":       {flipped(0), 0},
		"the second block":     {flipped(block), 1},
		"the last byte":        {flipped(len(data) - 1), 2},
		"shorter":              {data[:len(data)-1], 2},
		"shorter by a block":   {data[:2*block], 2},
		"empty":                {nil, 0},
		"longer":               {slices.Concat(data, []byte{0}), 2},
		"longer by a block":    {slices.Concat(data[:2*block], data[:block], data[2*block:]), 2},
		"blocks swapped":       {slices.Concat(data[block:2*block], data[:block], data[2*block:]), 0},
		"the same block again": {slices.Concat(data[:block], data[:block], data[2*block:]), 1},
	} {
		t.Run(name, func(t *testing.T) {
			streams := &changing{streams: []io.Reader{bytes.NewReader(data), bytes.NewReader(c.second)}}
			r, err := seal.Twice(streams.open, readAll)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if !errors.Is(err, seal.ErrDamaged) || !errors.Is(err, holdfast.ErrDifference) {
				t.Errorf("%v, want ErrDamaged", err)
			}
			if !bytes.HasPrefix(data, got) || len(got) > c.whole*block {
				t.Errorf("%d bytes were handed on, at most %d are the same", len(got), c.whole*block)
			}
			if _, again := r.Read(make([]byte, 1)); again != err {
				t.Errorf("then %v, want the same error again", again)
			}
		})
	}
}

func TestTwiceFails(t *testing.T) {
	lost, refused := errors.New("connection lost"), errors.New("not what was stored")
	data := bytes.Repeat([]byte("x"), 1000)
	failing := func() io.Reader { return io.MultiReader(bytes.NewReader(data[:500]), iotest.ErrReader(lost)) }
	whole := func() io.Reader { return bytes.NewReader(data) }
	for name, c := range map[string]struct {
		streams []io.Reader
		check   error
		want    error
	}{
		"check":                      {[]io.Reader{whole()}, refused, refused},
		"first reading":              {[]io.Reader{failing()}, nil, lost},
		"second reading":             {[]io.Reader{whole(), failing()}, nil, lost},
		"second reading, at its end": {[]io.Reader{whole(), io.MultiReader(whole(), iotest.ErrReader(io.ErrUnexpectedEOF))}, nil, io.ErrUnexpectedEOF},
	} {
		streams := &changing{streams: c.streams}
		var got []byte
		r, err := seal.Twice(streams.open, func(r io.Reader) error { return errors.Join(readAll(r), c.check) })
		if err == nil {
			got, err = io.ReadAll(r)
			if closeErr := r.Close(); closeErr != nil {
				t.Error(closeErr)
			}
		}
		if !errors.Is(err, c.want) || errors.Is(err, seal.ErrDamaged) || len(got) > 0 {
			t.Errorf("%s: %d bytes, %v, want %v", name, len(got), err, c.want)
		}
		if streams.opened != streams.closed {
			t.Errorf("%s: opened %d times, closed %d times", name, streams.opened, streams.closed)
		}
	}
	if _, err := seal.Twice(func() (io.ReadCloser, error) { return nil, lost }, readAll); !errors.Is(err, lost) {
		t.Errorf("open: %v", err)
	}
}
