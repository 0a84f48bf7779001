package pgclient

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"holdfast"
)

// explainConnect turns a refused connection into one sentence and a hint.
func explainConnect(err error, p Params) error {
	if err == nil || errors.Is(err, holdfast.ErrUsage) {
		return err
	}
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return explainRefusal(&Error{Code: refused.Code, Message: refused.Message}, p)
	}
	cause := p.Mask(rootCause(err))
	wrapped := silence(cause, p)
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
	return explainSilence(cause, p)
}

func silence(cause string, p Params) error {
	return fmt.Errorf("connect to %s: %s", p.Where(), cause)
}

// explainSilence tells that no server answered.
func explainSilence(cause string, p Params) error {
	return holdfast.WithHint(silence(cause, p), "no server answers there: check that it runs, and host and port")
}

// explainRefusal tells why a server did not let a role in.
func explainRefusal(e *Error, p Params) error {
	err := fmt.Errorf("connect to %s: %w", p.Where(), &Error{Code: e.Code, Message: p.Mask(e.Message)})
	switch e.Code {
	case "28P01":
		hint := "is wrong: check PGPASSWORD, the password file or the connection string"
		if p["container"] != "" {
			hint = "is wrong, or missing: give it as password: of the source, or in the address; POSTGRES_PASSWORD of the container counts at the first start of its server alone"
		}
		return holdfast.WithHint(err, fmt.Sprintf("the password of role %q %s", p["user"], hint))
	case "28000":
		return holdfast.WithHint(err, fmt.Sprintf("let role %q in: check that it exists, may log in and has a line in pg_hba.conf", p["user"]))
	case "3D000":
		return holdfast.WithHint(err, fmt.Sprintf("database %q is not on this server: `psql -l` lists those that are", p["dbname"]))
	case "42501":
		return holdfast.WithHint(err, fmt.Sprintf("GRANT CONNECT ON DATABASE %s TO %s;", QuoteIdent(p["dbname"]), QuoteIdent(p["user"])))
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

// ExplainQuery wraps an error of a query of our own.
func ExplainQuery(doing string, err error) error {
	wrapped := fmt.Errorf("%s: %w", doing, err)
	var refused *Error
	if errors.As(err, &refused) {
		switch refused.Code {
		case "57P01", "57P02", "57P03":
			return holdfast.WithHint(wrapped, "the server ended the session: look into its log, then run again")
		case "42501":
			return holdfast.WithHint(wrapped, "the role lacks a privilege: `holdfast doctor` lists what is missing")
		case "53100":
			return holdfast.WithHint(wrapped, "the server's disk is full")
		}
	}
	return wrapped
}
