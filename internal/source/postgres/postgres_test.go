package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"holdfast"
	"holdfast/internal/sandbox"
	"holdfast/internal/source"
	"holdfast/internal/source/postgres"
	"holdfast/internal/testbed"
)

func TestMain(m *testing.M) {
	sandbox.Child()
	os.Exit(m.Run())
}

// binDirs are all programs of the testbed.
func binDirs(t testing.TB) []string {
	var dirs []string
	for _, major := range testbed.Majors() {
		dirs = append(dirs, testbed.BinDir(t, major))
	}
	return dirs
}

func options(t testing.TB, url string) postgres.Options {
	return postgres.Options{Name: "app", URL: holdfast.NewSecret(url), BinDirs: binDirs(t)}
}

// events collects what is observed.
type events struct {
	mu   sync.Mutex
	list []holdfast.Event
}

func (e *events) observe(event holdfast.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, event)
}

func (e *events) warnings() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var lines []string
	for _, event := range e.list {
		if event.Kind == holdfast.EventWarning {
			lines = append(lines, event.Message)
		}
	}
	return strings.Join(lines, "\n")
}

func ignore(holdfast.Event) {}

func readAll(ctx context.Context, item source.Item) ([]byte, error) {
	r, err := item.Open(ctx)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(r)
	if closeErr := r.Close(); err == nil {
		err = closeErr
	}
	return content, err
}

// capture takes a whole backup into memory.
func capture(t testing.TB, opt postgres.Options) source.Stored {
	t.Helper()
	stored, err := tryCapture(t.Context(), opt)
	if err != nil {
		t.Fatalf("%v (hint: %s)", err, holdfast.Hint(err))
	}
	return stored
}

func tryCapture(ctx context.Context, opt postgres.Options) (source.Stored, error) {
	c, err := postgres.New(opt).Capture(ctx, ignore)
	if err != nil {
		return source.Stored{}, err
	}
	stored := source.Stored{Source: opt.Name, Kind: holdfast.KindPostgres}
	for _, item := range c.Items() {
		content, err := readAll(ctx, item)
		if err != nil {
			return stored, errors.Join(fmt.Errorf("item %s: %w", item.Name, err), c.Close())
		}
		stored.Items = append(stored.Items, memory(item.Name, content))
	}
	stored.Facts, err = c.Facts(ctx)
	return stored, errors.Join(err, c.Close())
}

func memory(name string, content []byte) source.StoredItem {
	return source.StoredItem{Name: name, Size: int64(len(content)), Open: func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	}}
}

func content(t testing.TB, stored source.Stored, name string) string {
	t.Helper()
	item, found := stored.Item(name)
	if !found {
		t.Fatalf("no item %s", name)
	}
	r, err := item.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// replaced returns stored with other bytes in one item.
func replaced(t testing.TB, stored source.Stored, name string, change func(string) string) source.Stored {
	t.Helper()
	before := content(t, stored, name)
	after := change(before)
	if after == before {
		t.Fatalf("the change of %s changed nothing", name)
	}
	stored.Items = slices.Clone(stored.Items)
	for i := range stored.Items {
		if stored.Items[i].Name == name {
			stored.Items[i] = memory(name, []byte(after))
		}
	}
	return stored
}

func failures(stored, restored source.Facts) []string {
	var lines []string
	for _, d := range source.Compare(stored.Facts, restored.Facts) {
		if d.Fails() {
			lines = append(lines, d.String())
		}
	}
	return lines
}

func texts(stored, restored source.Facts) []string {
	var lines []string
	for _, d := range source.Compare(stored.Facts, restored.Facts) {
		if !d.Fails() {
			lines = append(lines, d.String())
		}
	}
	return lines
}

// bring restores and compares, and returns the place for more.
func bring(t testing.TB, p source.Place, stored source.Stored) {
	t.Helper()
	if err := p.Restore(t.Context(), stored); err != nil {
		t.Fatalf("restore: %v (hint: %s)", err, holdfast.Hint(err))
	}
	restored, err := p.Check(t.Context())
	if err != nil {
		t.Fatalf("check: %v (hint: %s)", err, holdfast.Hint(err))
	}
	if lines := failures(stored.Facts, restored); len(lines) > 0 {
		t.Fatalf("what came back differs:\n%s", strings.Join(lines, "\n"))
	}
}

func open(t testing.TB, target postgres.Target, observe holdfast.Observer) *postgres.Place {
	t.Helper()
	if target.BinDirs == nil {
		target.BinDirs = binDirs(t)
	}
	p, err := postgres.Open(t.Context(), target, observe)
	if err != nil {
		t.Fatalf("open the target: %v (hint: %s)", err, holdfast.Hint(err))
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("close the place: %v", err)
		}
	})
	return p
}

// scratch is an empty folder with a short path on a tmpfs.
func scratch(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "hf-d-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func throwaway(t testing.TB, stored source.Stored, observe holdfast.Observer) *postgres.Drill {
	t.Helper()
	dir := scratch(t)
	d, err := postgres.Throwaway(t.Context(), postgres.DrillOptions{Scratch: dir, BinDirs: binDirs(t)}, stored, observe)
	if err != nil {
		t.Fatalf("start a throwaway: %v (hint: %s)", err, holdfast.Hint(err))
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close the throwaway: %v", err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("the scratch folder still holds %v, %v", left, err)
		}
	})
	return d
}

func connectConfig(ctx context.Context, config *pgx.ConnConfig) (*pgx.Conn, error) {
	return pgx.ConnectConfig(ctx, config)
}
