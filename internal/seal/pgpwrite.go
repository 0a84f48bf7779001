package seal

import (
	"crypto"
	"crypto/rand"
	"fmt"
	"io"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/ProtonMail/go-crypto/openpgp/s2k"
)

// s2kCount is the most that a passphrase can be stretched with what every OpenPGP program reads (RFC 4880 section
// 3.7.1.3): so many bytes are hashed for one guess.
const s2kCount = 65011712

// newPGPWriter begins a message as RFC 4880 has it, the one form that gpg 2.2 opens too: AES-256 with a check of the
// integrity at the end, no compression, and a binary literal packet. (In a text one gpg would drop every CR.)
func newPGPWriter(w io.Writer, recipients []Recipient, toExpired bool) (io.WriteCloser, error) {
	config := &packet.Config{DefaultCipher: packet.CipherAES256}
	session := make([]byte, packet.CipherAES256.KeySize())
	if _, err := rand.Read(session); err != nil {
		return nil, err
	}
	now := time.Now()
	for _, r := range recipients {
		switch r := r.(type) {
		case pgpRecipient:
			at := now
			if end, ends := ExpiryOf(r); ends && toExpired && end.Before(now) {
				at = end.Add(-time.Second)
			}
			key, err := r.sealingKey(at)
			if err != nil {
				return nil, err
			}
			if err := packet.SerializeEncryptedKeyAEAD(w, key, packet.CipherAES256, false, session, config); err != nil {
				return nil, fmt.Errorf("seal to %s: %w", describePGP(r.entity), err)
			}
		case *Passphrase:
			config.S2KConfig = &s2k.Config{S2KMode: s2k.IteratedSaltedS2K, Hash: crypto.SHA256, S2KCount: r.hashed}
			if err := packet.SerializeSymmetricKeyEncryptedAEADReuseKey(w, session, []byte(r.text.Reveal()), false, config); err != nil {
				return nil, fmt.Errorf("seal to a passphrase: %w", err)
			}
		}
	}
	data, err := packet.SerializeSymmetricallyEncrypted(w, packet.CipherAES256, false, packet.CipherSuite{}, session, config)
	if err != nil {
		return nil, err
	}
	return packet.SerializeLiteral(data, true, "", 0)
}
