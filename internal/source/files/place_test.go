package files_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/source"
	"holdfast/internal/source/files"
)

// tree makes a small tree and captures it.
func tree(t testing.TB) (string, kept) {
	t.Helper()
	dir := t.TempDir()
	write(t, dir+"/conf/app.js", "exports")
	write(t, dir+"/conf/deep/er", "x")
	write(t, dir+"/conf/odd\nname", "y")
	write(t, dir+"/data/a", "shared")
	check(t, os.Link(dir+"/data/a", dir+"/data/b"))
	check(t, os.Link(dir+"/data/a", dir+"/other"))
	check(t, os.Chmod(dir+"/conf", 0o750))
	return dir, mustTake(t, files.Options{Roots: roots(dir)})
}

// listing names everything below dir.
func listing(t testing.TB, dir string) string {
	t.Helper()
	var names []string
	check(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		check(t, err)
		content := ""
		if d.Type().IsRegular() {
			data, err := os.ReadFile(path)
			check(t, err)
			content = " " + string(data[:min(len(data), 100)])
		}
		names = append(names, strings.TrimPrefix(path, dir)+content)
		return nil
	}))
	return strings.Join(names, "\n")
}

func TestTarget(t *testing.T) {
	_, k := tree(t)
	commit := func(t *testing.T, target files.Target) (string, error) {
		t.Helper()
		p, err := files.Open(t.Context(), target)
		if err != nil {
			return "", err
		}
		defer func() { check(t, p.Close()) }()
		mustMatch(t, p, k)
		return p.Commit(t.Context())
	}
	t.Run("new, in folders that are new", func(t *testing.T) {
		dir := t.TempDir()
		message, err := commit(t, files.Target{Dir: dir + "/a/b"})
		check(t, err)
		if message != "files are in "+dir+"/a/b" {
			t.Errorf("message %q", message)
		}
		info, err := os.Stat(dir + "/a/b")
		check(t, err)
		if info.Mode().Perm() != 0o755 {
			t.Errorf("mode %v", info.Mode())
		}
	})
	t.Run("empty", func(t *testing.T) {
		dir := t.TempDir()
		_, err := commit(t, files.Target{Dir: dir})
		check(t, err)
	})
	t.Run("not empty", func(t *testing.T) {
		dir := t.TempDir()
		write(t, dir+"/target/mine", "m")
		before := listing(t, dir)
		_, err := commit(t, files.Target{Dir: dir + "/target"})
		if err == nil || !strings.Contains(err.Error(), "is not empty") || holdfast.Hint(err) == "" {
			t.Errorf("error %v", err)
		}
		if after := listing(t, dir); after != before {
			t.Errorf("changed to\n%s", after)
		}
	})
	t.Run("filled meanwhile", func(t *testing.T) {
		dir := t.TempDir()
		p := open(t, files.Target{Dir: dir + "/target"})
		mustMatch(t, p, k)
		write(t, dir+"/target/mine", "m")
		if _, err := p.Commit(t.Context()); err == nil {
			t.Error("a folder that was filled meanwhile was replaced")
		}
		check(t, p.Close())
		if got := listing(t, dir); got != "\n/target\n/target/mine m" {
			t.Errorf("changed to\n%s", got)
		}
	})
	t.Run("overwritten", func(t *testing.T) {
		dir := t.TempDir()
		write(t, dir+"/target/mine", "m")
		check(t, os.Chmod(dir+"/target", 0o711))
		check(t, os.Chown(dir+"/target", 1, 2))
		message, err := commit(t, files.Target{Dir: dir + "/target", Overwrite: true, KeepAs: dir + "/old"})
		check(t, err)
		if !strings.HasSuffix(message, "what was there before is in "+dir+"/old") {
			t.Errorf("message %q", message)
		}
		if got := listing(t, dir+"/old"); got != "\n/mine m" {
			t.Errorf("kept\n%s", got)
		}
		var st unix.Stat_t
		check(t, unix.Stat(dir+"/target", &st))
		if st.Mode&0o7777 != 0o711 || st.Uid != 1 || st.Gid != 2 {
			t.Errorf("mode %o of %d:%d", st.Mode, st.Uid, st.Gid)
		}
		_, err = commit(t, files.Target{Dir: dir + "/target", Overwrite: true, KeepAs: dir + "/old"})
		if !errors.Is(err, os.ErrExist) {
			t.Errorf("what was kept before: %v", err)
		}
		_, err = commit(t, files.Target{Dir: dir + "/target", Overwrite: true})
		check(t, err)
		if found, _ := filepath.Glob(dir + "/target.before_*Z"); len(found) != 1 {
			t.Errorf("kept as %q", found)
		}
	})
	t.Run("a mount point", func(t *testing.T) {
		dir := t.TempDir()
		check(t, unix.Mount("none", dir, "tmpfs", 0, "size=1m"))
		t.Cleanup(func() { check(t, unix.Unmount(dir, 0)) })
		if _, err := commit(t, files.Target{Dir: dir}); err == nil || !strings.Contains(holdfast.Hint(err), "mount") {
			t.Errorf("error %v, hint %q", err, holdfast.Hint(err))
		}
		if found, _ := filepath.Glob(dir + ".restoring_*"); len(found) > 0 {
			t.Errorf("left %q", found)
		}
	})
	for name, dir := range map[string]string{"none": "", "the root": "/", "a file": "/etc/passwd"} {
		t.Run(name, func(t *testing.T) {
			if _, err := files.Open(t.Context(), files.Target{Dir: dir, Overwrite: true}); err == nil {
				t.Error("accepted")
			}
		})
	}
	t.Run("nothing restored", func(t *testing.T) {
		p := open(t, files.Target{Dir: t.TempDir() + "/x"})
		if _, err := p.Commit(t.Context()); err == nil {
			t.Error("nothing was committed")
		}
		if _, err := p.Check(t.Context()); err == nil {
			t.Error("nothing was checked")
		}
	})
	t.Run("a drill", func(t *testing.T) {
		p := throwaway(t, k.stored())
		mustMatch(t, p, k)
		if _, err := p.Commit(t.Context()); err == nil {
			t.Error("a drill was committed")
		}
		if err := p.Restore(t.Context(), k.stored()); err == nil {
			t.Error("a place was used twice")
		}
	})
}

func TestOnly(t *testing.T) {
	dir, k := tree(t)
	base := member(dir)
	for _, test := range []struct {
		only []string
		want []string // files below dir
	}{
		{[]string{base + "/conf/app.js"}, []string{"", "/conf", "/conf/app.js"}},
		{[]string{dir + "/conf/"}, []string{"", "/conf", "/conf/app.js", "/conf/deep", "/conf/deep/er", "/conf/odd\nname"}},
		{[]string{base + "/conf/odd\nname"}, []string{"", "/conf", "/conf/odd\nname"}},
		{[]string{`"` + base + `/conf/odd\nname"`}, []string{"", "/conf", "/conf/odd\nname"}},
		{[]string{base + "/data/b"}, []string{"", "/data", "/data/b"}},
		{[]string{base + "/other"}, []string{"", "/other"}},
		{[]string{base + "/other", base + "/data/b"}, []string{"", "/data", "/data/b", "/other"}},
		{[]string{base + "/other", base + "/data/a"}, []string{"", "/data", "/data/a", "/other"}},
	} {
		t.Run(strings.Join(test.only, " "), func(t *testing.T) {
			target := t.TempDir() + "/new"
			p := open(t, files.Target{Dir: target, Only: test.only})
			mustMatch(t, p, k)
			_, err := p.Commit(t.Context())
			check(t, err)
			var got []string
			check(t, filepath.WalkDir(target+dir, func(path string, d os.DirEntry, err error) error {
				got = append(got, strings.TrimPrefix(path, target+dir))
				return err
			}))
			if !slices.Equal(got, test.want) {
				t.Errorf("restored %q", got)
			}
		})
	}
	t.Run("nothing of that name", func(t *testing.T) {
		p := open(t, files.Target{Dir: t.TempDir() + "/new", Only: []string{base + "/con"}})
		if err := p.Restore(t.Context(), k.stored()); !errors.Is(err, holdfast.ErrUsage) || holdfast.Hint(err) == "" {
			t.Errorf("error %v", err)
		}
	})
}

func TestDifferencesAreFound(t *testing.T) {
	dir, k := tree(t)
	for name, change := range map[string]func(f *source.Fact){
		"digest": func(f *source.Fact) { f.Digest = strings.Repeat("0", 64) },
		"mode":   func(f *source.Fact) { f.Text = strings.Replace(f.Text, "0644", "0600", 1) },
		"owner":  func(f *source.Fact) { f.Text = strings.Replace(f.Text, "0:0", "0:1", 1) },
		"name":   func(f *source.Fact) { f.Text = strings.Replace(f.Text, "root:root", "root:wheel", 1) },
		"time":   func(f *source.Fact) { f.Text = strings.Replace(f.Text, "T", "T0", 1) },
		"xattrs": func(f *source.Fact) { f.Text += " xattrs 00" },
	} {
		t.Run(name, func(t *testing.T) {
			changed := k
			changed.facts.Facts = slices.Clone(k.facts.Facts)
			index := slices.IndexFunc(changed.facts.Facts, func(f source.Fact) bool { return f.Name == member(dir)+"/conf/app.js" })
			change(&changed.facts.Facts[index])
			p := throwaway(t, changed.stored())
			check(t, p.Restore(t.Context(), changed.stored()))
			restored, err := p.Check(t.Context())
			check(t, err)
			if d := source.Compare(changed.facts.Facts, restored.Facts); len(d) != 1 || !d[0].Fails() {
				t.Errorf("differences %v", d)
			}
		})
	}
}

func TestDiskFull(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/large", strings.Repeat("x", 3<<20))
	k := mustTake(t, files.Options{Roots: roots(dir)})
	small := t.TempDir()
	check(t, unix.Mount("none", small, "tmpfs", 0, "size=1m"))
	t.Cleanup(func() { check(t, unix.Unmount(small, 0)) })
	write(t, small+"/target/mine", "m")
	before := listing(t, small)

	p, err := files.Open(t.Context(), files.Target{Dir: small + "/target", Overwrite: true})
	check(t, err)
	err = p.Restore(t.Context(), k.stored())
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(holdfast.Hint(err), "room") {
		t.Errorf("error %v, hint %q", err, holdfast.Hint(err))
	}
	check(t, p.Close())
	if after := listing(t, small); after != before {
		t.Errorf("changed to\n%s", after)
	}
	if _, err := files.Throwaway(t.Context(), small, k.stored()); !errors.Is(err, holdfast.ErrCannotTest) {
		t.Errorf("a drill without room: %v", err)
	}
	lying := k.stored()
	lying.Items[0].Size = 1
	drill, err := files.Throwaway(t.Context(), small, lying)
	check(t, err)
	if err := drill.Restore(t.Context(), lying); !errors.Is(err, holdfast.ErrCannotTest) {
		t.Errorf("a drill that ran out of room: %v", err)
	}
	check(t, drill.Close())
	if _, err := files.Throwaway(t.Context(), small+"/none", k.stored()); !errors.Is(err, holdfast.ErrCannotTest) {
		t.Errorf("a drill without scratch folder: %v", err)
	}
}

func TestAccessListsCannotBeHeld(t *testing.T) {
	dir := t.TempDir()
	write(t, dir+"/file", "x")
	run(t, nil, "setfacl", "-m", "u:1:rw", dir+"/file")
	k := mustTake(t, files.Options{Roots: roots(dir)})
	other := t.TempDir()
	check(t, unix.Mount("none", other, "ramfs", 0, ""))
	t.Cleanup(func() { check(t, unix.Unmount(other, 0)) })
	p := open(t, files.Target{Dir: other + "/new"})
	if err := p.Restore(t.Context(), k.stored()); !errors.Is(err, unix.ENOTSUP) || holdfast.Hint(err) == "" {
		t.Errorf("error %v", err)
	}
	check(t, p.Close())
	drill, err := files.Throwaway(t.Context(), other, k.stored())
	check(t, err)
	defer func() { check(t, drill.Close()) }()
	facts := mustMatch(t, drill, k)
	if len(facts.Notes) != 1 || !strings.Contains(facts.Notes[0], "posix_acl_access could not be set") {
		t.Errorf("notes %q", facts.Notes)
	}
}

func TestDefaultListOfTheParentIsNotInherited(t *testing.T) {
	_, k := tree(t)
	parent := t.TempDir()
	run(t, nil, "setfacl", "-m", "d:u:1:rwx", parent)
	mustMatch(t, open(t, files.Target{Dir: parent + "/new"}), k)
}

func TestCancelledRestore(t *testing.T) {
	_, k := tree(t)
	ctx, cancel := context.WithCancel(t.Context())
	stored := k.stored()
	stored.Items[0].Open = func(context.Context) (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(bytes.NewReader(k.tar[:1024]), &cancelling{cancel, bytes.NewReader(k.tar[1024:])})), nil
	}
	p := open(t, files.Target{Dir: t.TempDir() + "/new"})
	if err := p.Restore(ctx, stored); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

type cancelling struct {
	cancel func()
	io.Reader
}

func (c *cancelling) Read(b []byte) (int, error) {
	c.cancel()
	return c.Reader.Read(b)
}

// seen is what a process without rights reports.
type seen struct {
	Strict, StrictHint string
	Tolerant           string
	Notes              []string
	Names              string
	Findings           []source.Finding
	Drill              []string
	DrillNotes         []string
}

const asNobody = "HOLDFAST_TEST_AS_NOBODY"

func TestMain(m *testing.M) {
	if dir := os.Getenv(asNobody); dir != "" {
		nobody(dir)
		return
	}
	if dir := os.Getenv(asRestorer); dir != "" {
		restorer(dir)
		return
	}
	os.Exit(m.Run())
}

// nobody captures dir/tree and drills dir/backup.json, without rights.
func nobody(dir string) {
	ctx := context.Background()
	capture := func(opt files.Options) (source.Facts, error) {
		opt.Name = "app"
		c, err := files.New(opt).Capture(ctx, nil)
		if err != nil {
			return source.Facts{}, err
		}
		r, err := c.Items()[0].Open(ctx)
		if err != nil {
			return source.Facts{}, err
		}
		_, err = io.Copy(io.Discard, r)
		if err := errors.Join(err, r.Close()); err != nil {
			return source.Facts{}, err
		}
		return c.Facts(ctx)
	}
	var s seen
	opt := files.Options{Roots: roots(dir + "/tree")}
	if _, err := capture(opt); err != nil {
		s.Strict, s.StrictHint = err.Error(), holdfast.Hint(err)
	}
	opt.TolerateUnreadable = true
	facts, err := capture(opt)
	s.Tolerant, s.Notes, s.Names = fmt.Sprint(err), facts.Notes, factNames(facts.Facts)
	s.Findings, _ = files.New(files.Options{Roots: roots(dir + "/tree")}).Diagnose(ctx)
	s.drill(ctx, dir)
	json.NewEncoder(os.Stdout).Encode(s)
}

func (s *seen) drill(ctx context.Context, dir string) {
	fail := func(err error) { s.Drill = append(s.Drill, err.Error()) }
	var k kept
	data, err := os.ReadFile(dir + "/facts.json")
	if err != nil {
		fail(err)
		return
	}
	if err := json.Unmarshal(data, &k.facts); err != nil {
		fail(err)
		return
	}
	if k.tar, err = os.ReadFile(dir + "/app.tar"); err != nil {
		fail(err)
		return
	}
	p, err := files.Throwaway(ctx, dir+"/scratch", k.stored())
	if err != nil {
		fail(err)
		return
	}
	defer func() {
		if err := p.Close(); err != nil {
			fail(err)
		}
	}()
	if err := p.Restore(ctx, k.stored()); err != nil {
		fail(err)
		return
	}
	restored, err := p.Check(ctx)
	if err != nil {
		fail(err)
		return
	}
	for _, d := range source.Compare(k.facts.Facts, restored.Facts) {
		s.Drill = append(s.Drill, d.String())
	}
	s.DrillNotes = restored.Notes
}

func TestWithoutRights(t *testing.T) {
	dir, err := os.MkdirTemp("/var/tmp", "holdfast-nobody-")
	check(t, err)
	t.Cleanup(func() { check(t, os.RemoveAll(dir)) })
	check(t, os.Chmod(dir, 0o755))
	write(t, dir+"/tree/open", "x")
	write(t, dir+"/tree/secret", "x")
	write(t, dir+"/tree/shut/inner", "x")
	check(t, os.Chmod(dir+"/tree/secret", 0o600))
	check(t, os.Chmod(dir+"/tree/shut", 0o700))
	beasts := t.TempDir()
	zoo(t, beasts)
	write(t, beasts+"/unreadable/inner/file", "x")
	check(t, os.Chmod(beasts+"/unreadable/inner/file", 0))
	check(t, os.Chmod(beasts+"/unreadable/inner", 0))
	run(t, nil, "setfacl", "-m", "u::-,u:1:rw", beasts+"/acl")
	k := mustTake(t, files.Options{Roots: roots(beasts)})
	encoded, err := json.Marshal(k.facts)
	check(t, err)
	write(t, dir+"/facts.json", string(encoded))
	write(t, dir+"/app.tar", string(k.tar))
	check(t, os.Mkdir(dir+"/scratch", 0o700))
	check(t, os.Chown(dir+"/scratch", 65534, 65534))
	program, err := os.ReadFile("/proc/self/exe")
	check(t, err)
	check(t, os.WriteFile(dir+"/program", program, 0o755))

	command := exec.CommandContext(t.Context(), dir+"/program")
	command.Env = append(os.Environ(), asNobody+"="+dir)
	command.Dir = "/"
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	var stderr bytes.Buffer
	command.Stderr = &stderr
	output, err := command.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, stderr.Bytes())
	}
	var s seen
	check(t, json.Unmarshal(output, &s))

	base := member(dir) + "/tree"
	if !strings.HasPrefix(s.Strict, "read "+base+"/secret: permission denied") || !strings.Contains(s.StrictHint, "run as") {
		t.Errorf("error %q, hint %q", s.Strict, s.StrictHint)
	}
	if s.Tolerant != "<nil>" || len(s.Notes) != 2 || s.Names != base+"\n"+base+"/open" {
		t.Errorf("tolerated: error %q, notes %q, stored %q", s.Tolerant, s.Notes, s.Names)
	}
	if len(s.Findings) != 2 || s.Findings[0].Severity != source.Fails || !strings.Contains(s.Findings[1].Message, "shut") {
		t.Errorf("findings %+v", s.Findings)
	}
	for _, line := range s.Drill {
		t.Errorf("drill: %s", line)
	}
	if !strings.Contains(strings.Join(s.DrillNotes, "\n"), "owner could not be set on") {
		t.Errorf("notes %q", s.DrillNotes)
	}
}
