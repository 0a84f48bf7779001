package seal_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/seal"
)

func TestManyRecipients(t *testing.T) {
	for _, kind := range []seal.KeyKind{seal.X25519, seal.Hybrid} {
		var recipients []seal.Recipient
		pairs := []key{pair(t, kind), pair(t, kind), pair(t, kind)}
		for _, k := range pairs {
			recipients = append(recipients, k.recipients...)
		}
		data, _ := sealed(t, seal.Options{Recipients: recipients}, text(1000))
		for i, k := range pairs {
			if got, err := unseal(data, k.readOptions(seal.Zstd)); err != nil || !bytes.Equal(got, text(1000)) {
				t.Errorf("%s, identity %d: %v", kind, i, err)
			}
		}
	}
}

func TestWrongIdentity(t *testing.T) {
	each(t, func(t *testing.T, c seal.Compression, k key) {
		if k.recipients == nil {
			data, _ := sealed(t, k.options(c), text(10))
			if _, err := unseal(data, seal.ReadOptions{Compression: c}); !errors.Is(err, seal.ErrNoIdentity) {
				t.Errorf("plain stream read as a sealed one without identities: %v", err)
			}
			return
		}
		data, _ := sealed(t, k.options(c), text(10))
		wrong := []seal.Identity{}
		for _, other := range keys(t)[1:] {
			wrong = append(wrong, other.identities...)
		}
		if k.name == "passphrase" {
			wrong = passphrase(t, "incorrect horse").identities
		}
		_, err := unseal(data, seal.ReadOptions{Compression: c, Identities: wrong, SealedTo: []string{"age1thekey"}})
		if !errors.Is(err, seal.ErrNoIdentity) || errors.Is(err, seal.ErrDamaged) {
			t.Errorf("error %v, want ErrNoIdentity", err)
		}
		if hint := holdfast.Hint(err); !strings.Contains(hint, "sealed to age1thekey") {
			t.Errorf("hint %q does not name the key", hint)
		}
		if k.name == "passphrase" {
			return
		}
		all := append(wrong, k.identities...)
		if got, err := unseal(data, seal.ReadOptions{Compression: c, Identities: all}); err != nil || len(got) != 10 {
			t.Errorf("with the right identity last: %d bytes, %v", len(got), err)
		}
	})
}

func TestHintNamesTheKindOfKey(t *testing.T) {
	for name, want := range map[string]string{
		"x25519": "sealed to a key age1…", "hybrid": "sealed to a key age1pq1…", "passphrase": "sealed to a passphrase",
	} {
		for _, k := range keys(t) {
			if k.name != name {
				continue
			}
			data, _ := sealed(t, k.options(seal.Zstd), nil)
			_, err := unseal(data, pair(t, seal.X25519).readOptions(seal.Zstd))
			if !strings.Contains(holdfast.Hint(err), want) {
				t.Errorf("%s: hint %q, want %q in it", name, holdfast.Hint(err), want)
			}
		}
	}
}

func TestCheckRecipients(t *testing.T) {
	classic, hybrid, phrase := pair(t, seal.X25519).recipients, pair(t, seal.Hybrid).recipients, passphrase(t, "x").recipients
	join := func(sets ...[]seal.Recipient) (all []seal.Recipient) {
		for _, set := range sets {
			all = append(all, set...)
		}
		return all
	}
	for name, c := range map[string]struct {
		recipients []seal.Recipient
		good       bool
	}{
		"none":                {nil, false},
		"classic":             {classic, true},
		"two classic":         {join(classic, pair(t, seal.X25519).recipients), true},
		"hybrid":              {hybrid, true},
		"passphrase":          {phrase, true},
		"hybrid and classic":  {join(hybrid, classic), false},
		"passphrase and key":  {join(classic, phrase), false},
		"two passphrases":     {join(phrase, phrase), false},
		"passphrase, hybrids": {join(hybrid, phrase, hybrid), false},
	} {
		err := seal.CheckRecipients(c.recipients)
		if (err == nil) != c.good || err != nil && (!errors.Is(err, holdfast.ErrUsage) || holdfast.Hint(err) == "") {
			t.Errorf("%s: error %v with hint %q", name, err, holdfast.Hint(err))
		}
		if _, err := seal.NewWriter(&bytes.Buffer{}, seal.Options{Recipients: c.recipients}); !c.good && !errors.Is(err, holdfast.ErrUsage) {
			t.Errorf("%s: NewWriter: %v, want ErrUsage", name, err)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	k := pair(t, seal.X25519)
	for name, opt := range map[string]seal.Options{
		"plain with recipients": {Plain: true, Recipients: k.recipients},
		"unknown compression":   {Plain: true, Compression: "lz77"},
		"zstd level":            {Plain: true, Level: 23},
		"gzip level":            {Plain: true, Compression: seal.Gzip, Level: 10},
		"none has no level":     {Plain: true, Compression: seal.None, Level: 1},
		"negative level":        {Plain: true, Level: -1},
	} {
		if _, err := seal.NewWriter(&bytes.Buffer{}, opt); !errors.Is(err, holdfast.ErrUsage) {
			t.Errorf("%s: %v, want ErrUsage", name, err)
		}
	}
}

func TestSuffix(t *testing.T) {
	for want, opt := range map[string]seal.Options{
		".zst.age": {}, ".gz.age": {Compression: seal.Gzip}, ".age": {Compression: seal.None},
		".zst": {Plain: true}, ".gz": {Compression: seal.Gzip, Plain: true}, "": {Compression: seal.None, Plain: true},
	} {
		if got := opt.Suffix(); got != want {
			t.Errorf("%+v: suffix %q, want %q", opt, got, want)
		}
	}
}

func TestParseRecipientRefuses(t *testing.T) {
	secret, public, err := seal.NewIdentity(seal.X25519)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "age1", "age1pq1", public[:len(public)-1], public + "q", secret.Reveal(), "ssh-ed25519 AAAA"} {
		_, err := seal.ParseRecipient(text)
		if !errors.Is(err, holdfast.ErrUsage) || holdfast.Hint(err) == "" {
			t.Errorf("%q: error %v with hint %q", text, err, holdfast.Hint(err))
		}
		if strings.Contains(fmt.Sprint(err), secret.Reveal()) {
			t.Error("the error shows a secret")
		}
	}
	if r, err := seal.ParseRecipient("  " + public + "\n"); err != nil || !strings.HasPrefix(public, r.KeyID()) || len(r.KeyID()) != 16 {
		t.Errorf("recipient with white space: %v, %v", r, err)
	}
}

func TestParseIdentitiesRefuses(t *testing.T) {
	secret, public, err := seal.NewIdentity(seal.X25519)
	if err != nil {
		t.Fatal(err)
	}
	half := secret.Reveal()[:40]
	for name, text := range map[string]string{
		"empty":           "",
		"only comments":   "# nothing\n\n",
		"recipient":       public,
		"cut":             "# x\n" + half,
		"garbage":         secret.Reveal() + "\nhunter2\n",
		"encrypted":       "age-encryption.org/v1\n-> X25519",
		"too long a line": strings.Repeat("A", 100_000),
		"too long":        strings.Repeat("# comment\n", 200_000),
	} {
		_, err := seal.ParseIdentities(strings.NewReader(text))
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
		if shown := fmt.Sprint(err, holdfast.Hint(err)); strings.Contains(shown, half[20:]) || strings.Contains(shown, "hunter2") {
			t.Errorf("%s: the error shows what was in the file: %s", name, shown)
		}
	}
}

func TestIdentitiesPrintAsMask(t *testing.T) {
	for _, k := range keys(t)[1:] {
		for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
			shown := fmt.Sprintf(format, k.identities)
			if strings.Contains(shown, "SECRET") || strings.Contains(shown, "horse") {
				t.Errorf("%s with %s shows %s", k.name, format, shown)
			}
		}
	}
}

func TestRecipientOf(t *testing.T) {
	for _, k := range []key{pair(t, seal.X25519), pair(t, seal.Hybrid)} {
		if got := seal.RecipientOf(k.identities[0]); got == nil || got.KeyID() != k.recipients[0].KeyID() {
			t.Errorf("%s: RecipientOf = %v", k.name, got)
		}
	}
	if got := seal.RecipientOf(passphrase(t, "x").identities[0]); got != nil {
		t.Errorf("passphrase: RecipientOf = %v, want nil", got)
	}
}

func TestUnknownKindOfKey(t *testing.T) {
	if _, _, err := seal.NewIdentity("rot13"); !errors.Is(err, holdfast.ErrUsage) {
		t.Errorf("error %v, want ErrUsage", err)
	}
	if _, err := seal.NewPassphrase(holdfast.Secret{}); !errors.Is(err, holdfast.ErrUsage) {
		t.Errorf("empty passphrase: error %v, want ErrUsage", err)
	}
}

func TestPassphraseAtFullWork(t *testing.T) {
	p, err := seal.NewPassphrase(holdfast.NewSecret("correct horse"))
	if err != nil {
		t.Fatal(err)
	}
	data, _ := sealed(t, seal.Options{Recipients: []seal.Recipient{p}}, text(100))
	if got, err := unseal(data, seal.ReadOptions{Identities: []seal.Identity{p}}); err != nil || !bytes.Equal(got, text(100)) {
		t.Errorf("error %v", err)
	}
}
