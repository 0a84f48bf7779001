package pgclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"holdfast"
)

// pgconnKeywords are the keywords that pgconn understands; it would send any other to the server as a setting. All of them
// are always given, so that what pgconn itself finds in the process's environment never counts.
func pgconnKeywords() map[string]string {
	return map[string]string{
		"host": "", "port": "5432", "user": "", "password": "", "passfile": "", "sslmode": "prefer", "sslcert": "",
		"sslkey": "", "sslcertmode": "allow", "sslrootcert": "", "sslnegotiation": "", "sslpassword": "", "sslsni": "",
		"channel_binding": "prefer", "require_auth": "", "target_session_attrs": "any", "connect_timeout": "15",
		"options": "", "min_protocol_version": "", "max_protocol_version": "", "timezone": "UTC",
	}
}

// wire is a session by the protocol itself.
type wire struct{ conn *pgconn.PgConn }

var _ Session = (*wire)(nil)

// dialFirst connects to the first host that answers.
func dialFirst(ctx context.Context, p Params) (*wire, Params, error) {
	var errs []error
	for _, one := range p.hosts() {
		conn, err := dialOne(ctx, one)
		if err != nil {
			errs = append(errs, explainConnect(err, one))
			continue
		}
		if address, isTCP := conn.Conn().RemoteAddr().(*net.TCPAddr); isTCP {
			one["hostaddr"] = address.AddrPort().Addr().Unmap().String()
		}
		return &wire{conn}, one, nil
	}
	if len(errs) == 1 {
		return nil, nil, errs[0]
	}
	return nil, nil, fmt.Errorf("no server could be used: %w", errors.Join(errs...))
}

func dialOne(ctx context.Context, p Params) (*pgconn.PgConn, error) {
	var text strings.Builder
	for key, standard := range pgconnKeywords() {
		value := p[key]
		if value == "" {
			value = standard
		}
		if key == "host" && value == "" && p["hostaddr"] != "" {
			value = p["hostaddr"]
		}
		if value == "" && (key == "host" || key == "min_protocol_version" || key == "max_protocol_version" || key == "options") {
			continue
		}
		fmt.Fprintf(&text, "%s=%s ", key, QuoteKeyword(value))
	}
	fmt.Fprintf(&text, "database=%s application_name='holdfast'", QuoteKeyword(p["dbname"]))
	config, err := pgconn.ParseConfig(text.String())
	if err != nil {
		// The error of pgconn quotes the text it could not parse, passwords masked as well as it can: its cause is enough.
		if cause := errors.Unwrap(err); cause != nil {
			err = cause
		}
		return nil, fmt.Errorf("%w: connection parameters: %w", holdfast.ErrUsage, err)
	}
	if address := p["hostaddr"]; address != "" {
		config.LookupFunc = func(context.Context, string) ([]string, error) { return []string{address}, nil }
	}
	// A snapshot's session is silent for hours; keepalives hold it open through firewalls and find a dead peer.
	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: 30 * time.Second, Interval: 10 * time.Second, Count: 6}}
	config.DialFunc = dialer.DialContext
	config.RuntimeParams["client_encoding"] = "UTF8"
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	if _, err := query(ctx, conn, pinSession); err != nil {
		(&wire{conn}).Close() // after an error that says more
		return nil, err
	}
	return conn, nil
}

// Query runs one statement. Several in one text are refused by the server.
func (w *wire) Query(ctx context.Context, sql string) (Rows, error) { return query(ctx, w.conn, sql) }

func query(ctx context.Context, conn *pgconn.PgConn, sql string) (Rows, error) {
	reader := conn.ExecParams(ctx, sql, nil, nil, nil, nil)
	var rows Rows
	for _, field := range reader.FieldDescriptions() {
		rows.Columns = append(rows.Columns, field.Name)
	}
	for reader.NextRow() {
		row := make([]*string, len(rows.Columns))
		for i, value := range reader.Values() {
			if value != nil {
				text := string(value)
				row[i] = &text
			}
		}
		rows.Values = append(rows.Values, row)
	}
	_, err := reader.Close()
	var refused *pgconn.PgError
	if errors.As(err, &refused) {
		return Rows{}, &Error{Code: refused.Code, Message: refused.Message}
	}
	return rows, err
}

// Close ends the session without waiting long for a server that may be gone.
func (w *wire) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	return w.conn.Close(ctx)
}

// Closed reports whether the session has ended.
func (w *wire) Closed() bool { return w.conn.IsClosed() }
