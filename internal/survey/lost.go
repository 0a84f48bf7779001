package survey

import (
	"fmt"
	"maps"
	"slices"

	"holdfast/internal/journal"
)

// Lost says what is gone of the journal of a host that carries it to stores, by what those have of it; "" when nothing is. chain is the name
// of the one here and last the number of its newest record, "" and 0 where there is none; stores are the chains in each store that was
// looked at. They must be listed before the journal is read: what is recorded meanwhile may be carried away at once.
func Lost(host, chain string, last int64, stores map[string][]journal.ChainInfo) string {
	for _, store := range slices.Sorted(maps.Keys(stores)) {
		for _, there := range stores[store] {
			switch {
			case there.Last <= last:
			case there.Chain == chain && last > 0:
				return fmt.Sprintf("it ends with record %d, and store %s has record %d", last, store, there.Last)
			case there.Chain == chain || last == 0 && journal.IsOf(there.Chain, host):
				return fmt.Sprintf("it is gone, and store %s has %d records of this host", store, there.Last)
			}
		}
	}
	return ""
}
