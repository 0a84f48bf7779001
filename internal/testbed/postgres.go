package testbed

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// startTime is how long a server may take to answer, or to end. It is generous: the machine may be busy.
const startTime = 2 * time.Minute

// ServerOptions says how a throwaway cluster differs from the plainest one: UTF8, locale C.UTF-8, reachable through its
// socket only, everyone trusted there.
type ServerOptions struct {
	// TCP makes the server listen on a free port of 127.0.0.1 too.
	TCP bool
	// Password is the superuser's, and is asked for over TCP. It implies TCP.
	Password string
	// TLS gives the server a certificate for 127.0.0.1 and localhost, signed by Server.CA, and refuses TCP
	// connections without TLS. It implies TCP.
	TLS bool
	// Settings are written to postgresql.conf after those that make a throwaway cluster fast.
	Settings map[string]string
	// Locale is initdb's. Default: C.UTF-8.
	Locale string
	// SuperUser names the first role. Default: postgres.
	SuperUser string
	// InitArgs are further arguments of initdb.
	InitArgs []string
	// Fresh runs initdb even if a template with the same options is in the cache: the cluster then has a system
	// identifier of its own.
	Fresh bool
}

// Server is one throwaway cluster. Its methods are not safe for concurrent use.
type Server struct {
	Major    int
	Dir      string // holds all of the cluster
	Data     string // the data folder
	Socket   string // folder of the socket
	Port     int    // of the socket's name, and of 127.0.0.1 with TCP
	User     string
	Password string
	Log      string // the server's log file
	CA       string // file with the certificate of the authority, with TLS

	options ServerOptions
	bin     string
	process *exec.Cmd
	ended   chan struct{} // closed when process has been waited for
}

// Postgres starts a throwaway cluster, which is stopped and removed when the test ends.
func Postgres(t testing.TB, major int, opt ServerOptions) *Server {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "hf-pg-")
	if err != nil {
		t.Fatal(err)
	}
	s, err := StartPostgres(dir, major, opt)
	if err != nil {
		os.RemoveAll(dir)
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Remove(); err != nil {
			t.Errorf("remove the throwaway cluster: %v", err)
		}
	})
	return s
}

// StartPostgres makes a cluster in dir, which it creates if needed, and starts it. The path must be short: it holds the
// socket. Remove stops the server and removes dir.
func StartPostgres(dir string, major int, opt ServerOptions) (*Server, error) {
	if opt.SuperUser == "" {
		opt.SuperUser = "postgres"
	}
	if opt.Locale == "" {
		opt.Locale = "C.UTF-8"
	}
	opt.TCP = opt.TCP || opt.TLS || opt.Password != ""
	bin, err := binDir(major, "postgres")
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	s := &Server{
		Major: major, Dir: dir, Data: filepath.Join(dir, "data"), Socket: dir, Port: 5432,
		User: opt.SuperUser, Password: opt.Password, Log: filepath.Join(dir, "log"), options: opt, bin: bin,
	}
	if len(dir) > 90 {
		return nil, fmt.Errorf("folder %s: too long a path for a socket", dir)
	}
	owner, err := runAs()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chown(dir, int(owner.Uid), int(owner.Gid))); err != nil {
		return nil, err
	}
	if err := s.initialise(owner); err != nil {
		return nil, err
	}
	if err := s.launch(owner); err != nil {
		return nil, err
	}
	if opt.Password != "" {
		sql := fmt.Sprintf("ALTER ROLE %s PASSWORD '%s'", pgx.Identifier{s.User}.Sanitize(), strings.ReplaceAll(opt.Password, "'", "''"))
		if err := s.exec("postgres", sql); err != nil {
			return nil, errors.Join(err, s.end(syscall.SIGQUIT))
		}
	}
	return s, nil
}

// runAs returns the unprivileged user that servers run as: postgres, or who the tests run as if that is not root.
func runAs() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return &syscall.Credential{Uid: uint32(os.Geteuid()), Gid: uint32(os.Getegid()), NoSetGroups: true}, nil
	}
	account, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("%w: run testbed/install.sh", err)
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// configure writes the settings and the rules of who may connect.
func (s *Server) configure(owner *syscall.Credential) error {
	settings := map[string]string{
		"unix_socket_directories": s.Socket, "port": strconv.Itoa(s.Port), "listen_addresses": "",
		"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off",
		"shared_buffers": "32MB", "max_wal_size": "4GB", "password_encryption": "scram-sha-256",
	}
	method, kind := "trust", "host"
	if s.options.Password != "" {
		method = "scram-sha-256"
	}
	if s.options.TCP {
		settings["listen_addresses"] = "127.0.0.1"
	}
	if s.options.TLS {
		kind = "hostssl"
		settings["ssl"] = "on"
		settings["ssl_cert_file"], settings["ssl_key_file"] = filepath.Join(s.Dir, "server.crt"), filepath.Join(s.Dir, "server.key")
	}
	maps.Copy(settings, s.options.Settings)
	var conf strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&conf, "%s = '%s'\n", name, strings.ReplaceAll(settings[name], "'", "''"))
	}
	rules := fmt.Sprintf("local all all trust\nlocal replication all trust\n%[1]s all all 127.0.0.1/32 %[2]s\n%[1]s replication all 127.0.0.1/32 %[2]s\n",
		kind, method)
	for name, content := range map[string]string{"postgresql.auto.conf": conf.String(), "pg_hba.conf": rules} {
		path := filepath.Join(s.Data, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			return err
		}
		if err := os.Chown(path, int(owner.Uid), int(owner.Gid)); err != nil {
			return err
		}
	}
	return nil
}

// launch starts the server and waits until it answers. A free port may be taken between the look and the start, so it
// tries a few.
func (s *Server) launch(owner *syscall.Credential) error {
	const tries = 5
	var err error
	for range tries {
		if s.options.TCP {
			if s.Port, err = freePort(); err != nil {
				return err
			}
		}
		if err = s.configure(owner); err != nil {
			return err
		}
		if err = s.run(owner); err == nil {
			return nil
		}
		if log, _ := os.ReadFile(s.Log); !s.options.TCP || !strings.Contains(string(log), "Address already in use") {
			return err
		}
	}
	return err
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

func (s *Server) run(owner *syscall.Credential) error {
	log, err := os.OpenFile(s.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(s.bin, "postgres"), "-D", s.Data)
	cmd.Dir = s.Dir
	cmd.Env = []string{"LC_ALL=C.UTF-8", "TZ=UTC"}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Credential: owner,
		// Not in the terminal's group, and gone (an immediate shutdown) with whoever started it.
		Setpgid:   true,
		Pdeathsig: syscall.SIGQUIT,
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() {
		// How it ended stands in the log; whether it should have is known by who asked.
		cmd.Wait()
		close(ended)
	}()
	s.process, s.ended = cmd, ended
	if err := s.awaitAnswer(); err != nil {
		tail, _ := os.ReadFile(s.Log)
		return errors.Join(fmt.Errorf("start PostgreSQL %d: %w\n%s", s.Major, err, tail), s.end(syscall.SIGQUIT))
	}
	return nil
}

func (s *Server) awaitAnswer() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	for {
		conn, err := pgx.Connect(ctx, s.URL("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-s.ended:
			return errors.New("the server ended")
		case <-ctx.Done():
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// end sends a signal and waits until the server is gone. It does nothing if the server does not run.
func (s *Server) end(signal syscall.Signal) error {
	if s.process == nil {
		return nil
	}
	// A process that has ended already is no error: it is waited for below.
	if err := s.process.Process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	select {
	case <-s.ended:
		s.process = nil
		return nil
	case <-time.After(startTime):
		s.process.Process.Kill()
		<-s.ended
		s.process = nil
		return fmt.Errorf("the server did not end after %v", signal)
	}
}

// Remove stops the server at once and removes its folder.
func (s *Server) Remove() error {
	return errors.Join(s.end(syscall.SIGQUIT), os.RemoveAll(s.Dir))
}

// Stop shuts the server down in order, ending all sessions.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	if err := s.end(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
}

// Kill ends the server as a crash would, without a checkpoint. It returns when every process of it is gone.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	if err := s.end(syscall.SIGQUIT); err != nil {
		t.Fatal(err)
	}
}

// Start starts a server that was stopped or killed, on the same port.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	if s.process != nil {
		t.Fatal("the server runs already")
	}
	owner, err := runAs()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.run(owner); err != nil {
		t.Fatal(err)
	}
}

// URL returns the connection string of a database through the socket, as the superuser.
func (s *Server) URL(db string) string { return s.URLAs(s.User, db) }

// URLAs returns the connection string of a database through the socket, as any role.
func (s *Server) URLAs(role, db string) string {
	query := url.Values{"host": {s.Socket}, "port": {strconv.Itoa(s.Port)}}
	return (&url.URL{Scheme: "postgres", User: url.User(role), Path: "/" + db, RawQuery: query.Encode()}).String()
}

// TCPURL returns the connection string of a database over TCP, with the password, and with full verification if the
// server has TLS.
func (s *Server) TCPURL(db string) string {
	account := url.User(s.User)
	if s.Password != "" {
		account = url.UserPassword(s.User, s.Password)
	}
	query := url.Values{"sslmode": {"disable"}}
	if s.CA != "" {
		query = url.Values{"sslmode": {"verify-full"}, "sslrootcert": {s.CA}}
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port))
	return (&url.URL{Scheme: "postgres", User: account, Host: address, Path: "/" + db, RawQuery: query.Encode()}).String()
}

// Exec runs statements in a database, as the superuser. Each text may hold several statements, which are then one
// transaction.
func (s *Server) Exec(t testing.TB, db string, sql ...string) {
	t.Helper()
	if err := s.exec(db, sql...); err != nil {
		t.Fatal(err)
	}
}

func (s *Server) exec(db string, sql ...string) error {
	ctx := context.Background()
	conn, err := pgconn.Connect(ctx, s.URL(db))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	for _, text := range sql {
		if _, err := conn.Exec(ctx, text).ReadAll(); err != nil {
			return fmt.Errorf("%w in: %.200s", err, text)
		}
	}
	return nil
}

// Value returns the first column of the first row of a query as text; NULL is "".
func (s *Server) Value(t testing.TB, db, sql string) string {
	t.Helper()
	ctx := t.Context()
	conn, err := pgconn.Connect(ctx, s.URL(db))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		t.Fatalf("%v in: %.200s", err, sql)
	}
	if len(results) == 0 || len(results[len(results)-1].Rows) == 0 {
		t.Fatalf("no row from: %.200s", sql)
	}
	return string(results[len(results)-1].Rows[0][0])
}

// Connect returns a connection to a database, as the superuser. It is closed when the test ends.
func (s *Server) Connect(t testing.TB, db string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL(db))
	if err != nil {
		t.Fatal(err)
	}
	// The test's own context has ended by then; a killed server's connection closes with an error.
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}
