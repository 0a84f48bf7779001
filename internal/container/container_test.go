package container_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/container"
	"holdfast/internal/testbed"
)

// mustSay fails unless err says all words, in its sentence or its hint.
func mustSay(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want one with %q", words)
	}
	text := err.Error() + " | " + holdfast.Hint(err)
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("%q lacks %q", text, word)
		}
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("%q is more than one sentence", err)
	}
}

// idle starts a container that does nothing.
func idle(t *testing.T, e *testbed.Engine, name string, args ...string) {
	t.Helper()
	e.Run(t, append(append([]string{"run", "--detach", "--network", "none", "--name", name, "--entrypoint", "sleep"}, args...),
		testbed.Image, "1000000")...)
}

// run runs a program to its end.
func run(t *testing.T, c *container.Container, command container.Command) (code int, stdout, stderr string) {
	t.Helper()
	var said bytes.Buffer
	command.Stderr = &said
	x, err := c.Start(t.Context(), command)
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(x)
	if err != nil {
		t.Fatal(err)
	}
	if code, err = x.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	return code, string(out), said.String()
}

func TestFind(t *testing.T) {
	e := testbed.Docker(t)
	idle(t, e, "db", "--label", "com.docker.compose.service=db", "--label", "com.docker.compose.project=shop", "--env", "POSTGRES_USER=boss")
	idle(t, e, "db2", "--label", "com.docker.compose.service=db", "--label", "com.docker.compose.project=blog", "--label", "tier=data")
	idle(t, e, "halted", "--label", "com.docker.compose.service=halted")
	e.Run(t, "stop", "--time", "0", "halted")
	idle(t, e, "frozen")
	e.Run(t, "pause", "frozen")

	id := e.Run(t, "inspect", "--format", "{{.Id}}", "db")
	for _, ref := range []container.Ref{{Name: "db"}, {Name: id}, {Name: id[:12]}, {Service: "db", Project: "shop"}} {
		ref.Engine = e.Socket
		c, err := container.Find(t.Context(), ref)
		if err != nil {
			t.Fatalf("%s: %v", ref, err)
		}
		if c.ID != id || c.Name != "db" || c.Image != testbed.Image || !strings.HasPrefix(c.ImageID, "sha256:") || c.Env["POSTGRES_USER"] != "boss" {
			t.Errorf("%s is %+v", ref, c)
		}
	}
	if c, err := container.Find(t.Context(), container.Ref{Engine: "unix://" + e.Socket, Label: "tier=data"}); err != nil || c.Name != "db2" {
		t.Errorf("by label: %+v, %v", c, err)
	}
	for _, test := range []struct {
		ref   container.Ref
		words []string
	}{
		{container.Ref{Name: "bd"}, []string{`has no container "bd"`, "running are db, db2 and frozen", "was it renamed?"}},
		{container.Ref{Name: "../db"}, []string{"has no container"}},
		{container.Ref{Service: "db"}, []string{`a container of service "db" is not one: db and db2 are running`, "add the project"}},
		{container.Ref{Service: "db", Project: "nowhere"}, []string{`no container of service "db" in project "nowhere"`, "running are"}},
		{container.Ref{Label: "tier=web"}, []string{`no container with label "tier=web"`}},
		{container.Ref{Name: "halted"}, []string{`container "halted" is not running: it is exited`, "docker start halted"}},
		{container.Ref{Service: "halted"}, []string{`service "halted" is not running: there are halted (exited)`, "docker start halted"}},
		{container.Ref{Name: "frozen"}, []string{`container "frozen" is paused`, "docker unpause frozen"}},
	} {
		test.ref.Engine = e.Socket
		_, err := container.Find(t.Context(), test.ref)
		mustSay(t, err, test.words...)
	}
}

func TestEngineRefuses(t *testing.T) {
	dir := t.TempDir()
	nobody := filepath.Join(dir, "nobody.sock")
	listener, err := net.Listen("unix", nobody)
	if err != nil {
		t.Fatal(err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	listener.Close()
	silent := filepath.Join(dir, "file")
	if err := os.WriteFile(silent, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		engine string
		words  []string
	}{
		{filepath.Join(dir, "none.sock"), []string{"reach the engine at " + dir, "no such file or directory", "engine: unix:///PATH"}},
		{nobody, []string{"connection refused", "start the engine"}},
		{silent, []string{"connection refused"}},
		{"tcp://127.0.0.1:2375", []string{"is no unix socket", "another machine"}},
		{"relative.sock", []string{"is no unix socket"}},
	} {
		_, err := container.Find(t.Context(), container.Ref{Engine: test.engine, Name: "db"})
		mustSay(t, err, test.words...)
	}
	_, err = container.ParseEngine("ssh://host")
	if !errors.Is(err, holdfast.ErrUsage) {
		t.Errorf("%v is no mistake of usage", err)
	}
}

// answering listens at a socket as something that answers every connection in one way.
func answering(t *testing.T, name string, handler http.Handler) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), name)
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler, ErrorLog: log.New(io.Discard, "", 0)}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Close()
		<-ended
	})
	return socket
}

// saying answers a ping with a version of the API, and all else with a status and a body.
func saying(version string, status int, body string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/_ping" {
			w.Header().Set("Api-Version", version)
			return
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	})
}

// raw takes a connection over and says what HTTP does not.
func raw(say string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			return
		}
		io.WriteString(conn, say)
		conn.Close()
	})
}

func TestWhatIsNoEngine(t *testing.T) {
	const elsewhere = "name the socket of Docker or Podman"
	for _, test := range []struct {
		name    string
		handler http.Handler
		words   []string
	}{
		{"web", http.NotFoundHandler(), []string{"what listens at ", " is no engine: it answered a ping with 404 Not Found and no version of the API", elsewhere}},
		{"kind", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }), []string{"is no engine: it answered a ping with 200 OK", elsewhere}},
		{"smtp", raw("220 mail.example.org ESMTP\r\n"), []string{"is no engine: its answer is none of HTTP", elsewhere}},
		{"mute", raw(""), []string{"is no engine: its answer is none of HTTP", elsewhere}},
		{"ill", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }),
			[]string{"the engine refused to answer a ping: 503 Service Unavailable"}},
		{"old", saying("1.39", 200, ""), []string{`speaks version "1.39" of the API, and 1.40 is the oldest that is known here`, "install Docker 19.03 or newer"}},
		{"two", saying("2.0", 200, ""), []string{`speaks version "2.0" of the API`}},
		{"odd", saying("new", 200, ""), []string{`speaks version "new" of the API`}},
		{"new", saying("1.99", 400, `{"message":"client version 1.51 is too old. Minimum supported API version is 1.60, please upgrade your client to a newer version"}`),
			[]string{"speaks no version of the API before 1.60, and 1.51 is the newest that is known here", "install a newer holdfast", "DOCKER_MIN_API_VERSION=1.51"}},
		{"proxy", saying("1.41", 403, "<html>"), []string{"the engine refused to inspect the container: 403 Forbidden", "something between the socket and the engine forbids it"}},
		{"text", saying("1.41", 200, "hello"), []string{"inspect the container: read the engine's answer"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := container.Find(t.Context(), container.Ref{Engine: answering(t, test.name, test.handler), Name: "db"})
			mustSay(t, err, test.words...)
		})
	}
}

// TestEngineForgetsOurVersion has a real engine refuse a version that it speaks no more: a proxy lets it hear a very old one.
func TestEngineForgetsOurVersion(t *testing.T) {
	e := testbed.Docker(t)
	idle(t, e, "db")
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: "engine"})
			r.Out.URL.Path = regexp.MustCompile(`^/v1\.[0-9]+/`).ReplaceAllString(r.In.URL.Path, "/v1.10/")
		},
		Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", e.Socket)
		}},
	}
	for _, ref := range []container.Ref{{Name: "db"}, {Service: "db"}} {
		ref.Engine = answering(t, "proxy", proxy)
		_, err := container.Find(t.Context(), ref)
		mustSay(t, err, "speaks no version of the API before 1.12", "install a newer holdfast")
	}
}

// asNobody holds the path of the socket that a copy of this program asks, without rights.
const asNobody = "HOLDFAST_TEST_AS_NOBODY"

func TestMain(m *testing.M) {
	if socket := os.Getenv(asNobody); socket != "" {
		_, err := container.Find(context.Background(), container.Ref{Engine: socket, Name: "db"})
		fmt.Println(err, "|", holdfast.Hint(err))
		return
	}
	os.Exit(m.Run())
}

// TestNobodyAsks reaches a real engine as a user who may not.
func TestNobodyAsks(t *testing.T) {
	e := testbed.Docker(t)
	folder := filepath.Dir(e.Socket)
	program, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	// Only the socket itself may be in the way.
	if err := os.Chmod(folder, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "program"), program, 0o755); err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), filepath.Join(folder, "program"))
	command.Env, command.Dir = []string{asNobody + "=" + e.Socket}, "/"
	command.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	said, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, said)
	}
	want := "reach the engine at " + e.Socket + ": permission denied | run as root, or as a member of the group that owns the socket (docker)\n"
	if string(said) != want {
		t.Errorf("it says %q, want %q", said, want)
	}
}

func TestExec(t *testing.T) {
	e := testbed.Docker(t)
	idle(t, e, "db", "--env", "COLOUR=blue")
	c, err := container.Find(t.Context(), container.Ref{Engine: e.Socket, Name: "db"})
	if err != nil {
		t.Fatal(err)
	}
	t.Run("what it says and how it ends", func(t *testing.T) {
		code, stdout, stderr := run(t, c, container.Command{Argv: []string{"sh", "-c", `echo "$1 $COLOUR $SECRET"; echo said >&2; exit 42`, "x", "a  b'\""},
			Env: []string{"SECRET=s3"}})
		if code != 42 || stdout != "a  b'\" blue s3\n" || stderr != "said\n" {
			t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
		}
	})
	t.Run("as a user, in a folder", func(t *testing.T) {
		code, stdout, _ := run(t, c, container.Command{Argv: []string{"sh", "-c", "id -u; pwd"}, User: "0", Dir: "/tmp"})
		if code != 0 || stdout != "0\n/tmp\n" {
			t.Errorf("exit code %d, %q", code, stdout)
		}
	})
	t.Run("input and its end", func(t *testing.T) {
		x, err := c.Start(t.Context(), container.Command{Argv: []string{"sh", "-c", "cat; echo end"}, Stdin: true})
		if err != nil {
			t.Fatal(err)
		}
		// More than any buffer between holds: it only ends if both directions move at once.
		sent := bytes.Repeat([]byte("0123456789abcdef\r\n\x00\x01\xff"), 200_000)
		written := make(chan error, 1)
		go func() {
			stdin := x.Stdin()
			_, err := stdin.Write(sent)
			written <- errors.Join(err, stdin.Close())
		}()
		got, err := io.ReadAll(x)
		if err != nil {
			t.Fatal(err)
		}
		if err := <-written; err != nil {
			t.Fatal(err)
		}
		if want := append(sent, "end\n"...); !bytes.Equal(got, want) {
			t.Errorf("%d bytes came back, want %d", len(got), len(want))
		}
		if code, err := x.Wait(t.Context()); code != 0 || err != nil {
			t.Errorf("exit code %d, %v", code, err)
		}
	})
	t.Run("a reader that does not read holds the program up", func(t *testing.T) {
		x, err := c.Start(t.Context(), container.Command{Argv: []string{"sh", "-c", "while :; do echo 0123456789012345678901234567890123456789; done"}})
		if err != nil {
			t.Fatal(err)
		}
		buffer := make([]byte, 1<<20)
		if _, err := io.ReadFull(x, buffer); err != nil {
			t.Fatal(err)
		}
		e.Run(t, "kill", "db")
		if _, err := io.Copy(io.Discard, x); err != nil {
			t.Fatal(err)
		}
		code, err := x.Wait(t.Context())
		if err == nil && code == 0 {
			t.Error("a program that was killed ended well")
		}
		mustSay(t, c.Ended(t.Context(), 10*time.Second), `the container ended: container "db" stopped (exit code 137)`, "docker logs")
		e.Run(t, "start", "db")
		mustSay(t, c.Ended(t.Context(), 0), `container "db" was restarted`)
	})
}

func TestProgramThatIsNotThere(t *testing.T) {
	e := testbed.Docker(t)
	idle(t, e, "db")
	c, err := container.Find(t.Context(), container.Ref{Engine: e.Socket, Name: "db"})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		command container.Command
		words   string
	}{
		{container.Command{Argv: []string{"pg_nothing"}}, "executable file not found"},
		{container.Command{Argv: []string{"id"}, User: "stranger"}, "unable to find user stranger"},
		{container.Command{Argv: []string{"/etc/passwd"}}, "permission denied"},
	} {
		code, stdout, stderr := run(t, c, test.command)
		if code != 126 && code != 127 || !strings.Contains(stdout+stderr, test.words) {
			t.Errorf("%v: exit code %d, %q, %q", test.command.Argv, code, stdout, stderr)
		}
	}
}

// TestEngineDies checks that a program whose engine went away did not end well.
func TestEngineDies(t *testing.T) {
	e := testbed.Docker(t)
	idle(t, e, "db")
	c, err := container.Find(t.Context(), container.Ref{Engine: e.Socket, Name: "db"})
	if err != nil {
		t.Fatal(err)
	}
	x, err := c.Start(t.Context(), container.Command{Argv: []string{"cat"}, Stdin: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Kill(); err != nil {
		t.Fatal(err)
	}
	if code, err := x.Wait(t.Context()); err == nil {
		t.Errorf("exit code %d without an error", code)
	}
	_, err = c.Start(t.Context(), container.Command{Argv: []string{"id"}})
	mustSay(t, err, "is out of reach", "reach the engine at")
}
