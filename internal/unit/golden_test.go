package unit_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast/internal/schedule"
	"holdfast/internal/unit"
)

var update = flag.Bool("update", false, "write testdata/*.golden anew")

// full is an installation that uses every option.
func full() unit.Options {
	return unit.Options{
		Program: "/opt/hold fast/holdfast", Config: "/home/ops/etc/holdfast.yaml", State: "/srv/state 100%", User: "backup",
		Write:   []string{"/srv/backups", "/srv/backups/inner", "/home/app/copies", "/var/log/holdfast", "/srv/bob's 50% disk"},
		Read:    []string{"/home/app/uploads", "/home/app/copies/x", "/etc/app", "/var/tmp/queue"},
		ReadAll: true, Docker: "/run/docker.sock", Hooks: true, Zone: "UTC",
		Identity: "/root/holdfast/identity.txt", DrillState: "/var/lib/drills",
		Jobs: jobs(),
	}
}

func must(expr string) schedule.Calendar {
	c, err := schedule.Parse(expr)
	if err != nil {
		panic(err)
	}
	return c
}

func jobs() []unit.Timer {
	return []unit.Timer{
		{Name: "app-backup", Args: []string{"backup", "app", "--quiet"}, Calendar: must("0 2 * * *"), Zone: "Europe/Berlin", Jitter: 15 * time.Minute},
		{Name: "app-prune", Args: []string{"prune", "app", "--quiet"}, Calendar: must("30 4 1,15 * mon-fri"), Zone: "UTC"},
		{Name: "books-backup", Args: []string{"backup", "books", "--note", "month's end, 100%"}, Calendar: must("15 3 L * *")},
		{Name: "app-drill", Args: []string{"drill", "--job", "app", "--identity", "/root/holdfast/identity.txt"}, Calendar: must("@monthly"), Drill: true},
	}
}

// cases are installations by name.
func cases() map[string]unit.Options {
	return map[string]unit.Options{
		"plain":     {Jobs: jobs()[:1]},
		"full":      full(),
		"root":      {User: "root", ReadAll: true, Docker: "/run/docker.sock", Read: []string{"/"}, Write: []string{"/root/backups"}, Jobs: jobs()},
		"readall":   {ReadAll: true, Read: []string{"/home/app"}, Jobs: jobs()[:2]},
		"hooks":     {Hooks: true, Jobs: jobs()[:1]},
		"container": {Docker: "/run/podman/podman.sock", Jobs: jobs()[3:]},
	}
}

// all renders everything of an installation.
func all(t *testing.T, o unit.Options) []unit.File {
	t.Helper()
	var files []unit.File
	for _, render := range []func(unit.Options) ([]unit.File, error){unit.Account, unit.Service, unit.Drill, unit.Timers} {
		more, err := render(o)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, more...)
	}
	return files
}

func TestGolden(t *testing.T) {
	for name, o := range cases() {
		t.Run(name, func(t *testing.T) {
			var got strings.Builder
			for _, file := range all(t, o) {
				fmt.Fprintf(&got, "==> %s %04o\n%s\n", file.Path, file.Mode, file.Text)
			}
			for _, withUser := range []bool{true, false} {
				lines, err := unit.Crontab(o, withUser)
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&got, "==> crontab, with users: %t\n%s\n", withUser, lines)
			}
			path := filepath.Join("testdata", name+".golden")
			if *update {
				if err := os.WriteFile(path, []byte(got.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != string(want) {
				t.Errorf("it differs from %s: run go test -update, and look at what git says is different", path)
			}
		})
	}
}
