package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"holdfast"
	"holdfast/internal/source/postgres/pgclient"
	"holdfast/internal/source/postgres/pgdump"
)

// feeder sends dumps through psql.
type feeder struct {
	place *Place
	psql  pgclient.Program
	rules pgdump.Rules
	// filter reads the dump without what the rules remove.
	filter func(io.Reader, pgdump.Rules) *pgdump.Filter
	why    string // something may be removed, for a person
	// bare lets psql's own commands in the dump run.
	bare bool
}

// newFeeder finds psql, and what of a dump this server would not understand.
func (p *Place) newFeeder(ctx context.Context) (*feeder, error) {
	psql, err := pgclient.Psql(ctx, p.programs, p.major())
	if err != nil {
		return nil, p.cannot(err, holdfast.Hint(err))
	}
	if !psql.Restricts() && !p.drill {
		p.warn(`%s does not know \restrict, which keeps a forged dump from running commands on this machine: upgrade it`, psql)
	}
	conn, err := p.session(ctx)
	if err != nil {
		return nil, err
	}
	// These stand at the head of dumps; the younger ones are unknown to older servers.
	candidates := []string{"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout", "transaction_timeout",
		"xmloption", "check_function_bodies", "client_min_messages", "row_security", "default_tablespace", "default_table_access_method"}
	unknown, err := pgclient.Strings(ctx, conn, `SELECT name FROM pg_catalog.unnest(`+pgclient.QuoteLiterals(candidates)+`) name
		WHERE pg_catalog.current_setting(name, true) IS NULL`)
	if err != nil {
		return nil, pgclient.ExplainQuery("ask which settings the server knows", err)
	}
	rules := pgdump.Rules{DropSettings: unknown, DropRestrict: true, DropTablespaces: p.drill}
	if !p.drill {
		if rules.DropTablespaces, err = p.lacksTablespaces(ctx, conn); err != nil {
			return nil, err
		}
	}
	return &feeder{place: p, psql: psql, rules: rules, filter: pgdump.NewFilter, why: "as this server does not know it"}, nil
}

// lacksTablespaces reports whether the source had a tablespace that this server has not.
func (p *Place) lacksTablespaces(ctx context.Context, conn pgclient.Session) (bool, error) {
	have, err := pgclient.Strings(ctx, conn, `SELECT spcname::text FROM pg_catalog.pg_tablespace`)
	if err != nil {
		return false, pgclient.ExplainQuery("list the tablespaces", err)
	}
	if p.record.Globals == "" && !p.together {
		return true, nil // not known which there were: the default one always exists
	}
	for _, name := range p.roles.tablespaces() {
		if !slices.Contains(have, name) {
			p.warn("tablespace %q is not on this server: everything goes into the default one", name)
			return true, nil
		}
	}
	return false, nil
}

// feed runs the dump of s in its staging database.
func (f *feeder) feed(ctx context.Context, s *staged) error {
	item, found := f.place.stored.Item(s.Dump)
	if !found {
		return fmt.Errorf("item %s is missing from the backup", s.Dump)
	}
	r, err := item.Open(ctx)
	if err != nil {
		return fmt.Errorf("open item %s: %w", s.Dump, err)
	}
	filter := f.filter(r, f.rules)
	err = f.run(ctx, s, s.staging, filter)
	if closeErr := r.Close(); err == nil && closeErr != nil {
		err = fmt.Errorf("read item %s: %w", s.Dump, closeErr)
	}
	if err != nil {
		return err
	}
	f.tellRemoved(filter)
	return nil
}

// tellRemoved names what was left out of a dump.
func (f *feeder) tellRemoved(filter *pgdump.Filter) {
	var removed []string
	for _, line := range filter.Removed() {
		if f.rules.Split && strings.Contains(line, " DATABASE ") && !strings.HasPrefix(line, "DROP ") {
			continue // of a cluster these were run on the staging databases
		}
		if !strings.HasPrefix(line, `\restrict`) && !strings.HasPrefix(line, `\unrestrict`) {
			removed = append(removed, line)
		}
	}
	if len(removed) > 0 {
		slices.Sort(removed)
		f.place.warn("left out of the dump, %s: %s", f.why, strings.Join(slices.Compact(removed), "; "))
	}
}

// run lets psql run a script in a database.
func (f *feeder) run(ctx context.Context, s *staged, database string, script io.Reader, args ...string) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	said := &pgclient.Tail{}
	process, err := f.place.programs.Start(ctx, pgclient.Command{
		Path: f.psql.Path, Params: f.place.server.On(database), Stdin: true, Stdout: io.Discard, Stderr: said,
		Args: append([]string{"--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1", "--set=VERBOSITY=verbose", "--file=-"}, args...),
	})
	if err != nil {
		return err
	}
	out := process.Stdin
	reader := &noting{Reader: script}
	// psql's own key, which the dump cannot know: whatever is in it, only SQL and COPY data pass.
	key, restricted := rand.Text(), f.psql.Restricts() && !f.bare
	if restricted {
		_, err = fmt.Fprintf(out, "\\restrict %s\n", key)
	}
	if err == nil {
		_, err = io.CopyBuffer(struct{ io.Writer }{out}, reader, make([]byte, 256<<10))
	}
	if reader.err != nil {
		stop() // psql would take the end of its input for the end of the dump
	} else if err == nil && restricted {
		_, err = fmt.Fprintf(out, "\\unrestrict %s\n", key)
	}
	out.Close()
	waitErr := process.Wait()
	switch {
	case reader.err != nil:
		return fmt.Errorf("restore %s: %w", s.Dump, reader.err)
	case ctx.Err() != nil:
		return ctx.Err()
	case waitErr != nil:
		return f.place.explainRestore(s, said.String(), waitErr)
	case err != nil:
		return fmt.Errorf("restore %s: psql stopped reading: %w", s.Dump, err)
	}
	return nil
}

// noting remembers an error of its reader, to tell it from one of the writer it is copied to.
type noting struct {
	io.Reader
	err error
}

func (n *noting) Read(p []byte) (int, error) {
	count, err := n.Reader.Read(p)
	if err != nil && err != io.EOF {
		n.err = err
	}
	return count, err
}

var (
	psqlError   = regexp.MustCompile(`(?m)^psql:[^\n]*?:(\d+): [^\n:]+:  ([0-9A-Z]{5}): (.*)$`)
	copyContext = regexp.MustCompile(`(?m)^CONTEXT:  (COPY [^\n]*?, line \d+)`)
	detailLine  = regexp.MustCompile(`(?m)^DETAIL:  (.*)$`)
)

// explainRestore turns the first error of psql into one sentence. Data of a row, which the context of a COPY quotes,
// is left out.
func (p *Place) explainRestore(s *staged, said string, status error) error {
	var exit *pgclient.ExitError
	if !errors.As(status, &exit) {
		return p.cannot(fmt.Errorf("restore %s: %w", s.Dump, status), holdfast.Hint(status))
	}
	said = p.server.Mask(said)
	code, message, behind := "", "", "of the dump"
	if p.together {
		behind = `behind its \connect` // where psql began to count
	}
	if found := psqlError.FindStringSubmatch(said); found != nil && !strings.Contains(found[0], " NOTICE:") {
		code, message = found[2], fmt.Sprintf("%s (SQLSTATE %s, line %s %s)", found[3], found[2], found[1], behind)
	} else {
		for line := range strings.Lines(said) {
			if line = strings.TrimSpace(line); line != "" && (message == "" || strings.Contains(line, "error")) {
				message = line
			}
		}
		if message == "" {
			message = status.Error()
		}
	}
	if found := copyContext.FindStringSubmatch(said); found != nil {
		message += ", " + found[1]
	}
	err := fmt.Errorf("restore %s: %s", s.Dump, message)
	switch code {
	case "58P01", "0A000":
		if detail := detailLine.FindStringSubmatch(said); detail != nil && code == "0A000" && !strings.Contains(message, "extension") {
			return holdfast.WithHint(fmt.Errorf("%w: %s", err, detail[1]), "the server cannot do what the dump asks for: use the same major version")
		}
		return p.cannot(err, "the server lacks an extension or a library that the database uses: install it there")
	case "42704", "22023":
		switch {
		case strings.Contains(message, "collation") && code == "42704", strings.Contains(message, "could not create locale"):
			return p.cannot(err, "the server's system lacks a locale that the database uses: install it there (Debian: the package locales, then locale-gen)")
		case strings.Contains(message, "role"):
			return holdfast.WithHint(err, "a role is missing on the server: back up the globals too, or create it first")
		}
	case "42501":
		return holdfast.WithHint(err, "restore as a superuser, or as the owner of everything in the database")
	case "53100", "53200":
		return p.cannot(err, "the server ran out of disk or memory: make room and run again")
	case "57P01", "57P02", "57P03", "08006":
		return holdfast.WithHint(err, "the server went away during the restore: look into its log, then run again")
	case "":
		const scriptError = 3 // psql's exit code for what ON_ERROR_STOP stopped
		if exit.Code != scriptError {
			return p.cannot(err, "psql itself failed, or its connection: look into the server's log, then run again")
		}
	}
	if strings.Contains(message, "shared_preload_libraries") {
		return p.cannot(err, "the server has to load a library at its start: set shared_preload_libraries there")
	}
	return holdfast.WithHint(err, "the database refused a statement of the dump; nothing was changed at the target")
}
