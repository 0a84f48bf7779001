package files_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/source"
	"holdfast/internal/source/files"
)

// inPlace restores k to where it was and returns what Commit said and what was warned of.
func inPlace(t testing.TB, k kept, target files.InPlaceTarget) (said string, warnings []string) {
	t.Helper()
	target.Warn = func(message string) { warnings = append(warnings, message) }
	p, err := files.OpenInPlace(t.Context(), k.stored(), target)
	check(t, err)
	defer func() { check(t, p.Close()) }()
	check(t, p.Restore(t.Context(), k.stored()))
	restored, err := p.Check(t.Context())
	check(t, err)
	for _, d := range source.Compare(p.Selected(k.facts.Facts), restored.Facts) {
		t.Error(d)
	}
	said, err = p.Commit(t.Context())
	check(t, err)
	return said, warnings
}

// same requires that the live files are what k recorded, names apart that the pattern matches.
func same(t testing.TB, k kept, opt files.Options) {
	t.Helper()
	for _, d := range source.Compare(k.facts.Facts, mustTake(t, opt).facts.Facts) {
		t.Error(d)
	}
}

// one returns the only path that the pattern matches.
func one(t testing.TB, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	check(t, err)
	if len(found) != 1 {
		t.Fatalf("%d paths match %s: %q", len(found), pattern, found)
	}
	return found[0]
}

func noStaging(t testing.TB, dirs ...string) {
	t.Helper()
	for _, dir := range dirs {
		if found, _ := filepath.Glob(dir + "/*.restoring_*"); len(found) > 0 {
			t.Errorf("staging is left: %q", found)
		}
	}
}

func TestInPlace(t *testing.T) {
	base := t.TempDir()
	other := t.TempDir()
	check(t, unix.Mount("none", other, "tmpfs", 0, "size=64m,mode=0755"))
	t.Cleanup(func() { check(t, unix.Unmount(other, 0)) })
	folder, file, away, optional := base+"/etc/nginx", base+"/unit.service", other+"/app", base+"/optional"
	check(t, os.MkdirAll(folder, 0o755))
	zoo(t, folder)
	write(t, file, "[Unit]")
	check(t, os.Chown(file, 1234, 1235))
	check(t, unix.Chmod(file, 0o640))
	write(t, away+"/config.js", "exports")
	check(t, os.Link(file, folder+"/linked to the file"))
	opt := files.Options{Roots: append(roots(folder, file, away), files.Root{Path: optional, Optional: true})}
	k := mustTake(t, opt)

	t.Run("over what is there", func(t *testing.T) {
		write(t, folder+"/later", "l")
		check(t, os.RemoveAll(folder+"/locked"))
		write(t, file, "broken")
		write(t, optional, "not in the backup")
		said, warnings := inPlace(t, k, files.InPlaceTarget{})
		for _, path := range []string{folder, file, away} {
			if !strings.Contains(said, path+", what was there before is in "+path+".before_") {
				t.Errorf("said %q, not of %s", said, path)
			}
		}
		if len(warnings) > 0 {
			t.Errorf("warnings %q", warnings)
		}
		check(t, os.Rename(optional, optional+"_")) // it was not there
		same(t, k, opt)
		check(t, os.Rename(optional+"_", optional))
		if data, _ := os.ReadFile(one(t, folder+".before_*") + "/later"); string(data) != "l" {
			t.Errorf("what was there is not kept: %q", data)
		}
		if data, _ := os.ReadFile(one(t, file+".before_*")); string(data) != "broken" {
			t.Errorf("what was there is not kept: %q", data)
		}
		if data, _ := os.ReadFile(optional); string(data) != "not in the backup" {
			t.Errorf("a root that was not there at backup time was touched: %q", data)
		}
		check(t, os.Remove(optional))
		var a, b unix.Stat_t
		check(t, unix.Stat(file, &a))
		check(t, unix.Stat(folder+"/linked to the file", &b))
		if a.Ino != b.Ino {
			t.Error("a hard link between roots is gone")
		}
		noStaging(t, base, base+"/etc", other)
	})
	t.Run("twice within a second", func(t *testing.T) {
		now := files.InPlaceTarget{Now: time.Unix(1_700_000_000, 0)}
		inPlace(t, k, now)
		said, _ := inPlace(t, k, now)
		if !strings.Contains(said, folder+".before_20231114T221320Z_2") {
			t.Errorf("said %q", said)
		}
		same(t, k, opt)
	})
	t.Run("where all is lost", func(t *testing.T) {
		check(t, os.Chmod(base+"/etc", 0o700))
		check(t, os.RemoveAll(base+"/etc"))
		check(t, os.Remove(file))
		said, _ := inPlace(t, k, files.InPlaceTarget{})
		if strings.Contains(said, folder+", what") {
			t.Errorf("said %q", said)
		}
		same(t, k, opt)
		info, err := os.Stat(base + "/etc")
		check(t, err)
		if info.Mode().Perm() != 0o755 {
			t.Errorf("the folder above a root has mode %o", info.Mode().Perm())
		}
	})
	t.Run("one file and a folder", func(t *testing.T) {
		check(t, os.RemoveAll(folder+"/names"))
		write(t, folder+"/plain.txt", "changed")
		write(t, folder+"/later", "stays")
		said, _ := inPlace(t, k, files.InPlaceTarget{Only: []string{member(folder) + "/plain.txt", member(folder) + "/names/-dash *"}})
		if data, _ := os.ReadFile(folder + "/plain.txt"); string(data) != "hello\n" {
			t.Errorf("restored %q", data)
		}
		if data, _ := os.ReadFile(folder + "/later"); string(data) != "stays" {
			t.Errorf("what lies beside it was touched: %q", data)
		}
		if got := listing(t, folder+"/names"); got != "\n/-dash * 5" {
			t.Errorf("restored %q", got)
		}
		if info, err := os.Stat(folder + "/names"); err != nil || !info.ModTime().Equal(time.Unix(0, 0)) {
			t.Errorf("the folder made for it is not as it was: %v, %v", info, err)
		}
		if !strings.Contains(said, folder+"/names;") && !strings.Contains(said, folder+"/plain.txt, what was there before") {
			t.Errorf("said %q", said)
		}
		noStaging(t, base, base+"/etc", folder)
	})
}

func TestInPlaceRefuses(t *testing.T) {
	dir, k := tree(t)
	busy := func(t *testing.T, change func(), back func(), sentence, hint string) {
		t.Helper()
		before := listing(t, filepath.Dir(dir))
		change()
		_, err := files.OpenInPlace(t.Context(), k.stored(), files.InPlaceTarget{})
		_, unitsErr := files.Units(k.stored(), nil)
		back()
		if err == nil || unitsErr == nil || !strings.Contains(err.Error(), sentence) || !strings.Contains(holdfast.Hint(err), hint) {
			t.Errorf("error %v, hint %q, of Units %v", err, holdfast.Hint(err), unitsErr)
		}
		if after := listing(t, filepath.Dir(dir)); after != before {
			t.Errorf("changed to\n%s", after)
		}
	}
	t.Run("a symbolic link", func(t *testing.T) {
		busy(t, func() {
			check(t, os.Rename(dir, dir+"_"))
			check(t, os.Symlink(dir+"_", dir))
		}, func() {
			check(t, os.Remove(dir))
			check(t, os.Rename(dir+"_", dir))
		}, dir+" is a symbolic link now", "remove the link")
	})
	t.Run("a mount point", func(t *testing.T) {
		busy(t, func() { check(t, unix.Mount("none", dir, "tmpfs", 0, "size=1m")) },
			func() { check(t, unix.Unmount(dir, 0)) }, "another file system is mounted on "+dir, "--path")
	})
	t.Run("a mount below", func(t *testing.T) {
		busy(t, func() { check(t, unix.Mount("none", dir+"/data", "tmpfs", 0, "size=1m")) },
			func() { check(t, unix.Unmount(dir+"/data", 0)) }, "another file system is mounted on "+dir+"/data", "unmount")
	})
	t.Run("a file where a folder was", func(t *testing.T) {
		above := filepath.Dir(dir)
		check(t, os.Rename(above, above+"_"))
		write(t, above, "x")
		_, err := files.Units(k.stored(), nil)
		check(t, os.Remove(above))
		check(t, os.Rename(above+"_", above))
		if err == nil || !strings.Contains(err.Error(), above+" is no folder any more") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("the root of all", func(t *testing.T) {
		whole := k
		whole.facts.Facts = append(slices.Clone(k.facts.Facts), source.Fact{Class: "file", Name: ".", Rule: source.Exact, Text: "folder"})
		_, err := files.Units(whole.stored(), nil)
		if !errors.Is(err, holdfast.ErrUsage) || !strings.Contains(err.Error(), "the root of this source is /") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("a path that is not in it", func(t *testing.T) {
		_, err := files.Units(k.stored(), []string{"no/such"})
		if !errors.Is(err, holdfast.ErrUsage) || !strings.Contains(err.Error(), `no file and no folder "no/such"`) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("a member that leads out", func(t *testing.T) {
		hostile := k
		hostile.facts.Facts = []source.Fact{{Class: "file", Name: "../etc/passwd", Rule: source.Exact, Text: "file"}}
		if _, err := files.Units(hostile.stored(), nil); !errors.Is(err, holdfast.ErrDifference) {
			t.Errorf("error %v", err)
		}
	})
	t.Run("what came to exist meanwhile", func(t *testing.T) {
		check(t, os.Rename(dir, dir+"_"))
		p, err := files.OpenInPlace(t.Context(), k.stored(), files.InPlaceTarget{})
		check(t, err)
		check(t, p.Restore(t.Context(), k.stored()))
		write(t, dir+"/mine", "m")
		_, err = p.Commit(t.Context())
		if err == nil || !strings.Contains(err.Error(), dir+" has come to exist meanwhile") {
			t.Errorf("error %v", err)
		}
		check(t, p.Close())
		if got := listing(t, dir); got != "\n/mine m" {
			t.Errorf("there is %q", got)
		}
		check(t, os.RemoveAll(dir))
		check(t, os.Rename(dir+"_", dir))
		noStaging(t, filepath.Dir(dir))
	})
}

// asRestorer makes the test's binary a process that restores in place, so that it can be killed.
const asRestorer = "HOLDFAST_TEST_IN_PLACE"

func restorer(dir string) {
	err := func() error {
		var k kept
		data, err := os.ReadFile(dir + "/facts.json")
		if err != nil {
			return err
		}
		if err := json.Unmarshal(data, &k.facts); err != nil {
			return err
		}
		if k.tar, err = os.ReadFile(dir + "/app.tar"); err != nil {
			return err
		}
		ctx := context.Background()
		p, err := files.OpenInPlace(ctx, k.stored(), files.InPlaceTarget{})
		if err != nil {
			return err
		}
		if err := p.Restore(ctx, k.stored()); err != nil {
			return errors.Join(err, p.Close())
		}
		_, err = p.Commit(ctx)
		return errors.Join(err, p.Close())
	}()
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// rehearsal is a restore in place of three roots on two file systems, made by a process that something happens to.
type rehearsal struct {
	targets []string
	dirs    []string
	work    string
	opt     files.Options
	k       kept
}

func newRehearsal(t *testing.T) *rehearsal {
	base, other := t.TempDir(), t.TempDir()
	check(t, unix.Mount("none", other, "tmpfs", 0, "size=16m,mode=0755"))
	t.Cleanup(func() { check(t, unix.Unmount(other, 0)) })
	r := &rehearsal{targets: []string{base + "/a", base + "/b", other + "/c"}, dirs: []string{base, other}, work: t.TempDir()}
	for _, dir := range r.targets {
		write(t, dir+"/f", "restored")
	}
	r.opt = files.Options{Roots: roots(r.targets...)}
	r.k = mustTake(t, r.opt)
	encoded, err := json.Marshal(r.k.facts)
	check(t, err)
	write(t, r.work+"/facts.json", string(encoded))
	write(t, r.work+"/app.tar", string(r.k.tar))
	return r
}

// run restores over what is there, in a process whose nth call of those named meets with the fault. It returns the trace, and
// whether the process ended well.
func (r *rehearsal) run(t *testing.T, calls, fault string, n int) (trace string, good bool) {
	t.Helper()
	for _, dir := range r.targets {
		for _, path := range must(filepath.Glob(dir + "*")) {
			check(t, os.RemoveAll(path))
		}
		write(t, dir+"/f", "was there")
	}
	program, err := os.Executable()
	check(t, err)
	cmd := exec.CommandContext(t.Context(), "strace", "-f", "-o", r.work+"/trace", "-e", "trace="+calls,
		"-e", fmt.Sprintf("inject=%s:%s:when=%d", calls, fault, n), program)
	cmd.Env = append(os.Environ(), asRestorer+"="+r.work)
	output, err := cmd.CombinedOutput()
	trace = contentOf(t, r.work+"/trace")
	if err == nil && !strings.Contains(trace, "exited with 0") {
		t.Fatalf("call %d: it ended in another way: %s\n%s", n, output, trace)
	}
	return trace, err == nil
}

func contentOf(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	check(t, err)
	return string(data)
}

// before counts the targets that hold what was there before, and requires that the others hold what is restored.
func (r *rehearsal) before(t *testing.T, n int) int {
	t.Helper()
	was := 0
	for _, dir := range r.targets {
		switch got := contentOf(t, dir+"/f"); got {
		case "was there":
			was++
		case "restored":
		default:
			t.Errorf("call %d: %s holds %q", n, dir, got)
		}
	}
	return was
}

func (r *rehearsal) staging() int {
	count := 0
	for _, dir := range r.dirs {
		count += len(must(filepath.Glob(dir + "/*.restoring_*")))
	}
	return count
}

const mostCalls = 60

// TestInPlaceKilled kills a restore before every rename and every removal that it makes. Whatever moment it was: each root
// stands, as it was or as it is restored; what was there is somewhere; and the next restore ends with everything restored
// and no staging left.
func TestInPlaceKilled(t *testing.T) {
	r := newRehearsal(t)
	finished, removed := 0, 0
	for n := 1; ; n++ {
		if n > mostCalls {
			t.Fatal("it makes more and more calls")
		}
		trace, good := r.run(t, "rename,renameat,renameat2,unlinkat", "signal=KILL", n)
		if good {
			break
		}
		if !strings.Contains(trace, "killed by SIGKILL") {
			t.Fatalf("call %d: %s", n, trace)
		}
		was, staging := r.before(t, n), r.staging()
		findings, err := files.New(r.opt).Diagnose(t.Context())
		check(t, err)
		if warned := len(findings) > 0 && findings[0].Severity == source.Warns; warned != (staging > 0) {
			t.Errorf("call %d: %d staging folders are left, and doctor finds %+v", n, staging, findings)
		}
		_, warnings := inPlace(t, r.k, files.InPlaceTarget{})
		same(t, r.k, r.opt)
		for _, dir := range r.targets {
			kept := 0
			for _, path := range must(filepath.Glob(dir + ".before_*")) {
				if contentOf(t, path+"/f") == "was there" {
					kept++
				}
			}
			if kept != 1 {
				t.Errorf("call %d: what was at %s is kept %d times", n, dir, kept)
			}
		}
		noStaging(t, r.dirs...)
		said := strings.Join(warnings, "\n")
		if was < len(r.targets) && strings.Contains(said, "that is done now") {
			finished++
		}
		if strings.Contains(said, "which a restore that was killed left") {
			removed++
		}
	}
	if finished < 3 || removed < 3 {
		t.Errorf("%d killed restores were finished and %d removed: the kills miss what they are for", finished, removed)
	}
}

// TestInPlaceTakesBack lets every rename fail once: all is as it was, or, where only the removal of staging was left, as it is
// restored.
func TestInPlaceTakesBack(t *testing.T) {
	r := newRehearsal(t)
	half := 0
	for n := 1; ; n++ {
		if n > mostCalls {
			t.Fatal("it makes more and more calls")
		}
		trace, good := r.run(t, "rename,renameat,renameat2", "error=EIO", n)
		if good {
			break
		}
		if was := r.before(t, n); was != len(r.targets) {
			t.Errorf("call %d failed, and %d of %d roots are as they were:\n%s", n, was, len(r.targets), trace)
		}
		for _, dir := range r.targets {
			if kept := must(filepath.Glob(dir + ".before_*")); len(kept) > 0 {
				t.Errorf("call %d: %q is left", n, kept)
			}
		}
		noStaging(t, r.dirs...)
		if strings.Count(trace, "RENAME_EXCHANGE") > 1 {
			half++
		}
	}
	if half < 2 {
		t.Errorf("only %d failures came after something was moved", half)
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// TestLeftoversOfOthers: what is in use is not touched, and what others made is not believed.
func TestLeftoversOfOthers(t *testing.T) {
	dir, k := tree(t)
	running, err := files.OpenInPlace(t.Context(), k.stored(), files.InPlaceTarget{})
	check(t, err)
	_, err = files.OpenInPlace(t.Context(), k.stored(), files.InPlaceTarget{})
	if !errors.Is(err, holdfast.ErrBusy) || !strings.Contains(err.Error(), "a restore to "+dir+" is under way") {
		t.Errorf("two at once: %v", err)
	}
	findings, err := files.New(files.Options{Roots: roots(dir)}).Diagnose(t.Context())
	check(t, err)
	if len(findings) != 1 || findings[0].Severity != source.Fine {
		t.Errorf("a restore that runs: %+v", findings)
	}
	check(t, running.Close())

	victim := filepath.Dir(dir) + "/victim"
	write(t, victim, "v")
	planted := dir + ".restoring_aaaaaaaaaa"
	write(t, planted+"/lock", "x")
	write(t, planted+"/moves.json", fmt.Sprintf(`{"layout":1,"moves":[{"staged":%q,"target":%q}]}`, victim, filepath.Dir(dir)+"/taken"))
	for _, path := range []string{planted, planted + "/lock", planted + "/moves.json"} {
		check(t, os.Chown(path, 65534, 65534))
	}
	check(t, os.Chmod(planted, 0o700))
	check(t, os.Chmod(planted+"/lock", 0o600))
	_, warnings := inPlace(t, k, files.InPlaceTarget{})
	if len(warnings) != 1 || !strings.Contains(warnings[0], "then: rm -r "+planted) {
		t.Errorf("warnings %q", warnings)
	}
	if data, _ := os.ReadFile(victim); string(data) != "v" {
		t.Error("what somebody else wrote down was moved")
	}
	findings, err = files.New(files.Options{Roots: roots(dir)}).Diagnose(t.Context())
	check(t, err)
	if len(findings) != 1 || findings[0].Fix != "look into it, then: rm -r "+planted {
		t.Errorf("findings %+v", findings)
	}
}
