package postgres_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/sample"
	"holdfast/internal/source"
	"holdfast/internal/source/postgres"
	"holdfast/internal/testbed"
)

// shop is a database whose tables stand on much.
const shop = `
CREATE EXTENSION citext;
CREATE SCHEMA sales;
CREATE SCHEMA "Odd schema";
CREATE TYPE public.status AS ENUM ('new', 'paid', 'gone');
CREATE DOMAIN public.email AS citext CHECK (VALUE ~ '@');
CREATE FUNCTION public.positive(numeric) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT $1 > 0';
CREATE FUNCTION public.next_code() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN 'code'; END $$;
CREATE DOMAIN public.price AS numeric(10,2) CHECK (public.positive(VALUE));
CREATE TYPE public.place AS (city text, zip text);
CREATE COLLATION public.german (provider = libc, locale = 'C');
CREATE TYPE public.span AS RANGE (subtype = int);
CREATE TABLE public.users (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, mail public.email UNIQUE NOT NULL, home public.place,
	name text COLLATE public.german DEFAULT 'nobody');
INSERT INTO public.users (mail, home, name) SELECT 'u' || n || '@x.org', ROW('B'::text, n::text)::public.place, E'line\nbreak \\ ' || n FROM generate_series(1, 50) n;
CREATE TABLE sales.orders (id serial PRIMARY KEY, usr int NOT NULL REFERENCES public.users (id) ON DELETE CASCADE, state public.status NOT NULL DEFAULT 'new',
	total public.price NOT NULL, code text DEFAULT public.next_code(), ranges public.span, doubled numeric GENERATED ALWAYS AS (total * 2) STORED,
	body bytea, CONSTRAINT sane CHECK (public.positive(total)));
COMMENT ON TABLE sales.orders IS 'it''s the orders';
COMMENT ON COLUMN sales.orders.total IS 'in euro';
COMMENT ON CONSTRAINT orders_usr_fkey ON sales.orders IS 'left out';
COMMENT ON CONSTRAINT sane ON sales.orders IS 'kept';
CREATE INDEX by_state ON sales.orders (state) WHERE state <> 'gone';
CREATE INDEX by_code ON sales.orders (lower(code), public.positive(total));
CREATE STATISTICS sales.both (dependencies) ON state, usr FROM sales.orders;
INSERT INTO sales.orders (usr, state, total, body, ranges) SELECT 1 + n % 50, 'paid', n, decode(md5(n::text), 'hex'), public.span(n, n + 5) FROM generate_series(1, 500) n;
CREATE FUNCTION sales.log() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TRIGGER audit AFTER INSERT ON sales.orders FOR EACH ROW EXECUTE FUNCTION sales.log();
ALTER TABLE sales.orders ENABLE ROW LEVEL SECURITY;
ALTER TABLE sales.orders FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON sales.orders USING (usr = 1);
CREATE RULE quiet AS ON DELETE TO sales.orders WHERE OLD.id < 0 DO INSTEAD NOTHING;
CREATE ROLE reader;
GRANT SELECT ON sales.orders TO reader;
GRANT UPDATE (total) ON sales.orders TO reader;
CREATE PUBLICATION changes FOR TABLE sales.orders;
CREATE VIEW public.paid AS SELECT * FROM sales.orders WHERE state = 'paid';
CREATE MATERIALIZED VIEW public.sums AS SELECT state, sum(total) FROM sales.orders GROUP BY 1;
CREATE TABLE public.items (id int, ord int REFERENCES sales.orders (id), num int DEFAULT nextval('sales.orders_id_seq'));
INSERT INTO public.items (id, ord) SELECT n, n FROM generate_series(1, 20) n;
CREATE TABLE public.events (at date NOT NULL, what text, PRIMARY KEY (at, what)) PARTITION BY RANGE (at);
CREATE TABLE public.events_old PARTITION OF public.events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01') PARTITION BY LIST (what);
CREATE TABLE public.events_old_a PARTITION OF public.events_old FOR VALUES IN ('a');
CREATE TABLE sales.events_new PARTITION OF public.events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE INDEX ON public.events (what);
INSERT INTO public.events SELECT '2024-01-01'::date + n, 'a' FROM generate_series(1, 100) n;
INSERT INTO public.events SELECT '2025-01-01'::date + n, 'b' FROM generate_series(1, 70) n;
CREATE TABLE "Odd schema"."Odd ""table" ("a b" int, "ß" text);
INSERT INTO "Odd schema"."Odd ""table" VALUES (1, 'x'), (2, NULL);
CREATE TABLE "Odd schema".users (n int);
CREATE TABLE public.base (n int);
CREATE TABLE public.heir (m int) INHERITS (public.base);
INSERT INTO public.heir VALUES (1, 2);
CREATE TABLE public.nothing ();
INSERT INTO public.nothing DEFAULT VALUES;
CREATE FUNCTION public.ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$;
CREATE EVENT TRIGGER tell ON ddl_command_end EXECUTE FUNCTION public.ddl();
SELECT lo_from_bytea(4711, 'large');`

func withShop(t *testing.T, major int) (*testbed.Server, source.Stored) {
	t.Helper()
	server := testbed.Postgres(t, major, testbed.ServerOptions{})
	server.Exec(t, "postgres", `CREATE DATABASE app`)
	server.Exec(t, "app", shop)
	return server, capture(t, options(t, server.URL("app")))
}

func openTables(t testing.TB, server *testbed.Server, observe holdfast.Observer, tables ...string) *postgres.Tables {
	t.Helper()
	p, err := postgres.OpenTables(t.Context(), postgres.TableTarget{
		Target: postgres.Target{URL: holdfast.NewSecret(server.URL("app")), Database: "app", ID: "abcdefghjk", Now: time.Date(2026, 11, 22, 3, 4, 5, 0, time.UTC), BinDirs: binDirs(t)},
		Tables: tables,
	}, observe)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return p
}

// bringTables restores, compares and commits.
func bringTables(t testing.TB, p *postgres.Tables, stored source.Stored) (where string, checked int) {
	t.Helper()
	if err := p.Restore(t.Context(), stored); err != nil {
		t.Fatalf("restore: %v (hint: %s)", err, holdfast.Hint(err))
	}
	restored, err := p.Check(t.Context())
	if err != nil {
		t.Fatalf("check: %v (hint: %s)", err, holdfast.Hint(err))
	}
	want := p.Selected(stored.Facts.Facts)
	for _, d := range source.Compare(want, restored.Facts) {
		t.Errorf("%s", d)
	}
	where, err = p.Commit(t.Context())
	if err != nil {
		t.Fatalf("commit: %v (hint: %s)", err, holdfast.Hint(err))
	}
	if err := p.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	return where, len(want)
}

const restoredSchema = "restored_20261122t030405z"

func TestOneTable(t *testing.T) {
	for _, major := range []int{13, 15, 18} {
		t.Run(fmt.Sprint(major), func(t *testing.T) {
			t.Parallel()
			server, stored := withShop(t, major)
			value := func(sql string) string { t.Helper(); return server.Value(t, "app", sql) }
			digest := func(table string) string {
				t.Helper()
				return value(`SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM ` + table + ` t`)
			}
			before := digest("sales.orders")
			server.Exec(t, "app", `DELETE FROM sales.orders WHERE id > 100 AND NOT EXISTS (SELECT FROM public.items WHERE ord = orders.id); UPDATE sales.orders SET total = 1`)
			told := &events{}
			where, checked := bringTables(t, openTables(t, server, told.observe, "orders"), stored)
			if where != fmt.Sprintf(`sales.orders in schema %s of database "app" on %s/.s.PGSQL.5432`, restoredSchema, server.Socket) {
				t.Errorf("it is %s", where)
			}
			if checked < 15 {
				t.Errorf("only %d facts were compared", checked)
			}
			if got := digest(restoredSchema + ".orders"); got != before {
				t.Errorf("the rows are not what they were")
			}
			for sql, want := range map[string]string{
				`SELECT count(*) FROM ` + restoredSchema + `.orders`: "500",
				// Its own types, functions and sequence, indexes, constraints, comments.
				`SELECT string_agg(typname, ' ' ORDER BY typname) FROM pg_type WHERE typnamespace = '` + restoredSchema + `'::regnamespace AND typtype IN ('e', 'd', 'r')`:                                            "price span status",
				`SELECT string_agg(proname, ' ' ORDER BY proname) FROM pg_proc p WHERE pronamespace = '` + restoredSchema + `'::regnamespace AND prolang <> (SELECT oid FROM pg_language WHERE lanname = 'internal')`: "next_code positive",
				`SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class WHERE relnamespace = '` + restoredSchema + `'::regnamespace AND relkind IN ('i', 'S')`:                                                "by_code by_state orders_id_seq orders_pkey",
				`SELECT string_agg(conname, ' ' ORDER BY conname) FROM pg_constraint WHERE conrelid = '` + restoredSchema + `.orders'::regclass AND contype <> 'n'`:                                                   "orders_pkey sane",
				`SELECT obj_description('` + restoredSchema + `.orders'::regclass)`:                                                                                                                                   "it's the orders",
				`SELECT column_default FROM information_schema.columns WHERE table_schema = '` + restoredSchema + `' AND column_name = 'id'`:                                                                          "nextval('" + restoredSchema + ".orders_id_seq'::regclass)",
				`SELECT count(*) FROM pg_statistic_ext WHERE stxnamespace = '` + restoredSchema + `'::regnamespace`:                                                                                                   "1",
				`SELECT last_value FROM ` + restoredSchema + `.orders_id_seq`:                                                                                                                                         value(`SELECT last_value FROM sales.orders_id_seq`),
				`SELECT relrowsecurity::text || relforcerowsecurity FROM pg_class WHERE oid = '` + restoredSchema + `.orders'::regclass`:                                                                              "falsefalse",
				`SELECT count(*) FROM pg_trigger WHERE tgrelid = '` + restoredSchema + `.orders'::regclass AND NOT tgisinternal`:                                                                                      "0",
				// What was there is as it was.
				`SELECT count(*) FROM sales.orders WHERE total = 1`:                                                                                   "100",
				`SELECT count(*) FROM pg_database WHERE datname LIKE '%restoring%'`:                                                                   "0",
				`SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'restoring%'`:                                                                   "0",
				`SELECT obj_description('` + restoredSchema + `'::regnamespace, 'pg_namespace') ~ '^tables restored by holdfast from a backup of 20'`: "t",
			} {
				if got := value(sql); got != want {
					t.Errorf("%s: %q, want %q", sql, got, want)
				}
			}
			said := told.warnings()
			for _, want := range []string{
				"left out: foreign key: ALTER TABLE ONLY sales.orders ADD CONSTRAINT orders_usr_fkey FOREIGN KEY (usr) REFERENCES public.users(id) ON DELETE CASCADE",
				"left out: foreign key: ALTER TABLE ONLY public.items ADD CONSTRAINT items_ord_fkey FOREIGN KEY (ord) REFERENCES sales.orders(id)",
				"left out: trigger: CREATE TRIGGER audit", "left out: policy: CREATE POLICY own", "left out: row-level security: ALTER TABLE sales.orders ENABLE",
				"left out: row-level security: ALTER TABLE ONLY sales.orders FORCE", "left out: rule: CREATE RULE quiet", "left out: publication: ALTER PUBLICATION changes ADD TABLE",
				"left out: privilege: GRANT SELECT ON TABLE sales.orders TO reader",
			} {
				if !strings.Contains(said, want) {
					t.Errorf("it does not say %q but\n%s", want, said)
				}
			}
			if strings.Contains(said, "events") || strings.Contains(said, "users TO") {
				t.Errorf("it speaks of what does not concern the table:\n%s", said)
			}
		})
	}
}

func TestSeveralTables(t *testing.T) {
	server, stored := withShop(t, 15)
	value := func(sql string) string { t.Helper(); return server.Value(t, "app", sql) }
	restored := func(t *testing.T, tables ...string) *events {
		t.Helper()
		told := &events{}
		bringTables(t, openTables(t, server, told.observe, tables...), stored)
		t.Cleanup(func() { server.Exec(t, "app", "DROP SCHEMA "+restoredSchema+" CASCADE") })
		return told
	}
	t.Run("that belong together", func(t *testing.T) {
		restored(t, "public.users", "sales.orders", `"Odd schema"."Odd ""table"`, "nothing")
		for _, table := range []string{"users", "orders", `"Odd ""table"`, "nothing"} {
			if got := value(`SELECT count(*) FROM ` + restoredSchema + `.` + table); got == "0" {
				t.Errorf("%s is empty", table)
			}
		}
	})
	t.Run("partitioned", func(t *testing.T) {
		restored(t, "events")
		if got := value(`SELECT count(*) || ' ' || count(DISTINCT tableoid) FROM ` + restoredSchema + `.events`); got != "170 2" {
			t.Errorf("rows and partitions: %s", got)
		}
		if got := value(`SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = inhrelid WHERE relnamespace = '` + restoredSchema + `'::regnamespace AND relkind IN ('r', 'p')`); got != "3" {
			t.Errorf("%s partitions belong together", got)
		}
	})
	t.Run("a partition alone", func(t *testing.T) {
		told := restored(t, "events_old")
		if got := value(`SELECT count(*) FROM ` + restoredSchema + `.events_old`); got != "100" {
			t.Errorf("%s rows", got)
		}
		if !strings.Contains(told.warnings(), "public.events_old comes back as a table of its own, and was a partition of public.events") {
			t.Errorf("it says %s", told.warnings())
		}
	})
	t.Run("an heir and a borrower", func(t *testing.T) {
		told := restored(t, "heir", "items")
		if got := value(`SELECT n || ' ' || m FROM ` + restoredSchema + `.heir`); got != "1 2" {
			t.Errorf("row %s", got)
		}
		if !strings.Contains(told.warnings(), "public.heir comes back as a table of its own, and inherited from public.base") {
			t.Errorf("it says %s", told.warnings())
		}
		if got := value(`SELECT count(*) FROM ` + restoredSchema + `.orders_id_seq`); got != "1" {
			t.Error("the sequence that the table borrows did not come along")
		}
	})
	if got := value(`SELECT count(*) FROM pg_database WHERE datname LIKE '%restoring%'`); got != "0" {
		t.Errorf("%s staging databases are left", got)
	}
}

func TestTablesRefused(t *testing.T) {
	server, stored := withShop(t, 15)
	for name, c := range map[string]struct {
		tables         []string
		sentence, hint string
	}{
		"not there":          {[]string{"nosuch"}, `the backup of database "app" has no table nosuch`, "holdfast show"},
		"in two schemas":     {[]string{"users"}, `has a table "users" in 2 schemas`, "Odd schema.users or public.users"},
		"a view":             {[]string{"paid"}, "paid is a view", "the tables it is made of"},
		"a materialised one": {[]string{"public.sums"}, "public.sums is a materialized view", "the tables it is made of"},
		"no name":            {[]string{`"unfinished`}, "is no name of a table", "in double quotes"},
		"three parts":        {[]string{"a.b.c"}, "is no name of a table", "in double quotes"},
		"an empty name":      {[]string{""}, "is no name of a table", "in double quotes"},
		"another case":       {[]string{"public.Users"}, "has no table public.Users", "in the case that they have"},
	} {
		t.Run(name, func(t *testing.T) {
			p := openTables(t, server, ignore, c.tables...)
			err := p.Restore(t.Context(), stored)
			if !errors.Is(err, holdfast.ErrUsage) || !strings.Contains(err.Error(), c.sentence) || !strings.Contains(holdfast.Hint(err), c.hint) {
				t.Errorf("error %v, hint %q", err, holdfast.Hint(err))
			}
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("rows that were excluded", func(t *testing.T) {
		opt := options(t, server.URL("app"))
		opt.ExcludeTableData = []string{"public.items"}
		p := openTables(t, server, ignore, "items")
		err := p.Restore(t.Context(), capture(t, opt))
		if !errors.Is(err, holdfast.ErrUsage) || !strings.Contains(err.Error(), "the definition of table public.items and not its rows") {
			t.Errorf("error %v", err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("two of one name", func(t *testing.T) {
		p := openTables(t, server, ignore, "public.users", `"Odd schema".users`)
		err := p.Restore(t.Context(), stored)
		if err == nil || !strings.Contains(err.Error(), "two of the same name come from different schemas") || holdfast.Hint(err) != "restore one table at a time" {
			t.Errorf("error %v, hint %q", err, holdfast.Hint(err))
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("the live database lacks an extension", func(t *testing.T) {
		other := testbed.Postgres(t, 15, testbed.ServerOptions{})
		other.Exec(t, "postgres", "CREATE DATABASE app")
		p := openTables(t, other, ignore, "public.users")
		err := p.Restore(t.Context(), stored)
		if !errors.Is(err, holdfast.ErrUsage) || !strings.Contains(err.Error(), `the tables stand on extension citext, which database "app" has not`) ||
			holdfast.Hint(err) != `in that database: CREATE EXTENSION "citext" SCHEMA "public";` {
			t.Errorf("error %v, hint %q", err, holdfast.Hint(err))
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if got := other.Value(t, "postgres", `SELECT count(*) FROM pg_database WHERE datname LIKE '%restoring%'`); got != "0" {
			t.Errorf("%s staging databases are left", got)
		}
		// With it the table comes to a server where nothing else of the backup ever was.
		other.Exec(t, "app", "CREATE EXTENSION citext")
		bringTables(t, openTables(t, other, ignore, "public.users", "orders"), stored)
	})
	t.Run("no such database", func(t *testing.T) {
		p, err := postgres.OpenTables(t.Context(), postgres.TableTarget{Target: postgres.Target{URL: holdfast.NewSecret(server.URL("postgres")), Database: "nosuch"}, Tables: []string{"events"}}, ignore)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		err = p.Restore(t.Context(), stored)
		if !errors.Is(err, holdfast.ErrUsage) || !strings.Contains(holdfast.Hint(err), `CREATE DATABASE "nosuch"`) {
			t.Errorf("error %v, hint %q", err, holdfast.Hint(err))
		}
	})
}

// TestTableThatDiffers: rows that did not come back as they were recorded never get a final name.
func TestTableThatDiffers(t *testing.T) {
	server, stored := withShop(t, 15)
	p := openTables(t, server, ignore, "orders")
	if err := p.Restore(t.Context(), stored); err != nil {
		t.Fatal(err)
	}
	server.Exec(t, "app", `DELETE FROM restoring_abcdefghjk.orders WHERE id = 7`)
	restored, err := p.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	differences := source.Compare(p.Selected(stored.Facts.Facts), restored.Facts)
	if len(differences) != 1 || !strings.Contains(differences[0].String(), "table sales.orders: 500 rows stored, 499 restored") {
		t.Errorf("differences %v", differences)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if got := server.Value(t, "app", `SELECT count(*) FROM pg_namespace WHERE nspname ~ '^rest'`); got != "0" {
		t.Error("a schema is left")
	}
}

// TestTableLeftovers: what a killed restore of the same backup left is dropped, that of another one is named, and a schema of
// a person's own stays.
func TestTableLeftovers(t *testing.T) {
	server, stored := withShop(t, 15)
	server.Exec(t, "postgres", `CREATE DATABASE app_restoring_abcdefghjk`)
	server.Exec(t, "app", `CREATE SCHEMA restoring_abcdefghjk`, `CREATE TABLE restoring_abcdefghjk.half (n int)`, `CREATE SCHEMA restoring_0123456789`, `CREATE SCHEMA restoring_mine`,
		`COMMENT ON SCHEMA restoring_abcdefghjk IS 'holdfast restores into this schema'`, `COMMENT ON SCHEMA restoring_0123456789 IS 'holdfast restores into this schema'`,
		`CREATE SCHEMA `+restoredSchema)
	told := &events{}
	where, _ := bringTables(t, openTables(t, server, told.observe, "orders"), stored)
	if !strings.Contains(where, restoredSchema+"_2 ") {
		t.Errorf("it is %s", where)
	}
	said := told.warnings()
	for _, want := range []string{
		`schema restoring_abcdefghjk in database "app" was left by a restore that was killed: it is dropped`,
		`schema restoring_0123456789 in database "app" was left by a restore that was killed: DROP SCHEMA "restoring_0123456789" CASCADE;`,
		`database "app_restoring_abcdefghjk" was left by a restore that was killed: it is dropped`,
	} {
		if !strings.Contains(said, want) {
			t.Errorf("it does not say %q but\n%s", want, said)
		}
	}
	if got := server.Value(t, "app", `SELECT string_agg(nspname, ' ' ORDER BY nspname) FROM pg_namespace WHERE nspname ~ '^restoring'`); got != "restoring_0123456789 restoring_mine" {
		t.Errorf("left are %s", got)
	}
}

// TestEveryTableOfTheSample brings all tables of the sample application back at once, beside those that are there: whatever they
// are called and stand on.
func TestEveryTableOfTheSample(t *testing.T) {
	server := testbed.Postgres(t, 15, testbed.ServerOptions{})
	server.Exec(t, "postgres", `CREATE DATABASE app`)
	if err := sample.CreateDatabase(t.Context(), server.URL("app"), sample.Options{Size: 1_000_000, Seed: 1}); err != nil {
		t.Fatal(err)
	}
	stored := capture(t, options(t, server.URL("app")))
	var tables []string
	for _, fact := range stored.Facts.Facts {
		if fact.Class == "table" {
			tables = append(tables, fact.Name)
		}
	}
	_, checked := bringTables(t, openTables(t, server, ignore, tables...), stored)
	if len(tables) < 8 || checked < 3*len(tables) {
		t.Errorf("%d facts of %d tables", checked, len(tables))
	}
	if got := server.Value(t, "app", `SELECT count(*) FROM pg_class WHERE relkind = 'r' AND relnamespace = '`+restoredSchema+`'::regnamespace`); got != fmt.Sprint(len(tables)) {
		t.Errorf("%s tables came back, want %d", got, len(tables))
	}
}

// TestTablesOfACluster: of a backup of all databases the one is meant that is called like the target's.
func TestTablesOfACluster(t *testing.T) {
	server := testbed.Postgres(t, 15, testbed.ServerOptions{})
	server.Exec(t, "postgres", `CREATE DATABASE app`, `CREATE DATABASE other`)
	server.Exec(t, "app", `CREATE TABLE t AS SELECT 'of app' AS what`)
	server.Exec(t, "other", `CREATE TABLE t AS SELECT 'of other' AS what`)
	opt := options(t, server.URL("app"))
	opt.AllDatabases = true
	stored := capture(t, opt)
	what := `SELECT what FROM ` + restoredSchema + `.t`

	bringTables(t, openTables(t, server, ignore, "t"), stored)
	if got := server.Value(t, "app", what); got != "of app" {
		t.Errorf("the row is %q", got)
	}
	server.Exec(t, "postgres", `CREATE DATABASE third`)
	target := postgres.TableTarget{Tables: []string{"t"}, Target: postgres.Target{
		URL: holdfast.NewSecret(server.URL("third")), Database: "third", Now: time.Date(2026, 11, 22, 3, 4, 5, 0, time.UTC), BinDirs: binDirs(t)}}
	unclear, err := postgres.OpenTables(t.Context(), target, ignore)
	if err != nil {
		t.Fatal(err)
	}
	err = unclear.Restore(t.Context(), stored)
	if !errors.Is(err, holdfast.ErrUsage) || !strings.Contains(holdfast.Hint(err), "the backup holds: app, other, postgres") {
		t.Errorf("error %v, hint %q", err, holdfast.Hint(err))
	}
	if err := unclear.Close(); err != nil {
		t.Fatal(err)
	}
}
