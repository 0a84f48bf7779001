package pgclient

import (
	"context"
	"fmt"
	"strings"

	"holdfast"
	"holdfast/internal/container"
)

// Location says where a server is, as whom it is used, and where PostgreSQL's programs are.
type Location struct {
	// URL is a connection string in either of libpq's forms; empty: the PG* variables of Env decide. For a server in a
	// container it may name the user, the database and the port alone.
	URL holdfast.Secret
	// Password overrides the one in URL and Env.
	Password holdfast.Secret
	// Env holds the PG* variables, and HOME for PostgreSQL's files in the home folder. Nothing else is taken from an
	// environment, and for a server in a container not even that.
	Env map[string]string
	// Container is where the server runs; zero: it is reached from this host.
	Container container.Ref
	// BinDirs are folders to look into for PostgreSQL's programs, besides the usual ones and those of Path, which is a list
	// of folders as in the variable PATH. Those of a container are its own.
	BinDirs []string
	Path    string
}

// Open returns the site, and the parameters that lead to the server from there. A container is looked for; a server is
// not spoken to yet.
func (l Location) Open(ctx context.Context) (Site, Params, error) {
	p, err := l.params()
	if err != nil {
		return nil, nil, err
	}
	if l.Container.IsZero() {
		return NewHost(l.BinDirs, l.Path), p, nil
	}
	site, p, err := OpenContainer(ctx, l.Container, p)
	if err != nil {
		return nil, nil, err
	}
	return site, p, nil
}

// Where names the database, and the server, in words and without touching either.
func (l Location) Where() (database, server string, err error) {
	p, err := l.params()
	if err != nil {
		return "", "", err
	}
	if l.Container.IsZero() {
		return p["dbname"], p.Where(), nil
	}
	return p["dbname"], l.Container.String(), nil
}

// params are those that are known without asking anybody. Of a server in a container that may be none.
func (l Location) params() (Params, error) {
	if l.Container.IsZero() {
		return Resolve(l.URL, l.Password, l.Env)
	}
	given, err := parse(l.URL)
	if err != nil {
		return nil, err
	}
	for key := range given {
		switch key {
		case "user", "dbname", "port", "password", "connect_timeout":
		default:
			return nil, holdfast.WithHint(fmt.Errorf("%w: the parameter %q has no meaning in a container", holdfast.ErrUsage, key),
				"a server in a container is reached by its own socket: user, database and port are all that can be said")
		}
	}
	if !l.Password.IsZero() {
		given["password"] = l.Password.Reveal()
	}
	return given, nil
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
	err := error(nil)
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
