package files_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/source"
	"holdfast/internal/source/files"
)

// entry is a member of an archive made by somebody else.
type entry struct {
	tar.Header
	content string
}

func file(name, content string) entry {
	return entry{tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(content))}, content}
}

func folder(name string) entry {
	return entry{tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: 0o755}, ""}
}

func link(kind byte, name, target string) entry {
	return entry{tar.Header{Name: name, Typeflag: kind, Linkname: target, Mode: 0o777}, ""}
}

// pack makes an archive, and facts that agree with all of it.
func pack(t testing.TB, entries ...entry) kept {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, e := range entries {
		check(t, w.WriteHeader(&e.Header))
		_, err := io.WriteString(w, e.content)
		check(t, err)
	}
	check(t, w.Close())
	return kept{tar: out.Bytes(), facts: believe(out.Bytes())}
}

// believe makes facts of whatever an archive claims.
func believe(archive []byte) source.Facts {
	facts := source.Facts{Kind: holdfast.KindFiles}
	reader := tar.NewReader(bytes.NewReader(archive))
	for {
		h, err := reader.Next()
		if err != nil {
			return facts
		}
		name := strings.TrimSuffix(h.Name, "/")
		size := h.Size
		if size > 1<<20 {
			size = -1 // nobody would have stored it
		}
		facts.Facts = append(facts.Facts, source.Fact{Class: "file", Name: name, Rule: source.Exact, Bytes: size})
	}
}

// arena is a folder with a target in it and things that must not be touched around it.
func arena(t testing.TB) (dir, before string) {
	t.Helper()
	dir = t.TempDir()
	write(t, dir+"/outside/precious", "precious")
	write(t, dir+"/evil-parent", "x")
	check(t, os.Chmod(dir+"/outside/precious", 0o600))
	return dir, state(t, dir)
}

func state(t testing.TB, dir string) string {
	t.Helper()
	var st unix.Stat_t
	check(t, unix.Stat(dir+"/outside/precious", &st))
	data, err := json.Marshal([]any{st.Mode, st.Nlink, st.Uid, st.Ctim, listing(t, dir+"/outside")})
	check(t, err)
	return string(data)
}

func TestHostileArchives(t *testing.T) {
	outside := "../outside/precious"
	xattr := file("x", "")
	xattr.PAXRecords = map[string]string{"SCHILY.xattr.system.nfs4_acl": "x"}
	for name, test := range map[string]struct {
		entries []entry
		want    string
	}{
		"parent":                          {[]entry{file("../evil", "x")}, "../evil: its path leads out of the archive"},
		"parent in the middle":            {[]entry{file("a/../../evil", "x")}, "leads out"},
		"parent that stays inside":        {[]entry{folder("a"), file("a/../b", "x")}, "not a plain one"},
		"absolute":                        {[]entry{file("/tmp/evil", "x")}, "/tmp/evil: its path is absolute"},
		"absolute folder":                 {[]entry{folder("/tmp/evil")}, "absolute"},
		"dot":                             {[]entry{file("./a", "x")}, "not a plain one"},
		"double slash":                    {[]entry{file("a//b", "x")}, "not a plain one"},
		"the root as a file":              {[]entry{link(tar.TypeSymlink, ".", "x")}, "not a plain one"},
		"file through a link":             {[]entry{link(tar.TypeSymlink, "s", "../outside"), file("s/precious", "evil")}, "s: the archive has it both as a folder and as something else"},
		"file through an absolute link":   {[]entry{link(tar.TypeSymlink, "s", "/tmp"), file("s/evil", "evil")}, "both as a folder"},
		"file through links within":       {[]entry{folder("d"), link(tar.TypeSymlink, "s", "d"), file("s/f", "x")}, "both as a folder"},
		"folder through a link":           {[]entry{link(tar.TypeSymlink, "s", "../outside"), folder("s/new")}, "both as a folder"},
		"link through a link":             {[]entry{link(tar.TypeSymlink, "s", "../outside"), link(tar.TypeSymlink, "s/x", "y")}, "both as a folder"},
		"file in a file":                  {[]entry{file("f", "x"), file("f/g", "x")}, "both as a folder"},
		"link replaced by a folder":       {[]entry{link(tar.TypeSymlink, "s", "../outside"), folder("s")}, "twice"},
		"folder replaced by a link":       {[]entry{folder("d"), link(tar.TypeSymlink, "d", "../outside"), file("d/precious", "evil")}, "twice"},
		"file over a link":                {[]entry{link(tar.TypeSymlink, "s", outside), file("s", "evil")}, "twice"},
		"twice":                           {[]entry{file("f", "x"), file("f", "x")}, "f: it is in the archive twice"},
		"folder made for content":         {[]entry{file("d/f", "x"), link(tar.TypeSymlink, "d", "../outside")}, "twice"},
		"hard link out":                   {[]entry{link(tar.TypeLink, "h", outside)}, "hard link that leads out"},
		"hard link to an absolute path":   {[]entry{link(tar.TypeLink, "h", "/etc/passwd")}, "hard link that leads out"},
		"hard link to nothing":            {[]entry{link(tar.TypeLink, "h", "none")}, "no file that comes before it"},
		"hard link to a folder":           {[]entry{folder("d"), link(tar.TypeLink, "h", "d")}, "no file that comes before it"},
		"hard link through a link":        {[]entry{link(tar.TypeSymlink, "s", "../outside"), link(tar.TypeLink, "h", "s/precious")}, "no file that comes before it"},
		"an attribute that is not stored": {[]entry{xattr}, "is none that is stored"},
		"a type that is not stored":       {[]entry{link(tar.TypeCont, "c", "")}, "type '7' is not known"},
	} {
		t.Run(name, func(t *testing.T) {
			for i := range test.entries {
				test.entries[i].Format = tar.FormatPAX
			}
			refuse(t, pack(t, test.entries...), test.want)
		})
	}
}

// refuse restores k, as a drill and in earnest, and expects a refusal that touches nothing.
func refuse(t *testing.T, k kept, want string) {
	t.Helper()
	dir, before := arena(t)
	drill := throwaway(t, k.stored())
	earnest, err := files.Open(t.Context(), files.Target{Dir: dir + "/target"})
	check(t, err)
	for _, p := range []*files.Place{drill, earnest} {
		err := p.Restore(t.Context(), k.stored())
		if !errors.Is(err, holdfast.ErrDifference) || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
			continue
		}
		if strings.Contains(err.Error(), "\n") || holdfast.Hint(err) == "" {
			t.Errorf("error %q, hint %q", err, holdfast.Hint(err))
		}
		if _, err := p.Check(t.Context()); err == nil {
			t.Error("a refused archive was checked")
		}
	}
	check(t, earnest.Close())
	if found, _ := filepath.Glob(dir + "/*"); len(found) != 2 {
		t.Errorf("left %q", found)
	}
	if after := state(t, dir); after != before {
		t.Errorf("%s became %s", before, after)
	}
}

func TestArchiveAgainstFacts(t *testing.T) {
	t.Run("a file that was not stored", func(t *testing.T) {
		k := pack(t, file("f", "x"), file("g", "y"))
		k.facts.Facts = k.facts.Facts[:1]
		refuse(t, k, "g: it is in the archive and not in the facts")
	})
	t.Run("a file that is larger", func(t *testing.T) {
		k := pack(t, file("bomb", strings.Repeat("\x00", 1<<20)))
		k.facts.Facts[0].Bytes = 10
		refuse(t, k, "bomb: it has 1048576 bytes in the archive and 10 in the facts")
	})
	t.Run("bytes after the end", func(t *testing.T) {
		k := pack(t, file("f", "x"))
		k.tar = append(k.tar, "evil"...)
		refuse(t, k, "bytes after its end")
	})
	t.Run("zeros after the end", func(t *testing.T) {
		_, k := tree(t)
		k.tar = append(k.tar, make([]byte, 10240)...)
		mustMatch(t, throwaway(t, k.stored()), k)
	})
	t.Run("a list of links that is none", func(t *testing.T) {
		k := pack(t, file("f", "x"))
		k.facts.Driver = []byte("{")
		p := throwaway(t, k.stored())
		if err := p.Restore(t.Context(), k.stored()); !errors.Is(err, holdfast.ErrDifference) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("a file that is missing", func(t *testing.T) {
		_, k := tree(t)
		short := k
		short.tar = pack(t).tar
		p := throwaway(t, short.stored())
		check(t, p.Restore(t.Context(), short.stored()))
		restored, err := p.Check(t.Context())
		check(t, err)
		if d := source.Compare(k.facts.Facts, restored.Facts); len(d) != len(k.facts.Facts) {
			t.Errorf("%d of %d differences", len(d), len(k.facts.Facts))
		}
	})
}

func TestTruncatedArchive(t *testing.T) {
	_, k := tree(t)
	for cut := 0; cut < len(k.tar)-513; cut += 256 {
		short := k
		short.tar = k.tar[:cut]
		p := throwaway(t, short.stored())
		if err := p.Restore(t.Context(), short.stored()); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("cut to %d of %d bytes: %v", cut, len(k.tar), err)
		}
		check(t, p.Close())
	}
}

func TestOwnerOfAnotherMachine(t *testing.T) {
	e := file("f", "x")
	e.Format, e.Uid, e.Uname, e.Gid, e.Gname = tar.FormatPAX, 4242, "daemon", 4343, "no-such-group"
	k := pack(t, e)
	for name, test := range map[string]struct {
		open     func() *files.Place
		uid, gid uint32
	}{
		"restored by name":  {func() *files.Place { return open(t, files.Target{Dir: t.TempDir() + "/new"}) }, 1, 4343},
		"drilled by number": {func() *files.Place { return throwaway(t, k.stored()) }, 4242, 4343},
	} {
		t.Run(name, func(t *testing.T) {
			p := test.open()
			check(t, p.Restore(t.Context(), k.stored()))
			facts, err := p.Check(t.Context())
			check(t, err)
			if got := fact(t, facts, "f").Text; !strings.HasPrefix(got, "file 0644 4242:4343 daemon:no-such-group ") {
				t.Errorf("text %q", got)
			}
			var st unix.Stat_t
			check(t, unix.Stat(p.Staging()+"/f", &st))
			if st.Uid != test.uid || st.Gid != test.gid {
				t.Errorf("owner %d:%d", st.Uid, st.Gid)
			}
			if noted := len(facts.Notes) == 1; noted != (test.uid != 4242) {
				t.Errorf("notes %q", facts.Notes)
			}
			check(t, os.Chown(p.Staging()+"/f", 77, 77))
			facts, err = p.Check(t.Context())
			check(t, err)
			if got := fact(t, facts, "f").Text; !strings.HasPrefix(got, "file 0644 77:77 ") {
				t.Errorf("an owner that changed is told as %q", got)
			}
		})
	}
}

func TestDrillKeepsNoRights(t *testing.T) {
	dir := t.TempDir()
	zoo(t, dir)
	// cap_net_bind_service+ep, as the kernel stores it
	setXattr(t, dir+"/plain.txt", "security.capability", "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")
	k := mustTake(t, files.Options{Roots: roots(dir)})
	scratch := t.TempDir()
	p, err := files.Throwaway(t.Context(), scratch, k.stored())
	check(t, err)
	check(t, p.Restore(t.Context(), k.stored()))
	check(t, filepath.WalkDir(scratch, func(path string, d os.DirEntry, err error) error {
		check(t, err)
		info, err := d.Info()
		check(t, err)
		if info.Mode()&(os.ModeSetuid|os.ModeSetgid|os.ModeDevice) != 0 {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		if _, err := unix.Lgetxattr(path, "security.capability", nil); !errors.Is(err, unix.ENODATA) {
			t.Errorf("%s has capabilities: %v", path, err)
		}
		return nil
	}))
	check(t, p.Close())
	if got := listing(t, scratch); got != "" {
		t.Errorf("left %s", got)
	}
}

// FuzzRestore restores archives of which the facts believe everything: nothing outside may change, whatever happens.
func FuzzRestore(f *testing.F) {
	dir := f.TempDir()
	write(f, dir+"/d/f", "content")
	check(f, os.Symlink("../outside", dir+"/s"))
	check(f, os.Link(dir+"/d/f", dir+"/h"))
	sparse(f, dir+"/sparse", 1<<16, map[int64]string{40_000: "x"})
	setXattr(f, dir+"/d/f", "user.x", "y")
	f.Add(mustTake(f, files.Options{Roots: roots(dir)}).tar)
	f.Add(pack(f, link(tar.TypeSymlink, "s", "../outside"), file("s/precious", "evil")).tar)
	f.Add(pack(f, file("../outside/evil", "x")).tar)
	f.Add(pack(f, link(tar.TypeLink, "h", "../outside/precious"), file("h", "evil")).tar)
	f.Add(pack(f, folder("a"), file("a/b", "x"), link(tar.TypeLink, "c", "a/b"), link(tar.TypeFifo, "p", "")).tar)
	f.Fuzz(func(t *testing.T, archive []byte) {
		mend(archive)
		dir, before := arena(t)
		k := kept{tar: archive, facts: believe(archive)}
		p, err := files.Open(t.Context(), files.Target{Dir: dir + "/target"})
		check(t, err)
		if err := p.Restore(context.Background(), k.stored()); err == nil {
			if _, err := p.Check(t.Context()); err != nil {
				t.Errorf("what was restored cannot be read: %v", err)
			}
		}
		check(t, p.Close())
		if after := state(t, dir); after != before {
			t.Errorf("%s became %s", before, after)
		}
		if found, _ := filepath.Glob(dir + "/*"); len(found) != 2 {
			t.Errorf("left %q", found)
		}
	})
}

// mend corrects the sums of all blocks that may be headers, so that a changed archive is read for what it says.
func mend(archive []byte) {
	for ; len(archive) >= 512; archive = archive[512:] {
		header := archive[:512]
		if !bytes.HasPrefix(header[257:], []byte("ustar")) {
			continue
		}
		copy(header[148:156], "        ")
		sum := 0
		for _, c := range header {
			sum += int(c)
		}
		copy(header[148:156], fmt.Sprintf("%06o\x00 ", sum))
	}
}

// FuzzHeader checks that archive/tar reads back what the headers here tell.
func FuzzHeader(f *testing.F) {
	f.Add("key", "value")
	f.Add("k", strings.Repeat("v", 95))
	f.Add("SCHILY.xattr.user.x", "\x00\n=\xff")
	f.Fuzz(func(t *testing.T, key, value string) {
		if key == "" || strings.ContainsAny(key, "=\x00") || len(key)+len(value) > 1<<19 || isKnown(key) {
			return
		}
		out := files.AppendRecord(nil, key, value)
		block := func(kind byte, size int) []byte {
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			check(t, w.WriteHeader(&tar.Header{Name: "x", Typeflag: tar.TypeReg, Size: int64(size), Format: tar.FormatUSTAR}))
			header := b.Bytes()[:512]
			header[156] = kind
			mend(header)
			return header
		}
		archive := append(block(tar.TypeXHeader, len(out)), out...)
		archive = append(archive, make([]byte, -len(out)&511)...)
		archive = append(archive, block(tar.TypeReg, 0)...)
		h, err := tar.NewReader(bytes.NewReader(archive)).Next()
		check(t, err)
		if h.PAXRecords[key] != value {
			t.Errorf("%q: %q became %q", key, value, h.PAXRecords[key])
		}
	})
}

// isKnown tells the keywords that archive/tar takes for its own.
func isKnown(key string) bool {
	return strings.HasPrefix(key, "GNU.") || strings.HasPrefix(key, "path") || strings.HasPrefix(key, "link") ||
		strings.HasSuffix(key, "time") || strings.HasSuffix(key, "id") || strings.HasSuffix(key, "name") || key == "size"
}

func TestTimeText(t *testing.T) {
	for _, test := range []struct {
		sec, nsec int64
		want      string
	}{
		{0, 0, "0"}, {5, 0, "5"}, {-5, 0, "-5"}, {1, 1, "1.000000001"}, {1, 500_000_000, "1.5"},
		{-1, 500_000_000, "-0.5"}, {-2, 250_000_000, "-1.75"}, {-1, 999_999_999, "-0.000000001"},
	} {
		if got := files.TimeText(test.sec, test.nsec); got != test.want {
			t.Errorf("%d s %d ns: %q, want %q", test.sec, test.nsec, got, test.want)
		}
	}
}
