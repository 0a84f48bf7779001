package seal

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/aes"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/ProtonMail/go-crypto/openpgp/armor"
	pgperrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"holdfast"
)

// ErrUnsupported: the stream is encrypted in a way that is not opened here, although others may. It has a hint that
// says how.
var ErrUnsupported = errors.New("this kind of encrypted stream is not opened")

// pgpReader reads the content of an OpenPGP message: the body of the one literal packet in it. It returns io.EOF only
// after the integrity of the whole was checked and nothing follows. What it hands on before was not authenticated.
type pgpReader struct {
	input     *bufio.Reader  // of the encrypted packet and what follows
	contents  *source        // of the encrypted packet
	decrypted io.ReadCloser  // Close checks the integrity
	inner     *packet.Reader // the packets in decrypted
	body      io.Reader      // of the literal packet
	err       error
}

// openPGP reads the beginning of a message up to its content.
func openPGP(r io.Reader, identities []Identity, sealedTo []string) (*pgpReader, error) {
	p := &pgpReader{input: bufio.NewReaderSize(r, inputBuffer)}
	head, err := p.input.Peek(len(pgpArmor) + 64)
	if len(head) == 0 && err != nil {
		return nil, cutShort(err)
	}
	if bytes.HasPrefix(bytes.TrimLeft(head, " \t\r\n"), []byte(pgpArmor)) {
		block, err := armor.Decode(p.input)
		if err != nil {
			return nil, cutShort(err)
		}
		p.input = bufio.NewReaderSize(block.Body, inputBuffer)
	}
	if err := p.open(&sessionKeys{identities: identities, named: sealedTo}); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *pgpReader) open(session *sessionKeys) error {
	for count := 0; ; count++ {
		h, headerSize, err := nextPGPHeader(p.input)
		if err != nil {
			return cutShort(err)
		}
		switch h.tag {
		case tagProtected, tagAEAD:
			return p.openData(session)
		case tagUnprotected:
			return holdfast.WithHint(fmt.Errorf("%w: the OpenPGP message has no integrity protection, so a change of it would go unseen", ErrUnsupported),
				"decrypt it with `gpg --ignore-mdc-error -d FILE > PLAIN`, look at what comes out, and use that")
		case tagPublicKeyESK, tagPassphraseESK, tagMarker, tagPadding:
			if count > maxESKs {
				return errors.New("the OpenPGP message has too many recipients")
			}
			data, err := wholePGPPacket(p.input, h, headerSize)
			if err != nil {
				return err
			}
			session.add(h.tag, data, headerSize)
		default:
			return fmt.Errorf("it is not an encrypted OpenPGP message: a packet with tag %d stands where a key belongs", h.tag)
		}
	}
}

// openData decrypts the packet that comes next in the input, and reads up to the body of the literal packet in it.
func (p *pgpReader) openData(session *sessionKeys) error {
	read, err := packet.Read(p.input)
	if err != nil {
		return pgpCause(err)
	}
	// The library takes a packet that is shorter than its header says for a whole one.
	switch data := read.(type) {
	case *packet.SymmetricallyEncrypted:
		p.contents = &source{r: data.Contents}
		data.Contents = p.contents
	case *packet.AEADEncrypted:
		p.contents = &source{r: data.Contents}
		data.Contents = p.contents
	}
	if p.decrypted, err = session.decrypt(read); err != nil {
		return err
	}
	p.inner = packet.NewReader(p.decrypted)
	if p.body, err = p.literal(); err != nil {
		return p.judge(err)
	}
	return nil
}

// literal reads packets up to the one with the content, and returns its body.
func (p *pgpReader) literal() (io.Reader, error) {
	compressed := false
	for {
		read, err := p.inner.Next()
		if err != nil {
			return nil, cutShort(err)
		}
		switch read := read.(type) {
		case *packet.OnePassSignature, *packet.Signature:
		case *packet.Compressed:
			if compressed {
				return nil, errors.New("the OpenPGP message is compressed more than once")
			}
			compressed = true
			if err := p.inner.Push(read.Body); err != nil {
				return nil, err
			}
		case *packet.LiteralData:
			if !read.IsBinary {
				return nil, holdfast.WithHint(fmt.Errorf("%w: the OpenPGP message was made in text mode, which changes the ends of lines, so it is not byte for byte what was encrypted", ErrUnsupported),
					"decrypt it with `gpg -d FILE > PLAIN`, look at what comes out, and use that; encrypt without --textmode")
			}
			return read.Body, nil
		default:
			return nil, fmt.Errorf("the OpenPGP message holds %T where its content belongs", read)
		}
	}
}

// Read hands on content.
func (p *pgpReader) Read(b []byte) (int, error) {
	if p.err != nil {
		return 0, p.err
	}
	n, err := p.body.Read(b)
	if err == io.EOF {
		err = p.finish()
	} else if err != nil {
		err = p.judge(err)
	}
	p.err = err
	return n, err
}

// finish reads what follows the content, and returns io.EOF when all of it is as it must be.
func (p *pgpReader) finish() error {
	for {
		read, err := p.inner.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return p.judge(err)
		}
		if _, ok := read.(*packet.Signature); !ok {
			return p.judge(fmt.Errorf("the OpenPGP message holds %T after its content", read))
		}
	}
	if err := p.decrypted.Close(); err != nil {
		return pgpCause(err)
	}
	if p.contents.err != nil {
		return p.contents.err
	}
	if _, err := p.input.ReadByte(); err != io.EOF {
		return cmp.Or(err, errors.New("there is more after the end of the OpenPGP message"))
	}
	return io.EOF
}

// judge tells of a message that cannot be read whether it is damaged. If its integrity holds, err is the reason.
func (p *pgpReader) judge(err error) error {
	if _, drainErr := io.Copy(io.Discard, p.decrypted); drainErr != nil {
		return pgpCause(drainErr)
	}
	if closeErr := p.decrypted.Close(); closeErr != nil {
		return pgpCause(closeErr)
	}
	return err
}

// pgpCause says in plain words what the library found.
func pgpCause(err error) error {
	switch {
	case errors.Is(err, pgperrors.ErrMDCHashMismatch), errors.Is(err, pgperrors.ErrMDCMissing), errors.Is(err, pgperrors.ErrAEADTagVerification):
		return errPGPIntegrity
	case errors.As(err, new(pgperrors.UnsupportedError)):
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	return cutShort(err)
}

var errPGPIntegrity = errors.New("the check of its integrity fails")

// sessionKeys collects the packets that hold the key of a message.
type sessionKeys struct {
	identities  []Identity
	public      []*packet.EncryptedKey
	passphrases []*packet.SymmetricKeyEncrypted
	sealedTo    []string // as the message says it
	named       []string // as the caller knows it; goes before
}

// add takes one packet. One that cannot be read, or is of a kind nobody here has the key of, is passed over: another one
// may fit.
func (s *sessionKeys) add(tag int, data []byte, headerSize int) {
	switch tag {
	case tagPassphraseESK:
		s.sealedTo = append(s.sealedTo, "a passphrase")
		if hungry(data[headerSize:]) {
			return
		}
	case tagPublicKeyESK:
	default:
		return
	}
	read, err := packet.Read(bytes.NewReader(data))
	if err != nil {
		return
	}
	switch read := read.(type) {
	case *packet.EncryptedKey:
		s.public = append(s.public, read)
		name := "an OpenPGP key that is not named"
		if read.KeyId != 0 {
			name = fmt.Sprintf("the OpenPGP key %016X", read.KeyId)
		}
		s.sealedTo = append(s.sealedTo, name)
	case *packet.SymmetricKeyEncrypted:
		s.passphrases = append(s.passphrases, read)
	}
}

// hungry reports whether a passphrase packet asks for a function whose memory the message chooses (Argon2).
func hungry(body []byte) bool {
	at := map[byte]int{4: 2, 5: 3, 6: 5}[body[0]]
	return at == 0 || len(body) <= at || body[at] == 4
}

// decrypt opens the packet with the data by the first key that fits.
func (s *sessionKeys) decrypt(data packet.Packet) (io.ReadCloser, error) {
	var given []*Passphrase
	for _, identity := range s.identities {
		if p, ok := identity.(*Passphrase); ok {
			given = append(given, p)
		}
	}
	locked := false
	for _, esk := range s.public {
		for _, identity := range s.identities {
			key, ok := identity.(*pgpIdentity)
			if !ok {
				continue
			}
			opened, isLocked := key.open(esk)
			locked = locked || isLocked
			if opened {
				return decryptData(data, esk.CipherFunc, esk.Key)
			}
		}
	}
	fits, err := passphraseTest(data)
	if err != nil {
		return nil, err
	}
	for _, esk := range s.passphrases {
		for _, passphrase := range given {
			key, function, err := esk.Decrypt([]byte(passphrase.text.Reveal()))
			if err == nil && fits(function, key) {
				return decryptData(data, function, key)
			}
		}
	}
	to := strings.Join(s.sealedTo, ", ")
	if len(s.named) > 0 {
		to = strings.Join(s.named, ", ")
	}
	switch {
	case locked:
		return nil, holdfast.WithHint(fmt.Errorf("%w: the OpenPGP private key that fits is locked", ErrNoIdentity),
			"give its passphrase with --passphrase-file FILE")
	default:
		return nil, noIdentity(to)
	}
}

func decryptData(data packet.Packet, function packet.CipherFunction, key []byte) (io.ReadCloser, error) {
	encrypted, ok := data.(packet.EncryptedDataPacket)
	if !ok {
		return nil, fmt.Errorf("%w: the data is in a packet of type %T", ErrUnsupported, data)
	}
	r, err := encrypted.Decrypt(function, key)
	if err != nil {
		return nil, pgpCause(err)
	}
	return r, nil
}

// passphraseTest returns how a key that was made from a passphrase is tried. A wrong passphrase makes a key as good as
// any other, and the data begins with 16 random bytes of which the last two are repeated (RFC 4880 section 5.13). That
// is no oracle to anybody here: who sees the answer has the passphrase or guesses it at home.
func passphraseTest(data packet.Packet) (func(packet.CipherFunction, []byte) bool, error) {
	encrypted, ok := data.(*packet.SymmetricallyEncrypted)
	if !ok || encrypted.Version != 1 {
		return func(packet.CipherFunction, []byte) bool { return true }, nil
	}
	buffered := bufio.NewReaderSize(encrypted.Contents, inputBuffer)
	prefix, err := buffered.Peek(aes.BlockSize + 2)
	if err != nil {
		return nil, cutShort(err)
	}
	prefix = bytes.Clone(prefix)
	encrypted.Contents = buffered
	return func(function packet.CipherFunction, key []byte) bool {
		switch function {
		case packet.CipherAES128, packet.CipherAES192, packet.CipherAES256:
		default:
			return true
		}
		block, err := aes.NewCipher(key)
		if err != nil {
			return false
		}
		plain := bytes.Clone(prefix)
		packet.NewOCFBDecrypter(block, plain, packet.OCFBNoResync)
		return bytes.Equal(plain[aes.BlockSize-2:aes.BlockSize], plain[aes.BlockSize:])
	}, nil
}
