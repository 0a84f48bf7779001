package seal_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"holdfast"
	"holdfast/internal/seal"
)

// key is one way to seal, and the way back.
type key struct {
	name       string
	recipients []seal.Recipient // none: plain
	identities []seal.Identity
	text       holdfast.Secret // of the identity
}

func (k key) options(c seal.Compression) seal.Options {
	return seal.Options{Compression: c, Recipients: k.recipients, Plain: k.recipients == nil, Workers: 2}
}

func (k key) readOptions(c seal.Compression) seal.ReadOptions {
	return seal.ReadOptions{Compression: c, Identities: k.identities, Plain: k.recipients == nil}
}

func pair(t testing.TB, kind seal.KeyKind) key {
	t.Helper()
	text, public, err := seal.NewIdentity(kind)
	if err != nil {
		t.Fatal(err)
	}
	recipient, err := seal.ParseRecipient(public)
	if err != nil {
		t.Fatal(err)
	}
	identities, err := seal.ParseIdentities(strings.NewReader("# a comment\n\n" + text.Reveal() + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	return key{string(kind), []seal.Recipient{recipient}, identities, text}
}

func passphrase(t testing.TB, text string) key {
	t.Helper()
	p, err := seal.NewCheapPassphrase(holdfast.NewSecret(text))
	if err != nil {
		t.Fatal(err)
	}
	return key{name: "passphrase", recipients: []seal.Recipient{p}, identities: []seal.Identity{p}}
}

func keys(t testing.TB) []key {
	return []key{{name: "plain"}, pair(t, seal.X25519), pair(t, seal.Hybrid), passphrase(t, "correct horse")}
}

var compressions = []seal.Compression{seal.Zstd, seal.Gzip, seal.None}

// each runs test for every way to seal.
func each(t *testing.T, test func(t *testing.T, c seal.Compression, k key)) {
	for _, k := range keys(t) {
		for _, c := range compressions {
			t.Run(fmt.Sprintf("%s,%s", c, k.name), func(t *testing.T) { test(t, c, k) })
		}
	}
}

func sealed(t testing.TB, opt seal.Options, plain []byte) ([]byte, seal.Sums) {
	t.Helper()
	var out bytes.Buffer
	w, err := seal.NewWriter(&out, opt)
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.ReadFrom(bytes.NewReader(plain))
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), w.Sums()
}

func unseal(data []byte, opt seal.ReadOptions) ([]byte, error) {
	return unsealFrom(bytes.NewReader(data), opt)
}

func unsealFrom(r io.Reader, opt seal.ReadOptions) ([]byte, error) {
	s, err := seal.NewReader(r, opt)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return io.ReadAll(s)
}

// text is data that compresses, with every byte that a careless filter would change.
func text(size int) []byte {
	data := make([]byte, 0, size+64)
	for i := 0; len(data) < size; i++ {
		data = fmt.Appendf(data, "%d\tcustomer %x\r\n\x00\xff\t%d\n", i, i*2654435761, i%97)
	}
	return data[:size]
}

var sizes = []int{0, 1, 100, 64<<10 - 1, 64 << 10, 64<<10 + 1,
	seal.ChunkSize - 1, seal.ChunkSize, seal.ChunkSize + 1, 3*seal.ChunkSize + 12345}

func TestRoundTrip(t *testing.T) {
	each(t, func(t *testing.T, c seal.Compression, k key) {
		for _, size := range sizes {
			plain := text(size)
			data, sums := sealed(t, k.options(c), plain)
			wantSums(t, sums, plain, data)
			got, err := unsealFrom(iotest.HalfReader(bytes.NewReader(data)), k.readOptions(c))
			if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("size %d: got %d bytes back, error %v", size, len(got), err)
			}
		}
	})
}

func TestRoundTripOfAnything(t *testing.T) {
	k := pair(t, seal.X25519)
	rapid.Check(t, func(rt *rapid.T) {
		c := rapid.SampledFrom(compressions).Draw(rt, "compression")
		opt := k.options(c)
		opt.Workers = rapid.IntRange(1, 4).Draw(rt, "workers")
		unit := rapid.SliceOfN(rapid.Byte(), 1, 5000).Draw(rt, "unit")
		plain := bytes.Repeat(unit, rapid.IntRange(0, 1000).Draw(rt, "repeats"))
		step := rapid.IntRange(1, 3<<20).Draw(rt, "step")
		var out bytes.Buffer
		w, err := seal.NewWriter(&out, opt)
		if err != nil {
			rt.Fatal(err)
		}
		for rest := plain; len(rest) > 0; {
			n := min(step, len(rest))
			if _, err := w.Write(rest[:n]); err != nil {
				rt.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := w.Close(); err != nil {
			rt.Fatal(err)
		}
		got, err := unseal(out.Bytes(), k.readOptions(c))
		if err != nil || !bytes.Equal(got, plain) {
			rt.Fatalf("%d bytes came back as %d, error %v", len(plain), len(got), err)
		}
	})
}

func wantSums(t testing.TB, sums seal.Sums, plain, data []byte) {
	t.Helper()
	want := seal.Sums{
		PlainBytes: int64(len(plain)), PlainSHA256: fmt.Sprintf("%x", sha256.Sum256(plain)),
		SealedBytes: int64(len(data)), SealedSHA256: fmt.Sprintf("%x", sha256.Sum256(data)),
	}
	if sums != want {
		t.Errorf("Sums() = %+v, want %+v", sums, want)
	}
}
