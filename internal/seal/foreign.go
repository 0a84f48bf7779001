package seal

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/aes"
	"crypto/md5"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	agearmor "filippo.io/age/armor"

	"holdfast"
)

// ForeignOptions says how a file is opened that other programs may have made.
type ForeignOptions struct {
	// Identities are tried one after another: age identities, OpenPGP private keys, passphrases.
	Identities []Identity
	// Iterations is what openssl enc was given as -iter. 0 means that it is not known: openssl's own default, 10,000, and
	// what Holdfast takes, 600,000, are tried.
	Iterations int
}

// Foreign is an opened file. It hands on what was encrypted, which may be compressed. Close closes the file.
type Foreign struct {
	io.Reader
	// Format is what the file was found to be.
	Format Format
	// Authenticated says that no byte is handed on that was changed since the file was made. openssl enc cannot tell:
	// of its files only a wrong passphrase and most cuts are noticed.
	Authenticated bool
	// Weak tells how the key of openssl enc was made of the passphrase where whoever has the file can try billions of them:
	// without -pbkdf2, by one round of a digest. "" otherwise.
	Weak  string
	close func() error
}

// Close closes the file.
func (f *Foreign) Close() error { return f.close() }

// OpenForeign opens an encrypted file whose digest nobody recorded, and recognises by its content how. open begins to
// read the file, and is called more than once: a format that is only authenticated at its end is read twice, first to
// check it ([Twice]), so the file must stay as it is. The errors are those of [NewReader]: [ErrNoIdentity], [ErrDamaged],
// [ErrUnsupported], holdfast.ErrUsage for a file that is not encrypted, and those of open and its readers as they are.
func OpenForeign(open func() (io.ReadCloser, error), opt ForeignOptions) (*Foreign, error) {
	format, err := detectIn(open)
	if err != nil {
		return nil, err
	}
	switch format {
	case OpenPGP:
		return openForeignPGP(open, opt)
	case OpenSSL:
		return openForeignOpenSSL(open, opt)
	}
	file, err := open()
	if err != nil {
		return nil, err
	}
	r, err := newForeignReader(unarmored(file), Age, opt)
	if err != nil {
		return nil, cmp.Or(err, file.Close())
	}
	return &Foreign{r, Age, true, "", file.Close}, nil
}

func detectIn(open func() (io.ReadCloser, error)) (Format, error) {
	file, err := open()
	if err != nil {
		return "", err
	}
	head := make([]byte, DetectLength)
	n, err := readUpTo(file, head)
	if closeErr := file.Close(); err == nil || err == io.EOF {
		err = closeErr
	}
	if err != nil {
		return "", err
	}
	format, ok := Detect(head[:n])
	if !ok {
		return "", fmt.Errorf("%w: the file is not encrypted in a way that is known here", holdfast.ErrUsage)
	}
	return format, nil
}

// unarmored takes off age's armor, if there is any.
func unarmored(r io.Reader) io.Reader {
	buffered := bufio.NewReaderSize(r, inputBuffer)
	// An error is met again by whoever reads.
	head, _ := buffered.Peek(DetectLength)
	if bytes.HasPrefix(head, []byte(ageMagic)) {
		return buffered
	}
	return armorReader{agearmor.NewReader(buffered)}
}

// armorReader tells what is wrong with the armor as damage: it is no error of the file's own reader.
type armorReader struct{ io.Reader }

func (a armorReader) Read(p []byte) (int, error) {
	n, err := a.Reader.Read(p)
	if broken := (*agearmor.Error)(nil); errors.As(err, &broken) {
		err = fmt.Errorf("%w is damaged: %w", ErrDamaged, err)
	}
	return n, err
}

func newForeignReader(r io.Reader, format Format, opt ForeignOptions) (*Reader, error) {
	return NewReader(r, ReadOptions{
		Compression: None, Identities: opt.Identities, Opening: Opening{Format: format}, Authenticated: true,
	})
}

func openForeignPGP(open func() (io.ReadCloser, error), opt ForeignOptions) (*Foreign, error) {
	file, err := Twice(open, func(r io.Reader) error {
		opened, err := newForeignReader(r, OpenPGP, opt)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, opened)
		return err
	})
	if err != nil {
		return nil, err
	}
	r, err := newForeignReader(file, OpenPGP, opt)
	if err != nil {
		return nil, cmp.Or(err, file.Close())
	}
	return &Foreign{r, OpenPGP, true, "", file.Close}, nil
}

func openForeignOpenSSL(open func() (io.ReadCloser, error), opt ForeignOptions) (*Foreign, error) {
	var chosen opensslCandidate
	file, err := Twice(open, func(r io.Reader) (err error) {
		chosen, err = chooseOpenSSL(&source{r: r}, opt)
		return err
	})
	if err != nil {
		return nil, err
	}
	s := &Reader{source: &source{r: file}, end: func() {}}
	binary := withoutBase64(s.source)
	if _, err := readOpenSSLSalt(binary); err != nil {
		return nil, cmp.Or(s.translate(err, ReadOptions{}), file.Close())
	}
	blocks, err := newOpenSSLReader(binary, chosen.key, chosen.iv)
	if err != nil {
		return nil, cmp.Or(err, file.Close())
	}
	s.opened = &source{r: blocks}
	s.plain = s.opened
	return &Foreign{s, OpenSSL, false, chosen.weak, file.Close}, nil
}

type opensslCandidate struct {
	key, iv []byte
	weak    string // as in Foreign
}

const (
	// judgedHead is how much plaintext is looked at to tell a right key from a wrong one.
	judgedHead = 1 << 10
	// leastJudged is how much it must be at least for that.
	leastJudged = 256
	// noiseBound is the chi-square of 256 byte values under which bytes are taken for random. Of random ones it is 255 and
	// seldom beyond 350; of text, of a dump or of a database thousands.
	noiseBound = 400
)

// chooseOpenSSL reads a file of openssl enc to its end and returns the key that opens it. The format has no check but
// its padding, which one wrong key of 256 passes; so what comes out is looked at too.
func chooseOpenSSL(src *source, opt ForeignOptions) (opensslCandidate, error) {
	fail := func(err error) (opensslCandidate, error) {
		return opensslCandidate{}, (&Reader{source: src}).translate(err, ReadOptions{})
	}
	r := withoutBase64(src)
	salt, err := readOpenSSLSalt(r)
	if err != nil {
		return fail(err)
	}
	head := make([]byte, judgedHead)
	n, err := readUpTo(r, head)
	if err != nil && err != io.EOF {
		return fail(err)
	}
	head = head[:n]
	tail := &lastBytes{}
	tail.Write(head)
	rest, err := io.Copy(tail, r)
	if err != nil {
		return fail(err)
	}
	if size := int64(n) + rest; size == 0 || size%aes.BlockSize != 0 {
		return fail(io.ErrUnexpectedEOF)
	}
	words, err := opensslWords(opt)
	if err != nil {
		return opensslCandidate{}, err
	}
	// What a short file came to tells little: such a key is taken when none of the others gives anything that can be known.
	var guessed []opensslCandidate
	for _, candidates := range []func(*Passphrase, []byte) ([]opensslCandidate, error){opt.strong, opt.weak} {
		var fitting []opensslCandidate
		for _, word := range words {
			list, err := candidates(word, salt)
			if err != nil {
				return opensslCandidate{}, err
			}
			for _, c := range list {
				fits, known, err := c.fits(head, tail.kept, rest == 0)
				switch {
				case err != nil:
					return opensslCandidate{}, err
				case fits && known:
					fitting = append(fitting, c)
				case fits && c.weak == "":
					guessed = append(guessed, c)
				}
			}
		}
		if len(fitting) > 0 {
			return opt.only(fitting)
		}
	}
	return opt.only(guessed)
}

// only is the one key of a list.
func (o ForeignOptions) only(list []opensslCandidate) (opensslCandidate, error) {
	switch len(list) {
	case 0:
		return opensslCandidate{}, o.unopened("none of the passphrases given opens this")
	case 1:
		return list[0], nil
	}
	return opensslCandidate{}, o.unopened("several of the passphrases or iteration counts seem to open this, which only one can")
}

func (o ForeignOptions) unopened(why string) error {
	tried := o.iterationText() + " iterations of PBKDF2 with SHA-256"
	if o.Iterations == 0 {
		tried += ", and the one round of MD5 or SHA-256 of openssl without -pbkdf2"
	}
	return holdfast.WithHint(fmt.Errorf("%w: %s, or it is damaged", ErrNoIdentity, why),
		"give its passphrase, and the iteration count that it was made with; tried were "+tried)
}

func (o ForeignOptions) iterations() []int {
	if o.Iterations > 0 {
		return []int{o.Iterations}
	}
	return []int{opensslDefault, opensslIterations}
}

func (o ForeignOptions) iterationText() string {
	var texts []string
	for _, count := range o.iterations() {
		texts = append(texts, fmt.Sprint(count))
	}
	return strings.Join(texts, " and ")
}

// opensslWords are the passphrases among the identities, each once.
func opensslWords(opt ForeignOptions) ([]*Passphrase, error) {
	if opt.Iterations < 0 || opt.Iterations > maxOpensslIterations {
		return nil, fmt.Errorf("%w: %d iterations are not possible; use 1 to %d", holdfast.ErrUsage, opt.Iterations, maxOpensslIterations)
	}
	var words []*Passphrase
	seen := map[string]bool{}
	for _, identity := range opt.Identities {
		if p, ok := identity.(*Passphrase); ok && !seen[p.text.Reveal()] {
			seen[p.text.Reveal()] = true
			words = append(words, p)
		}
	}
	if len(words) == 0 {
		return nil, holdfast.WithHint(fmt.Errorf("%w: no passphrase was given", ErrNoIdentity),
			"a file of openssl enc needs its passphrase: give --passphrase-file FILE")
	}
	return words, nil
}

// strong are the keys of openssl enc -pbkdf2.
func (o ForeignOptions) strong(p *Passphrase, salt []byte) ([]opensslCandidate, error) {
	var list []opensslCandidate
	for _, count := range o.iterations() {
		key, iv, err := opensslKeys(p, salt, count)
		if err != nil {
			return nil, err
		}
		list = append(list, opensslCandidate{key: key, iv: iv})
	}
	return list, nil
}

// weak are the keys of openssl enc without -pbkdf2: with MD5 before version 1.1.0, with SHA-256 since. Nobody who names a
// count of iterations means them.
func (o ForeignOptions) weak(p *Passphrase, salt []byte) ([]opensslCandidate, error) {
	if o.Iterations > 0 {
		return nil, nil
	}
	var list []opensslCandidate
	for _, with := range []struct {
		digest func() hash.Hash
		name   string
	}{{sha256.New, "SHA-256"}, {md5.New, "MD5"}} {
		made := bytesToKey(with.digest, []byte(p.text.Reveal()), salt, opensslKey+aes.BlockSize)
		list = append(list, opensslCandidate{made[:opensslKey], made[opensslKey:], "one round of " + with.name})
	}
	return list, nil
}

// bytesToKey makes n bytes of a passphrase as EVP_BytesToKey of OpenSSL does with a count of one
// (https://docs.openssl.org/3.0/man3/EVP_BytesToKey/).
func bytesToKey(digest func() hash.Hash, passphrase, salt []byte, n int) []byte {
	var made, last []byte
	for len(made) < n {
		h := digest()
		h.Write(last)
		h.Write(passphrase)
		h.Write(salt)
		last = h.Sum(nil)
		made = append(made, last...)
	}
	return made[:n]
}

// fits reports whether c opens a file that begins with head and ends with the blocks tail, and whether what comes out can
// be known for something. whole says that head is all.
func (c opensslCandidate) fits(head, tail []byte, whole bool) (fits, known bool, err error) {
	if len(tail) > aes.BlockSize {
		iv, last := tail[:aes.BlockSize], tail[aes.BlockSize:]
		if end, err := newOpenSSLReader(bytes.NewReader(last), c.key, iv); err != nil {
			return false, false, err
		} else if _, err := io.Copy(io.Discard, end); err != nil {
			return false, false, nil
		}
	}
	begin, err := newOpenSSLReader(bytes.NewReader(head), c.key, c.iv)
	if err != nil {
		return false, false, err
	}
	plain := make([]byte, len(head))
	n, err := begin.decryptHead(plain, whole)
	if err != nil {
		return false, false, nil
	}
	plain = plain[:n]
	known = isMarked(plain) || isText(plain)
	if n < leastJudged {
		return true, known, nil
	}
	known = known || !isNoise(plain)
	return known, known, nil
}

// isText reports whether head is text, and some of it.
func isText(head []byte) bool {
	return len(head) > 0 && utf8.Valid(head) && !bytes.ContainsFunc(head, func(r rune) bool { return r < ' ' && !unicode.IsSpace(r) })
}

// lastBytes keeps the last two blocks of what is written to it.
type lastBytes struct{ kept []byte }

func (l *lastBytes) Write(p []byte) (int, error) {
	l.kept = append(l.kept, p[max(0, len(p)-2*aes.BlockSize):]...)
	l.kept = bytes.Clone(l.kept[max(0, len(l.kept)-2*aes.BlockSize):])
	return len(p), nil
}

// isNoise reports whether head, of leastJudged bytes at least, looks like random bytes, as the outcome of a wrong key does.
// What is compressed or encrypted looks so too, but begins with a mark of its kind.
func isNoise(head []byte) bool {
	var counts [256]float64
	for _, b := range head {
		counts[b]++
	}
	expected := float64(len(head)) / 256
	squares := 0.0
	for _, count := range counts {
		squares += (count - expected) * (count - expected) / expected
	}
	return squares < noiseBound
}

// isMarked reports whether head begins with the mark of its kind.
func isMarked(head []byte) bool {
	if _, sealed := Detect(head); sealed {
		return true
	}
	return slices.ContainsFunc([]string{
		"\x1f\x8b", "\x28\xb5\x2f\xfd", "\xfd7zXZ\x00", "BZh", "PK\x03\x04", "\x04\x22\x4d\x18", "7z\xbc\xaf\x27\x1c", "LZIP", "\x89LZO",
		"PGDMP", "SQLite format 3\x00", "\x89PNG", "\xff\xd8\xff", "%PDF-", "Rar!",
	}, func(magic string) bool { return bytes.HasPrefix(head, []byte(magic)) })
}
