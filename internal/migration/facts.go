package migration

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"holdfast"
	"holdfast/internal/durable"
	"holdfast/internal/source"
)

// keepFacts writes facts on the volume, and returns their sum.
func (m Migration) keepFacts(facts []Database) (string, error) {
	data, err := json.Marshal(facts)
	if err != nil {
		panic("migration: " + err.Error()) // the type has nothing that JSON lacks
	}
	if err := durable.WriteFile(m.o.Facts, data, 0o600); err != nil {
		return "", fmt.Errorf("keep the facts: %w", err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// readFacts reads what keepFacts wrote.
func (m Migration) readFacts(want string) ([]Database, error) {
	data, err := os.ReadFile(m.o.Facts)
	if err != nil {
		return nil, fmt.Errorf("read the facts that were taken: %w", err)
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != want {
		return nil, fmt.Errorf("%w: %s is not what was written", holdfast.ErrDifference, m.o.Facts)
	}
	var facts []Database
	if err := json.Unmarshal(data, &facts); err != nil {
		return nil, fmt.Errorf("read the facts that were taken: %w", err)
	}
	return facts, nil
}

// called is how a database is named in texts.
func (d Database) called() string {
	if d.Name == "" {
		return "the cluster as a whole"
	}
	return "database " + d.Name
}

// drifts lists how now differs from then, each line with its database. lines are for the user who runs the command: they have names of
// tables. short has none. Both are empty if nothing that must be equal differs.
func drifts(then, now []Database) (lines []string, short string) {
	after := map[string][]source.Fact{}
	for _, d := range now {
		after[d.Name] = d.Facts
	}
	var parts []string
	for _, d := range then {
		facts, there := after[d.Name]
		delete(after, d.Name)
		if !there {
			lines = append(lines, d.called()+" is gone")
			parts = append(parts, lines[len(lines)-1])
			continue
		}
		n := 0
		for _, drift := range source.Drifts(d.Facts, facts) {
			if drift.TextOnly {
				continue
			}
			n++
			lines = append(lines, fmt.Sprintf("%s: %s", d.called(), drift))
		}
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%s differs in %s", d.called(), count(n, "fact")))
		}
	}
	for _, d := range now {
		if _, isNew := after[d.Name]; isNew {
			lines = append(lines, d.called()+" is new")
			parts = append(parts, lines[len(lines)-1])
		}
	}
	return lines, strings.Join(parts, ", ")
}

// compareFacts takes the facts of what runs, and refuses every difference.
func (r *run) compareFacts(ctx context.Context, then []Database) error {
	now, err := r.w.Facts(ctx)
	if err != nil {
		return fmt.Errorf("take the facts again: %w", err)
	}
	lines, short := drifts(then, now)
	if short == "" {
		return nil
	}
	for _, line := range slices.Compact(lines) {
		r.warn(line)
	}
	return fmt.Errorf("%w: %s", holdfast.ErrDifference, short)
}
