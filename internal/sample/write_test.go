package sample_test

import (
	"bytes"
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"holdfast/internal/sample"
	"holdfast/internal/testbed"
)

// query runs the stock sqlite3.
func query(t *testing.T, path, sql string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "sqlite3", path, sql).CombinedOutput()
	if err != nil {
		t.Fatalf("sqlite3: %v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

func TestWrite(t *testing.T) {
	server := testbed.Postgres(t, 15, testbed.ServerOptions{})
	create(t, server, "sample", sample.Options{Size: small})
	path := filepath.Join(t.TempDir(), "auth.db")
	if err := sample.CreateSQLite(path, sample.Options{Size: small}); err != nil {
		t.Fatal(err)
	}
	numbers := map[string]string{
		"operations":        "SELECT count(*) FROM app.operations",
		"writes to users":   "SELECT count(*) FROM app.users WHERE profile ? 'writes' AND updated_at > clock_timestamp() - interval '1 hour'",
		"events by default": "SELECT count(*) FROM app.events_default",
		"large objects":     "SELECT count(*) FROM pg_largeobject_metadata",
		"snapshot numbers":  "SELECT last_value FROM app.snapshot_numbers",
	}
	before := map[string]string{}
	for name, sql := range numbers {
		before[name] = server.Value(t, "sample", sql)
	}
	if err := sample.Write(t.Context(), server.URL("sample"), path, sample.WriteOptions{Rate: 1000, Count: 30}); err != nil {
		t.Fatal(err)
	}
	for name, sql := range numbers {
		if after := server.Value(t, "sample", sql); after == before[name] {
			t.Errorf("%s: %s before and after", name, after)
		}
	}
	if got := query(t, path, "SELECT sum(visits) FROM accounts"); got != "30" {
		t.Errorf("%s visits, not 30", got)
	}
	if got := query(t, path, "PRAGMA integrity_check"); got != "ok" {
		t.Error(got)
	}
}

func TestWriteEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "auth.db")
	if err := sample.CreateSQLite(path, sample.Options{Size: small}); err != nil {
		t.Fatal(err)
	}
	t.Run("well with its context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := sample.Write(ctx, "", path, sample.WriteOptions{}); err != nil {
			t.Error(err)
		}
	})
	t.Run("with an error when the database is not there", func(t *testing.T) {
		if err := sample.Write(t.Context(), "host="+t.TempDir()+" user=nobody", path, sample.WriteOptions{}); err == nil {
			t.Error("no error")
		}
	})
}

func TestDamage(t *testing.T) {
	server := testbed.Postgres(t, 15, testbed.ServerOptions{})
	create(t, server, "sample", sample.Options{Size: small})
	const operations, titles = "SELECT count(*) FROM app.operations", "SELECT md5(string_agg(title, ',' ORDER BY id)) FROM app.notes"
	countBefore, titlesBefore := server.Value(t, "sample", operations), server.Value(t, "sample", titles)
	what, err := sample.Damage(t.Context(), server.URL("sample"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(what, "deleted operation "+countBefore) {
		t.Errorf("told %q, but the last of %s operations is the one", what, countBefore)
	}
	if server.Value(t, "sample", operations) == countBefore || server.Value(t, "sample", titles) == titlesBefore {
		t.Error("nothing is damaged")
	}
}

func TestCreateSQLite(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "auth.db")
	options := sample.Options{Size: 10_000_000, Seed: 3}
	if err := sample.CreateSQLite(path, options); err != nil {
		t.Fatal(err)
	}
	for what, test := range map[string]struct{ sql, want string }{
		"WAL mode":              {"PRAGMA journal_mode", "wal"},
		"integrity":             {"PRAGMA integrity_check", "ok"},
		"full text is searched": {"SELECT count(*) >= 1 FROM messages WHERE messages MATCH (SELECT '\"' || substr(subject, 1, instr(subject, ' ') - 1) || '\"' FROM messages LIMIT 1)", "1"},
		"accounts and sessions": {"SELECT (SELECT count(*) FROM accounts) > 50 AND (SELECT count(*) FROM sessions) > 50", "1"},
		"blobs":                 {"SELECT max(length(avatar)) > 4096 FROM accounts", "1"},
		"no rowid":              {"SELECT count(*) FROM sqlite_schema WHERE name = 'settings' AND sql LIKE '%WITHOUT ROWID%'", "1"},
		"all types":             {"SELECT count(DISTINCT typeof(value)) FROM settings", "5"},
	} {
		t.Run(what, func(t *testing.T) {
			if got := query(t, path, test.sql); got != test.want {
				t.Errorf("%s, not %s", got, test.want)
			}
		})
	}
	t.Run("leaves nothing beside it", func(t *testing.T) {
		if names, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(names) != 1 {
			t.Errorf("%v, %v", names, err)
		}
	})
	t.Run("is the same for a seed", func(t *testing.T) {
		again := filepath.Join(dir, "again.db")
		if err := sample.CreateSQLite(again, options); err != nil {
			t.Fatal(err)
		}
		if a, b := query(t, path, ".dump"), query(t, again, ".dump"); a != b {
			t.Error(difference([]byte(a), []byte(b)))
		}
	})
	t.Run("takes a relative path of any letters", func(t *testing.T) {
		t.Chdir(dir)
		if err := sample.CreateSQLite("odd ?name#%41.db", sample.Options{Size: small}); err != nil {
			t.Fatal(err)
		}
		if got := query(t, filepath.Join(dir, "odd ?name#%41.db"), "PRAGMA integrity_check"); got != "ok" {
			t.Error(got)
		}
	})
	t.Run("refuses one that is there", func(t *testing.T) {
		before := query(t, path, ".dump")
		if err := sample.CreateSQLite(path, options); err == nil {
			t.Error("no error")
		}
		if !bytes.Equal([]byte(before), []byte(query(t, path, ".dump"))) {
			t.Error("the file that was there has changed")
		}
	})
}
