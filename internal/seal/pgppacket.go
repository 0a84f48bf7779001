package seal

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The tags of OpenPGP packets that make a message; RFC 4880 section 4.3, RFC 9580 section 5.
const (
	tagPublicKeyESK  = 1 // a session key encrypted to a public key
	tagPassphraseESK = 3 // one encrypted to a passphrase
	tagUnprotected   = 9 // encrypted data without integrity protection
	tagMarker        = 10
	tagProtected     = 18 // encrypted data with integrity protection
	tagAEAD          = 20 // the same as GnuPG 2.3 writes it when asked to
	tagPadding       = 21
)

// maxESK bounds one packet with a session key, and maxESKs how many a message has: more than the recipients of any job.
const (
	maxESK  = 16 << 10
	maxESKs = 512
)

var errPGPHeader = errors.New("there is no OpenPGP packet")

// pgpHeader is the header of a packet; RFC 4880 section 4.2.
type pgpHeader struct {
	tag    int
	length int64 // of the body, unless stream
	stream bool  // the body comes in parts of their own lengths, or goes to the end
}

// parsePGPHeader reads the header at the beginning of data, and returns how long it is.
func parsePGPHeader(data []byte) (pgpHeader, int, error) {
	if len(data) < 2 || data[0]&0x80 == 0 {
		return pgpHeader{}, 0, errPGPHeader
	}
	if data[0]&0x40 == 0 { // old format
		h := pgpHeader{tag: int(data[0]>>2) & 0x0f}
		switch kind := data[0] & 3; {
		case kind == 3:
			h.stream = true
			return h, 1, nil
		case len(data) < 1+1<<kind:
			return pgpHeader{}, 0, errPGPHeader
		case kind == 0:
			h.length = int64(data[1])
			return h, 2, nil
		case kind == 1:
			h.length = int64(binary.BigEndian.Uint16(data[1:]))
			return h, 3, nil
		default:
			h.length = int64(binary.BigEndian.Uint32(data[1:]))
			return h, 5, nil
		}
	}
	h := pgpHeader{tag: int(data[0] & 0x3f)}
	switch first := data[1]; {
	case first < 192:
		h.length = int64(first)
		return h, 2, nil
	case first < 224:
		if len(data) < 3 {
			return pgpHeader{}, 0, errPGPHeader
		}
		h.length = int64(first-192)<<8 + int64(data[2]) + 192
		return h, 3, nil
	case first < 255:
		h.stream = true
		return h, 1, nil // the length of the first part belongs to the body
	}
	if len(data) < 6 {
		return pgpHeader{}, 0, errPGPHeader
	}
	h.length = int64(binary.BigEndian.Uint32(data[2:]))
	return h, 6, nil
}

// nextPGPHeader looks at the header that comes next in r and leaves it there. At the end of r the error is io.EOF.
func nextPGPHeader(r *bufio.Reader) (pgpHeader, int, error) {
	head, err := r.Peek(6)
	if len(head) == 0 && err != nil {
		return pgpHeader{}, 0, err
	}
	if err != nil && err != io.EOF {
		return pgpHeader{}, 0, err
	}
	h, n, parseErr := parsePGPHeader(head)
	if parseErr != nil && err == io.EOF && head[0]&0x80 != 0 {
		return pgpHeader{}, 0, io.ErrUnexpectedEOF
	}
	return h, n, parseErr
}

// wholePGPPacket reads the packet that comes next in r, header included.
func wholePGPPacket(r *bufio.Reader, h pgpHeader, headerSize int) ([]byte, error) {
	if h.stream || h.length > maxESK {
		return nil, fmt.Errorf("an OpenPGP packet with tag %d is too long", h.tag)
	}
	data := make([]byte, int64(headerSize)+h.length)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, cutShort(err)
	}
	return data, nil
}

// cutShort makes of an end where more was due what it is.
func cutShort(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
