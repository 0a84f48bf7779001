package sample_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"holdfast/internal/sample"
	"holdfast/internal/testbed"
)

const small = 2_000_000

// create makes a sample database called name.
func create(t *testing.T, server *testbed.Server, name string, options sample.Options) {
	t.Helper()
	if err := sample.CreateDatabase(t.Context(), server.URL(name), options); err != nil {
		t.Fatal(err)
	}
}

// dump runs the stock pg_dump, and leaves out the lines that hold a random word.
func dump(t *testing.T, server *testbed.Server, name string) []byte {
	t.Helper()
	command := exec.CommandContext(t.Context(), filepath.Join(testbed.ClientDir(t, server.Major), "pg_dump"), server.URL(name))
	var errors bytes.Buffer
	command.Stderr = &errors
	out, err := command.Output()
	if err != nil {
		t.Fatalf("pg_dump: %v\n%s", err, errors.Bytes())
	}
	lines := bytes.SplitAfter(out, []byte("\n"))
	lines = slices.DeleteFunc(lines, func(line []byte) bool {
		return bytes.HasPrefix(line, []byte(`\restrict `)) || bytes.HasPrefix(line, []byte(`\unrestrict `))
	})
	return bytes.Join(lines, nil)
}

// difference returns the first lines that differ, for a message.
func difference(a, b []byte) string {
	x, y := bytes.Split(a, []byte("\n")), bytes.Split(b, []byte("\n"))
	for i := range min(len(x), len(y)) {
		if !bytes.Equal(x[i], y[i]) {
			return fmt.Sprintf("line %d: %.200q, not %.200q", i+1, x[i], y[i])
		}
	}
	return fmt.Sprintf("%d lines, not %d", len(x), len(y))
}

func TestCreateDatabase(t *testing.T) {
	server := testbed.Postgres(t, 15, testbed.ServerOptions{})
	create(t, server, "one", sample.Options{Size: small, Seed: 7})
	first := dump(t, server, "one")

	t.Run("has about the size", func(t *testing.T) {
		if n := len(first); n < small || n > 3*small {
			t.Errorf("a dump of %d bytes for a size of %d", n, small)
		}
	})
	t.Run("is the same for a seed", func(t *testing.T) {
		create(t, server, "two", sample.Options{Size: small, Seed: 7})
		if second := dump(t, server, "two"); !bytes.Equal(first, second) {
			t.Error(difference(first, second))
		}
	})
	t.Run("is another for another seed", func(t *testing.T) {
		create(t, server, "three", sample.Options{Size: small, Seed: 8})
		if bytes.Equal(first, dump(t, server, "three")) {
			t.Error("seeds 7 and 8 give the same")
		}
	})
	t.Run("grows in proportion", func(t *testing.T) {
		create(t, server, "large", sample.Options{Size: 20_000_000})
		if n := len(dump(t, server, "large")); n < 18_000_000 || n > 24_000_000 {
			t.Errorf("a dump of %d bytes for a size of 20 MB", n)
		}
	})
	t.Run("survives stock tools", func(t *testing.T) {
		server.Exec(t, "postgres", "CREATE DATABASE restored TEMPLATE template0 ENCODING 'UTF8'",
			"ALTER DATABASE restored SET timezone = 'Europe/Berlin'")
		psql := exec.CommandContext(t.Context(), "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-o", os.DevNull, "-d", server.URL("restored"))
		psql.Stdin = bytes.NewReader(first)
		if out, err := psql.CombinedOutput(); err != nil {
			t.Fatalf("psql: %v\n%s", err, out)
		}
		// Rows may lie in another order on the pages they were restored to.
		want, have := bytes.Split(first, []byte("\n")), bytes.Split(dump(t, server, "restored"), []byte("\n"))
		slices.SortFunc(want, bytes.Compare)
		slices.SortFunc(have, bytes.Compare)
		if a, b := bytes.Join(want, []byte("\n")), bytes.Join(have, []byte("\n")); !bytes.Equal(a, b) {
			t.Error(difference(a, b))
		}
	})
	t.Run("refuses one that is there", func(t *testing.T) {
		err := sample.CreateDatabase(t.Context(), server.URL("one"), sample.Options{})
		if err == nil || !strings.Contains(err.Error(), "schema app already") {
			t.Errorf("error %v", err)
		}
		if !bytes.Equal(first, dump(t, server, "one")) {
			t.Error("the database that was there has changed")
		}
	})
	t.Run("refuses another encoding", func(t *testing.T) {
		server.Exec(t, "postgres", "CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
		err := sample.CreateDatabase(t.Context(), server.URL("latin"), sample.Options{})
		if err == nil || !strings.Contains(err.Error(), "needs UTF8") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("ends with its context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := sample.CreateDatabase(ctx, server.URL("cancelled"), sample.Options{}); err == nil {
			t.Error("no error")
		}
	})
}

// features are what the sample is for; each query must give true.
var features = []struct{ name, query string }{
	{"users with jsonb", `SELECT count(*) >= 50 AND bool_and(profile ? 'city') FROM app.users`},
	{"operations of text, jsonb and bytea", `SELECT count(*) >= 1000 AND count(note) > 0 AND count(payload) > 0 AND count(payload) < count(*) FROM app.operations`},
	{"incompressible bytea", `SELECT sum(length(image)) > 100000 AND bool_and(length(image) = image_bytes) FROM app.snapshots`},
	{"values out of line", `SELECT bool_and(pg_relation_size(reltoastrelid) > 0) FROM pg_class WHERE oid IN ('app.notes'::regclass, 'app.snapshots'::regclass)`},
	{"prose", `SELECT count(*) >= 100 AND avg(length(body)) > 200 FROM app.notes`},
	{"a partitioned table with sub-partitions", `SELECT count(*) FILTER (WHERE isleaf) >= 6 AND max(level) = 2 FROM pg_partition_tree('app.events')`},
	{"rows in every partition", `SELECT count(DISTINCT tableoid) = 6 FROM app.events`},
	{"rows in the default partition", `SELECT count(*) > 0 FROM app.events_default`},
	{"hash partitions", `SELECT count(DISTINCT tableoid) = 2 FROM app.buckets`},
	{"a dropped column", `SELECT bool_or(attisdropped) FROM pg_attribute WHERE attrelid = 'app.events_2024'::regclass`},
	{"identity columns of both kinds", `SELECT count(DISTINCT attidentity) = 3 FROM pg_attribute WHERE attrelid IN ('app.users'::regclass, 'app.operations'::regclass)`},
	{"generated columns", `SELECT count(*) >= 2 FROM pg_attribute WHERE attgenerated = 's'`},
	{"sequences, one never used", `SELECT count(*) >= 6 AND bool_or(last_value IS NULL) FROM pg_sequences`},
	{"enums and domains", `SELECT count(*) FILTER (WHERE typtype = 'e') >= 2 AND count(*) FILTER (WHERE typtype = 'd') >= 2 FROM pg_type WHERE typnamespace = 'app'::regnamespace`},
	{"composite and range types", `SELECT count(*) FILTER (WHERE typtype = 'r') >= 1 AND to_regtype('app.address') IS NOT NULL FROM pg_type WHERE typnamespace = 'app'::regnamespace`},
	{"a view and a materialised view", `SELECT count(*) FILTER (WHERE relkind = 'v') >= 2 AND count(*) FILTER (WHERE relkind = 'm' AND relispopulated) >= 1 FROM pg_class WHERE relnamespace = 'app'::regnamespace`},
	{"a materialised view that is not filled", `SELECT count(*) = 1 FROM pg_class WHERE relkind = 'm' AND NOT relispopulated`},
	{"bodies with COPY and its end", `SELECT count(*) >= 2 FROM pg_proc WHERE prosrc LIKE E'%\nCOPY % FROM stdin;\n%' AND prosrc LIKE E'%\n\\\\.\n%'`},
	{"bodies with dollar quotes", `SELECT bool_or(prosrc LIKE '%$$%') AND bool_or(prosrc LIKE '%$\_$%') AND bool_or(prosrc LIKE '%$\_X$%') FROM pg_proc`},
	{"triggers in three states", `SELECT count(DISTINCT tgenabled) = 3 FROM pg_trigger WHERE NOT tgisinternal`},
	{"foreign keys, circular too", `SELECT count(*) >= 5 FROM pg_constraint WHERE contype = 'f'`},
	{"a constraint that is not validated", `SELECT count(*) = 1 FROM pg_constraint WHERE NOT convalidated AND contype = 'c'`},
	{"an exclusion constraint", `SELECT count(*) = 1 FROM pg_constraint WHERE contype = 'x'`},
	{"GIN, BRIN and expression indexes", `SELECT bool_or(indexdef LIKE '%USING gin%') AND bool_or(indexdef LIKE '%brin%') AND bool_or(indexdef LIKE '%lower(%') FROM pg_indexes WHERE schemaname = 'app'`},
	{"an extension", `SELECT count(*) >= 1 FROM pg_extension WHERE extname <> 'plpgsql'`},
	{"large objects", `SELECT count(*) >= 4 FROM pg_largeobject_metadata`},
	{"an empty large object", `SELECT lo_get(oid) = '' FROM pg_largeobject_metadata ORDER BY oid LIMIT 1`},
	{"binary large objects of several pages", `SELECT bool_or(pages > 3) FROM (SELECT count(*) AS pages FROM pg_largeobject GROUP BY loid) l`},
	{"a large object with owner and grants", `SELECT count(*) = 1 FROM pg_largeobject_metadata WHERE lomacl IS NOT NULL`},
	{"roles", `SELECT count(*) = 4 FROM pg_roles WHERE rolname ~* 'sample|essai'`},
	{"memberships", `SELECT count(*) = 2 FROM pg_auth_members WHERE roleid::regrole::text ~ 'sample_owner|essai'`},
	{"grants with grant option, and on columns", `SELECT bool_or(relacl::text LIKE '%a*%') AND EXISTS (SELECT FROM pg_attribute WHERE attacl IS NOT NULL AND attrelid = 'app.snapshots'::regclass) FROM pg_class`},
	{"row-level security, forced too", `SELECT count(*) FILTER (WHERE relrowsecurity) = 2 AND count(*) FILTER (WHERE relforcerowsecurity) = 1 FROM pg_class`},
	{"policies", `SELECT count(*) = 3 AND bool_or(permissive = 'RESTRICTIVE') FROM pg_policies`},
	{"default privileges", `SELECT count(*) >= 3 FROM pg_default_acl`},
	{"comments on many kinds", `SELECT count(DISTINCT classoid) >= 6 FROM pg_description d WHERE objoid >= 16384`},
	{"names with spaces, quotes, upper case, newlines, other letters", `SELECT bool_or(relname ~ ' ') AND bool_or(relname ~ '"') AND bool_or(relname ~ '''') AND bool_or(relname ~ '[A-Z]') AND bool_or(relname ~ E'\n') AND bool_or(relname ~ '[^ -~]') FROM pg_class`},
	{"columns likewise", `SELECT bool_or(attname ~ E'\n') AND bool_or(attname ~ E'\t') AND bool_or(attname = 'ключ') AND bool_or(attname = 'select') FROM pg_attribute`},
	{"an empty table", `SELECT count(*) = 0 FROM app.empty`},
	{"a table without columns, with rows", `SELECT count(*) = 7 AND NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'app.nothing'::regclass AND attnum > 0) FROM app.nothing`},
	{"NULLs", `SELECT count(*) > 0 FROM app.specimens s WHERE a_text IS NULL`},
	{"NaN and infinities", `SELECT bool_or(a_numeric = 'NaN') AND bool_or(a_double = '-Infinity') AND bool_or(a_real = 'Infinity') FROM app.specimens`},
	{"infinite dates", `SELECT bool_or(a_date = 'infinity') AND bool_or(a_date = '-infinity') AND bool_or(a_timestamptz = '-infinity') FROM app.specimens`},
	{"rows full of CR, LF, tabs and backslashes", `SELECT count(*) FILTER (WHERE body LIKE E'%\r%') > 500 AND count(*) FILTER (WHERE body = E'\\.') = 1 AND count(*) FILTER (WHERE body ~ E'\t') > 500 FROM app.lines`},
	{"inheritance", `SELECT count(*) = 4 AND (SELECT count(*) = 2 FROM ONLY app.base_log) FROM app.base_log`},
	{"an unlogged table with rows", `SELECT relpersistence = 'u' AND (SELECT count(*) > 0 FROM app.cache) FROM pg_class WHERE oid = 'app.cache'::regclass`},
	{"settings of the database", `SELECT array_length(setconfig, 1) = 2 FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase WHERE datname = current_database() AND setrole = 0`},
	{"settings of roles in the database", `SELECT count(*) = 2 FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase WHERE datname = current_database() AND setrole <> 0`},
	{"another owner of the database", `SELECT datdba::regrole::text = 'sample_owner' AND datacl IS NOT NULL FROM pg_database WHERE datname = current_database()`},
}

var featuresSince14 = []struct{ name, query string }{
	{"a BEGIN ATOMIC body", `SELECT count(*) = 1 FROM pg_proc WHERE prosqlbody IS NOT NULL AND pronamespace = 'app'::regnamespace`},
	{"infinite numerics", `SELECT count(*) = 2 FROM app.specimens WHERE a_numeric IN ('Infinity', '-Infinity')`},
	{"multiranges", `SELECT count(*) = 3 FROM app.spans`},
}

func TestFeatures(t *testing.T) {
	for _, major := range testbed.Majors() {
		t.Run(fmt.Sprintf("PostgreSQL %d", major), func(t *testing.T) {
			server := testbed.Postgres(t, major, testbed.ServerOptions{})
			create(t, server, "sample", sample.Options{Size: small})
			wanted := features
			if major >= 14 {
				wanted = slices.Concat(features, featuresSince14)
			}
			for _, feature := range wanted {
				if value := server.Value(t, "sample", feature.query); value != "true" && value != "t" {
					t.Errorf("%s: %s", feature.name, value)
				}
			}
			if n := len(dump(t, server, "sample")); n < small {
				t.Errorf("a dump of %d bytes", n)
			}
		})
	}
}
