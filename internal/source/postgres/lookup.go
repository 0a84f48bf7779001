package postgres

import (
	"context"
)

// Lookup tells which database a target names, and whether it is there. A target that names none gives "".
func Lookup(ctx context.Context, t Target) (name string, exists bool, err error) {
	place, err := Open(ctx, t, nil)
	if err != nil {
		return "", false, err
	}
	named, err := resolve(t.URL, t.Password, t.Env)
	if err != nil {
		closeConn(place.conn)
		return "", false, err
	}
	name = named["dbname"]
	err = place.conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_database WHERE datname = $1)", name).Scan(&exists)
	closeErr := closeConn(place.conn)
	if err != nil {
		return "", false, explainQuery("look for database "+name, err)
	}
	return name, exists, closeErr
}
