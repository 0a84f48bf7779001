package seal_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"holdfast"
	"holdfast/internal/seal"
)

// places returns offsets all over data of size bytes: everything at both ends, and some of each region between.
func places(size int) []int {
	var at []int
	for i := range size {
		if i < 220 || i > size-20 || i%30001 == 0 {
			at = append(at, i)
		}
	}
	return at
}

func TestFlippedBitIsNoticed(t *testing.T) {
	plain := text(200 << 10) // several chunks of age's
	each(t, func(t *testing.T, c seal.Compression, k key) {
		if k.recipients == nil {
			flipPlain(t, c, k, plain)
			return
		}
		data, _ := sealed(t, k.options(c), plain)
		for _, i := range places(len(data)) {
			bad := bytes.Clone(data)
			bad[i] ^= 1 << (i % 8)
			got, err := unseal(bad, k.readOptions(c))
			if !errors.Is(err, holdfast.ErrDifference) && !errors.Is(err, seal.ErrNoIdentity) {
				t.Errorf("bit flipped at %d of %d: error %v", i, len(data), err)
			}
			if !bytes.HasPrefix(plain, got) {
				t.Errorf("bit flipped at %d of %d: other bytes were handed on", i, len(data))
			}
		}
	})
}

// flipPlain: without encryption, the checksums of the compressors find what changes the content.
func flipPlain(t *testing.T, c seal.Compression, k key, plain []byte) {
	data, _ := sealed(t, k.options(c), plain)
	if c == seal.None {
		data[7] ^= 1
		if got, err := unseal(data, k.readOptions(c)); err != nil || !bytes.Equal(got, data) {
			t.Errorf("a stream neither compressed nor encrypted is not handed on as it is: %v", err)
		}
		return
	}
	for _, i := range places(len(data)) {
		bad := bytes.Clone(data)
		bad[i] ^= 1 << (i % 8)
		got, err := unseal(bad, k.readOptions(c))
		if err == nil && !bytes.Equal(got, plain) {
			t.Errorf("bit flipped at %d of %d: other content and no error", i, len(data))
		}
		if err != nil && !errors.Is(err, seal.ErrDamaged) {
			t.Errorf("bit flipped at %d of %d: error %v, want ErrDamaged", i, len(data), err)
		}
	}
}

// boundaries returns the offsets where age's header and chunks end: a cut there leaves nothing half.
func boundaries(data []byte) []int {
	const nonce, chunk = 16, 64<<10 + 16
	mac := bytes.Index(data, []byte("\n--- ")) + 1
	header := mac + bytes.IndexByte(data[mac:], '\n') + 1
	at := []int{header}
	for i := header + nonce; i < len(data); i += chunk {
		at = append(at, i)
	}
	return at
}

func TestTruncationIsNoticed(t *testing.T) {
	plain := text(200 << 10)
	each(t, func(t *testing.T, c seal.Compression, k key) {
		data, _ := sealed(t, k.options(c), plain)
		if k.recipients == nil {
			// Only the middle of a frame can be told from its end.
			data = data[:len(data)-3]
			if _, err := unseal(data, k.readOptions(c)); c != seal.None && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("cut in a frame: error %v, want io.ErrUnexpectedEOF", err)
			}
			return
		}
		for _, i := range slices.Concat(places(len(data)), boundaries(data)) {
			got, err := unseal(data[:i], k.readOptions(c))
			if !errors.Is(err, io.ErrUnexpectedEOF) || !errors.Is(err, seal.ErrDamaged) ||
				!strings.Contains(err.Error(), "is truncated") {
				t.Errorf("cut at %d of %d: error %v, want a truncation", i, len(data), err)
			}
			if !bytes.HasPrefix(plain, got) {
				t.Errorf("cut at %d of %d: other bytes were handed on", i, len(data))
			}
		}
	})
}

// A decompressor finds nothing wrong with a stream that ends after a frame.
func TestTruncationBetweenFramesIsNoticed(t *testing.T) {
	k := pair(t, seal.X25519)
	frame, _ := sealed(t, seal.Options{Plain: true}, text(1000))
	skipped := make([]byte, 64<<10-len(frame))
	binary.LittleEndian.PutUint32(skipped, 0x184D2A50) // a skippable frame fills age's first chunk
	binary.LittleEndian.PutUint32(skipped[4:], uint32(len(skipped)-8))
	data, _ := sealed(t, k.options(seal.None), slices.Concat(frame, skipped, frame))
	opt := k.readOptions(seal.Zstd)
	if got, err := unseal(data, opt); err != nil || len(got) != 2000 {
		t.Fatalf("whole stream: %d bytes, error %v", len(got), err)
	}
	for _, i := range boundaries(data) {
		if _, err := unseal(data[:i], opt); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut at %d: error %v, want io.ErrUnexpectedEOF", i, err)
		}
	}
}

func TestTrailingBytesAreNoticed(t *testing.T) {
	each(t, func(t *testing.T, c seal.Compression, k key) {
		for _, size := range []int{0, 1000, 64 << 10, seal.ChunkSize} {
			data, _ := sealed(t, k.options(c), text(size))
			for _, garbage := range []string{"x", "\x00", "garbage after the end of the stream"} {
				got, err := unseal(slices.Concat(data, []byte(garbage)), k.readOptions(c))
				if k.recipients == nil && c == seal.None { // such a stream has no end of its own
					if err != nil || len(got) != size+len(garbage) {
						t.Errorf("plain stream of %d bytes: got %d, error %v", size+len(garbage), len(got), err)
					}
					continue
				}
				if !errors.Is(err, seal.ErrDamaged) {
					t.Errorf("%q after a stream of %d bytes: error %v, want ErrDamaged", garbage, size, err)
				}
			}
		}
	})
}

func TestEmptyPlainStreamIsTruncated(t *testing.T) {
	for _, c := range []seal.Compression{seal.Zstd, seal.Gzip} {
		_, err := unseal(nil, seal.ReadOptions{Compression: c, Plain: true})
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: error %v, want io.ErrUnexpectedEOF", c, err)
		}
	}
}

func TestSourceErrorIsNotDamage(t *testing.T) {
	lost := errors.New("connection lost")
	each(t, func(t *testing.T, c seal.Compression, k key) {
		data, _ := sealed(t, k.options(c), text(3*seal.ChunkSize))
		for _, at := range []int{0, 10, len(data) / 2, len(data)} {
			r := io.MultiReader(bytes.NewReader(data[:at]), iotest.ErrReader(lost))
			_, err := unsealFrom(r, k.readOptions(c))
			if !errors.Is(err, lost) || errors.Is(err, seal.ErrDamaged) {
				t.Errorf("source failing at %d of %d: error %v, want the source's", at, len(data), err)
			}
		}
	})
}

func TestReaderErrorSticks(t *testing.T) {
	k := pair(t, seal.X25519)
	data, _ := sealed(t, k.options(seal.Zstd), text(1000))
	r, err := seal.NewReader(bytes.NewReader(data[:len(data)-1]), k.readOptions(seal.Zstd))
	if err != nil {
		t.Fatal(err)
	}
	_, first := io.ReadAll(r)
	if _, second := r.Read(make([]byte, 1)); first == nil || second != first {
		t.Errorf("errors %v, then %v; want the same again", first, second)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// A store that puts a stream in the place of another must not reach a decompressor without authentication.
func TestPlainStreamInPlaceOfASealedOne(t *testing.T) {
	k := pair(t, seal.X25519)
	data, _ := sealed(t, seal.Options{Plain: true}, text(1000))
	if got, err := unseal(data, k.readOptions(seal.Zstd)); !errors.Is(err, seal.ErrDamaged) || len(got) > 0 {
		t.Errorf("got %d bytes, error %v; want ErrDamaged", len(got), err)
	}
}

// failingWriter takes some bytes and then fails.
type failingWriter struct{ left int }

var errDisk = errors.New("disk on fire")

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, errDisk
	}
	return len(p), nil
}

func TestWriterErrorSticks(t *testing.T) {
	noise := make([]byte, 12*seal.ChunkSize)
	rand.NewChaCha8([32]byte{1}).Read(noise)
	each(t, func(t *testing.T, c seal.Compression, k key) {
		for _, left := range []int{0, 1000, 3 * seal.ChunkSize, len(noise)} {
			w, err := seal.NewWriter(&failingWriter{left}, k.options(c))
			if err != nil {
				t.Fatal(err)
			}
			// The failure may show as late as Close, but then it must.
			_, _ = w.ReadFrom(bytes.NewReader(noise))
			if err := w.Close(); !errors.Is(err, errDisk) && (left < len(noise) || c != seal.None || k.recipients != nil) {
				t.Errorf("writer failing after %d bytes: Close: %v", left, err)
			}
			if _, err := w.Write([]byte("x")); err == nil {
				t.Error("Write after Close succeeded")
			}
		}
	})
}

func TestFailedInputDoesNotOpen(t *testing.T) {
	broken := errors.New("pg_dump died")
	k := pair(t, seal.X25519)
	for _, size := range []int{0, 1000, seal.ChunkSize, 3*seal.ChunkSize + 1} {
		var out bytes.Buffer
		w, err := seal.NewWriter(&out, k.options(seal.Zstd))
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.ReadFrom(io.MultiReader(bytes.NewReader(text(size)), iotest.ErrReader(broken)))
		if !errors.Is(err, broken) {
			t.Errorf("ReadFrom: %v, want the reader's error", err)
		}
		if err := w.Close(); !errors.Is(err, broken) {
			t.Errorf("Close: %v, want the reader's error", err)
		}
		if w.Sums() != (seal.Sums{}) {
			t.Error("Sums of a failed stream")
		}
		if _, err := unseal(out.Bytes(), k.readOptions(seal.Zstd)); err == nil {
			t.Errorf("a stream whose input failed after %d bytes opens as if it were whole", size)
		}
	}
}

func TestAbort(t *testing.T) {
	k := pair(t, seal.X25519)
	for _, size := range []int{0, 10, 5 * seal.ChunkSize} {
		var out bytes.Buffer
		w, err := seal.NewWriter(&out, k.options(seal.Gzip))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(text(size)); err != nil {
			t.Fatal(err)
		}
		w.Abort()
		w.Abort()
		if err := w.Close(); !errors.Is(err, seal.ErrAborted) {
			t.Errorf("Close after Abort: %v", err)
		}
		if _, err := unseal(out.Bytes(), k.readOptions(seal.Gzip)); err == nil {
			t.Error("an aborted stream opens as if it were whole")
		}
	}
}

func TestReaderThatNeverMoves(t *testing.T) {
	w, err := seal.NewWriter(io.Discard, seal.Options{Plain: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.ReadFrom(idle{}); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("ReadFrom: %v, want io.ErrNoProgress", err)
	}
	w.Abort()
}

type idle struct{}

func (idle) Read([]byte) (int, error) { return 0, nil }
