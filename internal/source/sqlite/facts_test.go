package sqlite_test

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/source"
)

// every is one database with every kind of table and value that SQLite can hold.
const every = `
	PRAGMA user_version=42; PRAGMA application_id=77;
	CREATE TABLE plain(a, b);
	CREATE TABLE empty(a);
	CREATE TABLE dated(d DATE, dt DATETIME, ts TIMESTAMP, yes BOOLEAN);
	INSERT INTO dated VALUES ('2020-01-01', '2020-01-01 00:00:00', 1577836800, 2), ('', 'never', 1.5, 'maybe');
	CREATE TABLE keyed(k TEXT PRIMARY KEY, v ANY) WITHOUT ROWID;
	INSERT INTO keyed VALUES ('one', 1), ('two', x'0002');
	CREATE TABLE strictly(i INTEGER, r REAL, t TEXT, b BLOB, a ANY) STRICT;
	INSERT INTO strictly VALUES (1, 2, '3', x'34', 5.0);
	CREATE TABLE derived(a INT, v INT AS (a * 2) VIRTUAL, s TEXT AS ('<' || a || '>') STORED, b INT AS (a + 1));
	INSERT INTO derived(a) VALUES (1), (2);
	CREATE TABLE shadowed(rowid TEXT, _ROWID_ TEXT, oid TEXT);
	INSERT INTO shadowed VALUES ('a', 'b', 'c');
	CREATE TABLE half(rowid TEXT, b);
	INSERT INTO half VALUES ('a', 'b');
	CREATE TABLE counted(id INTEGER PRIMARY KEY AUTOINCREMENT, t TEXT UNIQUE);
	INSERT INTO counted(t) VALUES ('x'), ('y');
	CREATE TABLE "we""ird ' name
é"("co""l ' umn" TEXT, "" INT, "select" INT);
	INSERT INTO "we""ird ' name
é" VALUES ('v', 1, 2);
	CREATE VIRTUAL TABLE docs USING fts5(body);
	INSERT INTO docs VALUES ('the quick brown fox'), ('jumps');
	CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1);
	INSERT INTO boxes VALUES (1, 0, 10);
	CREATE VIEW seen AS SELECT a FROM plain;
	CREATE TRIGGER watch AFTER INSERT ON plain BEGIN DELETE FROM empty; END;
	CREATE INDEX expressed ON plain(typeof(a)) WHERE b IS NOT NULL;
	ANALYZE;`

func TestEveryKindOfTable(t *testing.T) {
	for _, encoding := range []string{"UTF-8", "UTF-16le"} {
		for _, journal := range []string{"wal", "delete"} {
			t.Run(encoding+" "+journal, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "app.db")
				stock(t, path, "PRAGMA encoding='"+encoding+"'; PRAGMA journal_mode="+journal+";"+every)
				db := hold(t, path)
				for _, value := range []any{
					nil, 0, -1, int64(math.MaxInt64), int64(math.MinInt64), 0.0, math.Copysign(0, -1), 0.1, 5e-324,
					math.Inf(1), math.Inf(-1), math.NaN(), "", "a\x00b", []byte{}, []byte{0}, strings.Repeat("é", 1<<20),
					make([]byte, 2<<20),
				} {
					if _, err := db.Exec("INSERT INTO plain VALUES (?, ?)", value, 1); err != nil {
						t.Fatal(err)
					}
				}
				run(t, db, "INSERT INTO plain VALUES (CAST(x'fffe80' AS TEXT), 'not UTF-8')")
				stored := backUp(t, path)
				restored, facts := mustReturn(t, stored)
				for name, rows := range map[string]int64{
					"plain": 19, "empty": 0, "dated": 2, "keyed": 2, "strictly": 1, "derived": 2, "shadowed": 1,
					"half": 1, "counted": 2, "sqlite_sequence": 1, "we\"ird ' name\né": 1, "docs_content": 2,
					"boxes_node": 1, "sqlite_stat1": 15,
				} {
					if got := find(t, facts, "table", name).Rows; got != rows {
						t.Errorf("table %s: %d rows instead of %d", name, got, rows)
					}
				}
				for _, entry := range []string{
					"table plain", "view seen", "trigger watch", "index expressed", "table docs",
					"index sqlite_autoindex_counted_1",
				} {
					find(t, facts, "schema", entry)
				}
				for property, want := range map[string]string{
					"user_version": "42", "application_id": "77", "encoding": encoding,
				} {
					if got := stored.Facts.Properties[property]; got != want {
						t.Errorf("%s is %q", property, got)
					}
				}
				if got := stock(t, restored, "PRAGMA integrity_check; SELECT count(*) FROM docs('fox'); PRAGMA user_version"); got != "ok\n1\n42" {
					t.Errorf("the stock program says %q", got)
				}
			})
		}
	}
}

// TestDigestsAreStable pins the encoding: facts of old backups are compared with what later releases read.
func TestDigestsAreStable(t *testing.T) {
	path := create(t, "delete", `CREATE TABLE t(a DATETIME, b); INSERT INTO t VALUES
		(1, NULL), (1.0e0, 'text'), ('2020-01-01', x''), (CAST(x'610062' AS TEXT), x'0001'), (-9223372036854775808, 9e999)`)
	got := find(t, backUp(t, path).Facts, "table", "t")
	want := source.Fact{
		Class: "table", Name: "t", Rule: source.Exact, Rows: 5, Bytes: 111,
		Digest: "628a5ba0fd781316b9f1dfd40420c3101d0aa3b39486eab97d3f761cbdd460fc",
	}
	if got != want {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// TestDigestsTellApart changes one thing at a time.
func TestDigestsTellApart(t *testing.T) {
	seen := map[string]string{}
	for _, rows := range []string{
		"(1, '1')", "(1, 1)", "(1, 1.5)", "(x'31', 1)", "(1, NULL)", "(NULL, 1)", "('', 1)", "(x'', 1)",
		"('ab', 'c')", "('a', 'bc')", "('2020-01-01', 1)", "('2020-01-01 00:00:00', 1)", "(1, 1), (1, 1)",
	} {
		path := create(t, "delete", "CREATE TABLE t(a DATETIME, b); INSERT INTO t VALUES "+rows)
		digest := find(t, backUp(t, path).Facts, "table", "t").Digest
		if other := seen[digest]; other != "" {
			t.Errorf("%s and %s have one digest", other, rows)
		}
		seen[digest] = rows
	}
}

// rewrite changes the stored schema, which lets a test use what only an application could have registered.
func rewrite(from, to string) string {
	return fmt.Sprintf("PRAGMA writable_schema=ON; UPDATE sqlite_schema SET sql = replace(sql, '%s', '%s');", from, to)
}

func TestWhatOnlyTheApplicationHas(t *testing.T) {
	path := create(t, "wal", `
		CREATE TABLE sorted(a TEXT COLLATE NOCASE, b);
		CREATE INDEX by_a ON sorted(a, b);
		INSERT INTO sorted VALUES ('x', 1), ('Y', 2);
		CREATE TABLE keyed(a TEXT COLLATE NOCASE PRIMARY KEY) WITHOUT ROWID;
		INSERT INTO keyed VALUES ('x'), ('Y');
		CREATE TABLE derived(a, v AS (abs(a)), s AS (abs(a) + 1) STORED, CHECK (abs(a) > 0));
		INSERT INTO derived(a) VALUES (-1);
		CREATE INDEX expressed ON derived(abs(a));
		CREATE VIRTUAL TABLE old USING fts4(body);
		INSERT INTO old VALUES ('the quick brown fox');
		CREATE VIRTUAL TABLE cut USING fts5(body, tokenize = 'ascii');
		INSERT INTO cut VALUES ('the quick brown fox');
		CREATE TABLE good(a);
		INSERT INTO good VALUES (1);
		`+rewrite("NOCASE", "HOUSE")+rewrite("abs(", "applied(")+rewrite("ascii", "chinese"))
	stored := backUp(t, path)
	for name, rows := range map[string]int64{"sorted": 2, "derived": 1, "good": 1, "old_content": 1, "cut_content": 1} {
		if got := find(t, stored.Facts, "table", name); got.Rows != rows || got.Rule != source.Exact {
			t.Errorf("table %s: %+v", name, got)
		}
	}
	if got := find(t, stored.Facts, "table", "keyed"); got.Rule != source.Listed {
		t.Errorf("table keyed: %+v", got)
	}
	if notes := strings.Join(stored.Facts.Notes, "\n"); !strings.Contains(notes, "table keyed is compared as part of the image only") {
		t.Errorf("notes: %s", notes)
	}
	_, facts := mustReturn(t, stored)
	notes := strings.Join(facts.Notes, "\n")
	for _, table := range []string{"sorted", "keyed", "derived"} {
		if !strings.Contains(notes, "the integrity of table "+table+" was not checked") {
			t.Errorf("nothing is said of %s: %s", table, notes)
		}
	}
	findings, err := live(path).Diagnose(t.Context())
	must(t, err)
	if !strings.Contains(fmt.Sprint(findings), "table keyed is compared as part of the image only") {
		t.Errorf("findings: %v", findings)
	}
}

func TestForeignKeyViolationsAreNoted(t *testing.T) {
	path := create(t, "wal", `CREATE TABLE parent(id INTEGER PRIMARY KEY);
		CREATE TABLE child(p REFERENCES parent); INSERT INTO child VALUES (1), (2)`)
	_, facts := mustReturn(t, backUp(t, path))
	if len(facts.Notes) != 1 || !strings.Contains(facts.Notes[0], "2 rows violate a foreign key") {
		t.Errorf("notes: %q", facts.Notes)
	}
}

// spoil overwrites the root page of a table or index.
func spoil(t *testing.T, path, name string) {
	t.Helper()
	var page, size int64
	answer := stock(t, path, "SELECT rootpage FROM sqlite_schema WHERE name='"+name+"'; PRAGMA page_size")
	if _, err := fmt.Sscan(answer, &page, &size); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	must(t, err)
	defer file.Close()
	_, err = file.WriteAt([]byte(strings.Repeat("\xa5", 200)), (page-1)*size)
	must(t, err)
}
