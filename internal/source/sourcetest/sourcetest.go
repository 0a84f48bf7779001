// Package sourcetest is the suite that every driver of a source passes: the laws of package source, one subtest each.
//
// It hides how a backup is played without a store: items are kept in memory, handed back as they were or damaged.
// It knows no kind of data, so whatever depends on the kind comes from the driver's [Fixture]. A driver that passes
// may still be wrong in ways only its own tests can see (what it captures, what a restored source is used for).
package sourcetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/source"
)

// Fixture is one live source with its surroundings, fresh for each subtest. All functions may call t.Fatal.
type Fixture struct {
	Name   holdfast.SourceName
	Kind   holdfast.Kind
	Source source.Source
	// Mutate changes the live data, so that facts taken before and after differ. It is called from the test's
	// goroutine, also between two reads of an item, and returns when the change is made or when the source's own
	// locks refuse it.
	Mutate func(t *testing.T)
	// Place returns a fresh place, each time another one, whose final place is free. The suite closes it.
	Place func(t *testing.T) source.Place
	// Leftovers lists, in any words, what now stands where places put their staging and their final data: files,
	// databases, processes.
	Leftovers func(t *testing.T) []string
	// Spot returns the offset in an item's bytes at which a changed bit changes data rather than a comment or
	// padding. Nil means the middle.
	Spot func(item string, content []byte) int
}

// Run runs every law against the fixtures that open makes.
func Run(t *testing.T, open func(t *testing.T) Fixture) {
	laws := []struct {
		name string
		law  func(t *testing.T, f Fixture)
	}{
		{"a healthy source has no failing finding", healthy},
		{"items are named after the source", names},
		{"facts wait for the last item", factsWait},
		{"facts are whole", factsWhole},
		{"what was captured comes back", comesBack},
		{"items may be read concurrently", concurrent},
		{"a capture does not see later changes", pinned},
		{"a changed source is noticed", noticesChange},
		{"facts are read without keeping anything", readsFacts},
		{"a capture after a closed one", again},
		{"a cancelled capture stops", cancelledCapture},
		{"a cancelled read stops", cancelledRead},
		{"a reader closed early is not whole", closedEarly},
		{"a flipped bit is detected", damaged(flip)},
		{"a lost byte is detected", damaged(drop)},
		{"a truncated item is detected", damaged(truncate)},
		{"an item that fails to read fails the restore", unreadable},
		{"a missing item fails the restore", missing},
		{"a place closed without a commit leaves nothing", leavesNothing},
		{"a commit says where the data is", commits},
	}
	for _, l := range laws {
		t.Run(l.name, func(t *testing.T) { l.law(t, open(t)) })
	}
}

// backup is what a store would hold of one capture.
type backup struct {
	names []string
	items map[string][]byte
	facts source.Facts
}

func capture(t *testing.T, f Fixture) source.Capture {
	t.Helper()
	c, err := f.Source.Capture(t.Context(), func(holdfast.Event) {})
	if err != nil {
		t.Fatalf("capture: %v (hint: %s)", err, holdfast.Hint(err))
	}
	return c
}

func closeCapture(t *testing.T, c source.Capture) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Fatalf("close the capture: %v", err)
	}
}

// drain reads an opened item to its end, calling each between the first read and the rest.
func drain(r io.ReadCloser, between func()) ([]byte, error) {
	var content bytes.Buffer
	part := make([]byte, 512)
	n, err := r.Read(part)
	content.Write(part[:n])
	between()
	if err == nil {
		_, err = content.ReadFrom(r)
	}
	if err == io.EOF {
		err = nil
	}
	return content.Bytes(), errors.Join(err, r.Close())
}

func readItem(ctx context.Context, item source.Item, between func()) ([]byte, error) {
	r, err := item.Open(ctx)
	if err != nil {
		return nil, fmt.Errorf("open item %s: %w", item.Name, err)
	}
	return drain(r, between)
}

func factsOf(t *testing.T, c source.Capture) source.Facts {
	t.Helper()
	facts, err := c.Facts(t.Context())
	if err != nil {
		t.Fatalf("facts: %v (hint: %s)", err, holdfast.Hint(err))
	}
	return facts
}

// take makes a whole backup, calling between before, inside and after every item.
func take(t *testing.T, f Fixture, between func()) backup {
	t.Helper()
	c := capture(t, f)
	b := backup{items: map[string][]byte{}}
	for _, item := range c.Items() {
		between()
		content, err := readItem(t.Context(), item, between)
		if err != nil {
			t.Fatalf("read item %s: %v (hint: %s)", item.Name, err, holdfast.Hint(err))
		}
		b.names = append(b.names, item.Name)
		b.items[item.Name] = content
	}
	between()
	b.facts = factsOf(t, c)
	closeCapture(t, c)
	return b
}

func nothing() {}

// stored plays the backup back; alter, when not nil, stands between the stored bytes and the reader.
func (b backup) stored(f Fixture, alter func(name string, content []byte) io.Reader) source.Stored {
	s := source.Stored{Source: f.Name, Kind: f.Kind, Facts: b.facts}
	for _, name := range b.names {
		s.Items = append(s.Items, source.StoredItem{
			Name: name,
			Size: int64(len(b.items[name])),
			Open: func(context.Context) (io.ReadCloser, error) {
				if alter != nil {
					return io.NopCloser(alter(name, bytes.Clone(b.items[name]))), nil
				}
				return io.NopCloser(bytes.NewReader(b.items[name])), nil
			},
		})
	}
	return s
}

func place(t *testing.T, f Fixture) source.Place {
	t.Helper()
	p := f.Place(t)
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("close the place: %v", err)
		}
	})
	return p
}

// restore brings b back into a fresh place and compares.
func restore(t *testing.T, f Fixture, b backup) []source.Difference {
	t.Helper()
	p := place(t, f)
	if err := p.Restore(t.Context(), b.stored(f, nil)); err != nil {
		t.Fatalf("restore: %v (hint: %s)", err, holdfast.Hint(err))
	}
	restored, err := p.Check(t.Context())
	if err != nil {
		t.Fatalf("check: %v (hint: %s)", err, holdfast.Hint(err))
	}
	return source.Compare(b.facts.Facts, restored.Facts)
}

// failing lists the differences that fail a drill, in words.
func failing(differences []source.Difference) []string {
	var lines []string
	for _, d := range differences {
		if d.Fails() {
			lines = append(lines, d.String())
		}
	}
	return lines
}

func mustMatch(t *testing.T, f Fixture, b backup) {
	t.Helper()
	if lines := failing(restore(t, f, b)); len(lines) > 0 {
		t.Errorf("the restored data differs:\n%s", strings.Join(lines, "\n"))
	}
}

func healthy(t *testing.T, f Fixture) {
	findings, err := f.Source.Diagnose(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, finding := range findings {
		if finding.Severity == source.Fails {
			t.Errorf("%s (fix: %s)", finding.Message, finding.Fix)
		}
	}
}

var nameRule = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]*$`)

func names(t *testing.T, f Fixture) {
	c := capture(t, f)
	defer closeCapture(t, c)
	seen := map[string]bool{}
	for _, item := range c.Items() {
		if !strings.HasPrefix(item.Name, string(f.Name)+".") {
			t.Errorf("item %q does not begin with %q", item.Name, string(f.Name)+".")
		}
		if !nameRule.MatchString(item.Name) || strings.Contains(item.Name, "..") {
			t.Errorf("item %q cannot be part of an object's name", item.Name)
		}
		if item.Hint != source.Stream && item.Hint != source.Pages {
			t.Errorf("item %q has the unknown hint %q", item.Name, item.Hint)
		}
		if seen[item.Name] {
			t.Errorf("two items are called %q", item.Name)
		}
		seen[item.Name] = true
	}
	if len(seen) == 0 {
		t.Error("a capture without items")
	}
}

func factsWait(t *testing.T, f Fixture) {
	c := capture(t, f)
	defer closeCapture(t, c)
	for _, item := range c.Items() {
		if _, err := c.Facts(t.Context()); err == nil {
			t.Fatalf("facts were given before %s was read", item.Name)
		}
		if _, err := readItem(t.Context(), item, nothing); err != nil {
			t.Fatalf("read item %s: %v", item.Name, err)
		}
	}
	factsOf(t, c)
}

func factsWhole(t *testing.T, f Fixture) {
	facts := take(t, f, nothing).facts
	if facts.Kind != f.Kind {
		t.Errorf("facts are of kind %q, want %q", facts.Kind, f.Kind)
	}
	if facts.Taken.IsZero() {
		t.Error("facts without a time")
	}
	if _, offset := facts.Taken.Zone(); offset != 0 {
		t.Error("the time of the facts is not UTC")
	}
	if !slices.ContainsFunc(facts.Facts, func(fact source.Fact) bool { return fact.Rule == source.Exact }) {
		t.Error("no fact is compared exactly: such a drill proves nothing")
	}
	if differences := source.Compare(facts.Facts, facts.Facts); len(differences) > 0 {
		t.Errorf("facts do not equal themselves, so two share class and name: %v", differences)
	}
	for _, fact := range facts.Facts {
		if fact.Rule != source.Exact && fact.Rule != source.Text && fact.Rule != source.Listed {
			t.Errorf("%s %s has the unknown rule %q", fact.Class, fact.Name, fact.Rule)
		}
	}
}

func comesBack(t *testing.T, f Fixture) { mustMatch(t, f, take(t, f, nothing)) }

func concurrent(t *testing.T, f Fixture) {
	c := capture(t, f)
	items := c.Items()
	contents := make([][]byte, len(items))
	failures := make([]error, len(items))
	done := make(chan struct{})
	for i, item := range items {
		go func() {
			contents[i], failures[i] = readItem(t.Context(), item, nothing)
			done <- struct{}{}
		}()
	}
	for range items {
		<-done
	}
	b := backup{items: map[string][]byte{}}
	for i, item := range items {
		if failures[i] != nil {
			t.Fatalf("read item %s: %v", item.Name, failures[i])
		}
		b.names = append(b.names, item.Name)
		b.items[item.Name] = contents[i]
	}
	b.facts = factsOf(t, c)
	closeCapture(t, c)
	mustMatch(t, f, b)
}

func pinned(t *testing.T, f Fixture) {
	b := take(t, f, func() { f.Mutate(t) })
	f.Mutate(t)
	mustMatch(t, f, b)
}

// readsFacts is what a comparison with a live source stands on: the facts of a capture that nobody keeps are those of one
// that is kept, and tell of a change.
func readsFacts(t *testing.T, f Fixture) {
	before := take(t, f, nothing)
	read := func() []source.Fact {
		facts, err := source.ReadFacts(t.Context(), f.Source, func(holdfast.Event) {})
		if err != nil {
			t.Fatalf("read the facts: %v (hint: %s)", err, holdfast.Hint(err))
		}
		return facts.Facts
	}
	for _, drift := range source.Drifts(before.facts.Facts, read()) {
		t.Errorf("nothing changed, and yet: %s", drift)
	}
	f.Mutate(t)
	if len(source.Drifts(before.facts.Facts, read())) == 0 {
		t.Error("the source was changed, and no drift is seen")
	}
}

func noticesChange(t *testing.T, f Fixture) {
	before := take(t, f, nothing)
	f.Mutate(t)
	after := take(t, f, nothing)
	if len(failing(source.Compare(before.facts.Facts, after.facts.Facts))) == 0 {
		t.Error("the data changed and the facts did not")
	}
}

func again(t *testing.T, f Fixture) {
	closeCapture(t, capture(t, f))
	first := take(t, f, nothing)
	second := take(t, f, nothing)
	if lines := failing(source.Compare(first.facts.Facts, second.facts.Facts)); len(lines) > 0 {
		t.Errorf("nothing changed between two captures, and yet:\n%s", strings.Join(lines, "\n"))
	}
}

func cancelledCapture(t *testing.T, f Fixture) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c, err := f.Source.Capture(ctx, func(holdfast.Event) {})
	if err == nil {
		c.Close()
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("capture with a cancelled context: %v", err)
	}
}

func cancelledRead(t *testing.T, f Fixture) {
	counted := capture(t, f)
	count := len(counted.Items())
	closeCapture(t, counted)
	for i := range count {
		ctx, cancel := context.WithCancel(t.Context())
		c := capture(t, f)
		item := c.Items()[i]
		r, err := item.Open(ctx)
		if err != nil {
			t.Fatalf("open item %s: %v", item.Name, err)
		}
		cancel()
		if _, err := drain(r, nothing); !errors.Is(err, context.Canceled) {
			t.Errorf("item %s was read under a cancelled context: %v", item.Name, err)
		}
		if _, err := c.Facts(t.Context()); err == nil {
			t.Errorf("facts were given though reading %s was cancelled", item.Name)
		}
		// The view is lost or not, as the driver likes: only leaking it would be wrong, and Close must not hang.
		c.Close()
	}
}

func closedEarly(t *testing.T, f Fixture) {
	c := capture(t, f)
	defer c.Close()
	item := c.Items()[0]
	r, err := item.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err == nil {
		t.Errorf("item %s was closed after one byte and called itself whole", item.Name)
	}
	if _, err := c.Facts(t.Context()); err == nil {
		t.Error("facts were given of bytes that nobody read")
	}
}

func flip(content []byte, at int) []byte {
	content[at] ^= 0x04
	return content
}

func drop(content []byte, at int) []byte { return slices.Delete(content, at, at+1) }

func truncate(content []byte, at int) []byte { return content[:at] }

// damaged is the law that damage done to any item does not pass: Restore or Check fails, or Compare finds it. The
// store would have refused such bytes; this is what stands behind it.
func damaged(harm func(content []byte, at int) []byte) func(t *testing.T, f Fixture) {
	return func(t *testing.T, f Fixture) {
		b := take(t, f, nothing)
		for _, hurt := range b.names {
			if len(b.items[hurt]) == 0 {
				continue
			}
			p := place(t, f)
			err := p.Restore(t.Context(), b.stored(f, func(name string, content []byte) io.Reader {
				if name != hurt {
					return bytes.NewReader(content)
				}
				at := len(content) / 2
				if f.Spot != nil {
					at = f.Spot(name, content)
				}
				return bytes.NewReader(harm(content, at))
			}))
			if err != nil {
				continue
			}
			restored, err := p.Check(t.Context())
			if err != nil {
				continue
			}
			if len(failing(source.Compare(b.facts.Facts, restored.Facts))) == 0 {
				t.Errorf("damage to %s went unseen", hurt)
			}
		}
	}
}

var errLost = errors.New("the store lost the connection")

func unreadable(t *testing.T, f Fixture) {
	b := take(t, f, nothing)
	for _, hurt := range b.names {
		p := place(t, f)
		err := p.Restore(t.Context(), b.stored(f, func(name string, content []byte) io.Reader {
			if name != hurt {
				return bytes.NewReader(content)
			}
			return io.MultiReader(bytes.NewReader(content[:len(content)/2]), failingReader{})
		}))
		if !errors.Is(err, errLost) {
			t.Errorf("item %s failed half way, and the restore said: %v", hurt, err)
		}
	}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errLost }

func missing(t *testing.T, f Fixture) {
	b := take(t, f, nothing)
	for i := range b.names {
		s := b.stored(f, nil)
		s.Items = slices.Delete(s.Items, i, i+1)
		if err := place(t, f).Restore(t.Context(), s); err == nil {
			t.Errorf("a backup without %s was restored", b.names[i])
		}
	}
}

func leavesNothing(t *testing.T, f Fixture) {
	b := take(t, f, nothing)
	before := f.Leftovers(t)
	p := f.Place(t)
	if err := p.Restore(t.Context(), b.stored(f, nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	after := f.Leftovers(t)
	slices.Sort(before)
	slices.Sort(after)
	if !slices.Equal(before, after) {
		t.Errorf("before: %q\nafter:  %q", before, after)
	}
}

func commits(t *testing.T, f Fixture) {
	b := take(t, f, nothing)
	before := f.Leftovers(t)
	p := place(t, f)
	if err := p.Restore(t.Context(), b.stored(f, nil)); err != nil {
		t.Fatal(err)
	}
	where, err := p.Commit(t.Context())
	if err != nil {
		t.Fatalf("commit: %v (hint: %s)", err, holdfast.Hint(err))
	}
	if where == "" || strings.Contains(where, "\n") {
		t.Errorf("a commit tells in one line where the data is, not %q", where)
	}
	if err := p.Close(); err != nil {
		t.Errorf("close after a commit: %v", err)
	}
	if len(f.Leftovers(t)) <= len(before) {
		t.Errorf("nothing stands in the final place: %q", f.Leftovers(t))
	}
}
