package sqlite_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"holdfast"
	"holdfast/internal/source"
	"holdfast/internal/source/sqlite"
)

func TestDamageInTheLiveDatabase(t *testing.T) {
	t.Run("of an index is stored, and named by the drill", func(t *testing.T) {
		path := create(t, "delete", ledger)
		spoil(t, path, "memos")
		_, _, err := restore(t, backUp(t, path))
		if !errors.Is(err, holdfast.ErrDifference) {
			t.Fatalf("check: %v", err)
		}
		mustHint(t, err, "table ledger", "live database has this damage too")
		if strings.Contains(err.Error(), "noise") {
			t.Errorf("an undamaged table is named: %v", err)
		}
	})
	t.Run("of a table fails the capture", func(t *testing.T) {
		path := create(t, "delete", ledger)
		spoil(t, path, "ledger")
		c := capture(t, path)
		_, err := readAll(t, c)
		must(t, err)
		_, err = c.Facts(t.Context())
		mustHint(t, err, "read table ledger", "integrity_check")
	})
}

func TestDamageInTheStoredImage(t *testing.T) {
	stored := backUp(t, create(t, "wal", ledger))
	reader, err := stored.Items[0].Open(t.Context())
	must(t, err)
	image, err := io.ReadAll(reader)
	must(t, err)
	for _, test := range []struct {
		name string
		harm func([]byte) []byte
	}{
		{"a table's page", func(b []byte) []byte { copy(b[4096*3:], strings.Repeat("\xa5", 300)); return b }},
		{"the header", func(b []byte) []byte { b[3] ^= 1; return b }},
		{"the page size", func(b []byte) []byte { b[16] ^= 0x7f; return b }},
		{"a page lost", func(b []byte) []byte { return b[:len(b)-4096] }},
		{"half a page lost", func(b []byte) []byte { return b[:len(b)-2048] }},
		{"most lost", func(b []byte) []byte { return b[:5000] }},
		{"all lost", func(b []byte) []byte { return nil }},
		{"bytes too many", func(b []byte) []byte { return append(b, 0) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, facts, err := restore(t, storedImage(test.harm(bytes.Clone(image)), stored.Facts))
			if err != nil && !errors.Is(err, holdfast.ErrDifference) {
				t.Errorf("check: %v", err)
			}
			if err == nil && len(source.Compare(stored.Facts.Facts, facts.Facts)) == 0 {
				t.Error("the damage went unseen")
			}
			if strings.Contains(holdfast.Hint(err), "live database") {
				t.Errorf("the live database is accused: %v", holdfast.Hint(err))
			}
		})
	}
}

// commit restores to target.
func commit(t *testing.T, stored source.Stored, target sqlite.Target) (string, error) {
	t.Helper()
	p, err := sqlite.Open(t.Context(), target)
	if err != nil {
		return "", err
	}
	defer func() { must(t, p.Close()) }()
	must(t, p.Restore(t.Context(), stored))
	return p.Commit(t.Context())
}

func TestAnExistingTarget(t *testing.T) {
	stored := backUp(t, create(t, "wal", "CREATE TABLE t(a); INSERT INTO t VALUES ('new')"))
	const old = "CREATE TABLE t(a); INSERT INTO t VALUES ('old')"

	t.Run("is refused", func(t *testing.T) {
		path := create(t, "delete", old)
		_, err := commit(t, stored, sqlite.Target{Path: path})
		if !errors.Is(err, fs.ErrExist) {
			t.Errorf("commit: %v", err)
		}
		mustHint(t, err, path, "allow the overwrite")
	})
	t.Run("is refused when it appears during the restore", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "app.db")
		p, err := sqlite.Open(t.Context(), sqlite.Target{Path: path})
		must(t, err)
		must(t, p.Restore(t.Context(), stored))
		stock(t, path, old)
		if _, err := p.Commit(t.Context()); !errors.Is(err, fs.ErrExist) {
			t.Errorf("commit: %v", err)
		}
		must(t, p.Close())
		if got := list(t, filepath.Dir(path)); !slices.Equal(got, []string{"app.db"}) {
			t.Errorf("left behind: %q", got)
		}
		if got := stock(t, path, "SELECT a FROM t"); got != "old" {
			t.Errorf("the target now says %q", got)
		}
	})
	t.Run("is refused when only its log is left", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "app.db")
		must(t, os.WriteFile(path+"-wal", []byte("x"), 0o600))
		if _, err := commit(t, stored, sqlite.Target{Path: path}); !errors.Is(err, fs.ErrExist) {
			t.Errorf("commit: %v", err)
		}
	})
	t.Run("is moved aside whole", func(t *testing.T) {
		from := create(t, "wal", old)
		db := hold(t, from)
		run(t, db, "INSERT INTO t VALUES ('in the log')")
		path := crash(t, from, "-wal", "-shm")
		kept := path + ".kept"
		where, err := commit(t, stored, sqlite.Target{Path: path, Overwrite: true, KeepAs: kept})
		must(t, err)
		if !strings.Contains(where, path) || !strings.Contains(where, kept) {
			t.Errorf("where: %q", where)
		}
		if got := list(t, filepath.Dir(path)); !slices.Equal(got, []string{"app.db", "app.db.kept", "app.db.kept-shm", "app.db.kept-wal"}) {
			t.Errorf("files: %q", got)
		}
		if got := stock(t, path, "SELECT a FROM t"); got != "new" {
			t.Errorf("the target says %q", got)
		}
		if got := stock(t, kept, "SELECT a FROM t"); got != "old\nin the log" {
			t.Errorf("the kept one says %q", got)
		}
	})
	t.Run("is moved to a name with the time", func(t *testing.T) {
		path := create(t, "delete", old)
		_, err := commit(t, stored, sqlite.Target{Path: path, Overwrite: true})
		must(t, err)
		if got := list(t, filepath.Dir(path)); len(got) != 2 || !strings.HasPrefix(got[1], "app.db.before_2") {
			t.Errorf("files: %q", got)
		}
	})
	t.Run("may be missing though an overwrite is allowed", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "app.db")
		where, err := commit(t, stored, sqlite.Target{Path: path, Overwrite: true})
		must(t, err)
		if strings.Contains(where, "former") {
			t.Errorf("where: %q", where)
		}
	})
	for _, journal := range []string{"wal", "delete"} {
		t.Run("in use is refused in mode "+journal, func(t *testing.T) {
			path := create(t, journal, old)
			db := hold(t, path)
			run(t, db, "BEGIN IMMEDIATE")
			run(t, db, "INSERT INTO t VALUES ('unfinished')")
			_, err := commit(t, stored, sqlite.Target{Path: path, Overwrite: true})
			mustHint(t, err, "is in use", "stop the application")
			run(t, db, "COMMIT")
			if got := stock(t, path, "SELECT count(*) FROM t"); got != "2" {
				t.Errorf("the target has %s rows", got)
			}
		})
	}
	t.Run("stays when the name to keep it under is taken", func(t *testing.T) {
		path := create(t, "delete", old)
		must(t, os.WriteFile(path+"-journal", nil, 0o600))
		must(t, os.WriteFile(path+".kept-journal", []byte("mine"), 0o600))
		_, err := commit(t, stored, sqlite.Target{Path: path, Overwrite: true, KeepAs: path + ".kept"})
		if !errors.Is(err, fs.ErrExist) {
			t.Errorf("commit: %v", err)
		}
		if got := list(t, filepath.Dir(path)); !slices.Equal(got, []string{"app.db", "app.db-journal", "app.db.kept-journal"}) {
			t.Errorf("files: %q", got)
		}
		if got := stock(t, path, "SELECT a FROM t"); got != "old" {
			t.Errorf("the target says %q", got)
		}
	})
}

func TestOwnerAndModeComeBack(t *testing.T) {
	path := create(t, "wal", ledger)
	must(t, os.Chown(path, appUser, appGroup))
	must(t, os.Chmod(path, 0o664))
	stored := backUp(t, path)
	for _, secret := range []bool{false, true} {
		stored.Secret = secret
		restored, _ := mustReturn(t, stored)
		info, err := os.Stat(restored)
		must(t, err)
		want := map[bool]os.FileMode{false: 0o664, true: 0o600}[secret]
		if got := info.Mode().Perm(); got != want || ownerOf(t, restored) != fmt.Sprintf("%d:%d", appUser, appGroup) {
			t.Errorf("secret %v: mode %v, owner %s", secret, got, ownerOf(t, restored))
		}
	}
}

func TestStagingIsPrivate(t *testing.T) {
	stored := backUp(t, create(t, "wal", ledger))
	path := filepath.Join(t.TempDir(), "app.db")
	p, err := sqlite.Open(t.Context(), sqlite.Target{Path: path})
	must(t, err)
	must(t, p.Restore(t.Context(), stored))
	_, err = p.Check(t.Context())
	must(t, err)
	names := list(t, filepath.Dir(path))
	if len(names) != 1 || !strings.HasPrefix(names[0], "app.db.restoring_") {
		t.Fatalf("files: %q", names)
	}
	info, err := os.Stat(filepath.Join(filepath.Dir(path), names[0]))
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", info.Mode())
	}
	must(t, p.Close())
	must(t, p.Close())
}

func TestNoRoom(t *testing.T) {
	stored := backUp(t, create(t, "wal", ledger))
	small := t.TempDir()
	must(t, syscall.Mount("tmpfs", small, "tmpfs", 0, "size=32k"))
	t.Cleanup(func() { must(t, syscall.Unmount(small, 0)) })

	p, err := sqlite.Open(t.Context(), sqlite.Target{Path: filepath.Join(small, "app.db")})
	must(t, err)
	err = p.Restore(t.Context(), stored)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("restore: %v", err)
	}
	mustHint(t, err, "no space left", "make room")
	must(t, p.Close())
	if got := list(t, small); len(got) != 0 {
		t.Errorf("left behind: %q", got)
	}

	_, err = sqlite.Throwaway(t.Context(), small, stored)
	if !errors.Is(err, holdfast.ErrCannotTest) {
		t.Errorf("throwaway: %v", err)
	}
	mustHint(t, err, "has room for", "more room")
	unknown := stored
	unknown.Facts.Facts = nil
	drill, err := sqlite.Throwaway(t.Context(), small, unknown)
	must(t, err)
	if err := drill.Restore(t.Context(), unknown); !errors.Is(err, holdfast.ErrCannotTest) {
		t.Errorf("restore: %v", err)
	}
	must(t, drill.Close())
}

func TestThrowaway(t *testing.T) {
	stored := backUp(t, create(t, "wal", ledger))
	scratch := t.TempDir()
	p, err := sqlite.Throwaway(t.Context(), scratch, stored)
	must(t, err)
	must(t, p.Restore(t.Context(), stored))
	facts, err := p.Check(t.Context())
	must(t, err)
	if differences := source.Compare(stored.Facts.Facts, facts.Facts); len(differences) > 0 {
		t.Error(differences)
	}
	for query, want := range map[string]bool{
		"SELECT count(*) = 100 FROM ledger":              true,
		"SELECT count(*) FROM ledger":                    true,
		"SELECT 0.5":                                     true,
		"SELECT 'true'":                                  true,
		"SELECT count(*) > 100 FROM ledger":              false,
		"SELECT NULL":                                    false,
		"SELECT 1 WHERE 0":                               false,
		"SELECT amount = 100 FROM total ORDER BY amount": true,
	} {
		if got, err := p.Assert(t.Context(), query); err != nil || got != want {
			t.Errorf("%s: %v, %v", query, got, err)
		}
	}
	for _, query := range []string{"SELECT 'perhaps'", "SELECT nothing", "DELETE FROM ledger", "", "SELECT x'00'"} {
		if got, err := p.Assert(t.Context(), query); err == nil {
			t.Errorf("%s: %v", query, got)
		}
	}
	if _, err := p.Commit(t.Context()); err == nil {
		t.Error("a throwaway was committed")
	}
	must(t, p.Close())
	if got := list(t, scratch); len(got) != 0 {
		t.Errorf("left behind: %q", got)
	}
	if _, err := sqlite.Throwaway(t.Context(), filepath.Join(scratch, "missing"), stored); !errors.Is(err, holdfast.ErrCannotTest) {
		t.Errorf("a missing scratch directory: %v", err)
	}
}

func TestRestoreStopsWithItsContext(t *testing.T) {
	stored := backUp(t, create(t, "wal", ledger))
	p, err := sqlite.Open(t.Context(), sqlite.Target{Path: filepath.Join(t.TempDir(), "app.db")})
	must(t, err)
	defer p.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := p.Restore(ctx, stored); !errors.Is(err, context.Canceled) {
		t.Errorf("restore: %v", err)
	}
	if _, err := p.Check(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("check: %v", err)
	}
	if _, err := sqlite.Open(t.Context(), sqlite.Target{Path: filepath.Join(t.TempDir(), "missing", "app.db")}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing directory: %v", err)
	}
}

// TestLeftovers: a restore removes what a killed one left beside its target, and leaves alone what is in use or was made by
// somebody else; doctor names all that is nobody's.
func TestLeftovers(t *testing.T) {
	path := create(t, "wal", ledger)
	stored := backUp(t, path)
	running, err := sqlite.Open(t.Context(), sqlite.Target{Path: path, Overwrite: true})
	must(t, err)
	must(t, running.Restore(t.Context(), stored))

	killed := path + ".restoring_" + strings.Repeat("A", 26)
	foreign := path + ".restoring_" + strings.Repeat("B", 26)
	alike := path + ".restoring_notes"
	for _, name := range []string{killed, foreign, alike} {
		must(t, os.WriteFile(name, []byte("x"), 0o600))
	}
	must(t, os.Chown(foreign, appUser, appGroup))
	findings, err := sqlite.New(sqlite.Options{Name: "app", Path: path}).Diagnose(t.Context())
	must(t, err)
	var fixes []string
	for _, finding := range findings {
		if finding.Severity == source.Warns {
			fixes = append(fixes, finding.Fix)
		}
	}
	if want := []string{"look into it, then: rm " + killed, "look into it, then: rm " + foreign}; !slices.Equal(fixes, want) {
		t.Errorf("doctor says %q, want %q", fixes, want)
	}

	var told []string
	p, err := sqlite.Open(t.Context(), sqlite.Target{Path: path, Overwrite: true, Warn: func(message string) { told = append(told, message) }})
	must(t, err)
	defer func() { must(t, p.Close()) }()
	if len(told) != 2 || told[0] != "removed "+killed+", which a restore that was killed left" || !strings.HasSuffix(told[1], "then: rm "+foreign) {
		t.Errorf("told %q", told)
	}
	for name, want := range map[string]bool{killed: false, foreign: true, alike: true} {
		if _, err := os.Lstat(name); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
	_, err = running.Check(t.Context())
	must(t, err)
	must(t, running.Close())
}

func TestTwoOverwritesWithinASecond(t *testing.T) {
	path := create(t, "wal", ledger)
	stored := backUp(t, path)
	for range 3 {
		p, err := sqlite.Open(t.Context(), sqlite.Target{Path: path, Overwrite: true})
		must(t, err)
		must(t, p.Restore(t.Context(), stored))
		_, err = p.Commit(t.Context())
		must(t, err)
		must(t, p.Close())
	}
	kept := 0
	for _, name := range list(t, filepath.Dir(path)) {
		if strings.Contains(name, ".before_") && !strings.HasSuffix(name, "-wal") && !strings.HasSuffix(name, "-shm") {
			kept++
		}
	}
	if kept != 3 {
		t.Errorf("%d are kept: %q", kept, list(t, filepath.Dir(path)))
	}
}
