package sample

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"holdfast"
)

var (
	//go:embed sql/roles.sql
	rolesSQL string
	//go:embed sql/tables.sql
	tablesSQL string
	//go:embed sql/rows.sql
	rowsSQL string
	//go:embed sql/objects.sql
	objectsSQL string
	//go:embed sql/since14.sql
	since14SQL string
)

// firstObject is the identifier of the first large object; they are numbered so that a seed gives the same ones.
const firstObject = 900_000

// CreateDatabase makes the application's database at url, as a superuser. A database that does not exist is created
// in UTF-8; one that exists must be in UTF-8 and without the application's schema. The application's roles are
// created in the cluster unless they are there.
func CreateDatabase(ctx context.Context, url string, options Options) error {
	conn, err := openDatabase(ctx, url)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := checkEmpty(ctx, conn); err != nil {
		return err
	}
	major, err := serverMajor(conn)
	if err != nil {
		return err
	}
	extensions, err := createExtensions(ctx, conn)
	if err != nil {
		return err
	}
	steps := []struct{ what, sql string }{{"roles", rolesSQL}, {"tables", tablesSQL}, {"rows", rowsSQL}}
	for _, step := range steps {
		if err := run(ctx, conn, step.what, step.sql); err != nil {
			return err
		}
	}
	if err := loadAll(ctx, conn, url, options); err != nil {
		return err
	}
	if err := createObjects(ctx, conn, options); err != nil {
		return err
	}
	if err := run(ctx, conn, "objects", objectsSQL); err != nil {
		return err
	}
	if err := useExtensions(ctx, conn, extensions); err != nil {
		return err
	}
	if major >= 14 {
		if err := run(ctx, conn, "objects of 14", since14SQL); err != nil {
			return err
		}
	}
	// Statistics, so that nothing starts to analyse in the background while somebody measures.
	return run(ctx, conn, "statistics", "VACUUM (ANALYZE)")
}

// run executes statements one after another.
func run(ctx context.Context, conn *pgx.Conn, what, sql string) error {
	if _, err := conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
		var failure *pgconn.PgError
		if errors.As(err, &failure) && failure.Where != "" {
			return fmt.Errorf("create %s: %w (%s)", what, err, failure.Where)
		}
		return fmt.Errorf("create %s: %w", what, err)
	}
	return nil
}

// connect opens a session whose meaning does not depend on what the database or role sets.
func connect(ctx context.Context, url, database string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("%w: read the database's address: %w", holdfast.ErrUsage, err)
	}
	if database != "" {
		config.Database = database
	}
	config.RuntimeParams["application_name"] = "sampleapp"
	config.RuntimeParams["timezone"] = "UTC"
	config.RuntimeParams["search_path"] = ""
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connect to the sample database: %w", err)
	}
	return conn, nil
}

// openDatabase connects, and creates the database first if that is what is missing.
func openDatabase(ctx context.Context, url string) (*pgx.Conn, error) {
	conn, err := connect(ctx, url, "")
	var failure *pgconn.PgError
	if err == nil || !errors.As(err, &failure) || failure.Code != "3D000" {
		return conn, err
	}
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("%w: read the database's address: %w", holdfast.ErrUsage, err)
	}
	admin, err := connect(ctx, url, "postgres")
	if err != nil {
		return nil, err
	}
	defer admin.Close(context.WithoutCancel(ctx))
	create := fmt.Sprintf("CREATE DATABASE %s TEMPLATE template0 ENCODING 'UTF8'", pgx.Identifier{config.Database}.Sanitize())
	if _, err := admin.Exec(ctx, create); err != nil {
		return nil, fmt.Errorf("create database %s: %w", config.Database, err)
	}
	return connect(ctx, url, "")
}

func checkEmpty(ctx context.Context, conn *pgx.Conn) error {
	var encoding string
	var taken bool
	err := conn.QueryRow(ctx, "SELECT current_setting('server_encoding'), EXISTS (SELECT FROM pg_namespace WHERE nspname = 'app')").
		Scan(&encoding, &taken)
	if err != nil {
		return fmt.Errorf("look at the sample database: %w", err)
	}
	if encoding != "UTF8" {
		return holdfast.WithHint(fmt.Errorf("the sample database is in %s, its text needs UTF8", encoding),
			"name a database that does not exist: it is then created in UTF8")
	}
	if taken {
		return holdfast.WithHint(errors.New("the sample database has a schema app already"), "name a database that does not exist")
	}
	return nil
}

func serverMajor(conn *pgx.Conn) (int, error) {
	text := conn.PgConn().ParameterStatus("server_version")
	end := 0
	for end < len(text) && text[end] >= '0' && text[end] <= '9' {
		end++
	}
	major, err := strconv.Atoi(text[:end])
	if err != nil {
		return 0, fmt.Errorf("read the server's version %q: %w", text, err)
	}
	return major, nil
}

// createExtensions installs up to two of the extensions the application can use, of those the server has.
func createExtensions(ctx context.Context, conn *pgx.Conn) ([]string, error) {
	const query = `SELECT name FROM pg_available_extensions
		WHERE name IN ('pg_trgm', 'hstore', 'pgcrypto', 'citext', 'btree_gin', 'fuzzystrmatch', 'cube')
		ORDER BY array_position(ARRAY['pg_trgm', 'hstore', 'pgcrypto', 'citext', 'btree_gin', 'fuzzystrmatch', 'cube'], name::text)
		LIMIT 2`
	found, err := conn.Query(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("list extensions: %w", err)
	}
	names, err := pgx.CollectRows(found, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list extensions: %w", err)
	}
	for _, name := range names {
		if err := run(ctx, conn, "extension "+name, "CREATE EXTENSION IF NOT EXISTS "+name+" SCHEMA public"); err != nil {
			return nil, err
		}
	}
	return names, nil
}

// useExtensions makes objects that depend on extensions.
func useExtensions(ctx context.Context, conn *pgx.Conn, names []string) error {
	uses := map[string]string{
		"pg_trgm": `CREATE INDEX users_name_trigrams ON app.users USING gin ("displayName" public.gin_trgm_ops)`,
		"hstore": `CREATE TABLE app.labels (id integer PRIMARY KEY, pairs public.hstore);
			INSERT INTO app.labels VALUES (1, '"a b"=>"it''s \\ \"x\"", c=>NULL'), (2, ''), (3, NULL)`,
	}
	for _, name := range names {
		if err := run(ctx, conn, "objects of "+name, uses[name]); err != nil {
			return err
		}
	}
	return nil
}

// loadAll fills the big tables over two sessions: a server process works on one while the other's rows are made.
func loadAll(ctx context.Context, conn *pgx.Conn, url string, options Options) error {
	second, err := connect(ctx, url, "")
	if err != nil {
		return err
	}
	defer second.Close(context.WithoutCancel(ctx))
	loader := loader{options, newProse(options)}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return loader.operations(ctx, conn) })
	group.Go(func() error {
		for _, load := range []func(context.Context, *pgx.Conn) error{loader.users, loader.notes, loader.snapshots, loader.events} {
			if err := load(ctx, second); err != nil {
				return err
			}
		}
		return nil
	})
	return group.Wait()
}

// createObjects makes large objects: an empty one, text, and binary of several pages.
func createObjects(ctx context.Context, conn *pgx.Conn, options Options) error {
	random := options.random("large objects")
	if err := run(ctx, conn, "large objects", fmt.Sprintf(`SELECT lo_create(%[1]d);
		SELECT lo_from_bytea(%[1]d + 1, convert_to(E'text\r\n\\.\nCOPY x FROM stdin;\n', 'UTF8'));
		COMMENT ON LARGE OBJECT %[1]d IS 'An empty one';
		ALTER LARGE OBJECT %[1]d OWNER TO sample_owner;
		GRANT SELECT ON LARGE OBJECT %[1]d TO "Sample Reader";`, firstObject)); err != nil {
		return err
	}
	left := options.scale(fullObjects, 100_000)
	var data []byte
	for oid := firstObject + 2; left > 0; oid++ {
		data = appendNoise(data[:0], random, 1+random.IntN(60_000))
		if _, err := conn.Exec(ctx, "SELECT lo_from_bytea($1, $2)", oid, data); err != nil {
			return fmt.Errorf("create large object %d: %w", oid, err)
		}
		left -= int64(len(data))
	}
	return nil
}
