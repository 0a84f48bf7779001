package seal

import (
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"holdfast"
)

// Compression names a compressor.
type Compression string

// The compressors.
const (
	Zstd Compression = "zstd"
	Gzip Compression = "gzip"
	None Compression = "none"
)

// maxWindow bounds the memory that a zstd stream can ask of its reader. Stock zstd makes no larger windows unless
// told to with --long or --ultra.
const maxWindow = 8 << 20

// ParseCompression validates text; "" is Zstd.
func ParseCompression(text string) (Compression, error) {
	switch c := Compression(text); c {
	case "":
		return Zstd, nil
	case Zstd, Gzip, None:
		return c, nil
	}
	return "", holdfast.WithHint(fmt.Errorf("%w: compression %q is not known", holdfast.ErrUsage, text),
		"use zstd, gzip or none")
}

// Suffix returns ".zst", ".gz" or "".
func (c Compression) Suffix() string {
	switch c {
	case Gzip:
		return ".gz"
	case None:
		return ""
	default:
		return ".zst"
	}
}

func (c Compression) maxLevel() int {
	switch c {
	case Gzip:
		return gzip.BestCompression
	case None:
		return 0
	default:
		return 22
	}
}

// compressor appends to dst a whole frame or member that holds src. Each worker has its own.
type compressor func(dst, src []byte) ([]byte, error)

// compressors returns one compressor for each worker, or none when there is nothing to compress.
func (o Options) compressors() ([]compressor, error) {
	made := make([]compressor, o.workers())
	switch o.Compression {
	case None:
		return nil, nil
	case Gzip:
		for i := range made {
			w, err := gzip.NewWriterLevel(io.Discard, max(o.Level, gzip.BestSpeed))
			if err != nil {
				return nil, err
			}
			made[i] = gzipCompressor(w)
		}
	default:
		level := zstd.SpeedFastest
		if o.Level > 0 {
			level = zstd.EncoderLevelFromZstd(o.Level)
		}
		encoder, err := zstd.NewWriter(nil,
			zstd.WithEncoderLevel(level),
			zstd.WithWindowSize(chunkSize),
			zstd.WithEncoderConcurrency(len(made)),
			zstd.WithEncoderCRC(true),
			// By default the fastest level leaves alone what has no repetitions. Random bytes in a dump are
			// hexadecimal: nothing repeats, and yet half of it is air.
			zstd.WithAllLitEntropyCompression(true),
			zstd.WithZeroFrames(true), // an empty stream is one empty frame: stock zstd refuses an empty file
		)
		if err != nil {
			return nil, err
		}
		for i := range made {
			made[i] = func(dst, src []byte) ([]byte, error) { return encoder.EncodeAll(src, dst), nil }
		}
	}
	return made, nil
}

type appender []byte

func (a *appender) Write(p []byte) (int, error) {
	*a = append(*a, p...)
	return len(p), nil
}

func gzipCompressor(w *gzip.Writer) compressor {
	return func(dst, src []byte) ([]byte, error) {
		out := appender(dst)
		w.Reset(&out)
		if _, err := w.Write(src); err != nil {
			return nil, err
		}
		if err := w.Close(); err != nil {
			return nil, err
		}
		return out, nil
	}
}

// decompress returns a reader of what r holds compressed, and what ends it.
func (c Compression) decompress(r io.Reader) (io.Reader, func(), error) {
	switch c {
	case None:
		return r, func() {}, nil
	case Gzip:
		// The first header is read at the first Read, like that of the others.
		return &gzipReader{src: r}, func() {}, nil
	default:
		decoder, err := zstd.NewReader(r,
			zstd.WithDecoderMaxWindow(maxWindow),
			zstd.WithDecoderLowmem(true),
		)
		if err != nil {
			return nil, nil, err
		}
		return decoder, decoder.Close, nil
	}
}

type gzipReader struct {
	src io.Reader
	r   *gzip.Reader
}

func (g *gzipReader) Read(p []byte) (int, error) {
	if g.r == nil {
		r, err := gzip.NewReader(g.src)
		if err != nil {
			return 0, err
		}
		g.r = r
	}
	return g.r.Read(p)
}

// describe names the kinds of age stanzas in words a user knows.
func describe(stanzaTypes []string) string {
	names := make([]string, len(stanzaTypes))
	for i, kind := range stanzaTypes {
		switch kind {
		case "X25519":
			names[i] = "a key age1…"
		case "mlkem768x25519":
			names[i] = "a key age1pq1…"
		case "scrypt":
			names[i] = "a passphrase"
		default:
			names[i] = fmt.Sprintf("a recipient of type %q", kind)
		}
	}
	return strings.Join(names, ", ")
}
