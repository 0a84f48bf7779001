package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"

	"holdfast"
	"holdfast/internal/seal"
	"holdfast/internal/source"
)

const (
	manifestNamespace = "holdfast-manifest"
	maxManifest       = 16 << 20
	maxSignature      = 64 << 10
)

// Backup is an existing backup whose manifest was read and whose signature holds. Safe for concurrent use.
type Backup struct {
	Entry     Entry
	Manifest  Manifest
	Digest    string // SHA-256 of the manifest's bytes
	Signer    string // fingerprint of the key that signed
	Trusted   bool   // the signer is one of Options.Trusted
	archive   *Archive
	suffixFor map[string]ItemEntry
}

// Open reads the manifest of entry and checks its signature. A manifest that was changed, is signed by nobody, or by
// someone who is not trusted is refused with holdfast.ErrDifference.
func (a *Archive) Open(ctx context.Context, entry Entry) (*Backup, error) {
	data, err := a.store.ReadAll(ctx, entry.commitName(), maxManifest)
	if err != nil {
		return nil, fmt.Errorf("read the manifest of %s: %w", entry.ID, err)
	}
	manifest, err := parseManifest(data, entry)
	if err != nil {
		return nil, err
	}
	signature, err := a.store.ReadAll(ctx, entry.dataName("manifest.json.sig"), maxSignature)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: the signature of %s is gone", holdfast.ErrDifference, entry.ID)
	}
	if err != nil {
		return nil, fmt.Errorf("read the signature of %s: %w", entry.ID, err)
	}
	key, trusted, err := a.checkSignature(manifestNamespace, signature, data)
	if err != nil {
		return nil, fmt.Errorf("%w: backup %s: %w", holdfast.ErrDifference, entry.ID, err)
	}
	b := &Backup{
		Entry: entry, Manifest: manifest, Digest: hexSum(data), Signer: key.Fingerprint(), Trusted: trusted, archive: a,
		suffixFor: make(map[string]ItemEntry, len(manifest.Items)),
	}
	for _, item := range manifest.Items {
		b.suffixFor[item.Name] = item
	}
	return b, nil
}

func (a *Archive) checkSignature(namespace string, signature, message []byte) (seal.PublicKey, bool, error) {
	key, err := seal.Verify(signature, namespace, message)
	if err != nil {
		return seal.PublicKey{}, false, fmt.Errorf("the signature does not fit the content, one of them was changed: %w", err)
	}
	if len(a.opt.Trusted) == 0 {
		return key, false, nil
	}
	for _, trusted := range a.opt.Trusted {
		if trusted.Fingerprint() == key.Fingerprint() {
			return key, true, nil
		}
	}
	return seal.PublicKey{}, false, holdfast.WithHint(fmt.Errorf("signed by %s, which is not among the allowed signers", key.Fingerprint()),
		"if that host is yours, add its public key to allowed_signers")
}

// Stored opens the facts and describes each source as a restore sees it. It needs an identity unless the backup is
// not sealed.
func (b *Backup) Stored(ctx context.Context) ([]source.Stored, error) {
	facts, err := b.facts(ctx)
	if err != nil {
		return nil, err
	}
	var all []source.Stored
	for _, src := range b.Manifest.Sources {
		stored := source.Stored{Source: src.Name, Kind: src.Kind, Secret: src.Secret, Facts: facts.Sources[src.Name]}
		for _, item := range b.Manifest.Items {
			if item.Role != RoleData || item.Source != src.Name {
				continue
			}
			plain, known := facts.PlainSHA256[item.Name]
			if !known {
				return nil, fmt.Errorf("%w: backup %s: the facts have no digest of %s", holdfast.ErrDifference, b.Entry.ID, item.Name)
			}
			stored.Items = append(stored.Items, source.StoredItem{
				Name: item.Name, Size: item.PlainSize,
				Open: func(ctx context.Context) (io.ReadCloser, error) { return b.open(ctx, item, plain) },
			})
		}
		all = append(all, stored)
	}
	return all, nil
}

// Missing tells why sources are not in the backup, in the words that are kept sealed.
func (b *Backup) Missing(ctx context.Context) (map[holdfast.SourceName]string, error) {
	facts, err := b.facts(ctx)
	return facts.Missing, err
}

func (b *Backup) facts(ctx context.Context) (sealedFacts, error) {
	item, found := b.suffixFor["facts.json"]
	if !found {
		return sealedFacts{}, fmt.Errorf("%w: backup %s has no facts", holdfast.ErrDifference, b.Entry.ID)
	}
	r, err := b.open(ctx, item, "")
	if err != nil {
		return sealedFacts{}, err
	}
	defer r.Close()
	var facts sealedFacts
	if err := json.NewDecoder(r).Decode(&facts); err != nil {
		return sealedFacts{}, fmt.Errorf("read the facts of %s: %w", b.Entry.ID, err)
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return sealedFacts{}, fmt.Errorf("read the facts of %s: %w", b.Entry.ID, err)
	}
	return facts, nil
}

// open unseals one item. Its reader says io.EOF only when the stored bytes and the plain bytes were both whole.
func (b *Backup) open(ctx context.Context, item ItemEntry, plainSHA256 string) (io.ReadCloser, error) {
	stored := b.archive.openStored(ctx, b.Entry, item)
	opt := seal.ReadOptions{
		Compression: seal.Compression(item.Compression),
		Identities:  b.archive.opt.Identities,
		Plain:       !b.Entry.Sealed || item.Role == RoleText,
		SealedTo:    b.Manifest.Keys,
	}
	r, err := seal.NewReader(stored, opt)
	if err != nil {
		stored.Close()
		return nil, fmt.Errorf("open %s: %w", item.Object, err)
	}
	return &itemReader{item: item, stored: stored, plain: r, want: plainSHA256, hash: sha256.New()}, nil
}

// itemReader hands on plaintext and holds it against what was recorded.
type itemReader struct {
	item   ItemEntry
	stored *storedReader
	plain  io.ReadCloser
	want   string // SHA-256 of the plaintext; "" when not recorded (the facts themselves)
	hash   hash.Hash
	n      int64
	err    error
}

func (r *itemReader) Read(p []byte) (int, error) {
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.plain.Read(p)
	r.hash.Write(p[:n])
	r.n += int64(n)
	if err == io.EOF {
		err = r.finish()
	} else if err != nil {
		err = r.damaged(err)
	}
	r.err = err
	return n, err
}

func (r *itemReader) finish() error {
	if _, err := io.Copy(io.Discard, r.stored); err != nil {
		return err
	}
	if r.n != r.item.PlainSize {
		return fmt.Errorf("%w: %s holds %d bytes, %d were recorded", holdfast.ErrDifference, r.item.Name, r.n, r.item.PlainSize)
	}
	if r.want != "" && hex.EncodeToString(r.hash.Sum(nil)) != r.want {
		return fmt.Errorf("%w: %s does not have the digest that was recorded", holdfast.ErrDifference, r.item.Name)
	}
	return io.EOF
}

// damaged tells a broken seal as what it is: stored bytes that are not those that were written. An error of the store
// itself is passed on.
func (r *itemReader) damaged(err error) error {
	if r.stored.err != nil && r.stored.err != io.EOF {
		return r.stored.err
	}
	return fmt.Errorf("%w: %s is damaged: %w", holdfast.ErrDifference, r.item.Object, err)
}

func (r *itemReader) Close() error {
	err := r.plain.Close()
	if closeErr := r.stored.Close(); err == nil {
		err = closeErr
	}
	return err
}

// Verify looks at every item of the backup as deep as level says. done is told each item that is good.
func (b *Backup) Verify(ctx context.Context, level holdfast.Level, done func(ItemEntry)) error {
	plain := map[string]string{}
	if level >= holdfast.L2 {
		facts, err := b.facts(ctx)
		if err != nil {
			return err
		}
		plain = facts.PlainSHA256
	}
	var problems []error
	for _, item := range b.Manifest.Items {
		if err := b.verifyItem(ctx, level, item, plain[item.Name]); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			problems = append(problems, err)
			continue
		}
		if done != nil {
			done(item)
		}
	}
	return errors.Join(problems...)
}

func (b *Backup) verifyItem(ctx context.Context, level holdfast.Level, item ItemEntry, plain string) error {
	switch level {
	case holdfast.L0:
		return b.archive.checkSize(ctx, b.Entry, item)
	case holdfast.L1:
		return b.archive.checkStored(ctx, b.Entry, item)
	}
	r, err := b.open(ctx, item, plain)
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		r.Close()
		return err
	}
	return r.Close()
}

// checkSize compares the sizes that the store lists with the one recorded.
func (a *Archive) checkSize(ctx context.Context, entry Entry, item ItemEntry) error {
	names := make(map[string]bool, item.Parts)
	for part := range item.Parts {
		names[entry.dataName(partName(item.Object, part))] = true
	}
	var size int64
	for object, err := range a.store.List(ctx, entry.dataName(item.Object)) {
		if err != nil {
			return fmt.Errorf("list %s: %w", item.Object, err)
		}
		if names[object.Name] {
			delete(names, object.Name)
			size += object.Size
		}
	}
	if len(names) > 0 {
		return fmt.Errorf("%w: %s of backup %s is gone", holdfast.ErrDifference, item.Object, entry.ID)
	}
	if size != item.StoredSize {
		return sizeDifference(entry, item, size)
	}
	return nil
}

func sizeDifference(entry Entry, item ItemEntry, size int64) error {
	return fmt.Errorf("%w: %s of backup %s has %d bytes, %d were stored", holdfast.ErrDifference, item.Object, entry.ID, size, item.StoredSize)
}

// checkStored reads the stored bytes of item and compares them with what was recorded.
func (a *Archive) checkStored(ctx context.Context, entry Entry, item ItemEntry) error {
	r := a.openStored(ctx, entry, item)
	if _, err := io.Copy(io.Discard, r); err != nil {
		r.Close()
		return err
	}
	return r.Close()
}

// storedReader reads the parts of an item one after another and says io.EOF only when the bytes were those recorded.
type storedReader struct {
	archive *Archive
	ctx     context.Context // of the one read that the reader lives for
	entry   Entry
	item    ItemEntry
	part    int
	r       io.ReadCloser
	n       int64
	hash    hash.Hash
	err     error
}

func (a *Archive) openStored(ctx context.Context, entry Entry, item ItemEntry) *storedReader {
	return &storedReader{archive: a, ctx: ctx, entry: entry, item: item, hash: sha256.New()}
}

func (s *storedReader) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.read(p)
	s.hash.Write(p[:n])
	s.n += int64(n)
	if err == io.EOF {
		switch {
		case s.n != s.item.StoredSize:
			err = sizeDifference(s.entry, s.item, s.n)
		case hex.EncodeToString(s.hash.Sum(nil)) != s.item.StoredSHA256:
			err = fmt.Errorf("%w: the stored bytes of %s of backup %s are not those that were written", holdfast.ErrDifference, s.item.Object, s.entry.ID)
		}
	}
	s.err = err
	return n, err
}

func (s *storedReader) read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	for {
		if s.r == nil {
			if s.part == s.item.Parts {
				return 0, io.EOF
			}
			name := partName(s.item.Object, s.part)
			r, err := s.archive.store.Open(s.ctx, s.entry.dataName(name), 0, -1)
			if errors.Is(err, fs.ErrNotExist) {
				return 0, fmt.Errorf("%w: %s of backup %s is gone", holdfast.ErrDifference, name, s.entry.ID)
			}
			if err != nil {
				return 0, fmt.Errorf("open %s: %w", name, err)
			}
			s.r, s.part = r, s.part+1
		}
		n, err := s.r.Read(p)
		if err != io.EOF {
			return n, err
		}
		err = s.r.Close()
		s.r = nil
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (s *storedReader) Close() error {
	if s.r == nil {
		return nil
	}
	err := s.r.Close()
	s.r = nil
	return err
}
