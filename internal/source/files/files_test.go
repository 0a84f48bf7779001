package files_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/source"
	"holdfast/internal/source/files"
	"holdfast/internal/source/sourcetest"
)

func TestSource(t *testing.T) {
	sourcetest.Run(t, func(t *testing.T) sourcetest.Fixture {
		dir, out := t.TempDir(), t.TempDir()
		write(t, dir+"/config/app.js", strings.Repeat("module.exports = {}\n", 100))
		write(t, dir+"/data/blob", strings.Repeat("payload ", 10_000))
		check(t, os.Link(dir+"/data/blob", dir+"/data/link"))
		check(t, os.Symlink("blob", dir+"/data/soft"))
		changes, places := 0, 0
		return sourcetest.Fixture{
			Name:   "app",
			Kind:   holdfast.KindFiles,
			Source: files.New(files.Options{Name: "app", Roots: roots(dir)}),
			Mutate: func(t *testing.T) {
				changes++
				write(t, dir+"/data/blob", strings.Repeat("changed ", 10_000+changes))
			},
			Place: func(t *testing.T) source.Place {
				places++
				p, err := files.Open(t.Context(), files.Target{Dir: filepath.Join(out, "place", strings.Repeat("p", places))})
				check(t, err)
				return p
			},
			Leftovers: func(t *testing.T) []string {
				found, err := filepath.Glob(out + "/place/*")
				check(t, err)
				return found
			},
			Spot: func(_ string, content []byte) int {
				return bytes.Index(content, []byte("payload payload")) + 1000
			},
		}
	})
}

func TestRoundTrip(t *testing.T) {
	dir := t.TempDir()
	zoo(t, dir)
	k := mustTake(t, files.Options{Roots: roots(dir)})
	if limit := 14 << 20; len(k.tar) > limit {
		t.Errorf("the tar has %d bytes: holes were stored", len(k.tar))
	}

	t.Run("restored", func(t *testing.T) {
		target := t.TempDir() + "/new"
		p := open(t, files.Target{Dir: target})
		facts := mustMatch(t, p, k)
		if len(facts.Notes) > 0 {
			t.Errorf("notes of a restore by root: %q", facts.Notes)
		}
		_, err := p.Commit(t.Context())
		check(t, err)
		compareTrees(t, dir, target+dir)
		again := mustTake(t, files.Options{Roots: roots(target + dir)})
		for i := range again.facts.Facts {
			again.facts.Facts[i].Name = strings.Replace(again.facts.Facts[i].Name, member(target+dir), member(dir), 1)
			again.facts.Facts[i].Text = strings.Replace(again.facts.Facts[i].Text, member(target+dir), member(dir), 1)
		}
		for _, d := range source.Compare(k.facts.Facts, again.facts.Facts) {
			t.Error(d)
		}
	})
	t.Run("drilled", func(t *testing.T) {
		facts := mustMatch(t, throwaway(t, k.stored()), k)
		for _, want := range []string{"device was not made on 2 entries", "mode was not set in full on 1 entries"} {
			if !strings.Contains(strings.Join(facts.Notes, "\n"), want) {
				t.Errorf("notes %q lack %q", facts.Notes, want)
			}
		}
	})
	t.Run("secret", func(t *testing.T) {
		target := t.TempDir() + "/new"
		p := open(t, files.Target{Dir: target, Secret: true})
		mustMatch(t, p, k)
		_, err := p.Commit(t.Context())
		check(t, err)
		check(t, filepath.WalkDir(target, func(path string, d os.DirEntry, err error) error {
			check(t, err)
			info, err := d.Info()
			check(t, err)
			want := os.FileMode(0o600)
			if d.IsDir() {
				want = 0o700
			}
			if d.Type() != os.ModeSymlink && info.Mode()&(os.ModePerm|os.ModeSetuid|os.ModeSetgid) != want {
				t.Errorf("%s has mode %v", path, info.Mode())
			}
			return nil
		}))
	})
	t.Run("extracted by GNU tar", func(t *testing.T) {
		target := t.TempDir()
		run(t, k.tar, "tar", "--xattrs", "--xattrs-include=*", "--acls", "--same-owner", "--numeric-owner", "-xpf", "-", "-C", target)
		compareTrees(t, dir, target+dir)
		for _, name := range []string{"sparse", "holes only", "large sparse", "tail"} {
			if got := blocks(t, target+dir+"/"+name); got > 100 {
				t.Errorf("%q came back with %d blocks", name, got)
			}
		}
	})
	t.Run("read by archive/tar", func(t *testing.T) {
		reader := tar.NewReader(bytes.NewReader(k.tar))
		count := 0
		for {
			h, err := reader.Next()
			if err == io.EOF {
				break
			}
			check(t, err)
			count++
			n, err := io.Copy(io.Discard, reader)
			check(t, err)
			if n != h.Size {
				t.Errorf("%s has %d of %d bytes", h.Name, n, h.Size)
			}
		}
		if count != len(k.facts.Facts) {
			t.Errorf("%d members, %d facts", count, len(k.facts.Facts))
		}
	})
}

// compareTrees compares with stock programs.
func compareTrees(t *testing.T, a, b string) {
	t.Helper()
	run(t, nil, "diff", "-r", "--no-dereference", "--exclude=null", "--exclude=loop", "--exclude=fifo", a, b)
	for _, list := range [][]string{
		{"find", ".", "-printf", `%P %y %m %U:%G %T@ %n %l\n`},
		{"find", ".", "!", "-type", "d", "-printf", `%P %s\n`},
	} {
		if x, y := sorted(run(t, nil, "env", append([]string{"-C", a}, list...)...)),
			sorted(run(t, nil, "env", append([]string{"-C", b}, list...)...)); x != y {
			t.Errorf("%v differs:\n%s\n\n%s", list, x, y)
		}
	}
	for _, list := range [][]string{
		{"getfacl", "-R", "-n", "-P", "."},
		{"getfattr", "-R", "-h", "-d", "-m", "-", "-e", "hex", "."},
	} {
		if x, y := run(t, nil, "env", append([]string{"-C", a}, list...)...),
			run(t, nil, "env", append([]string{"-C", b}, list...)...); sorted(x) != sorted(y) {
			t.Errorf("%v differs:\n%s\n\n%s", list, x, y)
		}
	}
}

func sorted(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		for j := i; j > 0 && lines[j] < lines[j-1]; j-- {
			lines[j], lines[j-1] = lines[j-1], lines[j]
		}
	}
	return strings.Join(lines, "\n")
}

func TestFactsTellEverything(t *testing.T) {
	dir := t.TempDir()
	zoo(t, dir)
	facts := mustTake(t, files.Options{Roots: roots(dir), Excludes: []string{"large*"}}).facts
	base := member(dir) + "/"
	for name, want := range map[string]string{
		base + "plain.txt":                  "file 0644 0:0 root:root 2001-09-09T01:46:40.123456789Z",
		base + "empty":                      "file 0644 0:0 root:root 1969-12-31T23:43:20.5Z",
		base + "suid":                       "file 6755 1:65534 daemon:nogroup ",
		base + "nobody":                     "file 0644 4000000:3000000 -:- ",
		base + "links/soft":                 `symlink 0:0 root:root 2009-02-13T23:31:30.000000042Z -> "one" xattrs `,
		base + "fifo":                       "fifo 0600 0:0 root:root 2242-03-16T12:56:37.000000001Z",
		base + "null":                       "character device 1:3 ",
		base + "loop":                       "block device 7:300 ",
		`"` + base + `names/line\nbreak"`:   "file ",
		`"` + base + `names/\xff\xfebytes"`: "file ",
		base + `names/"quoted`:              "file ",
		base + "names/ünïcödé":              "file ",
		base + "hollow/inner":               "folder 0775 ",
	} {
		if got := fact(t, facts, name).Text; !strings.HasPrefix(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"hard", "links/one", "links/two"} {
		f := fact(t, facts, base+name)
		if !strings.HasSuffix(f.Text, " linked as "+base+"hard") || f.Bytes != 6 || len(f.Digest) != 64 {
			t.Errorf("%s: %+v", name, f)
		}
	}
	if got := facts.Exclusions; len(got) != 1 || got[0] != "large*" {
		t.Errorf("exclusions %q", got)
	}
}

func TestRoots(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/etc/app.conf", "a")
	write(t, dir+"/etc/other", "b")
	write(t, dir+"/srv/.env", "TOKEN=1")
	write(t, dir+"/srv/cache/keep/file", "k")
	write(t, dir+"/srv/cache/file", "c")
	check(t, os.Symlink("etc", dir+"/link"))
	base := member(dir)

	t.Run("several, single files, one within another", func(t *testing.T) {
		k := mustTake(t, files.Options{
			Roots:    roots(dir+"/srv/cache/keep", dir+"/etc/app.conf", dir+"/srv", dir+"/srv/"),
			Excludes: []string{"cache"},
		})
		want := []string{"srv/cache/keep", "srv/cache/keep/file", "etc/app.conf", "srv", "srv/.env"}
		for i := range want {
			want[i] = base + "/" + want[i]
		}
		if got := factNames(k.facts.Facts); got != strings.Join(want, "\n") {
			t.Errorf("got\n%s", got)
		}
		mustMatch(t, open(t, files.Target{Dir: t.TempDir() + "/x"}), k)
		mustMatch(t, throwaway(t, k.stored()), k)
	})
	t.Run("optional and missing", func(t *testing.T) {
		k := mustTake(t, files.Options{Roots: []files.Root{{Path: dir + "/etc"}, {Path: dir + "/gone", Optional: true}}})
		want := "optional root " + dir + "/gone does not exist"
		if len(k.warnings) != 1 || k.warnings[0] != want || len(k.facts.Notes) != 1 || k.facts.Notes[0] != want {
			t.Errorf("warnings %q, notes %q", k.warnings, k.facts.Notes)
		}
	})
	t.Run("nothing at all but optional ones", func(t *testing.T) {
		k := mustTake(t, files.Options{Roots: []files.Root{{Path: dir + "/gone", Optional: true}}})
		mustMatch(t, throwaway(t, k.stored()), k)
	})
	for name, test := range map[string]struct {
		roots []files.Root
		is    error
		hint  string
	}{
		"required and missing": {roots(dir + "/gone"), os.ErrNotExist, "optional"},
		"relative":             {roots("etc"), holdfast.ErrUsage, "slash"},
		"none":                 {nil, holdfast.ErrUsage, "at least one"},
		"symbolic link":        {roots(dir + "/link"), nil, dir + "/etc"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := take(t, files.Options{Roots: test.roots}, nil)
			if err == nil || test.is != nil && !errors.Is(err, test.is) || !strings.Contains(holdfast.Hint(err), test.hint) {
				t.Errorf("error %v, hint %q", err, holdfast.Hint(err))
			}
			findings, err := files.New(files.Options{Roots: test.roots}).Diagnose(t.Context())
			check(t, err)
			if len(findings) != 1 || findings[0].Severity != source.Fails || !strings.Contains(findings[0].Fix, test.hint) {
				t.Errorf("findings %+v", findings)
			}
		})
	}
}
