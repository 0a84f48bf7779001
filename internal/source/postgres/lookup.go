package postgres

import (
	"context"

	"holdfast/internal/source/postgres/pgclient"
)

// Lookup tells which database a connection string names, and whether it is there. Target.Database plays no part.
func Lookup(ctx context.Context, t Target) (name string, exists bool, err error) {
	named, err := pgclient.Resolve(t.URL, t.Password, t.Env)
	if err != nil {
		return "", false, err
	}
	place, err := Open(ctx, t, nil)
	if err != nil {
		return "", false, err
	}
	defer place.Close() // nothing was made
	exists, err = place.exists(ctx, named["dbname"])
	return named["dbname"], exists, because(ctx, "look for the database", err)
}
