package foreign_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/foreign"
	"holdfast/internal/seal"
)

const passphrase = "correct horse battery staple"

// gpg is a keyring in a short path, with one key.
type gpg struct{ home string }

func newGPG(t *testing.T) gpg {
	t.Helper()
	home, err := os.MkdirTemp("/tmp", "hf-gpg-")
	if err != nil {
		t.Fatal(err)
	}
	g := gpg{home}
	t.Cleanup(func() {
		exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run() // an agent that is not there cannot be killed
		os.RemoveAll(home)
	})
	g.run(t, nil, "--passphrase", "", "--quick-generate-key", "backup@example.org", "default", "default", "never")
	return g
}

func (g gpg) run(t *testing.T, in []byte, args ...string) []byte {
	t.Helper()
	return stock(t, in, "gpg", append([]string{"--homedir", g.home, "--batch", "--quiet", "--trust-model", "always", "--pinentry-mode", "loopback"}, args...)...)
}

// unlocked are an age identity, the private half of the gpg key, and the passphrase.
func unlocked(t *testing.T, g gpg) (identities []seal.Identity, ageRecipient string) {
	t.Helper()
	secret, recipient, err := seal.NewIdentity(seal.X25519)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{secret.Reveal(), string(g.run(t, nil, "--armor", "--export-secret-keys"))} {
		parsed, err := seal.ParseIdentities(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		identities = append(identities, parsed...)
	}
	word, err := seal.NewPassphrase(holdfast.NewSecret(passphrase))
	if err != nil {
		t.Fatal(err)
	}
	return append(identities, word), recipient
}

// compressors are how scripts compress.
func compressors(t *testing.T) map[string]func([]byte) []byte {
	with := func(args ...string) func([]byte) []byte {
		return func(in []byte) []byte { return stock(t, in, args[0], args[1:]...) }
	}
	return map[string]func([]byte) []byte{
		"": func(in []byte) []byte { return in }, "gzip": with("gzip", "-9"), "zstd": with("zstd", "-q"), "xz": with("xz"), "bzip2": with("bzip2"),
	}
}

// sealers are how scripts encrypt.
func sealers(t *testing.T, g gpg, ageRecipient string) map[string]func([]byte) []byte {
	secret := filepath.Join(t.TempDir(), "passphrase")
	if err := os.WriteFile(secret, []byte(passphrase+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	openssl := func(args ...string) func([]byte) []byte {
		return func(in []byte) []byte {
			return stock(t, in, "openssl", append([]string{"enc", "-aes-256-cbc", "-pbkdf2", "-pass", "file:" + secret}, args...)...)
		}
	}
	return map[string]func([]byte) []byte{
		"":               func(in []byte) []byte { return in },
		"openpgp by key": func(in []byte) []byte { return g.run(t, in, "--encrypt", "--recipient", "backup@example.org") },
		"openpgp armored": func(in []byte) []byte {
			return g.run(t, in, "--encrypt", "--armor", "--recipient", "backup@example.org")
		},
		"openpgp by passphrase": func(in []byte) []byte {
			return g.run(t, in, "--symmetric", "--cipher-algo", "AES256", "--passphrase-file", secret)
		},
		"openssl":              openssl(),
		"openssl -a":           openssl("-a"),
		"openssl -a, one line": openssl("-a", "-A"),
		"openssl -a, windows": func(in []byte) []byte {
			return bytes.ReplaceAll(openssl("-a")(in), []byte("\n"), []byte("\r\n"))
		},
		"openssl without -pbkdf2": func(in []byte) []byte {
			return stock(t, in, "openssl", "enc", "-aes-256-cbc", "-pass", "file:"+secret)
		},
		"openssl of old": func(in []byte) []byte {
			return stock(t, in, "openssl", "enc", "-aes-256-cbc", "-md", "md5", "-pass", "file:"+secret)
		},
		"age":    func(in []byte) []byte { return stock(t, in, "age", "-r", ageRecipient) },
		"age -a": func(in []byte) []byte { return stock(t, in, "age", "-a", "-r", ageRecipient) },
	}
}

// TestEveryPair opens every compression within every seal, as scripts make them.
func TestEveryPair(t *testing.T) {
	g := newGPG(t)
	identities, recipient := unlocked(t, g)
	for compression, compress := range compressors(t) {
		for format, encrypt := range sealers(t, g, recipient) {
			name := strings.TrimSpace("SQL " + compression + " " + format)
			t.Run(name, func(t *testing.T) {
				data := encrypt(compress(dump))
				path := file(t, data)
				f, content, err := read(t, path, foreign.Options{Identities: identities})
				if err != nil {
					t.Fatalf("%v (hint: %s)", err, holdfast.Hint(err))
				}
				if !bytes.Equal(content, dump) {
					t.Errorf("%d bytes came out, %d went in", len(content), len(dump))
				}
				layer, _, _ := strings.Cut(format, " ")
				if want := strings.Join(strings.Fields("SQL "+compression+" "+layer), ", "); f.String() != want {
					t.Errorf("recognised as %s, want %s", f, want)
				}
				if f.Unauthenticated != (layer == "openssl") {
					t.Errorf("unauthenticated: %t", f.Unauthenticated)
				}
				if weak := map[string]string{"openssl without -pbkdf2": "one round of SHA-256", "openssl of old": "one round of MD5"}[format]; f.Weak != weak {
					t.Errorf("weak: %q, want %q", f.Weak, weak)
				}
				if sums, _ := f.Sums(); sums.SHA256 != sum(data) || sums.PlainSHA256 != sum(dump) {
					t.Errorf("sums %v", sums)
				}
				again, err := f.Reader(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				if second, err := io.ReadAll(again); err != nil || !bytes.Equal(second, dump) {
					t.Errorf("the second reading gave %d bytes, error %v", len(second), err)
				}
				if err := again.Close(); err != nil {
					t.Error(err)
				}
				if format == "" {
					return
				}
				known, err := foreign.Recognise(t.Context(), path)
				if err != nil || known.String() != layer || known.Content != foreign.Sealed {
					t.Errorf("without a key recognised as %v, error %v", known, err)
				}
			})
		}
	}
}

// TestSealsCut takes bytes off the end of every seal, and flips one in the middle.
func TestSealsCut(t *testing.T) {
	g := newGPG(t)
	identities, recipient := unlocked(t, g)
	for format, encrypt := range sealers(t, g, recipient) {
		if format == "" {
			continue
		}
		t.Run(format, func(t *testing.T) {
			plain := make([]byte, 8000) // random bytes stay as long as they are
			rand.Read(plain)
			copy(plain, "SELECT 1; --")
			data := encrypt(stock(t, plain, "gzip"))
			for _, n := range []int{1, 2, 15, 16, 17, 30, len(data) / 2} {
				_, content, err := read(t, file(t, data[:len(data)-n]), foreign.Options{Identities: identities})
				if err == nil && bytes.Equal(content, plain) && (format == "openpgp armored" || format == "age -a") {
					continue // the end of the armor says nothing of what it wraps, which was authenticated
				}
				if whole := bytes.TrimRight(data, "\r\n"); strings.HasPrefix(format, "openssl -a") && bytes.HasPrefix(data[:len(data)-n], whole) && err == nil && bytes.Equal(content, plain) {
					continue // what was cut off is the end of the last line
				}
				noKey := errors.Is(err, seal.ErrNoIdentity) && strings.HasPrefix(format, "openssl") // a cut is like a wrong passphrase there
				if !noKey && (err == nil || !errors.Is(err, holdfast.ErrDifference) || strings.Contains(err.Error(), "difference")) {
					t.Errorf("%d bytes off: %v", n, err)
				}
			}
			flipped := bytes.Clone(data)
			flipped[len(flipped)*3/4] ^= 4
			if _, _, err := read(t, file(t, flipped), foreign.Options{Identities: identities}); !errors.Is(err, holdfast.ErrDifference) || strings.Contains(err.Error(), "difference") {
				t.Errorf("a flipped bit: %v", err)
			}
			other, err := seal.NewPassphrase(holdfast.NewSecret("wrong"))
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := read(t, file(t, data), foreign.Options{Identities: []seal.Identity{other}}); !errors.Is(err, seal.ErrNoIdentity) || holdfast.Hint(err) == "" {
				t.Errorf("a wrong key: %v (hint: %s)", err, holdfast.Hint(err))
			}
		})
	}
}

func TestIterations(t *testing.T) {
	data := stock(t, dump, "openssl", "enc", "-aes-256-cbc", "-pbkdf2", "-iter", "1234", "-pass", "pass:"+passphrase)
	word, err := seal.NewPassphrase(holdfast.NewSecret(passphrase))
	if err != nil {
		t.Fatal(err)
	}
	opt := foreign.Options{Identities: []seal.Identity{word}}
	if _, _, err := read(t, file(t, data), opt); !errors.Is(err, seal.ErrNoIdentity) || !strings.Contains(holdfast.Hint(err), "iteration count") {
		t.Errorf("another count: %v (hint: %s)", err, holdfast.Hint(err))
	}
	opt.Iterations = 1234
	if _, content, err := read(t, file(t, data), opt); err != nil || !bytes.Equal(content, dump) {
		t.Errorf("%d bytes, error %v", len(content), err)
	}
}
