package seal

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"holdfast"
)

// Format names how a stream is encrypted.
type Format string

// The formats.
const (
	Age     Format = "age"     // https://c2sp.org/age; authenticated as it is read
	OpenPGP Format = "openpgp" // RFC 4880; authenticated at its end only
	OpenSSL Format = "openssl" // openssl enc -aes-256-cbc -pbkdf2; not authenticated
)

// ParseFormat validates text; "" is Age.
func ParseFormat(text string) (Format, error) {
	switch f := Format(text); f {
	case "":
		return Age, nil
	case Age, OpenPGP, OpenSSL:
		return f, nil
	}
	return "", holdfast.WithHint(fmt.Errorf("%w: format %q is not known", holdfast.ErrUsage, text), "use age, openpgp or openssl")
}

// Suffix returns ".age", ".gpg" or ".enc".
func (f Format) Suffix() string {
	switch f {
	case OpenPGP:
		return ".gpg"
	case OpenSSL:
		return ".enc"
	default:
		return ".age"
	}
}

// AuthenticatesAsRead reports whether a reader of the format knows of each byte that it is right before it hands it on.
// Of the others one must have read the whole before one byte can be used; see [Twice].
func (f Format) AuthenticatesAsRead() bool { return f == Age || f == "" }

// DetectLength is how many bytes of a stream [Detect] looks at.
const DetectLength = 512

const (
	ageMagic     = "age-encryption.org/v1\n"
	ageArmor     = "-----BEGIN AGE ENCRYPTED FILE-----"
	pgpArmor     = "-----BEGIN PGP MESSAGE-----"
	opensslMagic = "Salted__"
)

// Detect tells from the first bytes of a stream, at least [DetectLength] of them or all there are, whether it is
// encrypted and how. It knows age (version 1), OpenPGP messages with old and new packet headers, both of them also armored,
// and openssl enc with a salt, also in base64 (openssl enc -a). An OpenPGP message that is only signed or compressed is not encrypted.
func Detect(head []byte) (Format, bool) {
	switch text := bytes.TrimLeft(head, " \t\r\n"); {
	case bytes.HasPrefix(head, []byte(ageMagic)), bytes.HasPrefix(text, []byte(ageArmor)):
		return Age, true
	case bytes.HasPrefix(text, []byte(pgpArmor)):
		return OpenPGP, true
	case bytes.HasPrefix(head, []byte(opensslMagic)), isOpenSSLText(head):
		return OpenSSL, true
	case isPGPMessage(head):
		return OpenPGP, true
	}
	return "", false
}

// isPGPMessage looks at the first packet of head. Arbitrary bytes often have a valid tag, so what the packet begins with
// must also be what RFC 4880 says.
func isPGPMessage(head []byte) bool {
	for skipped := 0; skipped < 4; skipped++ {
		h, n, err := parsePGPHeader(head)
		if err != nil {
			return false
		}
		body := head[n:]
		if !h.stream && h.length < int64(len(body)) {
			body = body[:h.length]
		}
		switch h.tag {
		case tagMarker:
			if string(body) != "PGP" {
				return false
			}
			head = head[n+len(body):]
			continue
		case tagPublicKeyESK:
			return isPublicKeyESK(h, body)
		case tagPassphraseESK:
			return isPassphraseESK(h, body)
		case tagProtected:
			return len(body) > 2 && (body[0] == 1 || body[0] == 2) && (h.stream || h.length > 20)
		case tagAEAD:
			return len(body) > 3 && body[0] == 1 && body[1] <= 13 && body[2] >= 1 && body[2] <= 2
		}
		return false
	}
	return false
}

func isPublicKeyESK(h pgpHeader, body []byte) bool {
	if h.stream || h.length > maxESK || len(body) < 12 {
		return false
	}
	switch body[0] {
	case 3:
		switch algorithm := body[9]; algorithm {
		case 1, 2: // RSA: one number, and nothing after it
			bits := int64(binary.BigEndian.Uint16(body[10:]))
			return h.length == 12+(bits+7)/8
		case 16, 18, 25, 26, 29, 30, 35, 36:
			return h.length > 40
		}
	case 6:
		return body[1] == 0 || body[1] == 21 && body[2] == 4 || body[1] == 33 && body[2] == 6
	}
	return false
}

func isPassphraseESK(h pgpHeader, body []byte) bool {
	if h.stream || h.length < 4 || h.length > maxESK || len(body) < 6 {
		return false
	}
	cipher, s2k := body[1], body[2]
	switch body[0] {
	case 4:
	case 5:
		s2k = body[3]
	case 6:
		cipher, s2k = body[2], body[5]
	default:
		return false
	}
	return cipher >= 1 && cipher <= 13 && (s2k == 0 || s2k == 1 || s2k == 3 || s2k == 4)
}
