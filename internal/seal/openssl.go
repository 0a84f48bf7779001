package seal

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"

	"holdfast"
)

const (
	opensslSalt       = 8
	opensslKey        = 32
	opensslCipher     = "aes-256-cbc"
	opensslDigest     = "sha256"
	opensslDefault    = 10_000  // what openssl enc -pbkdf2 takes without -iter
	opensslIterations = 600_000 // what is taken here; OWASP's advice for PBKDF2 with SHA-256
	// maxOpensslIterations bounds what a manifest or a user can ask of a reader: about ten seconds.
	maxOpensslIterations = 100_000_000
)

// opensslKeys makes key and first block from a passphrase, as openssl enc does: PBKDF2 with SHA-256.
func opensslKeys(p *Passphrase, salt []byte, iterations int) (key, iv []byte, err error) {
	made, err := pbkdf2.Key(sha256.New, p.text.Reveal(), salt, iterations, opensslKey+aes.BlockSize)
	if err != nil {
		return nil, nil, fmt.Errorf("make a key of the passphrase: %w", err)
	}
	return made[:opensslKey], made[opensslKey:], nil
}

// opensslCheck tells a right key from a wrong one, which the format cannot. It tells whoever guesses no more than the
// first bytes of a compressed stream do.
func opensslCheck(key []byte) string {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("holdfast-openssl-check"))
	return hex.EncodeToString(mac.Sum(nil)[:8])
}

// opensslWriter encrypts in CBC mode with the padding of PKCS #7 (RFC 5652 section 6.3).
type opensslWriter struct {
	w       io.Writer
	mode    cipher.BlockMode
	pending []byte // less than a block
	buffer  []byte
}

func newOpenSSLWriter(w io.Writer, p *Passphrase) (*opensslWriter, Opening, error) {
	salt := make([]byte, opensslSalt)
	if _, err := rand.Read(salt); err != nil {
		return nil, Opening{}, err
	}
	key, iv, err := opensslKeys(p, salt, p.iterations)
	if err != nil {
		return nil, Opening{}, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, Opening{}, err
	}
	if _, err := w.Write(append([]byte(opensslMagic), salt...)); err != nil {
		return nil, Opening{}, err
	}
	opening := Opening{Format: OpenSSL, Cipher: opensslCipher, Digest: opensslDigest, Iterations: p.iterations, Check: opensslCheck(key)}
	return &opensslWriter{w: w, mode: cipher.NewCBCEncrypter(block, iv)}, opening, nil
}

func (s *opensslWriter) Write(p []byte) (int, error) {
	s.buffer = append(append(s.buffer[:0], s.pending...), p...)
	whole := len(s.buffer) / aes.BlockSize * aes.BlockSize
	s.pending = append(s.pending[:0], s.buffer[whole:]...)
	s.mode.CryptBlocks(s.buffer[:whole], s.buffer[:whole])
	if _, err := s.w.Write(s.buffer[:whole]); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (s *opensslWriter) Close() error {
	padding := aes.BlockSize - len(s.pending)
	last := append(s.pending, bytes.Repeat([]byte{byte(padding)}, padding)...)
	s.mode.CryptBlocks(last, last)
	_, err := s.w.Write(last)
	return err
}

var (
	errPadding    = errors.New("its padding is wrong")
	errNotOpenSSL = errors.New("it does not begin as a file of openssl enc does")
)

// isOpenSSLText reports whether head begins as openssl enc -a writes a file: in base64, where the last letter of the magic goes
// on into one of four.
func isOpenSSLText(head []byte) bool {
	const magic, next = "U2FsdGVkX1", "89+/"
	rest, is := bytes.CutPrefix(bytes.TrimLeft(head, "\r\n\t "), []byte(magic))
	return is && len(rest) > 0 && strings.IndexByte(next, rest[0]) >= 0
}

// withoutBase64 takes off the base64 of openssl enc -a, if there is any: with line ends after 64 letters, or with none.
func withoutBase64(r io.Reader) io.Reader {
	buffered := bufio.NewReaderSize(r, inputBuffer)
	// An error is met again by whoever reads.
	if head, _ := buffered.Peek(DetectLength); !isOpenSSLText(head) {
		return buffered
	}
	return base64.NewDecoder(base64.StdEncoding.Strict(), unspaced{buffered})
}

// unspaced leaves out blanks and tabs, which openssl skips and what mails and editors add.
type unspaced struct{ r io.Reader }

func (u unspaced) Read(p []byte) (int, error) {
	n, err := u.r.Read(p)
	kept := p[:0]
	for _, c := range p[:n] {
		if c != ' ' && c != '\t' {
			kept = append(kept, c)
		}
	}
	return len(kept), err
}

// readOpenSSLSalt reads what stands before the encrypted blocks.
func readOpenSSLSalt(r io.Reader) ([]byte, error) {
	head := make([]byte, len(opensslMagic)+opensslSalt)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, cutShort(err)
	}
	salt, ok := bytes.CutPrefix(head, []byte(opensslMagic))
	if !ok {
		return nil, errNotOpenSSL
	}
	return salt, nil
}

// openOpenSSL opens a stream whose Opening was recorded, with the passphrase that its check fits.
func openOpenSSL(r io.Reader, opt ReadOptions) (io.Reader, error) {
	how := opt.Opening
	if how.Cipher != opensslCipher || how.Digest != opensslDigest || how.Iterations < 1 || how.Iterations > maxOpensslIterations {
		return nil, holdfast.WithHint(fmt.Errorf("%w: openssl enc with cipher %q, digest %q and %d iterations", ErrUnsupported, how.Cipher, how.Digest, how.Iterations),
			"use openssl enc itself, or a newer holdfast")
	}
	salt, err := readOpenSSLSalt(r)
	if err != nil {
		return nil, err
	}
	for _, identity := range opt.Identities {
		p, ok := identity.(*Passphrase)
		if !ok {
			continue
		}
		key, iv, err := opensslKeys(p, salt, how.Iterations)
		if err != nil {
			return nil, err
		}
		if opensslCheck(key) == how.Check {
			return newOpenSSLReader(r, key, iv)
		}
	}
	return nil, noIdentity(cmp.Or(strings.Join(opt.SealedTo, ", "), "a passphrase"))
}

// opensslReader decrypts the blocks of r. Nothing it hands on was authenticated; a wrong key is noticed at the end,
// 255 times of 256.
type opensslReader struct {
	r     *bufio.Reader
	mode  cipher.BlockMode
	block []byte // decrypted and not handed on
	ready []byte
	err   error
}

func newOpenSSLReader(r io.Reader, key, iv []byte) (*opensslReader, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return &opensslReader{r: bufio.NewReaderSize(r, inputBuffer), mode: cipher.NewCBCDecrypter(block, iv), block: make([]byte, 64<<10)}, nil
}

func (s *opensslReader) Read(p []byte) (int, error) {
	for len(s.ready) == 0 {
		if s.err != nil {
			return 0, s.err
		}
		s.fill()
	}
	n := copy(p, s.ready)
	s.ready = s.ready[n:]
	return n, nil
}

// fill decrypts as many blocks as there are, and takes the padding off the last.
func (s *opensslReader) fill() {
	n, err := readUpTo(s.r, s.block)
	if err == nil {
		_, err = s.r.Peek(1)
	}
	if err != nil && err != io.EOF {
		s.err = err
		return
	}
	if n == 0 || n%aes.BlockSize != 0 {
		s.err = io.ErrUnexpectedEOF
		return
	}
	s.ready = s.block[:n]
	s.mode.CryptBlocks(s.ready, s.ready)
	if err == nil {
		return
	}
	padding := int(s.ready[n-1])
	if padding == 0 || padding > aes.BlockSize || !bytes.Equal(s.ready[n-padding:], bytes.Repeat([]byte{byte(padding)}, padding)) {
		s.ready, s.err = nil, errPadding
		return
	}
	s.ready, s.err = s.ready[:n-padding], io.EOF
}

// decryptHead decrypts the beginning of a file into p, and takes the padding off if that is all of it.
func (s *opensslReader) decryptHead(p []byte, whole bool) (int, error) {
	if whole {
		n, err := readUpTo(s, p)
		if err == io.EOF {
			err = nil
		}
		return n, err
	}
	n, err := readUpTo(s.r, p)
	if err != nil {
		return 0, err
	}
	n = n / aes.BlockSize * aes.BlockSize
	s.mode.CryptBlocks(p[:n], p[:n])
	return n, nil
}
