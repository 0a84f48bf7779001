package postgres

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"time"

	"holdfast/internal/source"
	"holdfast/internal/source/postgres/pgclient"
	"holdfast/internal/source/postgres/pgdump"
)

// globalsTime bounds pg_dumpall --globals-only, which reads a few catalogs.
const globalsTime = 10 * time.Minute

// readGlobals asks pg_dumpall for roles and tablespaces.
func (c *capture) readGlobals(ctx context.Context) ([]byte, error) {
	return readGlobals(ctx, c.site, c.dumpall, c.server, c.record.Passwords)
}

func readGlobals(ctx context.Context, site pgclient.Site, dumpall pgclient.Program, server pgclient.Params, passwords bool) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, globalsTime)
	defer cancel()
	database := server["dbname"]
	if strings.Contains(database, "=") || strings.HasPrefix(database, "postgres://") || strings.HasPrefix(database, "postgresql://") {
		database = "dbname=" + pgclient.QuoteKeyword(database) // or it would be taken for a connection string
	}
	args := []string{"--globals-only", "--encoding=UTF8", "--no-password", "--database=" + database}
	if !passwords {
		args = append(args, "--no-role-passwords")
	}
	var out bytes.Buffer
	said := &pgclient.Tail{}
	process, err := site.Start(ctx, pgclient.Command{Path: dumpall.Path, Args: args, Params: server, Stdout: &out, Stderr: said})
	if err != nil {
		return nil, fmt.Errorf("read the globals: %w", err)
	}
	if err := process.Wait(); err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("read the globals: %w", context.Cause(ctx))
		}
		return nil, fmt.Errorf("read the globals: %w", explainDump("pg_dumpall", said.String(), err, server, ""))
	}
	if !bytes.Contains(out.Bytes(), []byte("\n-- PostgreSQL database cluster dump complete\n")) {
		return nil, fmt.Errorf("read the globals: %w", pgdump.ErrTruncated)
	}
	return out.Bytes(), nil
}

// withoutKeys drops the lines of \restrict, whose random key differs from run to run.
func withoutKeys(script []byte) []byte {
	var kept []byte
	for line := range bytes.Lines(script) {
		if !bytes.HasPrefix(line, []byte(`\restrict `)) && !bytes.HasPrefix(line, []byte(`\unrestrict `)) {
			kept = append(kept, line...)
		}
	}
	return kept
}

func (c *capture) globalsFacts() ([]source.Fact, error) { return roleFacts(c.globals) }
