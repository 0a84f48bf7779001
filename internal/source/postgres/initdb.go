package postgres

import (
	"cmp"
	"context"
	"fmt"

	"holdfast"
	"holdfast/internal/source/postgres/pgclient"
)

// Cluster is what initdb decides for good, and no dump has. The zero value is one without checksums, in UTF8 and the locale C.
type Cluster struct {
	Checksums bool // of data pages
	// Encoding, Collate and CType are those of template1, which new databases get, in PostgreSQL's words; "": UTF8, C and C.
	Encoding, Collate, CType string
	// Segment is the size of a segment of the log of writes in bytes, which sizes in the server's settings must fit; 0: 16 MB.
	Segment int64
}

// Cluster says how the server's cluster was made.
func (s *Server) Cluster(ctx context.Context) (c Cluster, err error) {
	err = s.with(ctx, "ask how the cluster was made", "", func(conn pgclient.Session, _ pgclient.Params) error {
		err := pgclient.Row(ctx, conn, `SELECT pg_catalog.current_setting('data_checksums')::boolean, pg_catalog.pg_encoding_to_char(encoding)::text, datcollate::text, datctype::text,
			(SELECT setting::bigint FROM pg_catalog.pg_settings WHERE name = 'wal_segment_size')
			FROM pg_catalog.pg_database WHERE datname = 'template1'`, &c.Checksums, &c.Encoding, &c.Collate, &c.CType, &c.Segment)
		if err != nil {
			return pgclient.ExplainQuery("ask how the cluster was made", err)
		}
		return nil
	})
	return c, err
}

// args are those of initdb. Source: initdb(1); checksums are made by default since PostgreSQL 18.
func (c Cluster) args(major int) []string {
	args := []string{"--locale=C", "--encoding=" + cmp.Or(c.Encoding, "UTF8")}
	if c.Collate != "" {
		args = append(args, "--lc-collate="+c.Collate)
	}
	if c.CType != "" {
		args = append(args, "--lc-ctype="+c.CType)
	}
	if c.Segment > 0 {
		args = append(args, fmt.Sprintf("--wal-segsize=%d", c.Segment>>20))
	}
	switch {
	case c.Checksums:
		args = append(args, "--data-checksums")
	case major >= 18:
		args = append(args, "--no-data-checksums")
	}
	return args
}

// initdb makes the cluster. One that stays is made as the server's was; a locale that is not on this machine gives way.
func (d *Drill) initdb(ctx context.Context, r record, g ground, observe holdfast.Observer) error {
	var as Cluster
	if d.lasting != nil {
		as = *d.lasting
	}
	err := runInitdb(ctx, r, g, as)
	if err == nil || ctx.Err() != nil || as.Collate == "" && as.CType == "" {
		return err
	}
	plain := as
	plain.Collate, plain.CType = "", ""
	if runInitdb(ctx, r, g, plain) != nil {
		return err
	}
	observe(holdfast.Event{Kind: holdfast.EventWarning, Message: fmt.Sprintf("the new cluster has the locale C, not %q and %q, so that databases made from now on sort by bytes: %v", as.Collate, as.CType, err)})
	return nil
}

// runInitdb leaves nothing when it fails: initdb removes what it made.
func runInitdb(ctx context.Context, r record, g ground, as Cluster) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	args := append([]string{"--pgdata=" + g.data, "--username=" + r.Bootstrap, "--auth=trust", "--no-sync"}, as.args(r.major())...)
	said := &pgclient.Tail{}
	process, err := g.programs.Start(ctx, pgclient.Command{Path: g.initdb.Path, Args: args, Env: g.env, Stdout: said, Stderr: said})
	if err == nil {
		err = process.Wait()
	}
	if err != nil {
		return cannotTest(fmt.Errorf("initdb: %w: %s", err, lastLine(said.String())), "see what initdb said")
	}
	return nil
}
