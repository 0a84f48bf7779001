package seal

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"

	"filippo.io/age"

	"holdfast"
)

// inputBuffer is read at once from the source, before a Plain stream is looked at.
const inputBuffer = 256 << 10

// Reader opens a sealed stream. It hands on only what was authenticated (unless Plain), and returns io.EOF only at the
// end of a whole stream. Errors of the source come back as they are; all others satisfy [ErrNoIdentity], [ErrUnsupported]
// or [ErrDamaged]. The first error sticks. A Reader is not safe for concurrent use.
type Reader struct {
	source *source // what the caller gave
	opened *source // authenticated, still compressed
	plain  io.Reader
	end    func()
	err    error
}

// NewReader opens the sealed stream r. It reads the header and fails with [ErrNoIdentity] when no identity fits. The
// caller keeps ownership of r, and must Close the Reader.
func NewReader(r io.Reader, opt ReadOptions) (*Reader, error) {
	compression, err := ParseCompression(string(opt.Compression))
	if err != nil {
		return nil, err
	}
	s := &Reader{source: &source{r: r}}
	opened, err := s.open(opt)
	if err != nil {
		return nil, err
	}
	s.opened = &source{r: opened}
	if s.plain, s.end, err = compression.decompress(s.opened); err != nil {
		return nil, fmt.Errorf("unseal: %w", err)
	}
	return s, nil
}

// open returns the compressed stream.
func (s *Reader) open(opt ReadOptions) (io.Reader, error) {
	if opt.Plain {
		buffered := bufio.NewReaderSize(s.source, inputBuffer)
		// Decompressors take no bytes at all for an empty stream.
		if _, err := buffered.Peek(1); err != nil && opt.Compression != None {
			return nil, s.translate(err, opt)
		}
		return buffered, nil
	}
	if len(opt.Identities) == 0 {
		return nil, holdfast.WithHint(fmt.Errorf("%w: no identity was given", ErrNoIdentity),
			"give the file with the identity that goes with one of the recipients (--identity FILE), or its passphrase (--passphrase-file FILE)")
	}
	format, err := ParseFormat(string(opt.Opening.Format))
	if err != nil {
		return nil, err
	}
	if !format.AuthenticatesAsRead() && !opt.Authenticated {
		return nil, fmt.Errorf("seal: a stream in the format %s must be authenticated before it is opened", format)
	}
	var opened io.Reader
	switch format {
	case OpenPGP:
		opened, err = openPGP(s.source, opt.Identities, opt.SealedTo)
	case OpenSSL:
		opened, err = openOpenSSL(s.source, opt)
	default:
		opened, err = openAge(s.source, opt)
	}
	if err != nil {
		return nil, s.translate(err, opt)
	}
	return opened, nil
}

func openAge(r io.Reader, opt ReadOptions) (io.Reader, error) {
	var identities []age.Identity
	for _, given := range opt.Identities {
		if i, ok := given.(age.Identity); ok {
			identities = append(identities, i)
		}
	}
	if len(identities) == 0 {
		to := "age keys"
		if len(opt.SealedTo) > 0 {
			to = strings.Join(opt.SealedTo, ", ")
		}
		return nil, noIdentity(to)
	}
	return age.Decrypt(r, identities...)
}

func noIdentity(sealedTo string) error {
	return holdfast.WithHint(ErrNoIdentity, "none of the identities given opens this; it was sealed to "+sealedTo)
}

// Read reads plaintext.
func (s *Reader) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.plain.Read(p)
	if err == io.EOF {
		err = s.finish()
	}
	if err != nil && err != io.EOF {
		err = s.translate(err, ReadOptions{})
	}
	s.err = err
	return n, err
}

// finish returns io.EOF if the whole stream was read without an error. The decompressor alone is not to be trusted
// with that: one takes the truncation that age reports between two frames for the end.
func (s *Reader) finish() error {
	if s.opened.err != nil || s.opened.ended {
		return cmp.Or(s.opened.err, io.EOF)
	}
	var rest [1]byte
	if _, err := io.ReadFull(s.opened, rest[:]); err != nil {
		return err
	}
	return errors.New("there is more after its end")
}

// Close frees what reading took. It does not close the source, and says nothing about the rest of the stream.
func (s *Reader) Close() error {
	s.end()
	if s.err == nil || s.err == io.EOF {
		s.err = errors.New("unseal: read after Close")
	}
	return nil
}

// translate says what an error means. The source's own errors are not damage.
func (s *Reader) translate(err error, opt ReadOptions) error {
	if s.source.err != nil {
		return fmt.Errorf("unseal: %w", s.source.err)
	}
	if s.opened != nil && s.opened.err != nil {
		err = s.opened.err // what decrypting says is nearer to the cause than what the decompressor makes of it
	}
	if match := (*age.NoIdentityMatchError)(nil); errors.As(err, &match) {
		to := describe(match.StanzaTypes)
		if len(opt.SealedTo) > 0 {
			to = strings.Join(opt.SealedTo, ", ")
		}
		return noIdentity(to)
	}
	switch {
	case errors.Is(err, ErrNoIdentity), errors.Is(err, ErrUnsupported), errors.Is(err, ErrDamaged):
		return err
	case errors.Is(err, errPGPIntegrity):
		return fmt.Errorf("%w is damaged: %w", ErrDamaged, err)
	case errors.Is(err, io.ErrUnexpectedEOF), err == io.EOF:
		return fmt.Errorf("%w is truncated: %w", ErrDamaged, io.ErrUnexpectedEOF)
	case s.source.ended:
		// Without the rest nobody can tell a flipped bit in the last part from a missing rest.
		return fmt.Errorf("%w is truncated, or damaged near its end: %w: %w", ErrDamaged, io.ErrUnexpectedEOF, err)
	default:
		return fmt.Errorf("%w is damaged: %w", ErrDamaged, err)
	}
}

// source remembers how reading ended.
type source struct {
	r     io.Reader
	ended bool
	err   error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	switch err {
	case nil:
	case io.EOF:
		s.ended = true
	default:
		s.err = err
	}
	return n, err
}
