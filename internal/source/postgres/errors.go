package postgres

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"holdfast"
	"holdfast/internal/source/postgres/pgclient"
)

// because tells a cancelled context's own reason instead of what the cancelling broke.
func because(ctx context.Context, doing string, err error) error {
	if err == nil || ctx.Err() == nil || errors.Is(err, context.Cause(ctx)) {
		return err
	}
	return fmt.Errorf("%s: %w", doing, context.Cause(ctx))
}

// complaint is what a program of PostgreSQL said: errors in one line, and warnings.
type complaint struct {
	err      string
	warnings []string
}

// readComplaint parses the messages of PostgreSQL's programs: "PROGRAM: LEVEL: text", where the text may go over several
// lines, and details and hints belong to the error or warning before them. The query that failed is left out, as it
// may be long.
func readComplaint(text string) complaint {
	var c complaint
	var parts []string
	warned, skipping := false, false
	add := func(message string) {
		if warned {
			c.warnings[len(c.warnings)-1] += " " + message
			return
		}
		parts = append(parts, message)
	}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		level, message := "", line
		if found := programLine.FindStringSubmatch(line); found != nil {
			level, message = found[1], found[2]
			skipping = false
		}
		switch {
		case level == "warning":
			c.warnings = append(c.warnings, message)
			warned = true
			continue
		case level == "error" || level == "fatal":
			warned = false
		case level == "" && (skipping || line == "" || strings.HasPrefix(line, "This probably means the server terminated") ||
			line == "before or while processing the request."):
			continue
		}
		if queryText.MatchString(message) && level != "" {
			skipping = true
			continue
		}
		add(message)
	}
	c.err = strings.Join(parts, "; ")
	return c
}

var (
	programLine = regexp.MustCompile(`^pg_dump(?:all)?: (error|fatal|warning|detail|hint): (.*)$`)
	queryText   = regexp.MustCompile(`(?i)^(?:the )?(?:query|command) was: `)
)

var (
	denied      = regexp.MustCompile(`permission denied for (table|sequence|schema|view|materialized view|large object|foreign table|function|database) ([^;]+)`)
	rowSecurity = regexp.MustCompile(`query would be affected by row-level security policy for table "((?:[^"]|"")*)"`)
	lockTimeout = regexp.MustCompile(`canceling statement due to (statement|lock) timeout`)
	lostServer  = regexp.MustCompile(`server closed the connection unexpectedly|connection to server was lost|could not receive data from server|terminating connection|SSL connection has been closed|no connection to the server|SSL SYSCALL error`)
	mismatch    = regexp.MustCompile(`aborting because of server version mismatch`)
	noTables    = regexp.MustCompile(`no matching (tables|schemas|extensions) were found`)
)

// explainDump turns the failure of pg_dump or pg_dumpall into one sentence and a hint.
func explainDump(program, said string, status error, p pgclient.Params, blockers string) error {
	var exit *pgclient.ExitError
	if !errors.As(status, &exit) {
		return fmt.Errorf("%s: %w", program, status)
	}
	c := readComplaint(p.Mask(said))
	message := c.err
	if message == "" {
		message = "ended without a word"
	}
	err := fmt.Errorf("%s: %s", program, message)
	role := pgclient.QuoteIdent(p["user"])
	switch {
	case rowSecurity.MatchString(message):
		table := rowSecurity.FindStringSubmatch(message)[1]
		return holdfast.WithHint(err, fmt.Sprintf("row-level security hides rows of table %q from role %s: ALTER ROLE %s BYPASSRLS;", table, role, role))
	case denied.MatchString(message):
		found := denied.FindStringSubmatch(message)
		kind, name := found[1], strings.TrimSpace(found[2])
		if kind == "schema" {
			return holdfast.WithHint(err, fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s; (`holdfast doctor` lists everything that is missing)", pgclient.QuoteIdent(name), role))
		}
		return holdfast.WithHint(err, fmt.Sprintf("role %s cannot read %s %s: GRANT SELECT on it to the role (`holdfast doctor` lists everything that is missing)", role, kind, name))
	case lockTimeout.MatchString(message):
		if blockers != "" {
			err = fmt.Errorf("%s: a table stayed locked by %s: %s", program, blockers, message)
		} else {
			err = fmt.Errorf("%s: a table stayed locked: %s", program, message)
		}
		return holdfast.WithHint(err, "wait for that session or end it, or raise lock_wait")
	case mismatch.MatchString(message):
		return holdfast.WithHint(err, "install the client programs of the server's major version")
	case noTables.MatchString(message):
		return holdfast.WithHint(err, "correct the table and schema filters of the source")
	case lostServer.MatchString(message):
		return holdfast.WithHint(err, "the connection to the server was lost during the dump: look into the server's log, then run again")
	}
	return holdfast.WithHint(err, "`holdfast doctor` checks what the dump needs")
}
