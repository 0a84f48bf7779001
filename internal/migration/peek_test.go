package migration_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/migration"
)

func TestPeek(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	if p, err := migration.Peek(path); err != nil || p != (migration.Peeked{}) {
		t.Errorf("no file: %+v, %v", p, err)
	}
	for _, test := range []struct {
		name, text string
		want       migration.Peeked
		fails      bool
	}{
		{"under way", `{"version":1,"volume":"v","from":"/old","to":"/new","course":"moving","done":"copied","phases":[{"step":"copied","began":"2026-11-01T00:00:00Z","took":1}]}`,
			migration.Peeked{Open: true, Step: migration.Copied, From: "/old", To: "/new"}, false},
		{"over", `{"version":1,"from":"/old","to":"/new","course":"ended","done":"rolled-back"}`, migration.Peeked{Step: migration.RolledBack, From: "/old", To: "/new"}, false},
		{"a dry run", `{"version":1,"from":"/old","to":"/new","course":"rehearsing","done":"planned"}`, migration.Peeked{Step: migration.Planned, From: "/old", To: "/new"}, false},
		{"damaged", `{"version":`, migration.Peeked{}, true},
		{"of a later version", `{"version":2}`, migration.Peeked{}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			p, err := migration.Peek(path)
			if (err != nil) != test.fails || err != nil && !(strings.Contains(err.Error(), path) && strings.Contains(holdfast.Hint(err), "rename the file")) {
				t.Fatalf("%v, hint %q", err, holdfast.Hint(err))
			}
			if test.want.Open && p.Since.Format("2006-01-02") != "2026-11-01" {
				t.Errorf("since %s", p.Since)
			}
			p.Since = test.want.Since
			if p != test.want {
				t.Errorf("%+v, want %+v", p, test.want)
			}
		})
	}
}
