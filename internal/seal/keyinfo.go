package seal

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
	openpgp "github.com/ProtonMail/go-crypto/openpgp/v2"

	"holdfast"
)

// KeyInfo tells what a key is. It holds nothing secret.
type KeyInfo struct {
	Kind        string    // "x25519", "hybrid", "openpgp-ed25519", "openpgp-rsa4096", …
	ID          string    // as Recipient.KeyID has it
	Fingerprint string    // of OpenPGP keys
	UserIDs     []string  // of OpenPGP keys
	Uses        []string  // what the key may be used for: "seal", "sign", "certify", "authenticate"
	Created     time.Time // zero: not known
	Expires     time.Time // zero: never
	Private     bool      // the private half is there
	Locked      bool      // under a passphrase
	Unfit       string    // why nothing can be sealed to it now; "" when it can
	Recipient   string    // the public half as ParseRecipient takes it
}

// Inspect tells what keys a file holds: age recipients or identities, OpenPGP public or private keys, armored or not. A file
// of identities that is encrypted as a whole is [ErrLocked]. Errors never say what is in the file.
func Inspect(data []byte, now time.Time) ([]KeyInfo, error) {
	switch {
	case IsLockedAge(data):
		return nil, holdfast.WithHint(fmt.Errorf("%w: %w", holdfast.ErrUsage, ErrLocked), "give the passphrase with --passphrase-file, or run it at a terminal")
	case isPGPKeys(data):
		return inspectPGP(data, now)
	case len(data) > maxKeyFile:
		return nil, fmt.Errorf("%w: the file is too long for keys", holdfast.ErrUsage)
	case bytes.Contains(bytes.ToUpper(data), []byte("AGE-SECRET-KEY-")):
		identities, err := ParseIdentities(bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		var found []KeyInfo
		for _, one := range identities {
			info := InfoOf(RecipientOf(one), now)
			info.Private, info.Created = true, createdIn(data)
			found = append(found, info)
		}
		return found, nil
	}
	texts, err := RecipientTexts(data)
	if err != nil {
		return nil, holdfast.WithHint(fmt.Errorf("%w: the file holds no key that is known", holdfast.ErrUsage),
			"give a file of age recipients or identities, or an OpenPGP key as `gpg --export` writes it")
	}
	var found []KeyInfo
	for _, text := range texts {
		r, err := ParseRecipient(text)
		if err != nil {
			return nil, err
		}
		found = append(found, InfoOf(r, now))
	}
	return found, nil
}

var createdLine = regexp.MustCompile(`(?m)^# created: (\S+)\r?$`)

// createdIn is when a file of one age identity was made, as age-keygen notes it.
func createdIn(data []byte) time.Time {
	if all := createdLine.FindAllSubmatch(data, 2); len(all) == 1 {
		if at, err := time.Parse(time.RFC3339, string(all[0][1])); err == nil {
			return at.UTC()
		}
	}
	return time.Time{}
}

// InfoOf tells what a recipient is.
func InfoOf(r Recipient, now time.Time) KeyInfo {
	switch r := r.(type) {
	case classicRecipient:
		return KeyInfo{Kind: string(X25519), ID: r.KeyID(), Uses: []string{"seal"}, Recipient: r.String()}
	case hybridRecipient:
		return KeyInfo{Kind: string(Hybrid), ID: r.KeyID(), Uses: []string{"seal"}, Recipient: r.String()}
	case pgpRecipient:
		return infoOfPGP(r, now)
	}
	return KeyInfo{Kind: "passphrase", ID: r.KeyID()}
}

func inspectPGP(data []byte, now time.Time) ([]KeyInfo, error) {
	entities, err := readPGPKeys(data)
	if err != nil || len(entities) == 0 {
		return nil, holdfast.WithHint(fmt.Errorf("%w: the OpenPGP key cannot be read", holdfast.ErrUsage),
			"give the file that `gpg --armor --export KEY` or `gpg --armor --export-secret-keys KEY` writes")
	}
	var found []KeyInfo
	for _, entity := range entities {
		info := infoOfPGP(pgpRecipient{entity}, now)
		if info.Private = entity.PrivateKey != nil; info.Private {
			for _, key := range (&pgpIdentity{entity: entity}).openers() {
				info.Locked = info.Locked || key.Encrypted
			}
		}
		found = append(found, info)
	}
	return found, nil
}

func infoOfPGP(r pgpRecipient, now time.Time) KeyInfo {
	e := r.entity
	info := KeyInfo{
		Kind: "openpgp-" + pgpAlgorithm(e.PrimaryKey), ID: r.KeyID(), Fingerprint: fmt.Sprintf("%X", e.PrimaryKey.Fingerprint),
		Uses: pgpUses(e), Created: e.PrimaryKey.CreationTime.UTC(),
	}
	for name := range e.Identities {
		info.UserIDs = append(info.UserIDs, name)
	}
	slices.Sort(info.UserIDs)
	if self, err := e.PrimarySelfSignature(time.Time{}, nil); err == nil && self.KeyLifetimeSecs != nil && *self.KeyLifetimeSecs > 0 {
		info.Expires = e.PrimaryKey.CreationTime.Add(time.Duration(*self.KeyLifetimeSecs) * time.Second).UTC()
	}
	if _, err := r.sealingKey(now); err != nil {
		info.Unfit = r.unfit(now)
	}
	if text, err := r.text(); err == nil {
		info.Recipient = text
	}
	return info
}

func pgpAlgorithm(key *packet.PublicKey) string {
	switch key.PubKeyAlgo {
	case packet.PubKeyAlgoRSA, packet.PubKeyAlgoRSAEncryptOnly, packet.PubKeyAlgoRSASignOnly:
		if bits, err := key.BitLength(); err == nil {
			return fmt.Sprintf("rsa%d", bits)
		}
		return "rsa"
	case packet.PubKeyAlgoEdDSA, packet.PubKeyAlgoEd25519:
		return "ed25519"
	case packet.PubKeyAlgoEd448:
		return "ed448"
	case packet.PubKeyAlgoECDSA:
		return "ecdsa"
	case packet.PubKeyAlgoDSA:
		return "dsa"
	}
	return fmt.Sprintf("algorithm%d", key.PubKeyAlgo)
}

// pgpUses lists what the primary key and its subkeys say that they are for, revoked and expired ones included.
func pgpUses(e *openpgp.Entity) []string {
	var certify, sign, seal, authenticate bool
	see := func(s *packet.Signature) {
		if s == nil || !s.FlagsValid {
			return
		}
		certify, sign = certify || s.FlagCertify, sign || s.FlagSign
		seal = seal || s.FlagEncryptStorage || s.FlagEncryptCommunications
		authenticate = authenticate || s.FlagAuthenticate
	}
	if self, err := e.PrimarySelfSignature(time.Time{}, nil); err == nil {
		see(self)
	}
	for _, subkey := range e.Subkeys {
		if binding, err := subkey.LatestValidBindingSignature(time.Time{}, nil); err == nil {
			see(binding)
		}
	}
	var uses []string
	for _, use := range []struct {
		name string
		has  bool
	}{{"seal", seal}, {"sign", sign}, {"certify", certify}, {"authenticate", authenticate}} {
		if use.has {
			uses = append(uses, use.name)
		}
	}
	return uses
}
