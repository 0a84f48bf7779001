package archive

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"holdfast"
	"holdfast/internal/seal"
	"holdfast/internal/source"
)

// ErrStore marks a failure of the store, not of what was being read: another source would fare no better.
var ErrStore = errors.New("the store failed")

// Header is what is known of a backup before its first item.
type Header struct {
	Job    holdfast.JobName
	ID     holdfast.BackupID
	Time   time.Time // becomes part of every name; cut to seconds, UTC
	Host   string
	Kind   string
	Reason string
}

// Draft is a backup that does not exist yet. It is not safe for concurrent use. Commit or Abort ends it.
type Draft struct {
	archive  *Archive
	entry    Entry
	manifest Manifest
	facts    sealedFacts
}

// Create begins a backup. Nothing is stored by it.
func (a *Archive) Create(h Header) (*Draft, error) {
	if a.opt.Signer == nil {
		return nil, errNoSigner()
	}
	at := h.Time.UTC().Truncate(time.Second)
	format := a.opt.Seal.Format()
	keys := []string{}
	for _, recipient := range a.opt.Seal.Recipients {
		keys = append(keys, recipient.KeyID())
	}
	entry := Entry{Job: h.Job, ID: h.ID, Time: at, Kind: h.Kind, Sealed: !a.opt.Seal.Plain, Format: format}
	if _, ok := parseCommit(entry.commitName()); !ok {
		// It would be written, and no list would ever show it.
		return nil, fmt.Errorf("%w: no backup can be called %s", holdfast.ErrUsage, entry.commitName())
	}
	return &Draft{
		archive: a,
		entry:   entry,
		manifest: Manifest{
			Format: formatName, ID: h.ID, Job: h.Job, Host: h.Host, Time: at, Kind: h.Kind, Reason: h.Reason,
			Seal: string(cmp.Or(format, sealNone)), Keys: keys, Signer: a.opt.Signer.PublicKey().Fingerprint(),
			Versions: map[string]string{"holdfast": a.opt.Version},
			Sources:  []SourceEntry{}, Missing: []MissingSource{},
		},
		facts: sealedFacts{
			Sources: map[holdfast.SourceName]source.Facts{}, PlainSHA256: map[string]string{}, Missing: map[holdfast.SourceName]string{},
		},
	}, nil
}

// Entry names the draft; with it [Archive.Clean] can remove what a crash leaves.
func (d *Draft) Entry() Entry { return d.entry }

// Put reads item once: counts, hashes, compresses, seals and stores it. progress is told the plain bytes so far.
// When it fails, nothing of the item is visible in the store.
func (d *Draft) Put(ctx context.Context, src holdfast.SourceName, item source.Item, progress func(int64)) (ItemEntry, error) {
	r, err := item.Open(ctx)
	if err != nil {
		return ItemEntry{}, err
	}
	entry, err := d.put(ctx, ItemEntry{Source: src, Name: item.Name, Role: RoleData}, d.archive.opt.Seal, &counter{r: r, ctx: ctx, tell: progress}, r)
	if err != nil {
		return ItemEntry{}, err
	}
	return entry, nil
}

// put stores one stream. closer, when given, is closed before the object becomes visible, and its error fails the put:
// that is where exit statuses and trailers are told.
func (d *Draft) put(ctx context.Context, item ItemEntry, opt seal.Options, r io.Reader, closer io.Closer) (ItemEntry, error) {
	began := d.archive.opt.Now()
	item.Object = item.Name + opt.Suffix()
	item.Compression = string(opt.Compression)
	for _, other := range d.manifest.Items {
		if other.Object == item.Object {
			if closer != nil {
				closer.Close()
			}
			return ItemEntry{}, fmt.Errorf("two items are called %s", item.Object)
		}
	}
	parts := newPartWriter(ctx, d.archive.store, d.entry.dataName(item.Object), d.archive.opt.PartSize)
	sums, opening, err := sealInto(parts, opt, r, closer)
	if err == nil {
		err = parts.Close()
	}
	if err != nil {
		parts.abort(err)
		if parts.failed != nil {
			err = fmt.Errorf("%w: store %s: %w", ErrStore, item.Object, parts.failed)
		}
		return ItemEntry{}, errors.Join(err, d.deleteParts(ctx, item.Object, parts.count()))
	}
	item.Parts = parts.count()
	item.PlainSize, item.StoredSize = sums.PlainBytes, sums.SealedBytes
	item.StoredSHA256 = sums.SealedSHA256
	if !opt.Plain {
		item.Opening = &opening
	}
	item.Seconds = d.archive.opt.Now().Sub(began).Seconds()
	d.facts.PlainSHA256[item.Name] = sums.PlainSHA256
	d.manifest.Items = append(d.manifest.Items, item)
	return item, nil
}

// sealInto copies r through compression and sealing into parts, and closes closer before the last bytes leave, so that a
// source that ended badly never becomes a visible object.
func sealInto(parts *partWriter, opt seal.Options, r io.Reader, closer io.Closer) (seal.Sums, seal.Opening, error) {
	w, err := seal.NewWriter(parts, opt)
	if err != nil {
		if closer != nil {
			closer.Close()
		}
		return seal.Sums{}, seal.Opening{}, err
	}
	_, err = w.ReadFrom(r)
	if closer != nil {
		if closeErr := closer.Close(); closeErr != nil {
			// What the source says of its own end tells more than the broken read it caused.
			err = closeErr
		}
	}
	if err != nil {
		w.Abort()
		return seal.Sums{}, seal.Opening{}, err
	}
	if err := w.Close(); err != nil {
		return seal.Sums{}, seal.Opening{}, err
	}
	return w.Sums(), w.Opening(), nil
}

// Keep records that all items of src are stored and what was seen while they were read.
func (d *Draft) Keep(src SourceEntry, facts source.Facts) {
	d.manifest.Sources = append(d.manifest.Sources, src)
	d.manifest.Exclusions += len(facts.Exclusions)
	d.facts.Sources[src.Name] = facts
	if version := facts.Properties["made_by"]; version != "" {
		d.manifest.Versions[string(src.Name)] = version
	}
}

// Miss records that src is not in the backup and deletes what was stored of it. why is told only inside the seal.
func (d *Draft) Miss(ctx context.Context, missing MissingSource, why string) error {
	d.manifest.Missing = append(d.manifest.Missing, missing)
	d.facts.Missing[missing.Name] = why
	var kept []ItemEntry
	for _, item := range d.manifest.Items {
		if item.Source != missing.Name {
			kept = append(kept, item)
			continue
		}
		if err := d.deleteParts(ctx, item.Object, item.Parts); err != nil {
			return err
		}
		delete(d.facts.PlainSHA256, item.Name)
	}
	d.manifest.Items = kept
	return nil
}

func (d *Draft) deleteParts(ctx context.Context, object string, parts int) error {
	for part := range parts {
		if err := d.archive.store.Delete(context.WithoutCancel(ctx), d.entry.dataName(partName(object, part))); err != nil {
			// What cannot be deleted would stay beside the backup as if it belonged to it.
			return fmt.Errorf("%w: delete %s: %w", ErrStore, partName(object, part), err)
		}
	}
	return nil
}

// Commit stores the facts and the recovery text, reads every stored object back, and then lets the backup exist by
// writing its signed manifest.
func (d *Draft) Commit(ctx context.Context) (Entry, Manifest, error) {
	if len(d.manifest.Sources) == 0 {
		return Entry{}, Manifest{}, errors.New("no source could be captured: nothing to commit")
	}
	facts, err := json.Marshal(d.facts)
	if err != nil {
		return Entry{}, Manifest{}, fmt.Errorf("encode facts: %w", err)
	}
	if err := d.putFacts(ctx, bytes.NewReader(facts)); err != nil {
		return Entry{}, Manifest{}, err
	}
	if err := d.putText(ctx, "RESTORE.txt", recoveryText(&d.manifest)); err != nil {
		return Entry{}, Manifest{}, err
	}
	if err := d.readBack(ctx); err != nil {
		return Entry{}, Manifest{}, err
	}

	d.manifest.Complete = len(d.manifest.Missing) == 0 || !slices.ContainsFunc(d.manifest.Missing, func(m MissingSource) bool {
		return !m.Optional || m.Why == "failed"
	})
	d.manifest.Finished = d.archive.opt.Now().UTC().Truncate(time.Second)
	if d.manifest.Finished.Before(d.manifest.Time) {
		// The time of a backup that follows another within its second, or on a clock that went back, is moved on.
		d.manifest.Finished = d.manifest.Time
	}
	return d.publish(ctx)
}

func (d *Draft) putFacts(ctx context.Context, facts io.Reader) error {
	opt := d.archive.opt.Seal
	opt.Compression = seal.Zstd
	_, err := d.put(ctx, ItemEntry{Name: "facts.json", Role: RoleFacts}, opt, facts, nil)
	return err
}

// putText stores what everybody may read.
func (d *Draft) putText(ctx context.Context, name, text string) error {
	_, err := d.put(ctx, ItemEntry{Name: name, Role: RoleText}, seal.Options{Compression: seal.None, Plain: true}, strings.NewReader(text), nil)
	return err
}

// publish signs the manifest and stores it, which is when the backup begins to exist.
func (d *Draft) publish(ctx context.Context) (Entry, Manifest, error) {
	d.entry.Complete, d.entry.Size = d.manifest.Complete, d.manifest.size()
	data, err := json.MarshalIndent(&d.manifest, "", "  ")
	if err != nil {
		return Entry{}, Manifest{}, fmt.Errorf("encode manifest: %w", err)
	}
	data = append(data, '\n')
	signature, err := d.archive.opt.Signer.Sign(manifestNamespace, data)
	if err != nil {
		return Entry{}, Manifest{}, fmt.Errorf("sign manifest: %w", err)
	}
	if err := d.archive.store.Put(ctx, d.entry.dataName("manifest.json.sig"), bytes.NewReader(signature)); err != nil {
		return Entry{}, Manifest{}, fmt.Errorf("store signature: %w", err)
	}
	if d.entry.From != "" {
		// Before the manifest: a marker alone says nothing, but a copy without it would look like a second backup.
		if err := d.archive.store.Put(ctx, d.entry.resealName(), bytes.NewReader(nil)); err != nil {
			return Entry{}, Manifest{}, fmt.Errorf("store the marker of the copy: %w", err)
		}
	}
	if err := d.archive.store.Put(ctx, d.entry.commitName(), bytes.NewReader(data)); err != nil {
		return Entry{}, Manifest{}, fmt.Errorf("store manifest: %w", err)
	}
	return d.entry, d.manifest, nil
}

// readBack reads every stored object again and compares it with what was sent, two at a time.
func (d *Draft) readBack(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(2)
	for _, item := range d.manifest.Items {
		group.Go(func() error {
			return d.archive.checkStored(ctx, d.entry, item)
		})
	}
	if err := group.Wait(); err != nil {
		return fmt.Errorf("read back what was stored: %w", err)
	}
	return nil
}

// Abort deletes what was stored of the draft. It works after ctx has ended, because that is when it is needed.
func (d *Draft) Abort(ctx context.Context) error {
	_, err := d.archive.Clean(context.WithoutCancel(ctx), d.entry)
	if err != nil {
		return fmt.Errorf("clean up the unfinished backup %s: %w", d.entry.ID, err)
	}
	return nil
}

// counter counts what is read and obeys ctx between reads.
type counter struct {
	r    io.Reader
	ctx  context.Context
	n    int64
	tell func(int64)
}

func (c *counter) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := c.r.Read(p)
	c.n += int64(n)
	if c.tell != nil {
		c.tell(c.n)
	}
	return n, err
}

func hexSum(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// versionLines renders the versions in a fixed order.
func versionLines(versions map[string]string) []string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(versions)) {
		lines = append(lines, name+" "+versions[name])
	}
	return lines
}
