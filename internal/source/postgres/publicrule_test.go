package postgres

import (
	"slices"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/source"
	"holdfast/internal/source/postgres/pgclient"
)

// TestPublicWithOldClients: the clients of versions 13 and 14, which a machine may have alone, tell schema public in words of their
// own. It is then not compared, and what cannot be known is said.
func TestPublicWithOldClients(t *testing.T) {
	schema := func(name, text string) source.Fact {
		return source.Fact{Class: "schema", Name: name, Rule: source.Exact, Text: text}
	}
	stored := source.Stored{Source: "app", Facts: source.Facts{Facts: []source.Fact{schema("TABLE public.t", "owner=o"), schema("ACL SCHEMA public", "owner=pg_database_owner; GRANT x")}}}
	var warned []string
	place := func(from, to int, facts ...source.Fact) *Place {
		warned = nil
		p := &Place{record: record{Server: from * 10000, Client: from}, version: to * 10000, stored: stored,
			observe: func(e holdfast.Event) { warned = append(warned, e.Message) }}
		if facts != nil {
			p.stored.Facts.Facts = facts
		}
		return p
	}
	s := &staged{database: database{Owner: "o", Schemas: []string{"public"}}, final: "app"}

	restored := []source.Fact{schema("TABLE public.t", "owner=o"), schema("SCHEMA public", "owner=postgres"), schema("ACL SCHEMA public", "owner=postgres; GRANT y")}
	got := place(18, 14).publicFacts(s, slices.Clone(restored), pgclient.Program{Major: 14})
	if d := source.Compare(stored.Facts.Facts, got); len(d) > 0 || len(warned) != 1 || !strings.Contains(warned[0], "are not compared: pg_dump 14 tells them in other words than pg_dump 18") {
		t.Errorf("differences %v, warnings %q", d, warned)
	}
	if got := place(18, 15).publicFacts(s, slices.Clone(restored), pgclient.Program{Major: 18}); !slices.Equal(got, restored) || len(warned) > 0 {
		t.Errorf("between servers of one kind: %v, %q", got, warned)
	}
	for name, c := range map[string]struct {
		place *Place
		want  int
	}{
		"a dump that does not tell": {place(14, 15, schema("TABLE public.t", "owner=o")), 1},
		"a dump that tells":         {place(14, 15), 0},
		"servers of one kind":       {place(13, 14, schema("TABLE public.t", "owner=o")), 0},
		"to an older server":        {place(18, 14, schema("TABLE public.t", "owner=o")), 0},
	} {
		warned = nil
		c.place.tellPublic(s)
		if len(warned) != c.want || c.want == 1 && !strings.Contains(warned[0], "GRANT CREATE ON SCHEMA public TO") {
			t.Errorf("%s: %q", name, warned)
		}
	}
}
