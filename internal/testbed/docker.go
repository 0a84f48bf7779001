package testbed

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Image is the image that every engine here holds: PostgreSQL of version ImageMajor, run by the user postgres.
const (
	Image      = "holdfast-test/postgres:17"
	ImageMajor = 17
)

// Engine is a throwaway Docker Engine without any network. It runs in a namespace of processes of its own, so that
// nothing of it is left when it ends, however that comes about. Its methods are safe for concurrent use.
type Engine struct {
	Socket string
	dir    string
	log    string
	cmd    *exec.Cmd
	ended  chan struct{}
}

// Docker starts an engine that holds Image. It ends with the test.
func Docker(t testing.TB) *Engine {
	t.Helper()
	dir, err := os.MkdirTemp(engineRoot(), "hf-docker-")
	if err != nil {
		t.Fatal(err)
	}
	e, err := StartDocker(dir)
	if err != nil {
		os.RemoveAll(dir)
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Remove(); err != nil {
			t.Errorf("remove the throwaway engine: %v", err)
		}
	})
	return e
}

// engineRoot prefers memory: what an engine writes need not reach a disk.
func engineRoot() string {
	var fs unix.Statfs_t
	const room = 2 << 30
	if err := unix.Statfs("/dev/shm", &fs); err == nil && fs.Bavail*uint64(fs.Bsize) > room {
		return "/dev/shm"
	}
	return "/tmp"
}

// StartDocker starts an engine in dir, whose path must be short: it holds the socket. Remove ends it and removes dir.
func StartDocker(dir string) (*Engine, error) {
	tarball := filepath.Join(cache(), "images", fmt.Sprintf("%d.tar", ImageMajor))
	if _, err := os.Stat(tarball); err != nil {
		return nil, fmt.Errorf("%w: run testbed/install.sh", err)
	}
	e := &Engine{Socket: filepath.Join(dir, "docker.sock"), dir: dir, log: filepath.Join(dir, "log"), ended: make(chan struct{})}
	log, err := os.Create(e.log)
	if err != nil {
		return nil, err
	}
	defer log.Close() // the engine has its own
	e.cmd = exec.Command("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child=SIGKILL",
		"dockerd", "--iptables=false", "--ip6tables=false", "--bridge=none",
		"--data-root", filepath.Join(dir, "data"), "--exec-root", filepath.Join(dir, "exec"),
		"--pidfile", filepath.Join(dir, "pid"), "--host", "unix://"+e.Socket)
	e.cmd.Stdout, e.cmd.Stderr = log, log
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := e.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start an engine: %w", err)
	}
	go func() {
		defer close(e.ended)
		e.cmd.Wait() // it is killed in the end
	}()
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	if err := e.await(ctx); err != nil {
		return nil, errors.Join(err, e.Remove())
	}
	_, err = e.Try(ctx, "import", "--change", "ENV PATH=/usr/lib/postgresql/17/bin:/usr/bin", "--change", `ENTRYPOINT ["/entry"]`,
		"--change", "USER postgres", "--change", "VOLUME /var/lib/postgresql/data", tarball, Image)
	if err != nil {
		return nil, errors.Join(err, e.Remove())
	}
	return e, nil
}

func (e *Engine) await(ctx context.Context) error {
	for {
		conn, err := net.Dial("unix", e.Socket)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-e.ended:
			said, _ := os.ReadFile(e.log) // told as far as it can be read
			return fmt.Errorf("the engine ended at once:\n%s", said)
		case <-ctx.Done():
			said, _ := os.ReadFile(e.log) // as above
			return fmt.Errorf("the engine does not answer: %w\n%s", err, said)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Remove removes all containers, ends the engine and removes its folder.
func (e *Engine) Remove() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	if names, err := e.Try(ctx, "ps", "--all", "--quiet"); err == nil && names != "" {
		if _, err := e.Try(ctx, append([]string{"rm", "--force", "--volumes"}, strings.Fields(names)...)...); err != nil {
			return errors.Join(err, e.Kill())
		}
	}
	if err := e.signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-e.ended:
	case <-ctx.Done():
		return errors.Join(errors.New("the engine did not end"), e.Kill())
	}
	return os.RemoveAll(e.dir)
}

// Kill ends the engine at once, as a crash of the machine would.
func (e *Engine) Kill() error {
	if err := e.signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-e.ended
	return nil
}

// signal reaches the engine itself: unshare, which waits for it, ends with it.
func (e *Engine) signal(signal syscall.Signal) error {
	select {
	case <-e.ended:
		return nil
	default:
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", e.cmd.Process.Pid, e.cmd.Process.Pid))
	if err != nil {
		return fmt.Errorf("find the engine: %w", err)
	}
	for _, child := range strings.Fields(string(children)) {
		pid, err := strconv.Atoi(child)
		if err != nil {
			return fmt.Errorf("find the engine: %w", err)
		}
		if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("end the engine: %w", err)
		}
	}
	return nil
}

// Try runs the docker program on this engine and returns its standard output, without the end of its last line.
func (e *Engine) Try(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", append([]string{"--host", "unix://" + e.Socket}, args...)...)
	cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + e.dir}
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(said.String()))
	}
	return strings.TrimSuffix(out.String(), "\n"), nil
}

// Run runs the docker program and fails the test if that fails.
func (e *Engine) Run(t testing.TB, args ...string) string {
	t.Helper()
	out, err := e.Try(t.Context(), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Postgres starts a container with a cluster, without network, and waits until that answers. args go between
// `docker run` and the image: environment, labels.
func (e *Engine) Postgres(t testing.TB, name string, args ...string) {
	t.Helper()
	// A second socket, for tests to fill the cluster from outside.
	sockets := filepath.Join(e.dir, "sockets", name)
	if err := os.MkdirAll(sockets, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(sockets, 0o777); err != nil {
		t.Fatal(err)
	}
	run := []string{"run", "--detach", "--network", "none", "--name", name, "--volume", sockets + ":/sockets", "--env", "SOCKETS=,/sockets"}
	e.Run(t, append(append(run, args...), Image)...)
	e.Await(t, name)
}

// URL leads from outside to a database in a container that Postgres started.
func (e *Engine) URL(name, user, database string) string {
	return fmt.Sprintf("postgres://%s@/%s?host=%s", user, database, filepath.Join(e.dir, "sockets", name))
}

// Await waits until the cluster of a container answers.
func (e *Engine) Await(t testing.TB, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startTime)
	defer cancel()
	for {
		// While initdb runs, its own server has no socket there.
		_, err := e.Try(ctx, "exec", name, "pg_isready", "--quiet")
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			logs, _ := e.Try(context.WithoutCancel(ctx), "logs", name) // told as far as there are any
			t.Fatalf("the cluster in container %s does not answer: %v\n%s", name, err, logs)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// SQL runs statements in a database of a container's cluster as its first role, and returns what psql prints of them,
// unaligned.
func (e *Engine) SQL(t testing.TB, name, database string, statements ...string) string {
	t.Helper()
	args := []string{"exec", name, "psql", "--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1",
		"--username=" + e.Run(t, "exec", name, "sh", "-c", `echo "${POSTGRES_USER:-postgres}"`), "--dbname=" + database}
	for _, statement := range statements {
		args = append(args, "--command="+statement)
	}
	return e.Run(t, args...)
}

// Programs lists what runs in a container, one command line each.
func (e *Engine) Programs(t testing.TB, name string) []string {
	t.Helper()
	var programs []string
	for _, line := range strings.Split(e.Run(t, "top", name, "-eo", "pid,args"), "\n")[1:] {
		_, args, _ := strings.Cut(strings.TrimSpace(line), " ")
		programs = append(programs, strings.TrimSpace(args))
	}
	return programs
}

// Others lists what runs in a container of Postgres besides its server.
func (e *Engine) Others(t testing.TB, name string) []string {
	t.Helper()
	return slices.DeleteFunc(e.Programs(t, name), func(line string) bool { return strings.HasPrefix(line, "postgres") })
}
