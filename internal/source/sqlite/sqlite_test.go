package sqlite_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/source"
	"holdfast/internal/source/sourcetest"
	"holdfast/internal/source/sqlite"
)

const (
	appUser  = 1234
	appGroup = 1235
)

// TestMain lets the test binary play other processes, because SQLite's locks work between processes.
func TestMain(m *testing.M) {
	switch os.Getenv("HOLDFAST_TEST_ROLE") {
	case "writer":
		exitWith(writeUntilStdinCloses(os.Getenv("HOLDFAST_TEST_DB")))
	case "capture":
		c, err := sqlite.New(sqlite.Options{Name: "app", Path: os.Getenv("HOLDFAST_TEST_DB")}).
			Capture(context.Background(), nil)
		if err == nil {
			err = c.Close()
		}
		exitWith(err)
	}
	os.Exit(m.Run())
}

func exitWith(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err, "hint:", holdfast.Hint(err))
		os.Exit(1)
	}
	os.Exit(0)
}

// writeUntilStdinCloses commits without a pause transactions that keep an invariant: the totals of both tables agree.
func writeUntilStdinCloses(path string) error {
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(60000)")
	if err != nil {
		return err
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		io.Copy(io.Discard, os.Stdin)
	}()
	for i := 0; ; i++ {
		select {
		case <-stop:
			return nil
		default:
		}
		tx, err := db.Begin()
		if err != nil {
			return err
		}
		for _, statement := range []string{
			"INSERT INTO ledger(amount, memo) VALUES (1, hex(randomblob(500)))",
			"UPDATE total SET amount = amount + 1",
			"UPDATE ledger SET memo = hex(randomblob(600)) WHERE id % 97 = abs(random()) % 97",
			"DELETE FROM noise WHERE id % 5 = abs(random()) % 5",
			"INSERT INTO noise(b) SELECT randomblob(300) FROM ledger LIMIT 20",
		} {
			if _, err := tx.Exec(statement); err != nil {
				return err
			}
		}
		if err := tx.Commit(); err != nil {
			return err
		}
		if i == 20 {
			fmt.Println("writing")
		}
	}
}

// startWriter runs the writer in a process of its own until the test ends.
func startWriter(t *testing.T, path string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "HOLDFAST_TEST_ROLE=writer", "HOLDFAST_TEST_DB="+path)
	stdin, err := cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	must(t, cmd.Start())
	t.Cleanup(func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the writer: %v: %s", err, stderr.String())
		}
	})
	if line := make([]byte, 8); true {
		if _, err := io.ReadFull(stdout, line); err != nil {
			t.Fatalf("the writer did not start: %v", err)
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// stock runs the sqlite3 program.
func stock(t testing.TB, path, script string) string {
	t.Helper()
	cmd := exec.Command("sqlite3", "-batch", "-bail", path)
	cmd.Stdin = strings.NewReader(script)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("sqlite3: %v: %s", err, out)
	}
	return strings.TrimSpace(string(out))
}

const ledger = `
	CREATE TABLE ledger(id INTEGER PRIMARY KEY, amount INT, memo TEXT);
	CREATE INDEX memos ON ledger(memo);
	CREATE TABLE total(amount INT);
	CREATE TABLE noise(id INTEGER PRIMARY KEY AUTOINCREMENT, b BLOB);
	INSERT INTO total VALUES (100);
	WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<100)
		INSERT INTO ledger(amount, memo) SELECT 1, hex(randomblob(200)) FROM n;
	INSERT INTO noise(b) SELECT randomblob(1000) FROM ledger;`

// create makes a live database in a directory of its own.
func create(t testing.TB, journal, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "app.db")
	stock(t, path, "PRAGMA journal_mode="+journal+";"+script)
	return path
}

// hold opens the database as a running application does.
func hold(t testing.TB, path string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(0)")
	must(t, err)
	db.SetMaxOpenConns(1)
	t.Cleanup(func() { db.Close() })
	var n int
	must(t, db.QueryRow("SELECT count(*) FROM sqlite_schema").Scan(&n))
	return db
}

func run(t testing.TB, db *sql.DB, statement string) {
	t.Helper()
	if _, err := db.Exec(statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

func live(path string) *sqlite.Source { return sqlite.New(sqlite.Options{Name: "app", Path: path}) }

// capture opens a capture and closes it with the test.
func capture(t testing.TB, path string) source.Capture {
	t.Helper()
	c, err := live(path).Capture(t.Context(), nil)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

func readAll(t testing.TB, c source.Capture) ([]byte, error) {
	t.Helper()
	r, err := c.Items()[0].Open(t.Context())
	must(t, err)
	content, err := io.ReadAll(r)
	return content, errors.Join(err, r.Close())
}

// backUp makes a whole backup.
func backUp(t testing.TB, path string) source.Stored {
	t.Helper()
	c := capture(t, path)
	image, err := readAll(t, c)
	must(t, err)
	facts, err := c.Facts(t.Context())
	must(t, err)
	must(t, c.Close())
	return storedImage(image, facts)
}

func storedImage(image []byte, facts source.Facts) source.Stored {
	return source.Stored{
		Source: "app", Kind: holdfast.KindSQLite, Facts: facts,
		Items: []source.StoredItem{{
			Name: "app.sqlite", Size: int64(len(image)),
			Open: func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(image)), nil },
		}},
	}
}

// restore brings a backup back to a new path and returns what Check says.
func restore(t testing.TB, stored source.Stored) (path string, facts source.Facts, err error) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "restored.db")
	p, err := sqlite.Open(t.Context(), sqlite.Target{Path: path})
	must(t, err)
	defer p.Close()
	must(t, p.Restore(t.Context(), stored))
	facts, err = p.Check(t.Context())
	if err == nil {
		_, err = p.Commit(t.Context())
		must(t, err)
	}
	return path, facts, err
}

// mustReturn restores, compares, and asks the stock program too.
func mustReturn(t testing.TB, stored source.Stored) (string, source.Facts) {
	t.Helper()
	path, facts, err := restore(t, stored)
	must(t, err)
	for _, difference := range source.Compare(stored.Facts.Facts, facts.Facts) {
		t.Errorf("difference: %s", difference)
	}
	return path, facts
}

func find(t testing.TB, facts source.Facts, class, name string) source.Fact {
	t.Helper()
	i := slices.IndexFunc(facts.Facts, func(f source.Fact) bool { return f.Class == class && f.Name == name })
	if i < 0 {
		t.Fatalf("no fact %s %s in %v", class, name, facts.Facts)
	}
	return facts.Facts[i]
}

func list(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// mustHint checks that err says what is wrong and what to do.
func mustHint(t testing.TB, err error, says, hint string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), says) {
		t.Errorf("error %v does not say %q", err, says)
	}
	if !strings.Contains(holdfast.Hint(err), hint) {
		t.Errorf("hint %q of %v does not say %q", holdfast.Hint(err), err, hint)
	}
}

func TestLaws(t *testing.T) {
	for _, journal := range []string{"wal", "delete"} {
		t.Run(journal, func(t *testing.T) {
			sourcetest.Run(t, func(t *testing.T) sourcetest.Fixture {
				path := create(t, journal, ledger)
				db := hold(t, path)
				room := t.TempDir()
				places := 0
				return sourcetest.Fixture{
					Name: "app", Kind: holdfast.KindSQLite, Source: live(path),
					Mutate: func(t *testing.T) {
						// A reader in rollback mode makes this wait, which the application is told by an error.
						db.Exec("UPDATE ledger SET memo = hex(randomblob(400)), amount = amount + 1")
					},
					Place: func(t *testing.T) source.Place {
						places++
						p, err := sqlite.Open(t.Context(), sqlite.Target{Path: filepath.Join(room, strconv.Itoa(places)+".db")})
						must(t, err)
						return p
					},
					Leftovers: func(t *testing.T) []string { return list(t, room) },
				}
			})
		})
	}
}

func TestConsistentUnderAWriterInAnotherProcess(t *testing.T) {
	for _, journal := range []string{"wal", "delete"} {
		t.Run(journal, func(t *testing.T) {
			path := create(t, journal, ledger)
			startWriter(t, path)
			changed := map[string]bool{}
			for range 8 {
				stored := backUp(t, path)
				changed[find(t, stored.Facts, "image", "database").Digest] = true
				restored, _ := mustReturn(t, stored)
				if got := stock(t, restored, "SELECT (SELECT sum(amount) FROM ledger) = amount FROM total; PRAGMA integrity_check;"); got != "1\nok" {
					t.Fatalf("the stock program says %q", got)
				}
			}
			if len(changed) < 3 {
				t.Errorf("the writer was hardly writing: %d states in 8 backups", len(changed))
			}
		})
	}
}

func TestGrowthOfTheLogIsNoted(t *testing.T) {
	path := create(t, "wal", ledger)
	db := hold(t, path)
	c := capture(t, path)
	run(t, db, "INSERT INTO noise(b) SELECT zeroblob(4000) FROM ledger")
	_, err := readAll(t, c)
	must(t, err)
	facts, err := c.Facts(t.Context())
	must(t, err)
	if len(facts.Notes) != 1 || !strings.Contains(facts.Notes[0], "write-ahead log grew by") {
		t.Errorf("notes: %q", facts.Notes)
	}
	if facts.Properties["journal_mode"] != "wal" || facts.Properties["page_size"] != "4096" {
		t.Errorf("properties: %q", facts.Properties)
	}
	// The facts are of the pinned view, and the view ends with them: the log can be reused though the capture is open.
	if got := find(t, facts, "table", "noise").Rows; got != 100 {
		t.Errorf("%d rows instead of 100", got)
	}
	run(t, db, "PRAGMA wal_checkpoint(TRUNCATE)")
	info, err := os.Stat(path + "-wal")
	must(t, err)
	if info.Size() != 0 {
		t.Errorf("the log still has %d bytes after the facts were read", info.Size())
	}
}

func TestLeavesNothingBesideADatabaseNotInUse(t *testing.T) {
	path := create(t, "wal", ledger)
	must(t, os.Chown(path, appUser, appGroup))
	must(t, os.Chmod(path, 0o640))
	before, err := os.Stat(path)
	must(t, err)
	content, err := os.ReadFile(path)
	must(t, err)

	c := capture(t, path)
	for _, suffix := range []string{"-wal", "-shm"} {
		info, err := os.Stat(path + suffix)
		must(t, err)
		if got := fmt.Sprint(info.Mode().Perm(), ownerOf(t, path+suffix)); got != fmt.Sprint(os.FileMode(0o640), ownerOf(t, path)) {
			t.Errorf("%s is %s", suffix, got)
		}
	}
	_, err = readAll(t, c)
	must(t, err)
	_, err = c.Facts(t.Context())
	must(t, err)
	must(t, c.Close())

	if got := list(t, filepath.Dir(path)); !slices.Equal(got, []string{"app.db"}) {
		t.Errorf("left behind: %q", got)
	}
	after, err := os.Stat(path)
	must(t, err)
	now, err := os.ReadFile(path)
	must(t, err)
	if !after.ModTime().Equal(before.ModTime()) || !bytes.Equal(content, now) {
		t.Error("the database file was written")
	}
}

// crash leaves a database as a killed application does.
func crash(t *testing.T, path string, suffixes ...string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "app.db")
	for _, suffix := range append([]string{""}, suffixes...) {
		content, err := os.ReadFile(path + suffix)
		must(t, err)
		must(t, os.WriteFile(to+suffix, content, 0o644))
	}
	return to
}

func TestACrashedApplicationsLogIsReadAndKept(t *testing.T) {
	path := create(t, "wal", ledger)
	db := hold(t, path)
	run(t, db, "INSERT INTO total VALUES (7)")
	crashed := crash(t, path, "-wal")
	var before [][]byte
	for _, suffix := range []string{"", "-wal"} {
		content, err := os.ReadFile(crashed + suffix)
		must(t, err)
		before = append(before, content)
	}
	stored := backUp(t, crashed)
	if got := find(t, stored.Facts, "table", "total").Rows; got != 2 {
		t.Errorf("%d rows: the log was not read", got)
	}
	mustReturn(t, stored)
	for i, suffix := range []string{"", "-wal"} {
		content, err := os.ReadFile(crashed + suffix)
		must(t, err)
		if !bytes.Equal(content, before[i]) {
			t.Errorf("app.db%s was changed", suffix)
		}
	}
}

func TestAHotJournalIsNotPlayedBack(t *testing.T) {
	path := create(t, "delete", ledger)
	db := hold(t, path)
	run(t, db, "PRAGMA cache_size=1")
	run(t, db, "BEGIN")
	run(t, db, "UPDATE noise SET b = zeroblob(3000)")
	crashed := crash(t, path, "-journal")
	before, err := os.ReadFile(crashed)
	must(t, err)
	_, err = live(crashed).Capture(t.Context(), nil)
	mustHint(t, err, "rolled back", "start the application")
	after, err := os.ReadFile(crashed)
	must(t, err)
	if !bytes.Equal(before, after) {
		t.Error("the database file was written")
	}
}

func TestRollbackModeLocks(t *testing.T) {
	t.Run("a capture that cannot get its lock fails", func(t *testing.T) {
		path := create(t, "delete", ledger)
		run(t, hold(t, path), "BEGIN EXCLUSIVE")
		_, err := sqlite.New(sqlite.Options{Name: "app", Path: path, MaxLock: time.Millisecond}).Capture(t.Context(), nil)
		mustHint(t, err, "locked by the application", "journal_mode=WAL")
	})
	t.Run("waiting for the lock ends with the context", func(t *testing.T) {
		path := create(t, "delete", ledger)
		run(t, hold(t, path), "BEGIN EXCLUSIVE")
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, err := live(path).Capture(ctx, nil)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("capture: %v", err)
		}
	})
	t.Run("a capture that takes too long gives the lock back and fails", func(t *testing.T) {
		path := create(t, "delete", ledger)
		db := hold(t, path)
		c, err := sqlite.New(sqlite.Options{Name: "app", Path: path, MaxLock: time.Second}).Capture(t.Context(), nil)
		must(t, err)
		r, err := c.Items()[0].Open(t.Context())
		must(t, err)
		_, err = r.Read(make([]byte, 100))
		must(t, err)
		if _, err := db.Exec("INSERT INTO total VALUES (1)"); err == nil {
			t.Fatal("the application could write during the capture, so nothing is pinned")
		}
		run(t, db, "PRAGMA busy_timeout=60000")
		run(t, db, "INSERT INTO total VALUES (1)")
		_, err = io.ReadAll(r)
		mustHint(t, err, "the most allowed", "max_lock")
		if err := r.Close(); err == nil {
			t.Error("the reader calls itself whole")
		}
		if _, err := c.Facts(t.Context()); err == nil {
			t.Error("facts of a lost view")
		}
		mustHint(t, c.Close(), "the most allowed", "max_lock")
	})
	t.Run("facts that take too long fail too", func(t *testing.T) {
		path := create(t, "delete", ledger)
		db := hold(t, path)
		c, err := sqlite.New(sqlite.Options{Name: "app", Path: path, MaxLock: time.Second}).Capture(t.Context(), nil)
		must(t, err)
		_, err = readAll(t, c)
		must(t, err)
		run(t, db, "PRAGMA busy_timeout=60000")
		run(t, db, "INSERT INTO total VALUES (1)")
		_, err = c.Facts(t.Context())
		mustHint(t, err, "the most allowed", "max_lock")
		mustHint(t, c.Close(), "the most allowed", "max_lock")
	})
	t.Run("facts give the lock back before the capture is closed", func(t *testing.T) {
		path := create(t, "delete", ledger)
		db := hold(t, path)
		c := capture(t, path)
		_, err := readAll(t, c)
		must(t, err)
		_, err = c.Facts(t.Context())
		must(t, err)
		run(t, db, "INSERT INTO total VALUES (1)")
		must(t, c.Close())
	})
}

func TestWithoutRightsNothingIsCreated(t *testing.T) {
	path := create(t, "wal", ledger)
	must(t, os.Chmod(filepath.Dir(filepath.Dir(path)), 0o777))
	must(t, os.Chmod(filepath.Dir(path), 0o777))
	must(t, os.Chmod(path, 0o644))
	// The test binary stands in a directory that only root can enter.
	binary := filepath.Join(t.TempDir(), "stranger")
	content, err := os.ReadFile(os.Args[0])
	must(t, err)
	must(t, os.WriteFile(binary, content, 0o755))
	must(t, os.Chmod(filepath.Dir(binary), 0o755))
	attempt := func() string {
		cmd := exec.Command(binary)
		cmd.Env = append(os.Environ(), "HOLDFAST_TEST_ROLE=capture", "HOLDFAST_TEST_DB="+path)
		asUser(cmd, appUser, appGroup)
		out, err := cmd.CombinedOutput()
		if err == nil {
			return "fine"
		}
		return string(out)
	}
	must(t, os.Chmod(filepath.Dir(path), 0o755))
	must(t, os.Chown(path, appUser, appGroup))
	if got := attempt(); !strings.Contains(got, "hint: run as root") || !strings.Contains(got, "let the directory be writable") {
		t.Errorf("a capture in a directory that cannot be written said %q", got)
	}
	must(t, os.Chmod(filepath.Dir(path), 0o777))
	must(t, os.Chown(path, 0, 0))
	if got := attempt(); !strings.Contains(got, "may not be able to write") {
		t.Errorf("a stranger's capture of a database not in use said %q", got)
	}
	if got := list(t, filepath.Dir(path)); !slices.Equal(got, []string{"app.db"}) {
		t.Errorf("left behind: %q", got)
	}
	hold(t, path)
	if got := attempt(); got != "fine" {
		t.Errorf("a stranger's capture of a database in use said %q", got)
	}
}

func TestFilesThatAreNoDatabase(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	must(t, os.WriteFile(text, []byte(strings.Repeat("not a database\n", 1000)), 0o644))
	for _, test := range []struct{ path, says, hint string }{
		{filepath.Join(dir, "missing.db"), "no such file", "check the path"},
		{dir, "not a regular file", "path of the database file"},
		{text, "not a SQLite database", "check the path"},
	} {
		_, err := live(test.path).Capture(t.Context(), nil)
		mustHint(t, err, test.says, test.hint)
		findings, err := live(test.path).Diagnose(t.Context())
		must(t, err)
		if len(findings) != 1 || findings[0].Severity != source.Fails || !strings.Contains(findings[0].Message, test.says) ||
			!strings.Contains(findings[0].Fix, test.hint) {
			t.Errorf("findings: %v", findings)
		}
	}
	if _, err := live(filepath.Join(dir, "missing.db")).Capture(t.Context(), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestOddPathsAndAnEmptyDatabase(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a b?mode=memory&x=%41#é")
	must(t, os.Mkdir(dir, 0o755))
	path := filepath.Join(dir, "app.db")
	stock(t, path, ledger)
	mustReturn(t, backUp(t, path))
	link := filepath.Join(t.TempDir(), "link.db")
	must(t, os.Symlink(path, link))
	mustReturn(t, backUp(t, link))

	empty := filepath.Join(t.TempDir(), "empty.db")
	must(t, os.WriteFile(empty, nil, 0o644))
	mustReturn(t, backUp(t, empty))
	findings, err := live(empty).Diagnose(t.Context())
	must(t, err)
	if !slices.ContainsFunc(findings, func(f source.Finding) bool {
		return f.Severity == source.Warns && strings.Contains(f.Message, "empty database")
	}) {
		t.Errorf("findings: %v", findings)
	}
}

func TestDiagnose(t *testing.T) {
	severities := func(findings []source.Finding) string {
		var words []string
		for _, finding := range findings {
			words = append(words, string(finding.Severity)+": "+finding.Message)
		}
		return strings.Join(words, "\n")
	}
	t.Run("locked", func(t *testing.T) {
		path := create(t, "delete", ledger)
		run(t, hold(t, path), "BEGIN EXCLUSIVE")
		findings, err := sqlite.New(sqlite.Options{Path: path, MaxLock: time.Millisecond}).Diagnose(t.Context())
		must(t, err)
		if got := severities(findings); !strings.HasPrefix(got, "warns: ") || !strings.Contains(got, "locked") {
			t.Error(got)
		}
	})
	t.Run("too large for rollback mode", func(t *testing.T) {
		path := create(t, "delete", ledger)
		findings, err := sqlite.New(sqlite.Options{Path: path, MaxLock: time.Millisecond}).Diagnose(t.Context())
		must(t, err)
		if got := severities(findings); !strings.Contains(got, "warns: app.db is in rollback-journal mode") {
			t.Error(got)
		}
	})
	t.Run("hot journal", func(t *testing.T) {
		path := create(t, "delete", ledger)
		db := hold(t, path)
		run(t, db, "PRAGMA cache_size=1")
		run(t, db, "BEGIN")
		run(t, db, "UPDATE noise SET b = zeroblob(3000)")
		findings, err := live(crash(t, path, "-journal")).Diagnose(t.Context())
		must(t, err)
		if got := severities(findings); !strings.HasPrefix(got, "fails: ") || !strings.Contains(got, "hot journal") {
			t.Error(got)
		}
	})
	t.Run("a huge log", func(t *testing.T) {
		path := create(t, "wal", ledger)
		hold(t, path)
		// SQLite ignores what follows the valid frames.
		must(t, os.Truncate(path+"-wal", 300<<20))
		findings, err := live(path).Diagnose(t.Context())
		must(t, err)
		if got := severities(findings); !strings.Contains(got, "warns: the write-ahead log") {
			t.Error(got)
		}
	})
}
