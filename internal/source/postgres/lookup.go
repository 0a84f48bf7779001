package postgres

import (
	"context"
)

// Lookup tells which database a connection string names, and whether it is there. Target.Database plays no part.
func Lookup(ctx context.Context, t Target) (name string, exists bool, err error) {
	place, err := Open(ctx, t, nil)
	if err != nil {
		return "", false, err
	}
	defer place.Close() // nothing was made
	exists, err = place.exists(ctx, place.named)
	return place.named, exists, because(ctx, "look for the database", err)
}
