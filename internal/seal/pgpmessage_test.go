package seal_test

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/ocb"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/ProtonMail/go-crypto/openpgp/s2k"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"holdfast"
	"holdfast/internal/seal"
)

// nopCloser is what packet writers are given.
type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

const messagePhrase = "correct horse"

// message encrypts the packets that write makes to messagePhrase, as RFC 4880 has it.
func message(write func(w io.WriteCloser)) []byte {
	var out bytes.Buffer
	config := &packet.Config{DefaultCipher: packet.CipherAES256, S2KConfig: &s2k.Config{S2KMode: s2k.IteratedSaltedS2K, Hash: crypto.SHA256, S2KCount: 65536}}
	session := must(packet.SerializeSymmetricKeyEncrypted(&out, []byte(messagePhrase), config))
	data := must(packet.SerializeSymmetricallyEncrypted(&out, packet.CipherAES256, false, packet.CipherSuite{}, session, config))
	write(data)
	if err := data.Close(); err != nil {
		panic(err)
	}
	return out.Bytes()
}

// literal writes a literal packet in the mode that text says.
func literal(w io.Writer, binaryMode bool, content string) {
	p := must(packet.SerializeLiteral(nopCloser{w}, binaryMode, "", 0))
	must(io.WriteString(p, content))
	if err := p.Close(); err != nil {
		panic(err)
	}
}

func compressed(w io.Writer, write func(io.Writer)) {
	p := must(packet.SerializeCompressed(nopCloser{w}, packet.CompressionZLIB, nil))
	write(p)
	if err := p.Close(); err != nil {
		panic(err)
	}
}

func TestStrangeMessages(t *testing.T) {
	good := message(func(w io.WriteCloser) { literal(w, true, "content") })
	unprotected := slices.Clone(good)
	esk := good[:2+good[1]]
	unprotected[len(esk)] = 0x80 | 0x40 | 9
	argon := slices.Clone(good)
	argon[2+2] = 4
	for name, c := range map[string]struct {
		data []byte
		want error // nil: it is opened
		text string
	}{
		"good":                    {good, nil, ""},
		"compressed":              {message(func(w io.WriteCloser) { compressed(w, func(w io.Writer) { literal(w, true, "content") }) }), nil, ""},
		"marker":                  {slices.Concat([]byte("\xca\x03PGP"), good), nil, ""},
		"text mode":               {message(func(w io.WriteCloser) { literal(w, false, "content\r\n") }), seal.ErrUnsupported, "made in text mode"},
		"text mode, compressed":   {message(func(w io.WriteCloser) { compressed(w, func(w io.Writer) { literal(w, false, "content\r\n") }) }), seal.ErrUnsupported, "made in text mode"},
		"no integrity protection": {unprotected, seal.ErrUnsupported, "has no integrity protection"},
		"compressed twice": {message(func(w io.WriteCloser) {
			compressed(w, func(w io.Writer) { compressed(w, func(w io.Writer) { literal(w, true, "content") }) })
		}), seal.ErrDamaged, "compressed more than once"},
		"two files": {message(func(w io.WriteCloser) { literal(w, true, "content"); literal(w, true, "more") }), seal.ErrDamaged, "after its content"},
		"two files, compressed": {message(func(w io.WriteCloser) {
			compressed(w, func(w io.Writer) { literal(w, true, "content"); literal(w, true, "more") })
		}), seal.ErrDamaged, "after its content"},
		"nothing":             {message(func(io.WriteCloser) {}), seal.ErrDamaged, ""},
		"a key":               {message(func(w io.WriteCloser) { must(w.Write(esk)) }), seal.ErrDamaged, "where its content belongs"},
		"noise":               {message(func(w io.WriteCloser) { must(w.Write([]byte("hello world"))) }), seal.ErrDamaged, ""},
		"two messages":        {slices.Concat(good, good), seal.ErrDamaged, "more after the end"},
		"trailing byte":       {slices.Concat(good, []byte{0}), seal.ErrDamaged, "more after the end"},
		"only keys":           {esk, seal.ErrDamaged, "truncated"},
		"keys and a file":     {slices.Concat(esk, []byte("\xcb\x09b\x00\x00\x00\x00\x00abc")), seal.ErrDamaged, "not an encrypted OpenPGP message"},
		"too many keys":       {slices.Concat(bytes.Repeat(esk, 600), good), seal.ErrDamaged, "too many recipients"},
		"a key of 4 GB":       {slices.Concat([]byte("\xc3\xff\xff\xff\xff\xff\x04\x09\x03\x08"), good), holdfast.ErrUsage, ""},
		"a later key of 4 GB": {slices.Concat(esk, []byte("\xc3\xff\xff\xff\xff\xff\x04\x09\x03\x08"), good), seal.ErrDamaged, "too long"},
		"Argon2":              {argon, seal.ErrNoIdentity, ""},
	} {
		got, _, err := openForeign(c.data, seal.ForeignOptions{Identities: []seal.Identity{secretOf(t, messagePhrase)}})
		if c.want == nil && (err != nil || string(got) != "content") {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if c.want == nil {
			continue
		}
		if !errors.Is(err, c.want) || len(got) > 0 || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %q, %v; want %v with %q", name, got, err, c.want, c.text)
		}
		if errors.Is(err, seal.ErrUnsupported) && !strings.Contains(holdfast.Hint(err), "gpg ") {
			t.Errorf("%s: hint %q", name, holdfast.Hint(err))
		}
	}
}

// GnuPG in text mode, from its own hands.
func TestTextModeOfGnuPG(t *testing.T) {
	g := newGnuPG(t)
	phrase := g.file("passphrase", messagePhrase+"\n")
	for _, plain := range []string{"a\r\nb\n", "a", ""} {
		data := g.run([]byte(plain), "--symmetric", "--textmode", "--passphrase-file", phrase)
		got, _, err := openForeign(data, seal.ForeignOptions{Identities: []seal.Identity{secretOf(t, messagePhrase)}})
		if !errors.Is(err, seal.ErrUnsupported) || !strings.Contains(err.Error(), "text mode") || len(got) > 0 {
			t.Errorf("%q: %q, %v", plain, got, err)
		}
	}
}

// What GnuPG 2.4 and RFC 9580 write when a key says that it may: authenticated in chunks. It is read, not written.
func TestAuthenticatedEncryption(t *testing.T) {
	private, public, err := seal.NewOpenPGPKey(seal.OpenPGPCurve25519, "Ops", holdfast.Secret{})
	if err != nil {
		t.Fatal(err)
	}
	identities := identitiesOf(t, []byte(private.Reveal()))
	entity := must(openpgp.ReadArmoredKeyRing(strings.NewReader(public)))[0]
	version2 := func(content []byte) []byte {
		var out bytes.Buffer
		config := &packet.Config{
			DefaultCipher: packet.CipherAES256, AEADConfig: &packet.AEADConfig{DefaultMode: packet.AEADModeOCB},
			S2KConfig: &s2k.Config{S2KMode: s2k.IteratedSaltedS2K, Hash: crypto.SHA256, S2KCount: 65536},
		}
		w := must(openpgp.SymmetricallyEncryptWithParams([]byte(messagePhrase), &out, &openpgp.EncryptParams{Hints: &openpgp.FileHints{}, Config: config}))
		must(w.Write(content))
		if err := w.Close(); err != nil {
			panic(err)
		}
		return out.Bytes()
	}
	for name, c := range map[string]struct {
		make       func([]byte) []byte
		identities []seal.Identity
	}{
		"tag 20":    {func(content []byte) []byte { return ocbMessage(entity.Subkeys[0].PublicKey, content) }, identities},
		"version 2": {version2, []seal.Identity{secretOf(t, messagePhrase)}},
	} {
		for _, size := range []int{0, 1, 1000, 1 << 20} {
			plain := noisy(size)
			data := c.make(plain)
			got, f, err := openForeign(data, seal.ForeignOptions{Identities: c.identities})
			if err != nil || !bytes.Equal(got, plain) || f.Format != seal.OpenPGP {
				t.Errorf("%s, size %d: %d bytes, %v", name, size, len(got), err)
			}
			for _, at := range []int{len(data) - 1, len(data) - 20, len(data) * 2 / 3, 150} {
				bad := slices.Clone(data)
				bad[at] ^= 1
				if got, _, err := openForeign(bad, seal.ForeignOptions{Identities: c.identities}); err == nil || len(got) > 0 {
					t.Errorf("%s, size %d, flipped at %d: %d bytes, %v", name, size, at, len(got), err)
				}
				if got, _, err := openForeign(data[:at], seal.ForeignOptions{Identities: c.identities}); err == nil || len(got) > 0 {
					t.Errorf("%s, size %d, cut at %d: %d bytes, %v", name, size, at, len(got), err)
				}
			}
		}
	}
}

// ocbMessage is a message as GnuPG 2.4 writes it: draft-koch-openpgp-2015-rfc4880bis section 5.16, chunks of 64 KiB.
func ocbMessage(key *packet.PublicKey, content []byte) []byte {
	var out, inner bytes.Buffer
	session := bytes.Repeat([]byte{7}, 32)
	if err := packet.SerializeEncryptedKeyAEAD(&out, key, packet.CipherAES256, false, session, nil); err != nil {
		panic(err)
	}
	literal(&inner, true, string(content))
	const cipherAES256, modeOCB, chunkByte = 9, 2, 10
	header := []byte{1, cipherAES256, modeOCB, chunkByte}
	iv := bytes.Repeat([]byte{5}, 15)
	aead := must(ocb.NewOCB(must(aes.NewCipher(session))))
	body := slices.Concat(header, iv)
	ad := append([]byte{0xd4}, header...)
	nonce := func(index uint64) []byte {
		n := slices.Clone(iv)
		low := binary.BigEndian.Uint64(n[7:]) ^ index
		binary.BigEndian.PutUint64(n[7:], low)
		return n
	}
	index := uint64(0)
	for rest := inner.Bytes(); len(rest) > 0; index++ {
		n := min(1<<(chunkByte+6), len(rest))
		body = aead.Seal(body, nonce(index), rest[:n], binary.BigEndian.AppendUint64(slices.Clone(ad), index))
		rest = rest[n:]
	}
	last := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(slices.Clone(ad), index), uint64(inner.Len()))
	body = aead.Seal(body, nonce(index), nil, last)
	out.WriteByte(0x80 | 0x40 | 20)
	out.WriteByte(255)
	out.Write(binary.BigEndian.AppendUint32(nil, uint32(len(body))))
	out.Write(body)
	return out.Bytes()
}

func TestDetect(t *testing.T) {
	phrase := message(func(w io.WriteCloser) { literal(w, true, "content") })
	for name, c := range map[string]struct {
		head []byte
		want seal.Format
	}{
		"age":               {[]byte("age-encryption.org/v1\n-> X25519 abc\n"), seal.Age},
		"age, armored":      {[]byte("-----BEGIN AGE ENCRYPTED FILE-----\nYWdl"), seal.Age},
		"armored, blank":    {[]byte("\r\n -----BEGIN PGP MESSAGE-----\n\n"), seal.OpenPGP},
		"openssl":           {[]byte("Salted__12345678"), seal.OpenSSL},
		"openssl -a":        {[]byte("U2FsdGVkX1+abcdefghijk"), seal.OpenSSL},
		"openssl -a, later": {[]byte("\r\nU2FsdGVkX18"), seal.OpenSSL},
		"like openssl -a":   {[]byte("U2FsdGVkX1A"), ""},
		"no salt in text":   {[]byte("U2FsdGVkX1"), ""},
		"passphrase":        {phrase, seal.OpenPGP},
		"marker first":      {slices.Concat([]byte("\xca\x03PGP"), phrase), seal.OpenPGP},
		"old header":        {slices.Concat([]byte{0x8c}, phrase[1:]), seal.OpenPGP},
		"session key":       {phrase[2+phrase[1]:], seal.OpenPGP},
		"nothing":           {nil, ""},
		"text":              {[]byte("CREATE TABLE t ();\n"), ""},
		"gzip":              {[]byte("\x1f\x8b\x08\x00\x00\x00\x00\x00"), ""},
		"zstd":              {[]byte("\x28\xb5\x2f\xfd\x04\x58\x09\x00"), ""},
		"signed only":       {[]byte("\x90\x0d\x03\x00\x08\x01\x12\x34\x56\x78\x9a\xbc\xde\xf0\x01"), ""},
		"compressed only":   {[]byte("\xa3\x02\x78\x9c\x00\x00\x00"), ""},
		"a public key":      {[]byte("\x99\x01\x0d\x04\x5f\x00\x00\x00\x01"), ""},
		"age of the future": {[]byte("age-encryption.org/v9\n"), ""},
		"UTF-8":             {[]byte("\xc3\x84pfel und Birnen, alle miteinander"), ""},
		"UTF-16":            {[]byte("\xff\xfeC\x00R\x00E\x00A\x00T\x00E\x00"), ""},
		"JPEG":              {[]byte("\xff\xd8\xff\xe0\x00\x10JFIF\x00"), ""},
	} {
		got, ok := seal.Detect(c.head)
		if got != c.want || ok != (c.want != "") {
			t.Errorf("%s: %q, %v; want %q", name, got, ok, c.want)
		}
	}
	// Random bytes are not taken for a message.
	taken := 0
	for n := range 20_000 {
		if _, ok := seal.Detect(noiseOf(n)); ok {
			taken++
		}
	}
	if taken > 20 {
		t.Errorf("%d of 20000 random heads were taken for something encrypted", taken)
	}
}

func noiseOf(n int) []byte {
	data, random := make([]byte, 64), rand.New(rand.NewPCG(uint64(n), 9))
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	return data
}
