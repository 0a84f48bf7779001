package seal_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"holdfast"
	"holdfast/internal/seal"
)

// way is one of the ways to seal that are not authenticated as they are read.
type way struct {
	name       string
	recipients []seal.Recipient
	identities []seal.Identity
}

func fixture(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata/openpgp", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func ways(t testing.TB) []way {
	phrase := func(f seal.Format) *seal.Passphrase {
		p, err := seal.NewCheapPassphraseFor(f, holdfast.NewSecret("correct horse"))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	return []way{
		{"openpgp key", pgpRecipients(t, fixture(t, "ops.asc")), identitiesOf(t, fixture(t, "ops.secret.asc"))},
		{"openpgp passphrase", []seal.Recipient{phrase(seal.OpenPGP)}, []seal.Identity{phrase(seal.Age)}},
		{"openssl", []seal.Recipient{phrase(seal.OpenSSL)}, []seal.Identity{phrase(seal.Age)}},
	}
}

func (w way) seal(t testing.TB, c seal.Compression, plain []byte) ([]byte, seal.Opening) {
	t.Helper()
	var out bytes.Buffer
	s, err := seal.NewWriter(&out, seal.Options{Compression: c, Recipients: w.recipients, Workers: 2})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.ReadFrom(bytes.NewReader(plain))
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	wantSums(t, s.Sums(), plain, out.Bytes())
	return out.Bytes(), s.Opening()
}

// open reads a stream as an archive does: what is stored is compared with the digest of what was written.
func (w way) open(stored, written []byte, how seal.Opening, c seal.Compression) ([]byte, error) {
	want := sha256.Sum256(written)
	r, err := seal.Twice(opener(stored), func(r io.Reader) error {
		data, err := io.ReadAll(r)
		if sha256.Sum256(data) != want {
			err = errors.Join(err, seal.ErrDamaged)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return unsealFrom(iotest.HalfReader(r), seal.ReadOptions{Compression: c, Identities: w.identities, Opening: how, Authenticated: true})
}

func TestRoundTripOfEachFormat(t *testing.T) {
	for _, w := range ways(t) {
		for _, c := range compressions {
			t.Run(w.name+","+string(c), func(t *testing.T) {
				for _, size := range append(slices.Clone(edges), sizes...) {
					plain := noisy(size)
					data, how := w.seal(t, c, plain)
					if got, err := w.open(data, data, how, c); err != nil || !bytes.Equal(got, plain) {
						t.Fatalf("size %d: %d bytes, %v", size, len(got), err)
					}
					if format, ok := seal.Detect(data[:min(len(data), seal.DetectLength)]); !ok || format != how.Format {
						t.Fatalf("size %d: detected as %q", size, format)
					}
				}
			})
		}
	}
}

// What is not authenticated as it is read is not opened by somebody who forgot to see to that.
func TestFormatsThatMustBeAuthenticatedFirst(t *testing.T) {
	for _, w := range ways(t) {
		data, how := w.seal(t, seal.Zstd, text(100))
		if got, err := unseal(data, seal.ReadOptions{Identities: w.identities, Opening: how}); err == nil {
			t.Errorf("%s: %d bytes of a stream that nobody compared with anything", w.name, len(got))
		}
	}
}

func TestOpenSSLOpensWhatWeSeal(t *testing.T) {
	phrase := writeFile(t, "passphrase", "correct horse\n")
	p, err := seal.NewPassphraseFor(seal.OpenSSL, holdfast.NewSecret("correct horse"))
	if err != nil {
		t.Fatal(err)
	}
	full := way{"openssl", []seal.Recipient{p}, []seal.Identity{p}}
	_, how := full.seal(t, seal.None, nil)
	if want := (seal.Opening{Format: seal.OpenSSL, Cipher: "aes-256-cbc", Digest: "sha256", Iterations: 600_000, Check: how.Check}); how != want || len(how.Check) != 16 {
		t.Errorf("opening %+v, want %+v", how, want)
	}
	for _, size := range edges {
		plain := noisy(size)
		w := ways(t)[2]
		if size == 17 || size == 64<<10 {
			w = full
		}
		data, how := w.seal(t, seal.None, plain)
		got := stock(t, data, "openssl", "enc", "-d", "-"+how.Cipher, "-pbkdf2", "-iter", fmt.Sprint(how.Iterations), "-md", how.Digest, "-pass", "file:"+phrase)
		if !bytes.Equal(got, plain) {
			t.Fatalf("size %d: openssl makes %d other bytes of it", size, len(got))
		}
	}
}

func TestSourceErrorIsNotDamageInAnyFormat(t *testing.T) {
	lost := errors.New("connection lost")
	for _, w := range ways(t) {
		data, how := w.seal(t, seal.None, noisy(300<<10))
		for _, at := range []int{0, 10, 200, len(data) / 2, len(data) - 1, len(data)} {
			r := io.MultiReader(bytes.NewReader(data[:at]), iotest.ErrReader(lost))
			_, err := unsealFrom(r, seal.ReadOptions{Compression: seal.None, Identities: w.identities, Opening: how, Authenticated: true})
			if !errors.Is(err, lost) || errors.Is(err, seal.ErrDamaged) {
				t.Errorf("%s: source failing at %d of %d: error %v, want the source's", w.name, at, len(data), err)
			}
		}
	}
}

func TestFailedInputDoesNotOpenInAnyFormat(t *testing.T) {
	broken := errors.New("pg_dump died")
	for _, w := range ways(t) {
		for _, size := range []int{0, 1000, 3*seal.ChunkSize + 1} {
			for _, abort := range []bool{false, true} {
				var out bytes.Buffer
				s, err := seal.NewWriter(&out, seal.Options{Compression: seal.None, Recipients: w.recipients})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := s.ReadFrom(io.MultiReader(bytes.NewReader(text(size)), iotest.ErrReader(broken))); !errors.Is(err, broken) {
					t.Errorf("%s: ReadFrom: %v, want the reader's error", w.name, err)
				}
				if abort {
					s.Abort()
				} else if err := s.Close(); !errors.Is(err, broken) {
					t.Errorf("%s: Close: %v, want the reader's error", w.name, err)
				}
				if s.Sums() != (seal.Sums{}) {
					t.Errorf("%s: sums of a failed stream", w.name)
				}
				// A stream of openssl has no end of its own: of it only what was recorded says that it is whole.
				if w.name == "openssl" {
					continue
				}
				if _, _, err := openForeign(out.Bytes(), seal.ForeignOptions{Identities: w.identities}); err == nil {
					t.Errorf("%s: a stream whose input failed after %d bytes opens as if it were whole", w.name, size)
				}
			}
		}
	}
}

func TestWriterErrorSticksInAnyFormat(t *testing.T) {
	data := noisy(5 * seal.ChunkSize)
	for _, w := range ways(t) {
		for _, left := range []int{0, 10, 1000, 3 * seal.ChunkSize, len(data)} {
			s, err := seal.NewWriter(&failingWriter{left}, seal.Options{Compression: seal.None, Recipients: w.recipients})
			if err != nil {
				t.Fatal(err)
			}
			// The failure may show as late as Close, but then it must.
			_, _ = s.ReadFrom(bytes.NewReader(data))
			if err := s.Close(); !errors.Is(err, errDisk) {
				t.Errorf("%s: writer failing after %d bytes: Close: %v", w.name, left, err)
			}
		}
	}
}

// ageArmored is what age -a makes for the key.
func ageArmored(t testing.TB, k key, plain []byte) []byte {
	t.Helper()
	identity := writeFile(t.(*testing.T), "identity", k.text.Reveal()+"\n")
	return stock(t.(*testing.T), plain, "age", "-e", "-a", "-i", identity)
}

// A flipped bit anywhere in a file is noticed before one byte of it is handed on, or changes nothing of what is in it.
func TestFlippedBitInAForeignFile(t *testing.T) {
	k := pair(t, seal.X25519)
	all := ways(t)
	for name, c := range map[string]struct {
		make       func(plain []byte) []byte
		identities []seal.Identity
		harmless   int // at most so many bits of a small file
	}{
		"age":                {func(p []byte) []byte { data, _ := sealed(t, k.options(seal.None), p); return data }, k.identities, 0},
		"age, armored":       {func(p []byte) []byte { return ageArmored(t, k, p) }, k.identities, 60},
		"openpgp key":        {func(p []byte) []byte { data, _ := all[0].seal(t, seal.None, p); return data }, all[0].identities, 12}, // lengths in bits, and a bit of a point that is not one
		"openpgp passphrase": {func(p []byte) []byte { data, _ := all[1].seal(t, seal.None, p); return data }, all[1].identities, 0},
	} {
		t.Run(name, func(t *testing.T) {
			small, large := noisy(40), noisy(300<<10)
			harmless := 0
			try := func(data, plain []byte, at, bit int) {
				bad := bytes.Clone(data)
				bad[at] ^= 1 << bit
				got, _, err := openForeign(bad, seal.ForeignOptions{Identities: c.identities})
				switch {
				case err == nil && bytes.Equal(got, plain):
					harmless++
				case err == nil:
					t.Errorf("bit %d flipped at %d of %d: %d other bytes and no error", bit, at, len(data), len(got))
				case name == "age" || name == "age, armored":
					if !bytes.HasPrefix(plain, got) {
						t.Errorf("bit %d flipped at %d of %d: other bytes were handed on", bit, at, len(data))
					}
				case len(got) > 0:
					t.Errorf("bit %d flipped at %d of %d: %d bytes were handed on of a file that is not whole", bit, at, len(data), len(got))
				}
				known := errors.Is(err, seal.ErrDamaged) || errors.Is(err, seal.ErrNoIdentity) || errors.Is(err, seal.ErrUnsupported) || errors.Is(err, holdfast.ErrUsage)
				if err != nil && !known {
					t.Errorf("bit %d flipped at %d of %d: %v", bit, at, len(data), err)
				}
			}
			data := c.make(small)
			for at := range data {
				for bit := range 8 {
					try(data, small, at, bit)
				}
			}
			if harmless > c.harmless {
				t.Errorf("%d flipped bits were not noticed", harmless)
			}
			data = c.make(large)
			for _, at := range pgpPlaces(data) {
				try(data, large, at, at%8)
			}
		})
	}
}

// pgpPlaces are the bytes around the ends of everything of which a large file is made.
func pgpPlaces(data []byte) []int {
	var at []int
	for _, around := range []int{0, 20, 80, 94, 100, 120, len(data) / 2, 64 << 10, 128 << 10, 256 << 10, len(data) - 44, len(data) - 22, len(data) - 1} {
		for i := around - 2; i <= around+2; i++ {
			if i >= 0 && i < len(data) {
				at = append(at, i)
			}
		}
	}
	return at
}

// A file that was cut anywhere is noticed; of OpenPGP not one byte is handed on.
func TestTruncatedForeignFile(t *testing.T) {
	k := pair(t, seal.X25519)
	all := ways(t)
	for name, c := range map[string]struct {
		make       func(plain []byte) []byte
		identities []seal.Identity
	}{
		"age":                {func(p []byte) []byte { data, _ := sealed(t, k.options(seal.None), p); return data }, k.identities},
		"age, armored":       {func(p []byte) []byte { return ageArmored(t, k, p) }, k.identities},
		"openpgp key":        {func(p []byte) []byte { data, _ := all[0].seal(t, seal.None, p); return data }, all[0].identities},
		"openpgp passphrase": {func(p []byte) []byte { data, _ := all[1].seal(t, seal.None, p); return data }, all[1].identities},
	} {
		t.Run(name, func(t *testing.T) {
			try := func(data, plain []byte, end int) {
				got, f, err := openForeign(data[:end], seal.ForeignOptions{Identities: c.identities})
				switch {
				case err == nil && name == "age, armored" && end >= len(data)-1 && bytes.Equal(got, plain):
					// Only the line's end is missing.
				case err == nil:
					t.Errorf("cut at %d of %d: %d bytes and no error", end, len(data), len(got))
				case f != nil && f.Format == seal.OpenPGP && len(got) > 0:
					t.Errorf("cut at %d of %d: %d bytes were handed on", end, len(data), len(got))
				case !bytes.HasPrefix(plain, got):
					t.Errorf("cut at %d of %d: other bytes were handed on", end, len(data))
				}
			}
			small, large := noisy(40), noisy(300<<10)
			data := c.make(small)
			for end := range data {
				try(data, small, end)
			}
			data = c.make(large)
			for _, end := range pgpPlaces(data) {
				try(data, large, end)
			}
		})
	}
}

// openssl has no check. What was recorded has: no byte of a changed or cut stream is handed on.
func TestDamageAgainstARecordedDigest(t *testing.T) {
	for _, w := range ways(t) {
		plain := noisy(1000)
		data, how := w.seal(t, seal.None, plain)
		for at := range data {
			bad := bytes.Clone(data)
			bad[at] ^= 1 << (at % 8)
			if got, err := w.open(bad, data, how, seal.None); !errors.Is(err, seal.ErrDamaged) || len(got) > 0 {
				t.Fatalf("%s: bit flipped at %d: %d bytes, %v", w.name, at, len(got), err)
			}
			if got, err := w.open(data[:at], data, how, seal.None); !errors.Is(err, seal.ErrDamaged) || len(got) > 0 {
				t.Fatalf("%s: cut at %d: %d bytes, %v", w.name, at, len(got), err)
			}
		}
	}
}

func TestTruncatedOpenSSL(t *testing.T) {
	w := ways(t)[2]
	data, how := w.seal(t, seal.None, noisy(300))
	opt := seal.ForeignOptions{Identities: w.identities, Iterations: how.Iterations}
	noticed := 0
	for end := range data {
		got, f, err := openForeign(data[:end], opt)
		if err != nil {
			noticed++
			continue
		}
		if end%16 != 0 || f.Authenticated || !bytes.HasPrefix(noisy(300), got) {
			t.Errorf("cut at %d of %d: %d bytes, %+v", end, len(data), len(got), f)
		}
	}
	// Where a block ends, the block before has the form of an end once in 256 times.
	if noticed < len(data)-3 {
		t.Errorf("%d of %d cuts were noticed", noticed, len(data))
	}
}

func TestWrongPassphraseOfOpenSSL(t *testing.T) {
	w := ways(t)[2]
	plain := text(2000)
	data, how := w.seal(t, seal.None, plain)
	for n := range 2000 {
		wrong := secretOf(t, fmt.Sprintf("wrong %d", n))
		got, _, err := openForeign(data, seal.ForeignOptions{Identities: []seal.Identity{wrong}, Iterations: how.Iterations})
		if !errors.Is(err, seal.ErrNoIdentity) || len(got) > 0 || holdfast.Hint(err) == "" {
			t.Fatalf("wrong passphrase %d: %d bytes, %v", n, len(got), err)
		}
		if _, err := (way{identities: []seal.Identity{wrong}}).open(data, data, how, seal.None); !errors.Is(err, seal.ErrNoIdentity) {
			t.Fatalf("wrong passphrase %d, recorded: %v", n, err)
		}
	}
	if _, _, err := openForeign(data, seal.ForeignOptions{Identities: w.identities, Iterations: how.Iterations + 1}); !errors.Is(err, seal.ErrNoIdentity) {
		t.Errorf("wrong iteration count: %v", err)
	}
	if _, _, err := openForeign(data, seal.ForeignOptions{Identities: w.identities, Iterations: -1}); !errors.Is(err, holdfast.ErrUsage) {
		t.Errorf("no iteration count: %v", err)
	}
	if _, _, err := openForeign(data, seal.ForeignOptions{Identities: ways(t)[0].identities}); !errors.Is(err, seal.ErrNoIdentity) || !strings.Contains(holdfast.Hint(err), "--passphrase-file") {
		t.Errorf("a key where a passphrase belongs: %v, hint %q", err, holdfast.Hint(err))
	}
	for _, change := range []func(*seal.Opening){
		func(o *seal.Opening) { o.Cipher = "aes-128-cbc" }, func(o *seal.Opening) { o.Digest = "md5" },
		func(o *seal.Opening) { o.Iterations = 0 }, func(o *seal.Opening) { o.Iterations = 1 << 40 },
	} {
		other := how
		change(&other)
		if _, err := w.open(data, data, other, seal.None); !errors.Is(err, seal.ErrUnsupported) || holdfast.Hint(err) == "" {
			t.Errorf("%+v: %v", other, err)
		}
	}
}

func TestWrongIdentityOfOpenPGP(t *testing.T) {
	all := ways(t)
	strangers := []seal.Identity{secretOf(t, "wrong"), pair(t, seal.X25519).identities[0]}
	private, _, err := seal.NewOpenPGPKey(seal.OpenPGPCurve25519, "Eve", holdfast.Secret{})
	if err != nil {
		t.Fatal(err)
	}
	strangers = append(strangers, identitiesOf(t, []byte(private.Reveal()))...)
	for i, want := range []string{"sealed to the OpenPGP key ", "sealed to a passphrase"} {
		data, how := all[i].seal(t, seal.Zstd, text(1000))
		_, _, err := openForeign(data, seal.ForeignOptions{Identities: strangers})
		if !errors.Is(err, seal.ErrNoIdentity) || errors.Is(err, seal.ErrDamaged) || !strings.Contains(holdfast.Hint(err), want) {
			t.Errorf("%s: %v, hint %q", all[i].name, err, holdfast.Hint(err))
		}
		named := seal.ReadOptions{Identities: strangers, Opening: how, Authenticated: true, SealedTo: []string{"openpgp-1234"}}
		if _, err := unseal(data, named); !strings.Contains(holdfast.Hint(err), "sealed to openpgp-1234") {
			t.Errorf("%s: hint %q does not name the key", all[i].name, holdfast.Hint(err))
		}
		if _, _, err := openForeign(data, seal.ForeignOptions{}); !errors.Is(err, seal.ErrNoIdentity) {
			t.Errorf("%s, no identity: %v", all[i].name, err)
		}
		got, _, err := openForeign(data, seal.ForeignOptions{Identities: append(strangers, all[i].identities...)})
		if err != nil || len(got) == 0 {
			t.Errorf("%s, the right identity last: %v", all[i].name, err)
		}
	}
}

func TestKeysThatCannotBeSealedTo(t *testing.T) {
	now := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)
	for name, want := range map[string]string{
		"ops.asc": "", "rsa.asc": "", "two.gpg": "",
		"expired.asc": "OpenPGP key D63916B97BB7B9EF (expired <expired@example.com>) expired on 2020-12-31",
		"lapsed.asc":  "(lapsed <lapsed@example.com>) cannot be sealed to: its subkey",
		"signs.asc":   "(signs <signs@example.com>) has no subkey that encrypts",
		"revoked.asc": "(revoked <revoked@example.com>) cannot be sealed to: its subkey",
		"dead.asc":    "(dead <dead@example.com>) was revoked",
	} {
		recipients := pgpRecipients(t, fixture(t, name))
		err := seal.CheckNow(recipients, now)
		if want == "" && err != nil || want != "" && (!errors.Is(err, holdfast.ErrUsage) || !strings.Contains(err.Error(), want) || holdfast.Hint(err) == "") {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
		_, err = seal.NewWriter(io.Discard, seal.Options{Recipients: recipients})
		if want != "" && !errors.Is(err, holdfast.ErrUsage) {
			t.Errorf("%s: NewWriter: %v, want ErrUsage", name, err)
		}
		// What must be kept now is sealed also to what has merely expired.
		w, err := seal.NewWriter(io.Discard, seal.Options{Recipients: recipients, ToExpired: true})
		if lapsed := name == "expired.asc" || name == "lapsed.asc"; (want == "" || lapsed) != (err == nil) {
			t.Errorf("%s: ToExpired: %v", name, err)
		}
		if err == nil {
			w.Abort()
		}
	}
	if err := seal.CheckNow(pgpRecipients(t, fixture(t, "ops.asc")), now.AddDate(-1, 0, 0)); err == nil || !strings.Contains(err.Error(), "is of the future") && !strings.Contains(err.Error(), "no valid signature") {
		t.Errorf("a key of the future: %v", err)
	}
	for name, want := range map[string]string{"ops.asc": "never", "expired.asc": "2020-12-31", "lapsed.asc": "2020-12-31", "ending.asc": "2026-12-10"} {
		end, ends := seal.ExpiryOf(pgpRecipients(t, fixture(t, name))[0])
		got := "never"
		if ends {
			got = end.Format(time.DateOnly)
		}
		if got != want {
			t.Errorf("%s expires %s, want %s", name, got, want)
		}
	}
}

func TestRecipientTexts(t *testing.T) {
	public := pair(t, seal.X25519).recipients[0].(interface{ String() string }).String()
	texts, err := seal.RecipientTexts([]byte("# ops\r\n\n" + public + "\n" + public + "\n"))
	if err != nil || len(texts) != 1 || texts[0] != public {
		t.Errorf("%q, %v", texts, err)
	}
	joined := slices.Concat(fixture(t, "ops.asc"), fixture(t, "rsa.asc"), fixture(t, "ops.asc"))
	if texts, err := seal.RecipientTexts(joined); err != nil || len(texts) != 2 {
		t.Errorf("three blocks of two keys: %d texts, %v", len(texts), err)
	}
	for name, data := range map[string][]byte{
		"empty": nil, "comments": []byte("# x\n"), "prose": []byte("hunter2"), "private": fixture(t, "ops.secret.asc"),
		"message": []byte("-----BEGIN PGP MESSAGE-----\n\nhunter2\n-----END PGP MESSAGE-----\n"), "cut": fixture(t, "two.gpg")[:100],
	} {
		texts, err := seal.RecipientTexts(data)
		if !errors.Is(err, holdfast.ErrUsage) || len(texts) > 0 || holdfast.Hint(err) == "" || strings.Contains(fmt.Sprint(err), "hunter2") {
			t.Errorf("%s: %d texts, %v, hint %q", name, len(texts), err, holdfast.Hint(err))
		}
	}
	if _, err := seal.ParseRecipient(string(joined)); !errors.Is(err, holdfast.ErrUsage) {
		t.Errorf("several keys where one belongs: %v", err)
	}
}
