package seal_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/seal"
)

func TestLockAge(t *testing.T) {
	one, recipient, err := seal.NewIdentity(seal.X25519)
	if err != nil {
		t.Fatal(err)
	}
	two, _, err := seal.NewIdentity(seal.Hybrid)
	if err != nil {
		t.Fatal(err)
	}
	file := holdfast.NewSecret("# public key: " + recipient + "\n" + one.Reveal() + "\n" + two.Reveal() + "\n")
	phrase := holdfast.NewSecret("correct horse")
	locked, err := seal.LockAge(file, phrase)
	if err != nil {
		t.Fatal(err)
	}
	if !seal.IsLockedAge(locked) || seal.IsLockedAge([]byte(file.Reveal())) || bytes.Contains(locked, []byte("AGE-SECRET")) || !bytes.HasPrefix(locked, []byte("-----BEGIN AGE ENCRYPTED FILE-----\n")) {
		t.Errorf("locked as\n%s", locked)
	}
	for name, data := range map[string][]byte{"as written": locked, "with blanks around": []byte("\n \r\n" + string(locked) + "\n\n")} {
		if opened, err := seal.UnlockAge(data, phrase); err != nil || opened.Reveal() != file.Reveal() {
			t.Errorf("%s: %v, and the same text: %v", name, err, opened.Reveal() == file.Reveal())
		}
	}
	for name, c := range map[string]struct {
		data   []byte
		phrase string
		want   error
	}{
		"another passphrase": {locked, "wrong horse", seal.ErrLocked},
		"empty passphrase":   {locked, "", holdfast.ErrUsage},
		"cut short":          {locked[:len(locked)-60], "correct horse", seal.ErrDamaged},
		"no age at all":      {[]byte("hello"), "correct horse", seal.ErrDamaged},
	} {
		opened, err := seal.UnlockAge(c.data, holdfast.NewSecret(c.phrase))
		if !errors.Is(err, c.want) || !opened.IsZero() || strings.Contains(err.Error(), c.phrase) && c.phrase != "" {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	toKey, _ := sealed(t, pair(t, seal.X25519).options(seal.None), []byte(one.Reveal()))
	if _, err := seal.UnlockAge(toKey, phrase); !errors.Is(err, seal.ErrLocked) || holdfast.Hint(err) == "" {
		t.Errorf("sealed to a key: %v", err)
	}
	for name, text := range map[string]string{"no identity": "hello", "a recipient": recipient} {
		if _, err := seal.LockAge(holdfast.NewSecret(text), phrase); !errors.Is(err, holdfast.ErrUsage) {
			t.Errorf("lock %s: %v", name, err)
		}
	}
}

// gpg takes a key that was locked here, whoever made it and whatever it was locked by before.
func TestLockPGP(t *testing.T) {
	made, _, err := seal.NewOpenPGPKey(seal.OpenPGPCurve25519, "Ops <ops@example.com>", holdfast.Secret{})
	if err != nil {
		t.Fatal(err)
	}
	g := newGnuPG(t)
	g.key("locked", "ed25519", "cv25519", "old phrase")
	exported := g.run(nil, "--passphrase", "old phrase", "--armor", "--export-secret-keys", "locked")
	for name, c := range map[string]struct {
		data   []byte
		unlock string
		user   string
	}{
		"made here, open":     {[]byte(made.Reveal()), "", "ops@example.com"},
		"made by gpg, locked": {exported, "old phrase", "locked"},
	} {
		t.Run(name, func(t *testing.T) {
			phrase := holdfast.NewSecret("new phrase")
			locked, err := seal.LockPGP(c.data, holdfast.NewSecret(c.unlock), phrase)
			if err != nil {
				t.Fatal(err)
			}
			infos, err := seal.Inspect(locked, time.Now())
			if err != nil || len(infos) != 1 || !infos[0].Private || !infos[0].Locked {
				t.Fatalf("%+v, %v", infos, err)
			}
			if err := seal.UnlocksPGP(locked, phrase); err != nil {
				t.Error(err)
			}
			for _, wrong := range []string{"", "old phrase", "other"} {
				if err := seal.UnlocksPGP(locked, holdfast.NewSecret(wrong)); !errors.Is(err, seal.ErrLocked) || holdfast.Hint(err) == "" {
					t.Errorf("%q unlocks it: %v", wrong, err)
				}
			}
			other := newGnuPG(t)
			other.run(locked, "--passphrase", "new phrase", "--import")
			plain := noisy(1000)
			sealed := other.run(plain, "--encrypt", "--recipient", c.user)
			if got := other.run(sealed, "--passphrase", "new phrase", "--decrypt"); !bytes.Equal(got, plain) {
				t.Error("gpg opens other bytes")
			}
		})
	}
	if _, err := seal.LockPGP(exported, holdfast.NewSecret("wrong"), holdfast.NewSecret("x")); !errors.Is(err, seal.ErrLocked) {
		t.Errorf("locked by another passphrase: %v", err)
	}
	if _, err := seal.LockPGP(exported, holdfast.NewSecret("old phrase"), holdfast.Secret{}); !errors.Is(err, holdfast.ErrUsage) {
		t.Errorf("an empty passphrase: %v", err)
	}
	if _, err := seal.LockPGP(g.run(nil, "--export"), holdfast.Secret{}, holdfast.NewSecret("x")); !errors.Is(err, holdfast.ErrUsage) {
		t.Errorf("a public key: %v", err)
	}
}

func TestInspect(t *testing.T) {
	now := time.Now()
	secret, recipient, err := seal.NewIdentity(seal.X25519)
	if err != nil {
		t.Fatal(err)
	}
	_, hybrid, err := seal.NewIdentity(seal.Hybrid)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text string
		want []seal.KeyInfo
	}{
		"recipients": {"# ours\n" + recipient + "\n" + hybrid + "\n", []seal.KeyInfo{{Kind: "x25519", Recipient: recipient}, {Kind: "hybrid", Recipient: hybrid}}},
		"identity":   {"# x\n" + secret.Reveal() + "\n", []seal.KeyInfo{{Kind: "x25519", Recipient: recipient, Private: true}}},
	} {
		got, err := seal.Inspect([]byte(c.text), now)
		if err != nil || len(got) != len(c.want) {
			t.Errorf("%s: %+v, %v", name, got, err)
			continue
		}
		for i, want := range c.want {
			r, err := seal.ParseRecipient(want.Recipient)
			if err != nil {
				t.Fatal(err)
			}
			if one := got[i]; one.Kind != want.Kind || one.Recipient != want.Recipient || one.Private != want.Private || one.ID != r.KeyID() || one.Unfit != "" || !slices.Equal(one.Uses, []string{"seal"}) {
				t.Errorf("%s: %+v", name, one)
			}
		}
	}

	g := newGnuPG(t)
	curve := g.key("Ops <ops@example.com>", "ed25519", "cv25519", "secret phrase")
	signer := g.key("signer", "rsa4096", "", "")
	now = time.Now()
	public, err := seal.Inspect(g.run(nil, "--export", curve), now)
	if err != nil || len(public) != 1 {
		t.Fatalf("%+v, %v", public, err)
	}
	if k := public[0]; k.Kind != "openpgp-ed25519" || k.Fingerprint != curve || k.ID != "openpgp-"+strings.ToLower(curve[24:]) || !slices.Equal(k.UserIDs, []string{"Ops <ops@example.com>"}) ||
		!slices.Equal(k.Uses, []string{"seal", "sign", "certify"}) || k.Private || k.Locked || k.Unfit != "" || !k.Expires.IsZero() || now.Sub(k.Created) > time.Hour || now.Before(k.Created.Add(-time.Second)) {
		t.Errorf("%+v", k)
	}
	if r, err := seal.ParseRecipient(public[0].Recipient); err != nil || r.KeyID() != public[0].ID {
		t.Errorf("its public half: %v, %v", r, err)
	}
	private, err := seal.Inspect(g.run(nil, "--armor", "--passphrase", "secret phrase", "--export-secret-keys", curve), now)
	if err != nil || len(private) != 1 || !private[0].Private || !private[0].Locked || private[0].Recipient == "" || strings.Contains(private[0].Recipient, "PRIVATE") {
		t.Errorf("%+v, %v", private, err)
	}
	unfit, err := seal.Inspect(g.run(nil, "--export", signer), now)
	if err != nil || len(unfit) != 1 || unfit[0].Kind != "openpgp-rsa4096" || !strings.Contains(unfit[0].Unfit, "no subkey that encrypts") || slices.Contains(unfit[0].Uses, "seal") {
		t.Errorf("%+v, %v", unfit, err)
	}
	g.run(nil, "--yes", "--passphrase", "secret phrase", "--quick-set-expire", curve, "2d")
	late, err := seal.Inspect(g.run(nil, "--export", curve), now.AddDate(0, 0, 5))
	if err != nil || len(late) != 1 || late[0].Expires.Before(now) || !strings.Contains(late[0].Unfit, "expired on ") {
		t.Errorf("%+v, %v", late, err)
	}

	locked, err := seal.LockAge(secret, holdfast.NewSecret("x"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := seal.Inspect(locked, now); !errors.Is(err, seal.ErrLocked) || !errors.Is(err, holdfast.ErrUsage) {
		t.Errorf("a locked file: %v", err)
	}
	for name, text := range map[string]string{"nothing": "", "words": "hello", "an identity cut short": secret.Reveal()[:30], "half a block": "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmDMEZ"} {
		if got, err := seal.Inspect([]byte(text), now); !errors.Is(err, holdfast.ErrUsage) || holdfast.Hint(err) == "" || len(got) > 0 || len(text) > 20 && strings.Contains(err.Error(), text[17:]) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func FuzzInspect(f *testing.F) {
	for _, kind := range []seal.KeyKind{seal.X25519, seal.Hybrid} {
		secret, recipient, err := seal.NewIdentity(kind)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(secret.Reveal()))
		f.Add([]byte("# c\r\n" + recipient + "\n"))
	}
	private, public, err := seal.NewOpenPGPKey(seal.OpenPGPCurve25519, "a", holdfast.NewSecret("b"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(private.Reveal()))
	f.Add([]byte(public))
	names, err := filepath.Glob("testdata/*.asc")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	now := time.Now()
	f.Fuzz(func(t *testing.T, data []byte) {
		found, err := seal.Inspect(data, now)
		if err == nil && len(found) == 0 {
			t.Error("no key and no error")
		}
		for _, key := range found {
			if r, err := seal.ParseRecipient(key.Recipient); err == nil && r.KeyID() != key.ID {
				t.Errorf("the public half of %s is %s", key.ID, r.KeyID())
			}
		}
	})
}
