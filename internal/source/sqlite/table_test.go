package sqlite_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/source"
	"holdfast/internal/source/sqlite"
)

// manifold has tables of every kind.
const manifold = `
CREATE TABLE people (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE COLLATE NOCASE, age INT CHECK (age > 0), upper TEXT GENERATED ALWAYS AS (upper(name)) STORED,
	virt TEXT AS (lower(name)) VIRTUAL);
WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 500) INSERT INTO people (name, age) SELECT 'p' || n, n FROM r;
DELETE FROM people WHERE id % 7 = 0 OR id > 490;
CREATE INDEX by_age ON people (age) WHERE age > 10;
CREATE INDEX "odd index" ON people (length(name), age DESC);
CREATE TABLE plain (a, b);
INSERT INTO plain (rowid, a, b) VALUES (7, 1.5, x'00ff'), (-3, NULL, 'text'), (9007199254740993, 9007199254740993, '');
CREATE TABLE keyed (k TEXT PRIMARY KEY, v) WITHOUT ROWID;
INSERT INTO keyed VALUES ('a', 1), ('b', NULL);
CREATE TABLE "Odd ""name" ("a b" TEXT, "ROWID" INT, REFERS INT REFERENCES people (id));
INSERT INTO "Odd ""name" VALUES ('x', 5, 1);
CREATE TRIGGER watch AFTER INSERT ON people BEGIN INSERT INTO plain VALUES (1, 2); END;
CREATE VIEW old_people AS SELECT * FROM people WHERE age > 60;
CREATE VIRTUAL TABLE words USING fts5(body);
INSERT INTO words VALUES ('hello world');`

func openTables(t *testing.T, path string, tell func(string), tables ...string) *sqlite.Tables {
	t.Helper()
	p, err := sqlite.OpenTables(t.Context(), sqlite.Target{Path: path, Warn: tell}, tables)
	must(t, err)
	t.Cleanup(func() { must(t, p.Close()) })
	return p
}

func TestTables(t *testing.T) {
	source1 := create(t, "wal", manifold)
	stored := backUp(t, source1)
	path := filepath.Join(t.TempDir(), "some.db")
	var told []string
	p := openTables(t, path, func(line string) { told = append(told, line) }, "PEOPLE", "plain", "keyed", `Odd "name`, "plain")
	must(t, p.Restore(t.Context(), stored))
	restored, err := p.Check(t.Context())
	must(t, err)
	want := p.Selected(stored.Facts.Facts)
	for _, d := range source.Compare(want, restored.Facts) {
		t.Error(d)
	}
	// 4 tables with their rows and definitions, 3 indexes and one of a constraint, and none of the table without row numbers.
	if len(want) < 11 {
		t.Errorf("%d facts were compared: %v", len(want), want)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is there before the commit: %v", err)
	}
	where, err := p.Commit(t.Context())
	must(t, err)
	if where != `people, plain, keyed, Odd "name: the database is now at `+path {
		t.Errorf("it is at %s", where)
	}
	must(t, p.Close())
	if got := list(t, filepath.Dir(path)); len(got) != 1 {
		t.Errorf("left behind: %q", got)
	}
	if len(told) != 1 || told[0] != "left out: trigger watch of table people" {
		t.Errorf("told %q", told)
	}
	for query, want := range map[string]string{
		"SELECT count(*) || ' ' || max(id) || ' ' || min(upper) || ' ' || max(virt) FROM people":                  "420 489 P1 p99",
		"SELECT seq FROM sqlite_sequence WHERE name = 'people'":                                                   "500",
		"SELECT group_concat(rowid, ' ') FROM (SELECT rowid FROM plain ORDER BY rowid)":                           "-3 7 9007199254740993",
		"SELECT group_concat(name, '|') FROM (SELECT name FROM sqlite_schema WHERE type = 'index' ORDER BY name)": "by_age|odd index|sqlite_autoindex_people_1",
		"SELECT count(*) FROM sqlite_schema WHERE type IN ('view', 'trigger')":                                    "0",
		"PRAGMA integrity_check":                    "ok",
		"SELECT name FROM people WHERE name = 'P5'": "p5",
	} {
		if got := strings.TrimSpace(stock(t, path, query+";")); got != want {
			t.Errorf("%s: %q, want %q", query, got, want)
		}
	}
	if ownerOf(t, path) != ownerOf(t, source1) {
		t.Errorf("the owner is %s", ownerOf(t, path))
	}
}

func TestTablesRefused(t *testing.T) {
	stored := backUp(t, create(t, "delete", manifold))
	dir := t.TempDir()
	for name, sentence := range map[string]string{
		"nosuch": `the backup has no table "nosuch"`, "old_people": "old_people is a view", "words": "words is a virtual table",
		"sqlite_sequence": "sqlite_sequence is a table of SQLite's own", "": `no table ""`,
	} {
		p := openTables(t, filepath.Join(dir, "x.db"), nil, name)
		err := p.Restore(t.Context(), stored)
		if !errors.Is(err, holdfast.ErrUsage) || !strings.Contains(err.Error(), sentence) || holdfast.Hint(err) == "" {
			t.Errorf("%q: %v, hint %q", name, err, holdfast.Hint(err))
		}
		must(t, p.Close())
	}
	taken := create(t, "delete", ledger)
	if _, err := sqlite.OpenTables(t.Context(), sqlite.Target{Path: taken}, []string{"plain"}); !errors.Is(err, fs.ErrExist) {
		t.Errorf("where a database is: %v", err)
	}
	if _, err := sqlite.OpenTables(t.Context(), sqlite.Target{Path: taken, Overwrite: true}, []string{"plain"}); !errors.Is(err, holdfast.ErrUsage) {
		t.Errorf("in place of one: %v", err)
	}
	if got := list(t, dir); len(got) != 0 {
		t.Errorf("left behind: %q", got)
	}
}

// TestATableOutOfADamagedDatabase: damage of an index, which makes a restore of the whole fail, does not keep the rows.
func TestATableOutOfADamagedDatabase(t *testing.T) {
	path := create(t, "delete", ledger)
	spoil(t, path, "memos")
	stored := backUp(t, path)
	if _, _, err := restore(t, stored); !errors.Is(err, holdfast.ErrDifference) {
		t.Fatalf("the database is not damaged: %v", err)
	}
	p := openTables(t, filepath.Join(t.TempDir(), "x.db"), nil, "ledger")
	must(t, p.Restore(t.Context(), stored))
	restored, err := p.Check(t.Context())
	must(t, err)
	want := p.Selected(stored.Facts.Facts)
	if differences := source.Compare(want, restored.Facts); len(differences) > 0 || len(want) < 3 {
		t.Errorf("differences %v of %d facts", differences, len(want))
	}
}
