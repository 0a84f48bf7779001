package rsync

import (
	"context"
	"fmt"
	"slices"

	"holdfast/internal/store"
)

// Inspect tells which laws of a store this kind of mirror lacks. Whether the far side knows fsync is known after the first Push.
func (d *Driver) Inspect(ctx context.Context, about store.Inspection) ([]store.Finding, error) {
	if err := d.look(ctx); err != nil {
		return nil, fmt.Errorf("inspect %s: %w", d.where, err)
	}
	findings := []store.Finding{
		{Severity: store.Fine, Message: d.where + " answers, with a key that known_hosts has"},
		{
			Severity: store.Warns, Message: "rsync does not keep two hosts apart that write one name at once",
			Fix: "let one host alone write to this mirror, or use kind: sftp where the server allows it",
		},
		{
			Severity: store.Fine,
			Message:  "rsync fetches whole objects: a file or a table out of a backup costs the transfer of its whole item, and room in the cache",
		},
	}
	if !slices.Contains(d.optional(), fsyncOption) {
		findings = append(findings, store.Finding{
			Severity: store.Warns,
			Message:  "rsync without --fsync, on this host or at the server: what was sent can be lost when the server loses power in the next half minute",
			Fix:      "have rsync 3.2.4 or newer on both sides, and allow --fsync at the server",
		})
	}
	if about.WriteOnly {
		findings = append(findings, store.Finding{
			Severity: store.Warns, Message: "a login with rsync can delete what it has stored",
			Fix: "have the server run rrsync -no-del -no-overwrite for this key, or take snapshots that this login cannot reach",
		})
	}
	return findings, nil
}
