package postgres

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5/pgconn"

	"holdfast"
)

// explainConnect turns a refused connection into one sentence and a hint.
func explainConnect(err error, p params) error {
	if err == nil || errors.Is(err, holdfast.ErrUsage) {
		return err
	}
	where := p.where()
	var server *pgconn.PgError
	if errors.As(err, &server) {
		err := fmt.Errorf("connect to %s: %s (SQLSTATE %s)", where, p.mask(server.Message), server.Code)
		switch server.Code {
		case "28P01":
			return holdfast.WithHint(err, fmt.Sprintf("the password of role %q is wrong: check PGPASSWORD, the password file or the connection string", p["user"]))
		case "28000":
			return holdfast.WithHint(err, fmt.Sprintf("let role %q in: check that it exists, may log in and has a line in pg_hba.conf", p["user"]))
		case "3D000":
			return holdfast.WithHint(err, fmt.Sprintf("database %q is not on this server: `psql -l` lists those that are", p["dbname"]))
		case "42501":
			return holdfast.WithHint(err, fmt.Sprintf("GRANT CONNECT ON DATABASE %s TO %s;", quoteIdent(p["dbname"]), quoteIdent(p["user"])))
		case "53300":
			return holdfast.WithHint(err, "the server has no free connection: raise max_connections or run the backup at a quieter time")
		case "57P03":
			return holdfast.WithHint(err, "the server is starting or stopping: try again when it accepts connections")
		case "55000":
			return holdfast.WithHint(err, "the database does not accept connections")
		case "08P01":
			return holdfast.WithHint(err, "this looks like a connection pooler: connect to the PostgreSQL server itself")
		}
		return holdfast.WithHint(err, "the server refused the connection; its log may tell more")
	}
	cause := p.mask(rootCause(err))
	wrapped := fmt.Errorf("connect to %s: %s", where, cause)
	var (
		dns       *net.DNSError
		authority x509.UnknownAuthorityError
		hostname  x509.HostnameError
		verify    *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &dns):
		return holdfast.WithHint(wrapped, fmt.Sprintf("host name %q does not resolve: check it", dns.Name))
	case errors.As(err, &authority), errors.As(err, &hostname), errors.As(err, &verify), strings.Contains(cause, "x509"):
		return holdfast.WithHint(wrapped, "the server's certificate is not trusted: set sslrootcert to the authority's certificate, or check the host name")
	case strings.Contains(cause, "refused TLS"):
		return holdfast.WithHint(wrapped, "the server does not offer TLS: turn ssl on there, or choose another sslmode")
	}
	return holdfast.WithHint(wrapped, "no server answers there: check that it runs, and host and port")
}

// rootCause is the innermost text of err: the layers above repeat addresses, and the configuration.
func rootCause(err error) string {
	for {
		var operation *net.OpError
		if errors.As(err, &operation) {
			var call *os.SyscallError
			if errors.As(operation, &call) {
				return call.Err.Error()
			}
			return operation.Err.Error()
		}
		if joined, ok := err.(interface{ Unwrap() []error }); ok && len(joined.Unwrap()) > 0 {
			err = joined.Unwrap()[0]
			continue
		}
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}

// mask hides the password wherever a server or a program repeats it.
func (p params) mask(text string) string {
	if password := p["password"]; password != "" && strings.Contains(text, password) {
		return strings.ReplaceAll(text, password, holdfast.NewSecret(password).String())
	}
	return text
}

// explainQuery wraps an error of a query of our own.
func explainQuery(doing string, err error) error {
	var server *pgconn.PgError
	if errors.As(err, &server) {
		wrapped := fmt.Errorf("%s: %s (SQLSTATE %s)", doing, server.Message, server.Code)
		switch server.Code {
		case "57P01", "57P02", "57P03":
			return holdfast.WithHint(wrapped, "the server ended the session: look into its log, then run again")
		case "42501":
			return holdfast.WithHint(wrapped, "the role lacks a privilege: `holdfast doctor` lists what is missing")
		case "53100":
			return holdfast.WithHint(wrapped, "the server's disk is full")
		}
		return wrapped
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// because tells a cancelled context's own reason instead of what the cancelling broke.
func because(ctx context.Context, doing string, err error) error {
	if err == nil || ctx.Err() == nil || errors.Is(err, context.Cause(ctx)) {
		return err
	}
	return fmt.Errorf("%s: %w", doing, context.Cause(ctx))
}

// tail keeps the beginning and the end of what a program says on its standard error.
type tail struct {
	mu   sync.Mutex
	head []byte
	last []byte
	cut  bool
}

const tailSize = 16 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	rest := p
	if room := tailSize - len(t.head); room > 0 {
		n := min(room, len(rest))
		t.head = append(t.head, rest[:n]...)
		rest = rest[n:]
	}
	t.last = append(t.last, rest...)
	if extra := len(t.last) - tailSize; extra > 0 {
		t.last = append(t.last[:0], t.last[extra:]...)
		t.cut = true
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cut {
		return string(t.head) + "\n…\n" + string(t.last)
	}
	return string(t.head) + string(t.last)
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
func explainDump(program, said string, p params, blockers string) error {
	c := readComplaint(p.mask(said))
	message := c.err
	if message == "" {
		message = "ended without a word"
	}
	err := fmt.Errorf("%s: %s", program, message)
	role := quoteIdent(p["user"])
	switch {
	case rowSecurity.MatchString(message):
		table := rowSecurity.FindStringSubmatch(message)[1]
		return holdfast.WithHint(err, fmt.Sprintf("row-level security hides rows of table %q from role %s: ALTER ROLE %s BYPASSRLS;", table, role, role))
	case denied.MatchString(message):
		found := denied.FindStringSubmatch(message)
		kind, name := found[1], strings.TrimSpace(found[2])
		if kind == "schema" {
			return holdfast.WithHint(err, fmt.Sprintf("GRANT USAGE ON SCHEMA %s TO %s; (`holdfast doctor` lists everything that is missing)", quoteIdent(name), role))
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
