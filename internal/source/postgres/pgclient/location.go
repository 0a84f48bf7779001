package pgclient

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"holdfast"
	"holdfast/internal/container"
)

// Location says where a server is, as whom it is used, and where PostgreSQL's programs are.
type Location struct {
	// URL is a connection string in either of libpq's forms; empty: the PG* variables of Env decide. Or it leads to the
	// server in a container:
	//
	//	docker://[USER[:PASSWORD]@]NAME[/DATABASE][?PARAMETER=VALUE&…]
	//
	// where NAME is the container's name or ID, empty if the parameters service (with or without project) or label find it.
	// Further parameters are user, password, dbname, port, connect_timeout and engine. Of a server in a container Env,
	// BinDirs and Path do not count: they are of this host.
	URL holdfast.Secret
	// Password overrides the one in URL and Env.
	Password holdfast.Secret
	// Env holds the PG* variables, and HOME for PostgreSQL's files in the home folder. Nothing else is taken from an
	// environment.
	Env map[string]string
	// Engine is where the engine of containers listens, where URL does not say; "" is [container.DefaultEngine].
	Engine string
	// BinDirs are folders to look into for PostgreSQL's programs, besides the usual ones and those of Path, which is a list
	// of folders as in the variable PATH.
	BinDirs []string
	Path    string
}

// Open returns the site, and the parameters that lead to the server from there. A container is looked for; a server is
// not spoken to yet.
func (l Location) Open(ctx context.Context) (Site, Params, error) {
	if !l.inContainer() {
		p, err := Resolve(l.URL, l.Password, l.Env)
		return NewHost(l.BinDirs, l.Path), p, err
	}
	ref, p, err := l.container()
	if err != nil {
		return nil, nil, err
	}
	site, p, err := OpenContainer(ctx, ref, p)
	if err != nil {
		return nil, nil, err
	}
	return site, p, nil
}

// Where names the database, "" if it is not known, and the server, in words and without touching either.
func (l Location) Where() (database, server string, err error) {
	if l.inContainer() {
		ref, p, err := l.container()
		return p["dbname"], ref.String(), err
	}
	p, err := Resolve(l.URL, l.Password, l.Env)
	if err != nil {
		return "", "", err
	}
	return p["dbname"], p.Where(), nil
}

const containerScheme = "docker://"

func (l Location) inContainer() bool {
	return strings.HasPrefix(strings.TrimSpace(l.URL.Reveal()), containerScheme)
}

// container reads a URL that leads into a container.
func (l Location) container() (container.Ref, Params, error) {
	mistaken := func(err error) error {
		return holdfast.WithHint(fmt.Errorf("%w: the address of the container: %w", holdfast.ErrUsage, err),
			"write it as docker://NAME/DATABASE or docker:///DATABASE?service=NAME")
	}
	p := Params{}
	if err := p.parseURL(strings.TrimPrefix(strings.TrimSpace(l.URL.Reveal()), containerScheme)); err != nil {
		return container.Ref{}, nil, mistaken(err)
	}
	take := func(key string) string {
		value := p[key]
		delete(p, key)
		return value
	}
	ref := container.Ref{Engine: cmp.Or(take("engine"), l.Engine), Name: take("host"), Service: take("service"), Project: take("project"), Label: take("label")}
	// A port behind the name could only be that of a server outside.
	if p["port"] != "" && !strings.Contains(l.URL.Reveal(), "port=") {
		return ref, nil, mistaken(errors.New("a port is given as a parameter, port=5433"))
	}
	for _, key := range slices.Sorted(maps.Keys(p)) {
		switch key {
		case "user", "dbname", "port", "password", "connect_timeout":
		default:
			return ref, nil, mistaken(fmt.Errorf("the parameter %q has no meaning in a container", key))
		}
	}
	meant := 0
	for _, text := range []string{ref.Name, ref.Service, ref.Label} {
		if text != "" {
			meant++
		}
	}
	switch {
	case meant != 1:
		return ref, nil, mistaken(errors.New("exactly one of a name, a service and a label says which one is meant"))
	case ref.Project != "" && ref.Service == "":
		return ref, nil, mistaken(errors.New("a project is that of a service"))
	}
	if _, err := container.ParseEngine(ref.Engine); err != nil {
		return ref, nil, err
	}
	if !l.Password.IsZero() {
		p["password"] = l.Password.Reveal()
	}
	return ref, p, nil
}

// parse reads a connection string of either form.
func parse(url holdfast.Secret) (Params, error) {
	given := Params{}
	text := strings.TrimSpace(url.Reveal())
	if text == "" {
		return given, nil
	}
	rest, isURL := strings.CutPrefix(text, "postgres://")
	if !isURL {
		rest, isURL = strings.CutPrefix(text, "postgresql://")
	}
	var err error
	if isURL {
		err = given.parseURL(rest)
	} else {
		err = given.parseKeywords(text)
	}
	if err != nil {
		return nil, holdfast.WithHint(fmt.Errorf("%w: the PostgreSQL connection string: %w", holdfast.ErrUsage, err),
			"write it as postgres://user@host:5432/database?sslmode=verify-full or as host=… user=… dbname=…")
	}
	return given, nil
}
