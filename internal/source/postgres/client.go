package postgres

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"holdfast"
)

// programs finds PostgreSQL's programs on this machine.
type programs struct{ dirs []string }

// program is one executable of one version.
type program struct {
	path         string
	major, minor int
}

func newPrograms(dirs []string, path string) programs {
	list := slices.Clone(dirs)
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin"} {
		found, _ := filepath.Glob(pattern) // the only error is a bad pattern
		list = append(list, found...)
	}
	for _, dir := range filepath.SplitList(path) {
		if filepath.IsAbs(dir) {
			list = append(list, dir)
		}
	}
	return programs{list}
}

var versionText = regexp.MustCompile(`\(PostgreSQL\) (\d+)(?:\.(\d+))?`)

// find lists the programs called name, oldest first.
func (f programs) find(ctx context.Context, name string) []program {
	var list []program
	seen := map[string]bool{}
	for _, dir := range f.dirs {
		path := filepath.Join(dir, name)
		real, err := filepath.EvalSymlinks(path)
		// Debian's /usr/bin/pg_dump leads to pg_wrapper, which picks a version by rules of its own.
		if err != nil || seen[real] || filepath.Base(real) == "pg_wrapper" {
			continue
		}
		seen[real] = true
		if info, err := os.Stat(real); err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		cmd := exec.CommandContext(ctx, path, "--version")
		cmd.Env = []string{"LC_ALL=C", "PATH=/usr/bin:/bin"}
		out, err := cmd.Output()
		cancel()
		match := versionText.FindSubmatch(out)
		if err != nil || match == nil {
			continue
		}
		major, _ := strconv.Atoi(string(match[1]))
		minor, _ := strconv.Atoi(string(match[2]))
		list = append(list, program{path, major, minor})
	}
	slices.SortStableFunc(list, func(a, b program) int {
		return cmp.Or(cmp.Compare(a.major, b.major), cmp.Compare(a.minor, b.minor))
	})
	return list
}

// client finds the program called name for a server of the given major version: that version's own, else the nearest
// newer one.
func (f programs) client(ctx context.Context, name string, major int) (program, error) {
	list := f.find(ctx, name)
	best := -1
	for i, p := range list {
		if p.major >= major && (best < 0 || p.major <= list[best].major) {
			best = i // of one major version the newest minor one comes last
		}
	}
	if best >= 0 {
		return list[best], nil
	}
	hint := fmt.Sprintf("install postgresql-client-%d", major)
	if len(list) == 0 {
		return program{}, holdfast.WithHint(fmt.Errorf("%s is not on this machine", name), hint)
	}
	newest := list[len(list)-1]
	return program{}, holdfast.WithHint(fmt.Errorf("%s %d.%d is older than the server, which is PostgreSQL %d",
		name, newest.major, newest.minor, major), hint)
}

// psql finds the psql for a server: like client, but an older one does when there is no other.
func (f programs) psql(ctx context.Context, major int) (program, error) {
	found, err := f.client(ctx, "psql", major)
	if err == nil {
		return found, nil
	}
	if list := f.find(ctx, "psql"); len(list) > 0 {
		return list[len(list)-1], nil
	}
	return program{}, err
}

// restricts reports whether this psql knows \restrict, which keeps a dump from running commands on this machine.
func (p program) restricts() bool {
	since := map[int]int{13: 22, 14: 19, 15: 14, 16: 10, 17: 6}
	minor, listed := since[p.major]
	return p.major >= 18 || listed && p.minor >= minor
}

func (p program) String() string {
	return fmt.Sprintf("%s %d.%d", filepath.Base(p.path), p.major, p.minor)
}
