package s3

import (
	"context"

	"holdfast/internal/store"
)

func (d *Driver) Inspect(ctx context.Context, about store.Inspection) ([]store.Finding, error) {
	return nil, nil
}
