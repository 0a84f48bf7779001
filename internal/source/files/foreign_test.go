package files_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/source"
	"holdfast/internal/source/files"
)

func stockTar(t testing.TB, dir string, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("tar", args...)
	cmd.Dir = dir
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("tar: %v: %s", err, said.String())
	}
	return out.Bytes()
}

// surveyed is a tar of somebody else, as a backup.
func surveyed(t testing.TB, archive []byte) (kept, files.Foreign) {
	t.Helper()
	foreign, err := files.Survey(t.Context(), bytes.NewReader(archive), 0)
	check(t, err)
	return kept{tar: archive, facts: foreign.Facts}, foreign
}

// TestForeignTars brings back what GNU tar packs in each of its formats.
func TestForeignTars(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/tree/a", "content of a")
	write(t, dir+"/tree/sub/umlaut-ä", strings.Repeat("x", 100_000))
	write(t, dir+"/tree/"+strings.Repeat("long", 20)+"/"+strings.Repeat("name", 30), "deep")
	check(t, os.Symlink("/etc/passwd", dir+"/tree/link"))
	check(t, os.Link(dir+"/tree/a", dir+"/tree/hard"))
	check(t, os.Chmod(dir+"/tree/a", 0o640))
	sparse, err := os.Create(dir + "/tree/sparse")
	check(t, err)
	_, err = sparse.WriteAt([]byte("end"), 5<<20)
	check(t, err)
	check(t, sparse.Close())
	many := stockTar(t, dir, "-c", "tree/a")
	write(t, dir+"/tree/a", "another content")
	for name, c := range map[string]struct {
		archive []byte
		want    string // a fact
	}{
		"gnu":                 {stockTar(t, dir, "--format=gnu", "-c", "tree"), "tree/sub/umlaut-ä"},
		"pax":                 {stockTar(t, dir, "--format=posix", "--xattrs", "-c", "tree"), "tree/sub/umlaut-ä"},
		"ustar":               {stockTar(t, dir, "--format=ustar", "-c", "tree/sub", "tree/a"), "tree/a"},
		"v7":                  {stockTar(t, dir, "--format=v7", "-c", "tree/sub", "tree/a"), "tree/a"},
		"dots":                {stockTar(t, dir, "-C", "tree", "-c", "."), "sub/umlaut-ä"},
		"absolute":            {stockTar(t, dir, "-P", "-c", dir+"/tree"), strings.TrimPrefix(dir, "/") + "/tree/a"},
		"sparse, old":         {stockTar(t, dir, "--format=gnu", "--sparse", "-c", "tree"), "tree/sparse"},
		"sparse, new":         {stockTar(t, dir, "--format=posix", "--sparse", "-c", "tree"), "tree/sparse"},
		"one file twice":      {stockTar(t, dir, "-c", "tree", "tree/a", "tree/hard"), "tree/hard"},
		"one name, two files": {append(many[:len(many)-len(many)%512-9*1024], stockTar(t, dir, "-c", "tree/a")...), "tree/a"},
		"incremental":         {stockTar(t, dir, "--listed-incremental="+dir+"/list", "-c", "tree"), "tree/a"},
		"labelled":            {stockTar(t, dir, "--label=backup", "-c", "tree"), "tree/a"},
	} {
		t.Run(name, func(t *testing.T) {
			k, foreign := surveyed(t, c.archive)
			if found := fact(t, k.facts, c.want); found.Digest == "" {
				t.Errorf("%v has no digest", found)
			}
			drill := foreign.Adapted(throwaway(t, k.stored()))
			mustMatch(t, drill, k)
			target := filepath.Join(t.TempDir(), "new")
			place := foreign.Adapted(open(t, files.Target{Dir: target}))
			mustMatch(t, place, k)
			_, err := place.Commit(t.Context())
			check(t, err)
			content, err := os.ReadFile(filepath.Join(target, c.want))
			if err != nil || len(content) == 0 {
				t.Errorf("%s holds %d bytes, error %v", c.want, len(content), err)
			}
			if c.want == "tree/a" && string(content) != "another content" {
				t.Errorf("%s holds %q", c.want, content)
			}
		})
	}
	partly, foreign := surveyed(t, stockTar(t, dir, "-C", "tree", "-c", "."))
	target := filepath.Join(t.TempDir(), "part")
	place := foreign.Adapted(open(t, files.Target{Dir: target, Only: []string{"sub"}}))
	mustMatch(t, place, partly)
	if _, err := place.Commit(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(target + "/sub/umlaut-ä"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(target + "/a"); err == nil {
		t.Error("what was not asked for was restored")
	}
}

func TestForeignTarsThatAreRefused(t *testing.T) {
	whole := pack(t, folder("d"), file("d/f", strings.Repeat("x", 2000))).tar
	for name, c := range map[string]struct {
		archive []byte
		want    string
	}{
		"upwards":              {pack(t, file("../evil", "x")).tar, "../evil: its path leads out of the archive"},
		"upwards in between":   {pack(t, file("a/../../evil", "x")).tar, "leads out of the archive"},
		"through a link":       {pack(t, link(tar.TypeSymlink, "s", "/etc"), file("s/evil", "x")).tar, "s/evil: it lies in s, which is no folder"},
		"a link over a folder": {pack(t, folder("d"), link(tar.TypeSymlink, "d", "/etc")).tar, "both as a folder and as something else"},
		"in a file":            {pack(t, file("f", "x"), file("f/g", "x")).tar, "f/g: it lies in f"},
		"a hard link out":      {pack(t, link(tar.TypeLink, "h", "../../etc/passwd")).tar, "h: it is a hard link to ../../etc/passwd, which is no file that comes before it"},
		"a hard link to later": {pack(t, link(tar.TypeLink, "h", "f"), file("f", "x")).tar, "no file that comes before it"},
		"cut in a file":        {whole[:1600], "the tar is cut short"},
		"cut behind a file":    {whole[:1024+2048], "the tar is cut short"},
		"cut in a header":      {whole[:700], "the tar is cut short"},
		"more behind":          {append(bytes.Clone(whole), "x"...), "there is something behind its end"},
		"a sparse bomb":        {stockSparse(t), "sparse: its files are longer than 1073741824 bytes together: this is a bomb"},
		"a broken header":      {append(bytes.Repeat([]byte{7}, 512), whole...), "invalid tar header"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := files.Survey(t.Context(), bytes.NewReader(c.archive), 1<<30)
			if err == nil || !strings.Contains(err.Error(), c.want) || !errors.Is(err, holdfast.ErrDifference) || holdfast.Hint(err) == "" {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "difference") {
				t.Errorf("nothing was compared, and the error says %q", err)
			}
		})
	}
}

// stockSparse is a small tar of a huge file with nothing in it.
func stockSparse(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	write(t, dir+"/sparse", "")
	check(t, os.Truncate(dir+"/sparse", 1<<40))
	return stockTar(t, dir, "--sparse", "-c", "sparse")
}

// FuzzSurvey: what the survey takes, the extraction takes, and brings back; nothing lands outside.
func FuzzSurvey(f *testing.F) {
	f.Add(pack(f, folder("./d"), file("/d//f", "content"), link(tar.TypeLink, "h", "./d/f"), link(tar.TypeSymlink, "s", "../x"), file("d/f", "later")).tar)
	f.Add(pack(f, link(tar.TypeSymlink, "s", "/"), file("s/x", "")).tar)
	f.Fuzz(func(t *testing.T, archive []byte) {
		foreign, err := files.Survey(t.Context(), bytes.NewReader(archive), 1<<20)
		if err != nil || len(foreign.Facts.Facts) > 100 {
			return
		}
		dir, before := arena(t)
		k := kept{tar: archive, facts: foreign.Facts}
		p, err := files.Open(t.Context(), files.Target{Dir: dir + "/inside/target"})
		check(t, err)
		if err := foreign.Adapted(p).Restore(t.Context(), k.stored()); err == nil {
			back, err := p.Check(t.Context())
			if err != nil {
				t.Errorf("check: %v", err)
			}
			for _, d := range source.Compare(k.facts.Facts, back.Facts) {
				t.Error(d)
			}
		}
		check(t, p.Close())
		if state(t, dir) != before {
			t.Error("something outside of the target was touched")
		}
	})
}
