package seal_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"holdfast"
	"holdfast/internal/seal"
)

// noisy is binary data full of what a filter would change: CR, LF, CR LF, NUL, and all other bytes.
func noisy(size int) []byte {
	data := make([]byte, size)
	state := uint32(size) + 1
	for i := range data {
		state = state*1664525 + 1013904223
		switch state >> 29 {
		case 0, 1:
			data[i] = '\r'
		case 2:
			data[i] = '\n'
		case 3:
			data[i] = 0
		default:
			data[i] = byte(state >> 16)
		}
	}
	return data
}

// edges are sizes around those at which blocks, packets and chunks end.
var edges = []int{
	0, 1, 15, 16, 17, 31, 32, 33, 191, 192, 193, 511, 512, 513, 8191, 8192, 8193, 8383, 8384,
	64<<10 - 1, 64 << 10, 64<<10 + 1, 1<<20 - 1, 1 << 20, 1<<20 + 1,
}

func opener(data []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}

// openForeign reads a whole file of another program.
func openForeign(data []byte, opt seal.ForeignOptions) ([]byte, *seal.Foreign, error) {
	f, err := seal.OpenForeign(opener(data), opt)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	got, err := io.ReadAll(f)
	return got, f, err
}

func secretOf(t testing.TB, text string) *seal.Passphrase {
	t.Helper()
	p, err := seal.NewCheapPassphrase(holdfast.NewSecret(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func identitiesOf(t testing.TB, data []byte) []seal.Identity {
	t.Helper()
	found, err := seal.ParseIdentities(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestWeOpenWhatGnuPGSeals(t *testing.T) {
	g := newGnuPG(t)
	var to []string
	var identities []seal.Identity
	for _, kind := range gnupgKinds {
		fingerprint := g.key(kind.name, kind.primary, kind.subkey, "")
		to = append(to, "--recipient", fingerprint)
		identities = append(identities, identitiesOf(t, g.run(nil, "--export-secret-keys", fingerprint))...)
	}
	phrase := g.file("passphrase", "correct horse\n")
	for name, c := range map[string]struct {
		args       []string
		identities []seal.Identity
	}{
		"rsa":                    {append([]string{"--encrypt"}, to[:2]...), identities[:1]},
		"curve":                  {append([]string{"--encrypt"}, to[2:]...), identities[1:]},
		"both, the second":       {append([]string{"--encrypt"}, to...), identities[1:]},
		"hidden":                 {append([]string{"--encrypt", "--throw-keyids"}, to...), identities[1:]},
		"signed":                 {append([]string{"--encrypt", "--sign"}, to...), identities[:1]},
		"armored":                {append([]string{"--encrypt", "--armor"}, to...), identities[:1]},
		"not compressed":         {append([]string{"--encrypt", "--compress-algo", "none"}, to...), identities[:1]},
		"bzip2":                  {append([]string{"--encrypt", "--compress-algo", "bzip2"}, to...), identities[:1]},
		"zlib":                   {append([]string{"--encrypt", "--compress-algo", "zlib"}, to...), identities[:1]},
		"passphrase":             {[]string{"--symmetric", "--cipher-algo", "AES256", "--passphrase-file", phrase}, []seal.Identity{secretOf(t, "correct horse")}},
		"passphrase, armored":    {[]string{"--symmetric", "--armor", "--passphrase-file", phrase}, []seal.Identity{secretOf(t, "correct horse")}},
		"old ciphers":            {[]string{"--symmetric", "--cipher-algo", "3DES", "--s2k-mode", "1", "--passphrase-file", phrase}, []seal.Identity{secretOf(t, "correct horse")}},
		"wrong passphrase first": {[]string{"--symmetric", "--passphrase-file", phrase}, []seal.Identity{secretOf(t, "wrong"), identities[0], secretOf(t, "correct horse")}},
		"passphrase and key":     {append([]string{"--encrypt", "--symmetric", "--passphrase-file", phrase}, to...), []seal.Identity{secretOf(t, "correct horse")}},
	} {
		t.Run(name, func(t *testing.T) {
			sizes := []int{0, 1, 513, 100_000}
			if slices.Contains([]string{"curve", "armored", "not compressed"}, name) {
				sizes = edges
			}
			for _, size := range sizes {
				plain := noisy(size)
				data := g.run(plain, c.args...)
				if format, ok := seal.Detect(data[:min(len(data), seal.DetectLength)]); !ok || format != seal.OpenPGP {
					t.Fatalf("size %d: detected as %q", size, format)
				}
				got, f, err := openForeign(data, seal.ForeignOptions{Identities: c.identities})
				if err != nil || !bytes.Equal(got, plain) {
					t.Fatalf("size %d: %d bytes, %v", size, len(got), err)
				}
				if f.Format != seal.OpenPGP || !f.Authenticated {
					t.Errorf("size %d: %+v", size, f)
				}
			}
		})
	}
}

func TestWeOpenWhatOpenSSLSeals(t *testing.T) {
	phrase := writeFile(t, "passphrase", "correct horse\n")
	for _, iterations := range []int{0, 10_000, 600_000, 12_345} {
		args := []string{"enc", "-aes-256-cbc", "-pbkdf2", "-pass", "file:" + phrase}
		opt := seal.ForeignOptions{Identities: []seal.Identity{secretOf(t, "wrong"), secretOf(t, "correct horse")}}
		if iterations > 0 {
			args = append(args, "-iter", fmt.Sprint(iterations))
		}
		sizes := []int{0, 17, 513, 100_000} // where counts are guessed, each try costs what 600,000 iterations do
		if iterations == 12_345 {
			opt.Iterations = iterations
			sizes = edges
		}
		for _, size := range sizes {
			plain := noisy(size)
			data := stock(t, plain, "openssl", args...)
			opt := opt
			if size < seal.LeastJudged {
				// Of a file so short a wrong key may give something too: nobody can guess which one is meant.
				opt = seal.ForeignOptions{Identities: opt.Identities[1:], Iterations: cmp.Or(iterations, 10_000)}
			}
			got, f, err := openForeign(data, opt)
			if err != nil || !bytes.Equal(got, plain) {
				t.Fatalf("%d iterations, size %d: %d bytes, %v", iterations, size, len(got), err)
			}
			if f.Format != seal.OpenSSL || f.Authenticated {
				t.Errorf("size %d: %+v", size, f)
			}
		}
	}
}

// TestWeOpenWhatOldOpenSSLSeals opens what openssl makes without -pbkdf2, as before 1.1.0 and since, and calls it weak.
func TestWeOpenWhatOldOpenSSLSeals(t *testing.T) {
	phrase := writeFile(t, "passphrase", "correct horse\n")
	opt := seal.ForeignOptions{Identities: []seal.Identity{secretOf(t, "wrong"), secretOf(t, "correct horse")}}
	for digest, weak := range map[string]string{"md5": "one round of MD5", "sha256": "one round of SHA-256"} {
		args := []string{"enc", "-aes-256-cbc", "-md", digest, "-pass", "file:" + phrase}
		for name, plain := range map[string][]byte{
			"a line": []byte("SELECT 1; -- épée\n"), "255": bytes.Repeat([]byte("x"), 255), "much": noisy(100_000), "gzip": stock(t, noisy(5000), "gzip"),
		} {
			data := stock(t, plain, "openssl", args...)
			got, f, err := openForeign(data, opt)
			if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%s, %s: %d bytes, %v (hint: %s)", digest, name, len(got), err, holdfast.Hint(err))
				continue
			}
			if f.Format != seal.OpenSSL || f.Authenticated || f.Weak != weak {
				t.Errorf("%s, %s: %+v", digest, name, f)
			}
		}
		data := stock(t, noisy(100_000), "openssl", args...)
		for name, opt := range map[string]seal.ForeignOptions{
			"a wrong passphrase":                 {Identities: opt.Identities[:1]},
			"a count that says it is -pbkdf2":    {Identities: opt.Identities, Iterations: 10_000},
			"the right one, and the file is cut": opt,
		} {
			if name == "the right one, and the file is cut" {
				data = data[:len(data)-16]
			}
			if _, _, err := openForeign(data, opt); !errors.Is(err, seal.ErrNoIdentity) || !strings.Contains(holdfast.Hint(err), "of PBKDF2 with SHA-256") {
				t.Errorf("%s, %s: %v (hint: %s)", digest, name, err, holdfast.Hint(err))
			}
		}
	}
	// What is made with -pbkdf2 is never called weak, and what nobody can read gives nothing by chance.
	plain := noisy(1000)
	if _, f, err := openForeign(stock(t, plain, "openssl", "enc", "-aes-256-cbc", "-pbkdf2", "-pass", "file:"+phrase), opt); err != nil || f.Weak != "" {
		t.Errorf("with -pbkdf2: %+v, %v", f, err)
	}
}

func TestWeOpenForeignAge(t *testing.T) {
	k := pair(t, seal.X25519)
	identity := writeFile(t, "identity", k.text.Reveal()+"\n")
	public := strings.TrimSpace(string(stock(t, nil, "age-keygen", "-y", identity)))
	for _, args := range [][]string{{"-r", public}, {"-a", "-r", public}} {
		for _, size := range edges {
			plain := noisy(size)
			data := stock(t, plain, "age", args...)
			got, f, err := openForeign(data, seal.ForeignOptions{Identities: k.identities})
			if err != nil || !bytes.Equal(got, plain) {
				t.Fatalf("%q size %d: %d bytes, %v", args, size, len(got), err)
			}
			if f.Format != seal.Age || !f.Authenticated {
				t.Errorf("size %d: %+v", size, f)
			}
		}
	}
}

// TestBase64OfOpenSSL holds what openssl enc -a writes, and what damage does to it.
func TestBase64OfOpenSSL(t *testing.T) {
	const phrase = "correct horse"
	opt := seal.ForeignOptions{Identities: []seal.Identity{secretOf(t, phrase)}, Iterations: 10_000}
	for _, size := range []int{0, 1, 15, 16, 47, 48, 300, 1 << 10, 100_000, 1<<20 + 1} {
		plain := text(size)
		data := stock(t, plain, "openssl", "enc", "-aes-256-cbc", "-pbkdf2", "-a", "-pass", "pass:"+phrase)
		for name, form := range map[string][]byte{
			"as it is": data, "of windows": bytes.ReplaceAll(data, []byte("\n"), []byte("\r\n")), "in one line": bytes.ReplaceAll(data, []byte("\n"), nil),
			"without its last line end": bytes.TrimRight(data, "\n"), "behind an empty line": append([]byte("\n"), data...),
			"from a mail": append(bytes.ReplaceAll(data, []byte("\n"), []byte(" \n\t")), "  \n\n"...),
		} {
			got, f, err := openForeign(form, opt)
			if err != nil || !bytes.Equal(got, plain) || f.Format != seal.OpenSSL || f.Authenticated {
				t.Errorf("%d bytes %s: %d came out, %+v, error %v", size, name, len(got), f, err)
			}
		}
		if size < 300 {
			continue // of little nobody can tell a wrong key from a right one
		}
		for name, bad := range map[string][]byte{
			"something behind": append(bytes.Clone(data), "more\n"...), "a strange letter": slices.Concat(data[:200], []byte("*"), data[201:]),
			"cut in a group": data[:len(bytes.TrimRight(data, "=\n"))-2], "cut in a block": data[:60],
		} {
			got, _, err := openForeign(bad, opt)
			if !errors.Is(err, seal.ErrDamaged) || bytes.Equal(got, plain) {
				t.Errorf("%d bytes, %s: %d came out, error %v", size, name, len(got), err)
			}
		}
	}
	broken := errors.New("broken")
	_, err := seal.OpenForeign(func() (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(strings.NewReader("U2FsdGVkX1+"+strings.Repeat("abcd", 1000)), iotest.ErrReader(broken))), nil
	}, opt)
	if !errors.Is(err, broken) || errors.Is(err, seal.ErrDamaged) {
		t.Errorf("a file that cannot be read: %v", err)
	}
}
