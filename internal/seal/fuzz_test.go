package seal_test

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"holdfast/internal/seal"
)

func FuzzNewReader(f *testing.F) {
	k := pair(f, seal.X25519)
	plain := text(3000)
	for _, c := range compressions {
		data, _ := sealed(f, k.options(c), plain)
		f.Add(data, string(c), false)
		data, _ = sealed(f, seal.Options{Compression: c, Plain: true}, plain)
		f.Add(data, string(c), true)
	}
	f.Fuzz(func(t *testing.T, data []byte, compression string, isPlain bool) {
		opt := seal.ReadOptions{Compression: seal.Compression(compression), Identities: k.identities, Plain: isPlain}
		got, err := unseal(data, opt)
		if !isPlain && !bytes.HasPrefix(plain, got) {
			t.Errorf("%d bytes that nobody sealed, error %v", len(got), err)
		}
	})
}

// Nobody but the holder of a key makes a file that opens as if it were authenticated.
func FuzzOpenForeign(f *testing.F) {
	k := pair(f, seal.X25519)
	plain := noisy(300)
	data, _ := sealed(f, k.options(seal.None), plain)
	f.Add(data)
	identities := k.identities
	for _, w := range ways(f) {
		data, _ := w.seal(f, seal.None, plain)
		f.Add(data)
		identities = append(identities, w.identities...)
	}
	f.Add(message(func(w io.WriteCloser) { compressed(w, func(w io.Writer) { literal(w, true, string(plain)) }) }))
	f.Add([]byte("-----BEGIN PGP MESSAGE-----\n\nww0EAQgBAgMEBQYHCAE=\n-----END PGP MESSAGE-----\n"))
	f.Add([]byte("-----BEGIN AGE ENCRYPTED FILE-----\nYWdlLWVuY3J5cHRpb24ub3JnL3YxCg==\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, opened, err := openForeign(data, seal.ForeignOptions{Identities: identities, Iterations: 10})
		if err == nil && opened.Authenticated && !bytes.Equal(got, plain) {
			t.Errorf("%d bytes that nobody sealed, in format %s", len(got), opened.Format)
		}
		if err != nil && opened != nil && opened.Format != seal.Age && len(got) > 0 {
			t.Errorf("%d bytes were handed on before %v", len(got), err)
		}
	})
}

func FuzzDetect(f *testing.F) {
	for _, w := range ways(f) {
		data, _ := w.seal(f, seal.None, nil)
		f.Add(data)
	}
	f.Add([]byte("\xca\x03PGP\xca\x03PGP\xca\x03PGP"))
	f.Fuzz(func(t *testing.T, head []byte) {
		format, ok := seal.Detect(head)
		if again, err := seal.ParseFormat(string(format)); ok != (format != "") || ok && (err != nil || again != format) {
			t.Errorf("detected %q, %v", format, ok)
		}
	})
}

func FuzzRecipientTexts(f *testing.F) {
	for _, name := range []string{"ops.asc", "two.gpg", "revoked.asc", "ops.secret.asc"} {
		f.Add(fixture(f, name))
	}
	f.Add([]byte("# ops\r\n\nage1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		texts, err := seal.RecipientTexts(data)
		if (err == nil) != (len(texts) > 0) {
			t.Errorf("%d texts, %v", len(texts), err)
		}
		for _, text := range texts {
			r, err := seal.ParseRecipient(text)
			if err != nil {
				t.Fatalf("a text that is no recipient: %v", err)
			}
			if r.Format() == seal.OpenPGP {
				// Whatever the key is like, there is an answer.
				if _, ends := seal.ExpiryOf(r); ends && r.KeyID() == "" {
					t.Error("a key without an ID")
				}
				_ = seal.CheckNow([]seal.Recipient{r}, time.Unix(1800000000, 0))
			}
		}
	})
}

func FuzzVerify(f *testing.F) {
	s, _ := signer(f)
	message := []byte("m")
	f.Add(sign(f, s, message), message)
	f.Fuzz(func(t *testing.T, armored, other []byte) {
		key, err := seal.Verify(armored, namespace, other)
		if err != nil && !errors.Is(err, seal.ErrBadSignature) {
			t.Errorf("error %v, want ErrBadSignature", err)
		}
		if err == nil && key.Equal(s.PublicKey()) && !bytes.Equal(message, other) {
			t.Error("a signature that was never made")
		}
	})
}

func FuzzParseIdentities(f *testing.F) {
	for _, kind := range []seal.KeyKind{seal.X25519, seal.Hybrid} {
		text, _, err := seal.NewIdentity(kind)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte("# c\r\n\n" + text.Reveal() + "\n"))
	}
	f.Add(fixture(f, "ops.secret.asc"))
	f.Fuzz(func(t *testing.T, data []byte) {
		identities, err := seal.ParseIdentities(bytes.NewReader(data))
		if err == nil && len(identities) == 0 {
			t.Error("no identities and no error")
		}
		for _, i := range identities {
			if seal.RecipientOf(i) == nil {
				t.Error("an identity without a recipient")
			}
		}
	})
}

func FuzzParseAllowedSigners(f *testing.F) {
	s, _ := signer(f)
	f.Add(seal.AllowedSignersLine("host", s.PublicKey()))
	f.Add(`host namespaces="a,b" ` + s.PublicKey().String())
	f.Fuzz(func(t *testing.T, text string) {
		allowed, err := seal.ParseAllowedSigners(text)
		for _, signer := range allowed {
			again, err := seal.ParseAllowedSigners(seal.AllowedSignersLine(signer.Principal, signer.Key))
			if err != nil || len(again) != 1 || !again[0].Key.Equal(signer.Key) {
				t.Errorf("%q does not come back: %v", signer.Principal, err)
			}
		}
		if err != nil && allowed != nil {
			t.Error("signers and an error")
		}
	})
}
