package postgres

import (
	"context"
	"fmt"

	"holdfast"
	"holdfast/internal/source/postgres/pgclient"
	"holdfast/internal/source/postgres/pgdata"
)

// Raw is what a database, or a cluster, is made of on the disk of this host.
type Raw struct {
	Paths   []string // files and folders
	Running bool     // a server uses them: what is read of them is torn
}

// RawFiles asks the server of a target where the files of database lie, "" for all of the cluster, and finds them on this
// host. It fails where the server's files are not to be had here: it runs elsewhere, or this process may not read them.
func RawFiles(ctx context.Context, t Target, database string) (Raw, error) {
	place, err := Open(ctx, t, nil)
	if err != nil {
		return Raw{}, err
	}
	defer place.Close() // nothing was made
	raw, err := place.rawFiles(ctx, database)
	return raw, because(ctx, "find the files of the database", err)
}

func (p *Place) rawFiles(ctx context.Context, database string) (Raw, error) {
	if _, here := p.site.(*pgclient.Host); !here {
		return Raw{}, fmt.Errorf("its files are in %s, not on this host", p.site)
	}
	conn, err := p.session(ctx)
	if err != nil {
		return Raw{}, err
	}
	var dir, postmaster string
	err = pgclient.Row(ctx, conn, `SELECT pg_catalog.current_setting('data_directory'), pg_catalog.pg_read_file('postmaster.pid')`, &dir, &postmaster)
	if err != nil {
		return Raw{}, holdfast.WithHint(pgclient.ExplainQuery("ask where the files of the server are", err), "connect as a superuser")
	}
	folder, err := pgdata.Open(dir)
	if err != nil {
		return Raw{}, fmt.Errorf("its files are not to be had on this host: %w", err)
	}
	// A folder of the same name may be that of another server: a replica here of one that runs elsewhere, for example.
	if folder.Postmaster != postmaster {
		return Raw{}, fmt.Errorf("its files are not on this host: %s is of another server", dir)
	}
	if database == "" {
		return Raw{folder.All(), true}, nil
	}
	var oid uint32
	err = pgclient.Row(ctx, conn, `SELECT oid FROM pg_catalog.pg_database WHERE datname = `+pgclient.QuoteLiteral(database), &oid)
	if err != nil {
		return Raw{}, pgclient.ExplainQuery("look for database "+pgclient.QuoteIdent(database), err)
	}
	paths := folder.Database(oid)
	if len(paths) == 0 {
		return Raw{}, fmt.Errorf("there is no folder of database %q in %s", database, dir)
	}
	return Raw{paths, true}, nil
}

// RawFolder is a whole data folder, of a server that need not run.
func RawFolder(dir string) (Raw, error) {
	folder, err := pgdata.Open(dir)
	if err != nil {
		return Raw{}, err
	}
	return Raw{folder.All(), folder.Running}, nil
}
