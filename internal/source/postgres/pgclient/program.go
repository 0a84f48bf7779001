package pgclient

import (
	"context"
	"fmt"
	"path"

	"holdfast"
)

// Program is one executable of one version.
type Program struct {
	Path         string
	Major, Minor int
}

// Fitting finds the program called name for a server of the given major version: that version's own, else the nearest
// newer one.
func Fitting(ctx context.Context, site Site, name string, major int) (Program, error) {
	list, err := site.Find(ctx, name)
	if err != nil {
		return Program{}, err
	}
	best := -1
	for i, p := range list {
		if p.Major >= major && (best < 0 || p.Major <= list[best].Major) {
			best = i // of one major version the newest minor one comes last
		}
	}
	if best >= 0 {
		return list[best], nil
	}
	hint := fmt.Sprintf("install postgresql-client-%d", major)
	if inside, ok := site.(*Container); ok {
		if len(list) == 0 {
			return Program{}, inside.lacks(name)
		}
		hint = "use an image whose programs are as new as its server"
	}
	if len(list) == 0 {
		return Program{}, holdfast.WithHint(fmt.Errorf("%s is not on %s", name, site), hint)
	}
	newest := list[len(list)-1]
	return Program{}, holdfast.WithHint(fmt.Errorf("%s %d.%d is older than the server, which is PostgreSQL %d",
		name, newest.Major, newest.Minor, major), hint)
}

// Psql finds the psql for a server: like [Fitting], but an older one does when there is no other.
func Psql(ctx context.Context, site Site, major int) (Program, error) {
	found, err := Fitting(ctx, site, "psql", major)
	if err == nil {
		return found, nil
	}
	if list, findErr := site.Find(ctx, "psql"); findErr == nil && len(list) > 0 {
		return list[len(list)-1], nil
	}
	return Program{}, err
}

// Exactly finds a program of one major version: a drill on another one would prove something else.
func Exactly(ctx context.Context, site Site, name string, major int) (Program, error) {
	list, err := site.Find(ctx, name)
	if err != nil {
		return Program{}, err
	}
	for i := len(list) - 1; i >= 0; i-- {
		if list[i].Major == major {
			return list[i], nil
		}
	}
	return Program{}, holdfast.WithHint(fmt.Errorf("%w: %s of PostgreSQL %d is not on %s", holdfast.ErrCannotTest, name, major, site),
		fmt.Sprintf("install postgresql-%d", major))
}

// Beside is another program of the same installation.
func (p Program) Beside(name string) Program {
	return Program{path.Join(path.Dir(p.Path), name), p.Major, p.Minor}
}

// Restricts reports whether this psql knows \restrict, which keeps a dump from running commands where psql runs.
func (p Program) Restricts() bool {
	since := map[int]int{13: 22, 14: 19, 15: 14, 16: 10, 17: 6}
	minor, listed := since[p.Major]
	return p.Major >= 18 || listed && p.Minor >= minor
}

func (p Program) String() string { return fmt.Sprintf("%s %d.%d", path.Base(p.Path), p.Major, p.Minor) }
