package migration_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast/internal/migration"
)

// ground is a link's surroundings on a real disk: each directory holds its own name.
func ground(t *testing.T) migration.Link {
	t.Helper()
	base := t.TempDir()
	l := migration.Link{From: base + "/main", Target: base + "/volume/pgdata", Volume: "pg"}
	makeDir(t, l.From, "old")
	makeDir(t, l.Target, "volume")
	return l
}

func makeDir(t *testing.T, dir, content string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/PG_VERSION", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// content is what a server would find.
func content(dir string) string {
	text, err := os.ReadFile(dir + "/PG_VERSION")
	if err != nil {
		return "nothing"
	}
	return string(text)
}

// journey brings a link to where a way begins.
var journeys = []struct{ from, to migration.Side }{
	{migration.Old, migration.Sealed},
	{migration.Sealed, migration.Old},
	{migration.Sealed, migration.Restored},
	{migration.Restored, migration.Sealed},
}

var contents = map[migration.Side]string{migration.Old: "old", migration.Sealed: "volume", migration.Restored: "restored"}

func TestLinkDiesAnywhere(t *testing.T) {
	for _, exchange := range []bool{true, false} {
		for _, way := range journeys {
			t.Run(fmt.Sprintf("%s to %s, exchange %v", way.from, way.to, exchange), func(t *testing.T) {
				for n := 0; ; n++ {
					// After a death the way is gone to its end, or back.
					for _, goal := range []migration.Side{way.to, way.from} {
						l := ground(t)
						prepare(t, l, way.from, way.to)
						if done := dieAt(t, l, way.to, n, exchange); done {
							arrived(t, l, way.to)
							if n == 0 {
								t.Fatal("nothing was done")
							}
							return
						}
						if got := content(l.From); got != contents[way.from] && got != contents[way.to] && (exchange || got != "nothing") {
							t.Fatalf("after a death at operation %d a server would find %s", n, got)
						}
						if err := l.Trapped(nil, exchange).To(t.Context(), goal); err != nil {
							t.Fatalf("after a death at operation %d, to %s: %v", n, goal, err)
						}
						arrived(t, l, goal)
					}
				}
			})
		}
	}
}

func prepare(t *testing.T, l migration.Link, sides ...migration.Side) {
	t.Helper()
	if sides[0] == migration.Old {
		return
	}
	if err := l.To(t.Context(), migration.Sealed); err != nil {
		t.Fatal(err)
	}
	if sides[0] == migration.Restored || sides[1] == migration.Restored {
		makeDir(t, l.From+".restored-pg", "restored")
	}
	if sides[0] == migration.Restored {
		if err := l.To(t.Context(), migration.Restored); err != nil {
			t.Fatal(err)
		}
	}
}

func dieAt(t *testing.T, l migration.Link, to migration.Side, n int, exchange bool) (done bool) {
	t.Helper()
	defer func() {
		if p := recover(); p != nil && p != (death{}) {
			panic(p)
		}
	}()
	err := l.Trapped(func(string) {
		if n--; n < 0 {
			panic(death{})
		}
	}, exchange).To(t.Context(), to)
	if err != nil {
		t.Fatal(err)
	}
	return true
}

func arrived(t *testing.T, l migration.Link, side migration.Side) {
	t.Helper()
	place, err := l.Where(t.Context())
	if err != nil || place.Side != side || content(l.From) != contents[side] || content(place.Old) != "old" || content(l.Target) != "volume" {
		t.Fatalf("%+v, %v; a server finds %s, the old directory has %s", place, err, content(l.From), content(place.Old))
	}
	for _, aside := range []string{".before-pg", ".restored-pg"} {
		if info, err := os.Lstat(l.From + aside); err == nil && !info.IsDir() {
			t.Fatalf("%s is left", l.From+aside)
		}
	}
	if err := l.To(t.Context(), side); err != nil {
		t.Errorf("again to %s: %v", side, err)
	}
}

// TestLinkDanglesWithoutVolume is the reason for a link: there is nothing to start on, or to initdb.
func TestLinkDanglesWithoutVolume(t *testing.T) {
	l := ground(t)
	if err := l.To(t.Context(), migration.Sealed); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Dir(l.Target)); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(l.From, 0o700); err == nil {
		t.Error("a directory could be made where the link dangles")
	}
	if place, err := l.Where(t.Context()); err != nil || place.Side != migration.Sealed {
		t.Errorf("%+v, %v", place, err)
	}
	if err := l.To(t.Context(), migration.Old); err != nil {
		t.Fatal(err)
	}
	if content(l.From) != "old" {
		t.Error("the way back does not work without the volume")
	}
}

func TestLinkKeepsWhatOthersMade(t *testing.T) {
	for name, make := range map[string]func(t *testing.T, l migration.Link){
		"a link elsewhere": func(t *testing.T, l migration.Link) {
			must(t, os.RemoveAll(l.From), os.Symlink("/elsewhere", l.From))
		},
		"a file":          func(t *testing.T, l migration.Link) { must(t, os.RemoveAll(l.From), os.WriteFile(l.From, nil, 0o600)) },
		"nothing":         func(t *testing.T, l migration.Link) { must(t, os.RemoveAll(l.From)) },
		"a file as kept":  func(t *testing.T, l migration.Link) { must(t, os.WriteFile(l.From+".before-pg", nil, 0o600)) },
		"a third content": func(t *testing.T, l migration.Link) { makeDir(t, l.From+".before-pg", "third") },
	} {
		t.Run(name, func(t *testing.T) {
			l := ground(t)
			make(t, l)
			checks, err := l.Check(t.Context())
			if err != nil || len(checks) != 1 || checks[0].Good || checks[0].Fix == "" {
				t.Errorf("checks %+v, %v", checks, err)
			}
			before := tree(t, filepath.Dir(l.From))
			_ = l.To(t.Context(), migration.Old)
			if after := tree(t, filepath.Dir(l.From)); after != before {
				t.Errorf("it was\n%s\nand is\n%s", before, after)
			}
		})
	}
	l := ground(t)
	prepare(t, l, migration.Restored, migration.Sealed)
	if err := l.To(t.Context(), migration.Old); err == nil || content(l.From) != "restored" {
		t.Errorf("from the restored directory to the old one: %v, a server finds %s", err, content(l.From))
	}
}

func must(t testing.TB, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func tree(t *testing.T, dir string) string {
	t.Helper()
	var all strings.Builder
	must(t, filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil {
			fmt.Fprintln(&all, path, info.Mode(), content(path))
		}
		return err
	}))
	return all.String()
}

func TestLinkCheck(t *testing.T) {
	l := ground(t)
	checks, err := l.Check(t.Context())
	if err != nil || len(checks) != 1 || !checks[0].Good {
		t.Fatalf("checks %+v, %v", checks, err)
	}
	within := l
	within.Target = l.From + "/volume"
	if checks, err := within.Check(t.Context()); err != nil || checks[0].Good {
		t.Errorf("a volume within the directory: %+v, %v", checks, err)
	}
	makeDir(t, l.From+"/log files", "")
	for _, point := range []string{l.From + "/log files", l.From} {
		bind(t, point)
		checks, err := l.Check(t.Context())
		if err != nil || len(checks) != 1 || checks[0].Good || !strings.Contains(checks[0].Text, point) {
			t.Errorf("mounted at %s: %+v, %v", point, checks, err)
		}
		if err := migration.RemoveTree(t.Context(), l.From); err == nil || !strings.Contains(err.Error(), "mounted") {
			t.Errorf("remove across a mount: %v", err)
		}
		must(t, unix.Unmount(point, 0))
	}
	must(t, migration.RemoveTree(t.Context(), l.From), migration.RemoveTree(t.Context(), l.From))
	if _, err := os.Lstat(l.From); err == nil {
		t.Error("it is still there")
	}
	must(t, os.Symlink(l.Target, l.From))
	if err := migration.RemoveTree(t.Context(), l.From); err == nil || content(l.Target) != "volume" {
		t.Errorf("a link was followed or removed: %v", err)
	}
}

// bind mounts a directory on itself: a mount whose device is that of its surroundings.
func bind(t *testing.T, dir string) {
	t.Helper()
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		t.Skipf("cannot mount here: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, 0) }) // done already, unless the test failed
}

func TestStandIn(t *testing.T) {
	for _, sides := range [][]migration.Side{{}, {migration.Sealed}, {migration.Sealed, migration.Old}} {
		l := ground(t)
		l.From += ".rehearsal-pg"
		must(t, l.MakeStandIn(t.Context()))
		for _, side := range sides {
			must(t, l.To(t.Context(), side))
		}
		must(t, l.RemoveStandIn(t.Context()), l.RemoveStandIn(t.Context()))
		if got := tree(t, filepath.Dir(l.From)); strings.Contains(got, "rehearsal") || !strings.Contains(got, "volume") {
			t.Errorf("left:\n%s", got)
		}
	}
	l := ground(t)
	if err := l.RemoveStandIn(t.Context()); err == nil || content(l.From) != "old" {
		t.Errorf("a directory with files was taken for a stand-in: %v", err)
	}
}

func TestOverlay(t *testing.T) {
	base := t.TempDir()
	o := migration.Overlay{Path: base + "/compose.pg.yml", From: base + "/_data", Target: base + "/pgdata", Volume: "pg",
		Text: func(dir string) (string, error) { return "source: " + dir + "\n", nil }}
	makeDir(t, o.From, "old")
	want := func(side migration.Side, text string) {
		t.Helper()
		place, err := o.Where(t.Context())
		got, _ := os.ReadFile(o.Path)
		if err != nil || place.Side != side || place.Old != o.From || string(got) != text {
			t.Errorf("%+v, %v, overlay %q, want %s", place, err, got, side)
		}
	}
	to := func(side migration.Side) { t.Helper(); must(t, o.To(t.Context(), side), o.To(t.Context(), side)) }
	checks, err := o.Check(t.Context())
	if err != nil || !checks[0].Good {
		t.Errorf("checks %+v, %v", checks, err)
	}
	want(migration.Old, "")
	to(migration.Sealed)
	want(migration.Sealed, "source: "+o.Target+"\n")
	if err := o.To(t.Context(), migration.Restored); err == nil {
		t.Error("switched to a restored directory that is not there")
	}
	to(migration.Old)
	want(migration.Old, "")
	to(migration.Sealed)
	makeDir(t, o.From+".restored-pg", "restored")
	to(migration.Restored)
	want(migration.Restored, "source: "+o.From+".restored-pg\n")
	if err := o.To(t.Context(), migration.Old); err == nil {
		t.Error("went from the restored directory to the old one")
	}
	to(migration.Sealed)
	must(t, os.WriteFile(o.Path, []byte("mine"), 0o600))
	for _, side := range []migration.Side{migration.Old, migration.Sealed} {
		if err := o.To(t.Context(), side); err == nil {
			t.Errorf("to %s over somebody else's file", side)
		}
	}
	if text, err := os.ReadFile(o.Path); err != nil || string(text) != "mine" {
		t.Errorf("somebody else's file: %q, %v", text, err)
	}
	if checks, err := o.Check(t.Context()); err != nil || checks[0].Good || checks[0].Fix == "" {
		t.Errorf("checks %+v, %v", checks, err)
	}
}

// TestMoveOnADisk runs the whole of it with a real switch, dying at each operation of it and resuming.
func TestMoveOnADisk(t *testing.T) {
	for _, exchange := range []bool{true, false} {
		for n := 0; ; n++ {
			l := newLab(t)
			makeDir(t, l.from(), "old")
			makeDir(t, l.to(), "volume")
			link := migration.Link{From: l.from(), Target: l.to(), Volume: "pg"}
			world := l.world()
			left := n
			world.Switch = follow{l, link.Trapped(func(string) {
				if left--; left < 0 {
					panic(death{})
				}
			}, exchange)}
			control := world.ControlData
			world.ControlData = func(ctx context.Context, dir string) (migration.ControlData, error) {
				return control(ctx, strings.TrimSuffix(dir, ".before-pg"))
			}
			died, err := l.run(func() error { _, err := migration.New(world, l.options()).Run(t.Context()); return err })
			if err != nil {
				t.Fatal(err)
			}
			world.Switch = follow{l, link.Trapped(nil, exchange)}
			if _, err := migration.New(world, l.options()).Resume(t.Context()); err != nil {
				t.Fatal(err)
			}
			l.settled()
			if got, err := os.Readlink(l.from()); err != nil || got != l.to() || content(l.from()+".before-pg") != "old" {
				t.Fatalf("operation %d: %s leads to %q, %v", n, l.from(), got, err)
			}
			if !died {
				break
			}
		}
	}
}

// follow lets a lab's server get what a real link says.
type follow struct {
	l *lab
	migration.Link
}

func (f follow) To(ctx context.Context, side migration.Side) error {
	err := f.Link.To(ctx, side)
	if err == nil {
		f.l.place = side
	}
	return err
}

func (f follow) Where(ctx context.Context) (migration.Place, error) {
	place, err := f.Link.Where(ctx)
	if place.Old != "" && f.l.at == f.l.from() {
		place.Old = f.l.from() // the lab's server knows its directory by its first name
	}
	return place, err
}
