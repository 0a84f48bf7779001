package seal_test

import (
	"bytes"
	"errors"
	"testing"

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
