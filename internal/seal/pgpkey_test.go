package seal_test

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/seal"
)

// pgpRecipients reads the public keys that gpg exports.
func pgpRecipients(t testing.TB, data []byte) []seal.Recipient {
	t.Helper()
	texts, err := seal.RecipientTexts(data)
	if err != nil {
		t.Fatal(err)
	}
	var recipients []seal.Recipient
	for _, text := range texts {
		r, err := seal.ParseRecipient(text)
		if err != nil {
			t.Fatal(err)
		}
		recipients = append(recipients, r)
	}
	return recipients
}

func pgpPhrase(t testing.TB, text string) *seal.Passphrase {
	t.Helper()
	p, err := seal.NewPassphraseFor(seal.OpenPGP, holdfast.NewSecret(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestGnuPGOpensWhatWeSeal(t *testing.T) {
	g := newGnuPG(t)
	var keys []string
	for _, kind := range gnupgKinds {
		keys = append(keys, g.key(kind.name, kind.primary, kind.subkey, ""))
	}
	rsa := pgpRecipients(t, g.run(nil, "--export", keys[0]))
	curve := pgpRecipients(t, g.run(nil, "--armor", "--export", keys[1]))
	both := pgpRecipients(t, g.run(nil, "--export"))
	if len(both) != 2 || curve[0].KeyID() != "openpgp-"+strings.ToLower(keys[1][24:]) || curve[0].Format() != seal.OpenPGP {
		t.Fatalf("%d keys, %s of %s", len(both), curve[0].KeyID(), keys[1])
	}
	phrase := g.file("passphrase", "correct horse\n")
	symmetric := []string{"--passphrase-file", phrase}
	stranger := newGnuPG(t)
	for name, c := range map[string]struct {
		recipients []seal.Recipient
		g          *gnupg
		args       []string
	}{
		"rsa":                     {rsa, g, nil},
		"curve":                   {curve, g, nil},
		"both":                    {both, g, nil},
		"passphrase":              {[]seal.Recipient{pgpPhrase(t, "correct horse")}, g, symmetric},
		"the key of two ways":     {slices.Concat(curve, []seal.Recipient{pgpPhrase(t, "other")}), g, nil},
		"the passphrase of three": {slices.Concat(both, []seal.Recipient{pgpPhrase(t, "correct horse")}), stranger, symmetric},
	} {
		t.Run(name, func(t *testing.T) {
			sizes := []int{0, 1, 513, 100_000}
			if slices.Contains([]string{"both", "passphrase"}, name) {
				sizes = edges
			}
			for _, size := range sizes {
				plain := noisy(size)
				data, _ := sealed(t, seal.Options{Compression: seal.None, Recipients: c.recipients}, plain)
				if got := c.g.run(data, append(c.args, "--decrypt")...); !bytes.Equal(got, plain) {
					t.Fatalf("size %d: gpg makes %d other bytes of it", size, len(got))
				}
			}
			for _, compression := range []seal.Compression{seal.Zstd, seal.Gzip} {
				data, _ := sealed(t, seal.Options{Compression: compression, Recipients: c.recipients}, text(seal.ChunkSize+12345))
				program := decompressors[compression]
				inner := c.g.run(data, append(c.args, "--decrypt")...)
				if got := stock(t, inner, program[0], program[1:]...); !bytes.Equal(got, text(seal.ChunkSize+12345)) {
					t.Errorf("%s: stock tools make %d other bytes of it", compression, len(got))
				}
			}
		})
	}
}

func TestOpenPGPKeysForGnuPG(t *testing.T) {
	for _, kind := range []seal.KeyKind{seal.OpenPGPCurve25519, seal.OpenPGPRSA} {
		for _, passphrase := range []string{"", "open sesame"} {
			t.Run(fmt.Sprintf("%s,%q", kind, passphrase), func(t *testing.T) {
				private, public, err := seal.NewOpenPGPKey(kind, "Ops <ops@example.com>", holdfast.NewSecret(passphrase))
				if err != nil {
					t.Fatal(err)
				}
				recipients := pgpRecipients(t, []byte(public))
				identities := identitiesOf(t, []byte(private.Reveal()))
				if len(identities) != 1 || seal.RecipientOf(identities[0]).KeyID() != recipients[0].KeyID() {
					t.Fatalf("%d identities", len(identities))
				}
				// Both ways between the halves here and those that gpg has imported.
				public2, private2 := newGnuPG(t), newGnuPG(t)
				public2.run([]byte(public), "--import")
				private2.run([]byte(private.Reveal()), "--import")
				plain := noisy(1000)
				data, _ := sealed(t, seal.Options{Compression: seal.None, Recipients: recipients}, plain)
				if got := private2.run(data, "--passphrase", passphrase, "--decrypt"); !bytes.Equal(got, plain) {
					t.Error("gpg opens other bytes")
				}
				data = public2.run(plain, "--encrypt", "--recipient", "ops@example.com")
				_, _, err = openForeign(data, seal.ForeignOptions{Identities: identities})
				if passphrase != "" && (!errors.Is(err, seal.ErrNoIdentity) || !strings.Contains(err.Error(), "locked")) {
					t.Errorf("a locked key: %v", err)
				}
				for _, extra := range []string{"wrong", passphrase} {
					if extra != "" {
						identities = append(identities, secretOf(t, extra))
					}
				}
				seal.Unlock(identities)
				got, _, err := openForeign(data, seal.ForeignOptions{Identities: identities})
				if err != nil || !bytes.Equal(got, plain) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
			})
		}
	}
}

func TestOpenPGPKeyRefuses(t *testing.T) {
	for _, name := range []string{"", " ", "a\nb", "a <b", "(c)", "a <b c>", "<a@b>", "a\x00"} {
		if _, _, err := seal.NewOpenPGPKey(seal.OpenPGPCurve25519, name, holdfast.Secret{}); !errors.Is(err, holdfast.ErrUsage) || holdfast.Hint(err) == "" {
			t.Errorf("name %q: %v", name, err)
		}
	}
	if _, _, err := seal.NewOpenPGPKey(seal.X25519, "a", holdfast.Secret{}); !errors.Is(err, holdfast.ErrUsage) {
		t.Errorf("an age kind: %v", err)
	}
}

// TestStrengthAsGnuPGSeesIt: what is sealed and locked is as strong as the documents say, by what gpg finds in it. OpenPGP numbers
// AES-256 as 9; the count is the highest that it has.
func TestStrengthAsGnuPGSeesIt(t *testing.T) {
	g := newGnuPG(t)
	phrase := g.file("passphrase", "correct horse\n")
	private, public, err := seal.NewOpenPGPKey(seal.OpenPGPCurve25519, "Ops", holdfast.NewSecret("open sesame"))
	if err != nil {
		t.Fatal(err)
	}
	again, err := seal.LockPGP([]byte(private.Reveal()), holdfast.NewSecret("open sesame"), holdfast.NewSecret("another"))
	if err != nil {
		t.Fatal(err)
	}
	recipients := append(pgpRecipients(t, []byte(public)), pgpPhrase(t, "correct horse"))
	message, _ := sealed(t, seal.Options{Compression: seal.None, Recipients: recipients}, []byte("content"))
	for name, c := range map[string]struct {
		data  []byte
		wants []string
		times int
	}{
		"a message":         {message, []string{"symkey enc packet: version 4, cipher 9, ", "s2k 3, hash 8", "count 65011712 (255)"}, 1},
		"a locked key":      {[]byte(private.Reveal()), []string{"iter+salt S2K, algo: 9, SHA1 protection, hash: 8", "protect count: 65011712 (255)"}, 2},
		"a key locked anew": {again, []string{"iter+salt S2K, algo: 9, SHA1 protection, hash: 8", "protect count: 65011712 (255)"}, 2},
	} {
		packets := string(g.run(c.data, "--list-only", "--list-packets"))
		for _, want := range c.wants {
			if strings.Count(packets, want) != c.times {
				t.Errorf("%s: gpg finds %q %d times, want %d:\n%s", name, want, strings.Count(packets, want), c.times, packets)
			}
		}
	}
	// The cipher of the content shows in its key alone.
	cmd := exec.CommandContext(t.Context(), "gpg", "--homedir", g.home, "--batch", "--no-tty", "--pinentry-mode", "loopback", "--passphrase-file", phrase, "--show-session-key", "--decrypt")
	cmd.Stdin = bytes.NewReader(message)
	said, err := cmd.CombinedOutput()
	if err != nil || !regexp.MustCompile(`session key: '9:[0-9A-F]{64}'`).Match(said) {
		t.Errorf("the content's key is of another cipher: %v: %s", err, said)
	}
}
