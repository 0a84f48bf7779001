// Package seal turns a stream into one that only the holder of an identity can read, and back: compress, then encrypt
// with age, as OpenPGP, or as openssl enc does. It also makes and checks signatures in the format of ssh-keygen -Y.
//
// It hides ciphers, compressors, worker goroutines and chunking; it is the only importer of cipher packages. Its
// laws: what it writes opens with the stock tools (age -d, gpg -d or openssl enc -d, then zstd -d or gunzip); a reader of
// an encrypted stream hands on no byte that was not authenticated, and returns io.EOF only when the stream is whole;
// memory is bounded whatever the input; a secret is never in an error. Formats that are authenticated at their end only,
// or not at all, are opened when the whole was compared before with a digest that was recorded ([Twice]). Files of other
// programs have none ([OpenForeign]): those of openssl enc are marked as not authenticated.
//
// A stream sealed to nobody (Plain) is only compressed. Cut at the end of a chunk it looks whole, and damage in the
// headers of its compression may go unseen: whoever stores such streams compares digests, see [Sums].
//
// It is not its job to store anything or to know which key should have signed.
package seal

import (
	"errors"
	"fmt"
	"io"
	"runtime"

	"holdfast"
)

// The sentinels of reading.
var (
	// ErrNoIdentity: none of the identities given opens the stream.
	ErrNoIdentity = errors.New("no identity opens this")
	// ErrDamaged: the stream is not what was written. A stream that is cut short is also io.ErrUnexpectedEOF. Errors
	// with it satisfy holdfast.ErrDifference.
	ErrDamaged = fmt.Errorf("%w: sealed stream", holdfast.ErrDifference)
)

// chunkSize is how much plaintext is compressed on its own. Larger chunks compress a little better; smaller ones
// keep memory small and cores busy at the end of a stream.
const chunkSize = 1 << 20

// maxWorkers bounds the memory of one Writer where there are many cores; beyond it the one goroutine that hashes and
// encrypts is the limit anyway.
const maxWorkers = 8

// Options says how a stream is sealed.
type Options struct {
	Compression Compression // "" means Zstd
	// Level is the compressor's own level (zstd: 1 to 22, gzip: 1 to 9). 0 means its fastest.
	Level int
	// Recipients can open the stream. There must be one, unless Plain.
	Recipients []Recipient
	// ToExpired seals also to OpenPGP keys that have expired, though not to revoked ones. It is for what must be kept now,
	// whatever was forgotten: the details of a drill, a safety copy.
	ToExpired bool
	// Plain says that the stream is not to be encrypted. Then there must be no recipient.
	Plain bool
	// Workers is the number of goroutines that compress. 0 means one for each core, at most 8.
	Workers int
}

// Format is how the stream is encrypted, which follows from the recipients; "" when Plain.
func (o Options) Format() Format {
	switch {
	case o.Plain:
		return ""
	case len(o.Recipients) == 0:
		return Age
	}
	return o.Recipients[0].Format()
}

// Suffix returns what is appended to the name of a sealed object, the suffixes of compression and of encryption: ".zst.age",
// ".gz.gpg", ".enc", ".zst" or "", say.
func (o Options) Suffix() string {
	if o.Plain {
		return o.Compression.Suffix()
	}
	return o.Compression.Suffix() + o.Format().Suffix()
}

func (o Options) check() error {
	if _, err := ParseCompression(string(o.Compression)); err != nil {
		return err
	}
	if limit := o.Compression.maxLevel(); o.Level < 0 || o.Level > limit {
		return holdfast.WithHint(fmt.Errorf("%w: compression level %d is not known", holdfast.ErrUsage, o.Level),
			fmt.Sprintf("use 1 to %d, or leave it out for the fastest", limit))
	}
	if !o.Plain {
		return CheckRecipients(o.Recipients)
	}
	if len(o.Recipients) > 0 {
		return fmt.Errorf("%w: recipients given for a stream that is not to be encrypted", holdfast.ErrUsage)
	}
	return nil
}

func (o Options) workers() int {
	if o.Workers > 0 {
		return o.Workers
	}
	return min(runtime.GOMAXPROCS(0), maxWorkers)
}

// Sums is what a [Writer] saw and made. Digests are lower-case hexadecimal.
type Sums struct {
	PlainBytes   int64
	PlainSHA256  string
	SealedBytes  int64
	SealedSHA256 string
}

// ReadOptions says how a stream was sealed.
type ReadOptions struct {
	Compression Compression // "" means Zstd
	// Identities are tried one after another. They are not used when Plain.
	Identities []Identity
	// Plain says that the stream is not encrypted. It is never guessed: a store must not be able to slip in a stream
	// that nobody sealed.
	Plain bool
	// SealedTo lists the key IDs of the recipients, for the hint of ErrNoIdentity only.
	SealedTo []string
	// Opening is what the [Writer] told of how it encrypted. The zero value means age.
	Opening Opening
	// Authenticated says that whoever gives the stream has compared the whole of it with a digest before, and hands on
	// no other bytes; [Twice] does. A stream in a format that is not authenticated as it is read is refused without.
	Authenticated bool
}

// Opening is what a reader must know of how a stream was encrypted, beside the secret. It is not secret.
type Opening struct {
	Format Format `json:"format"`
	// Cipher, Digest and Iterations are those of openssl enc, which does not store them: "aes-256-cbc", "sha256", and how
	// often PBKDF2 hashes.
	Cipher     string `json:"cipher,omitempty"`
	Digest     string `json:"digest,omitempty"`
	Iterations int    `json:"iterations,omitempty"`
	// Check tells a right passphrase of openssl enc from a wrong one: 8 bytes of an HMAC under the key, hexadecimal.
	Check string `json:"check,omitempty"`
}

var (
	_ io.WriteCloser = (*Writer)(nil)
	_ io.ReaderFrom  = (*Writer)(nil)
	_ io.ReadCloser  = (*Reader)(nil)
)
