package archive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"iter"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"holdfast"
	"holdfast/internal/store"
)

// importPrefix is where records of imported files lie, which a mirror carries like all others.
const importPrefix = "imports/"

// Lister is what a mirror is looked at through.
type Lister interface {
	List(ctx context.Context, prefix string) iter.Seq2[store.Object, error]
}

// Group is objects that belong together and that another store lacks, in the order in which they are written.
type Group struct {
	Entry   Entry          // the backup; zero when the group is records
	Objects []store.Object // everything but Last
	Last    []store.Object // what makes them count: to be written when all others are durable
	Err     error          // why it cannot be copied
}

// Bytes is the size of what is to be written.
func (g Group) Bytes() int64 {
	var n int64
	for _, o := range slices.Concat(g.Objects, g.Last) {
		n += o.Size
	}
	return n
}

// Lacking tells what the store behind to lacks of this one's backups of job, the newest first and records last; docs/archive-format.md,
// "Copies in other stores". Backups that a prune deleted from there are left out, and so is what the history of this
// store alone still shows. The record of a prune counts once the manifest is gone: the store may have refused to delete it. That of a
// run that never ended counts for nothing here: what was collected may have been half a copy. An object that is there with another size makes its group's
// error a holdfast.ErrDifference.
func (a *Archive) Lacking(ctx context.Context, to Lister, job holdfast.JobName) ([]Group, error) {
	within := string(job) + "/"
	here, there := map[string][]store.Object{}, map[string]int64{}
	gone := map[string]bool{}
	listing, ctxHere := errgroup.WithContext(ctx)
	listing.Go(func() error {
		for _, prefix := range mirrored {
			for object, err := range a.store.List(ctxHere, prefix+within) {
				if err != nil {
					return fmt.Errorf("list %s: %w", prefix+within, err)
				}
				here[prefix] = append(here[prefix], object)
			}
		}
		return nil
	})
	listing.Go(func() error {
		for _, prefix := range append(slices.Clone(mirrored), prunePrefix) {
			for object, err := range to.List(ctxHere, prefix+within) {
				if err != nil {
					return fmt.Errorf("list %s of the mirror: %w", prefix+within, err)
				}
				if m := pruneRecordRule.FindStringSubmatch(object.Name); m != nil && PruneRule(m[2]) != PruneUnfinished {
					gone[m[1]] = true
				}
				there[object.Name] = object.Size
			}
		}
		return nil
	})
	if err := listing.Wait(); err != nil {
		return nil, err
	}
	// lacks reports whether o is missing there; one of another size is the group's error.
	lacks := func(g *Group, o store.Object) bool {
		size, known := there[o.Name]
		if known && size != o.Size && g.Err == nil {
			g.Err = holdfast.WithHint(fmt.Errorf("%w: %s has %d bytes in the mirror, and %d here", holdfast.ErrDifference, o.Name, size, o.Size),
				"nothing is overwritten: `holdfast verify` on both stores says which is as it was recorded")
		}
		return !known
	}

	data := map[string][]store.Object{}
	for _, o := range here[dataPrefix] {
		if m := dataRule.FindStringSubmatch(o.Name); m != nil {
			key := m[1] + "/" + m[2] + "." + m[3]
			data[key] = append(data[key], o)
		}
	}
	markers := map[string]store.Object{}
	for _, o := range here[resealPrefix] {
		if _, to, ok := parseReseal(o.Name); ok {
			markers[to] = o
		}
	}
	var groups []Group
	for _, commit := range here[commitPrefix] {
		entry, ok := parseCommit(commit.Name)
		if !ok || commit.Hidden {
			continue
		}
		if _, has := there[commit.Name]; gone[entry.key()] && !has {
			continue
		}
		group := Group{Entry: entry}
		objects := data[entry.key()]
		if marker, is := markers[entry.key()]; is {
			objects = append(slices.Clone(objects), marker)
		}
		for _, o := range objects {
			if lacks(&group, o) {
				group.Objects = append(group.Objects, o)
			}
		}
		if lacks(&group, commit) {
			group.Last = []store.Object{commit}
		}
		if len(group.Objects)+len(group.Last) > 0 || group.Err != nil {
			groups = append(groups, group)
		}
	}
	slices.SortStableFunc(groups, func(x, y Group) int { return y.Entry.Time.Compare(x.Entry.Time) })

	var records Group
	for _, prefix := range recordPrefixes {
		for _, o := range here[prefix] {
			missing := lacks(&records, o)
			switch {
			case !missing || o.Hidden:
			case strings.HasSuffix(o.Name, ".json"):
				records.Last = append(records.Last, o)
			default:
				records.Objects = append(records.Objects, o)
			}
		}
	}
	if len(records.Objects)+len(records.Last) > 0 || records.Err != nil {
		groups = append(groups, records)
	}
	return groups, nil
}

var (
	recordPrefixes = []string{proofPrefix, pinPrefix, checkPrefix, runPrefix, importPrefix}
	mirrored       = append([]string{dataPrefix, resealPrefix, commitPrefix}, recordPrefixes...)
)

// OpenCopy opens an object as it is copied out of this store. Of a backup's items the reader fails instead of ending when the
// bytes are not those that the signed manifest recorded: what was damaged here is never put elsewhere.
func (b *Backup) OpenCopy(ctx context.Context, name string) (io.ReadCloser, error) {
	r, err := b.archive.store.Open(ctx, name, 0, -1)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s of backup %s is gone: %s", holdfast.ErrDifference, name, b.Entry.ID, err)
	}
	if err != nil {
		return nil, err
	}
	for _, item := range b.Manifest.Items {
		if item.Parts == 1 && name == b.Entry.dataName(item.Object) {
			return &copyReader{ReadCloser: r, entry: b.Entry, item: item, hash: sha256.New()}, nil
		}
	}
	return r, nil
}

// copyReader holds what passes against what was recorded.
type copyReader struct {
	io.ReadCloser
	entry Entry
	item  ItemEntry
	hash  hash.Hash
}

func (c *copyReader) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.hash.Write(p[:n])
	if err == io.EOF && hex.EncodeToString(c.hash.Sum(nil)) != c.item.StoredSHA256 {
		return n, notAsWritten(c.item, c.entry)
	}
	return n, err
}

func notAsWritten(item ItemEntry, entry Entry) error {
	return fmt.Errorf("%w: the stored bytes of %s of backup %s are not those that were written", holdfast.ErrDifference, item.Object, entry.ID)
}

// OpenRecord opens an object that belongs to no backup as it is copied out of this store.
func (a *Archive) OpenRecord(ctx context.Context, name string) (io.ReadCloser, error) {
	return a.store.Open(ctx, name, 0, -1)
}

// CheckParts reads the items of more than one object, which [Backup.OpenCopy] cannot judge one by one.
func (b *Backup) CheckParts(ctx context.Context) error {
	for _, item := range b.Manifest.Items {
		if item.Parts > 1 {
			if err := b.archive.checkStored(ctx, b.Entry, item); err != nil {
				return err
			}
		}
	}
	return nil
}

// VerifyIn reads every item of b from another store, where its manifest need not stand yet, and compares it with what the
// manifest recorded. The signature is compared byte by byte.
func (b *Backup) VerifyIn(ctx context.Context, other *Archive) error {
	for _, item := range b.Manifest.Items {
		if err := other.checkStored(ctx, b.Entry, item); err != nil {
			return err
		}
	}
	name := b.Entry.dataName("manifest.json.sig")
	want, err := b.archive.store.ReadAll(ctx, name, maxSignature)
	if err != nil {
		return fmt.Errorf("read the signature of %s: %w", b.Entry.ID, err)
	}
	have, err := other.store.ReadAll(ctx, name, maxSignature)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the signature of %s: %w", b.Entry.ID, err)
	}
	if err != nil || string(want) != string(have) {
		return fmt.Errorf("%w: the signature of backup %s is another one in the mirror", holdfast.ErrDifference, b.Entry.ID)
	}
	return nil
}

// LinkName is the name of an object of b that may be handed out: sealed, or the text that says how to open it. The empty
// name means the only item of data, if there is one only.
func (b *Backup) LinkName(object string) (string, error) {
	var sealed []string
	for _, item := range b.Manifest.Items {
		if item.Role == RoleData {
			sealed = append(sealed, item.Object)
		}
		if item.Object != object {
			continue
		}
		if !item.sealed(b.Entry) && item.Role != RoleText {
			return "", holdfast.WithHint(fmt.Errorf("%w: %s is not sealed, and whoever has the address could read it", holdfast.ErrUsage, object), "fetch it with `holdfast restore` instead")
		}
		return b.Entry.dataName(object), nil
	}
	if object == "" && len(sealed) == 1 {
		return b.LinkName(sealed[0])
	}
	return "", holdfast.WithHint(fmt.Errorf("%w: which object of backup %s", holdfast.ErrUsage, b.Entry.ID), "name one with --object: "+strings.Join(sealed, ", "))
}

// ObjectNames lists the objects of b, but for its manifest, as they are called in the store.
func (b *Backup) ObjectNames() []string {
	names := []string{b.Entry.dataName("manifest.json.sig")}
	for _, item := range b.Manifest.Items {
		for part := range item.Parts {
			names = append(names, b.Entry.dataName(partName(item.Object, part)))
		}
	}
	return names
}
