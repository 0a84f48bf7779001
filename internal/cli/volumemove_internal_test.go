package cli

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/migration"
	"holdfast/internal/testbed"
)

// moving is a server with a database and a folder that its directory moves to: all of a migration but the volume.
type moving struct {
	*desk
	t    testing.TB
	move move
	bin  string
	data string
	sock string
}

// newMoving starts the server. rows is how many of about 1 KB its table has.
func newMoving(t testing.TB, rows int) *moving {
	t.Helper()
	account, err := user.Lookup("postgres")
	if err != nil {
		t.Fatal(err)
	}
	base, err := os.MkdirTemp("/var/tmp", "mv")
	if err != nil {
		t.Fatal(err)
	}
	m := &moving{t: t, bin: testbed.BinDir(t, 15), data: base + "/main", sock: base + "/s"}
	t.Cleanup(func() {
		m.ctl("stop", "--mode=immediate") // it may have been stopped
		if err := os.RemoveAll(base); err != nil {
			t.Error(err)
		}
	})
	uid, _ := strconv.Atoi(account.Uid)
	gid, _ := strconv.Atoi(account.Gid)
	for path, mode := range map[string]os.FileMode{base: 0o755, m.sock: 0o755, base + "/volume": 0o755, base + "/volume/pgdata": 0o700} {
		if err := os.MkdirAll(path, mode); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.Chmod(path, mode), os.Chown(path, uid, gid)); err != nil {
			t.Fatal(err)
		}
	}
	m.run("initdb", "--pgdata="+m.data, "--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C")
	m.ctl("start")
	m.sql("CREATE ROLE app LOGIN")
	m.sql(fmt.Sprintf("CREATE TABLE item AS SELECT i AS id, repeat(md5(i::text), 30) AS text FROM generate_series(1, %d) i", rows))
	m.sql("ALTER TABLE item OWNER TO app")
	ctl := func(verb string) string {
		return fmt.Sprintf(`[%s/pg_ctl, %s, --wait, --silent, "--pgdata=%s", "--log=%s/log", "--options=-c unix_socket_directories=%s -c listen_addresses="]`, m.bin, verb, m.data, m.sock, m.sock)
	}
	desk := newDesk(t, `
keys: {ops: {recipient: age1cy0su9fwf3gf9mw868g5yut09p6nytfmmnktexz2ya5uqg9vl9sss4euqm}}
stores: {main: {kind: local, path: DIR/store}}
sources: {db: {kind: postgres, url: "postgres://postgres@/postgres?host=`+m.sock+`"}}
jobs: {app: {sources: [db], store: main, recipients: [ops], drill: {bin_dirs: [`+m.bin+`]}}}
volumes:
  v: {device: /nowhere/v.luks, mount: `+base+`/volume, owner: postgres, job: app, source: db, server: {stop: [`+m.bin+`/pg_ctl, stop, --wait, --silent, --mode=fast, "--pgdata=`+m.data+`"], start: `+ctl("start")+`, user: postgres}}
`, "PATH="+os.Getenv("PATH"))
	m.desk = desk
	desk.Now = time.Now
	d, err := desk.disk(desk.cfg, "v")
	if err != nil {
		t.Fatal(err)
	}
	m.move = move{cfg: desk.cfg, disk: d, from: m.data, flags: &migrateFlags{}, ready: func(context.Context) error { return nil }}
	return m
}

func (m *moving) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(m.bin, name), args...)
	account, err := user.Lookup("postgres")
	if err != nil {
		m.t.Fatal(err)
	}
	uid, _ := strconv.Atoi(account.Uid)
	gid, _ := strconv.Atoi(account.Gid)
	cmd.Dir, cmd.SysProcAttr = "/", &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}
	return cmd
}

func (m *moving) run(name string, args ...string) string {
	m.t.Helper()
	output, err := m.command(name, args...).CombinedOutput()
	if err != nil {
		m.t.Fatalf("%s: %v\n%s", name, err, output)
	}
	return strings.TrimSpace(string(output))
}

func (m *moving) ctl(verb string, args ...string) {
	all := append([]string{verb, "--wait", "--silent", "--pgdata=" + m.data, "--log=" + m.sock + "/log"}, args...)
	if verb == "start" {
		all = append(all, "--options=-c unix_socket_directories="+m.sock+" -c listen_addresses=")
	}
	if output, err := m.command("pg_ctl", all...).CombinedOutput(); err != nil && verb == "start" {
		m.t.Fatalf("pg_ctl: %v\n%s", err, output)
	}
}

func (m *moving) sql(text string) string {
	m.t.Helper()
	return m.as("postgres", text)
}

func (m *moving) as(role, text string) string {
	m.t.Helper()
	return m.run("psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1", "--host="+m.sock, "--username="+role, "--dbname=postgres", "--command="+text)
}

// bound is the migration, with a proof that a test has not to wait for.
func (m *moving) bound() migration.Migration {
	m.t.Helper()
	bound, err := m.bind(m.t.Context(), m.move, func(w *migration.World) {
		w.Proven = func(context.Context) (migration.Proof, error) {
			return migration.Proof{Backup: "abcdefghjk", Taken: time.Now()}, nil
		}
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return bound
}

// TestMoveDirectory moves a real server's directory with all that the command uses but a volume.
func TestMoveDirectory(t *testing.T) {
	m := newMoving(t, 2000)
	bound := m.bound()
	plan, err := bound.Plan(t.Context())
	if err != nil || !plan.Go() {
		t.Fatalf("%v\n%s", err, strings.Join(plan.Lines(), "\n"))
	}
	want := m.sql("SELECT count(*), md5(string_agg(text, ',' ORDER BY id)) FROM item")
	report, err := bound.Run(t.Context())
	if err != nil {
		t.Fatalf("%v (hint: %s)\n%s", err, holdfast.Hint(err), strings.Join(report.Lines(), "\n"))
	}
	if got := m.as("app", "SELECT count(*), md5(string_agg(text, ',' ORDER BY id)) FROM item"); got != want {
		t.Errorf("an application sees %q, want %q", got, want)
	}
	if path, err := filepath.EvalSymlinks(m.data); err != nil || path != m.move.disk.volume.DataPath() {
		t.Errorf("the directory is %s, %v", path, err)
	}
	if report.Step != migration.Watched || report.Downtime <= 0 || report.ShutOut < report.Downtime {
		t.Errorf("%+v", report)
	}
}

// TestMoveDirectoryBack: what goes wrong while applications are shut out brings the old directory back.
func TestMoveDirectoryBack(t *testing.T) {
	m := newMoving(t, 200)
	bound, err := m.bind(m.t.Context(), m.move, func(w *migration.World) {
		w.Proven = func(context.Context) (migration.Proof, error) {
			return migration.Proof{Backup: "abcdefghjk", Taken: time.Now()}, nil
		}
		facts, times := w.Facts, 0
		w.Facts = func(ctx context.Context) ([]migration.Database, error) {
			if times++; times == 2 {
				m.sql("DELETE FROM item WHERE id = 7") // on the volume, where nobody may
			}
			return facts(ctx)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	report, err := bound.Run(t.Context())
	if !errors.Is(err, migration.ErrRolledBack) || !errors.Is(err, holdfast.ErrDifference) {
		t.Fatalf("%v\n%s", err, strings.Join(report.Lines(), "\n"))
	}
	if got := m.as("app", "SELECT count(*) FROM item"); got != "200" {
		t.Errorf("%s rows, of 200", got)
	}
	if info, err := os.Lstat(m.data); err != nil || !info.IsDir() {
		t.Errorf("the old directory: %v, %v", info, err)
	}
}

// TestMoveDirectoryAgain: what an earlier migration left on the volume about what it had compared vouches for nothing of this one.
func TestMoveDirectoryAgain(t *testing.T) {
	m := newMoving(t, 200)
	pass := func() (migration.Copying, error) {
		return m.copyPass(t.Context(), m.move, migration.Copy{From: m.data, To: m.move.disk.volume.DataPath(), Observe: func(_, _ int64) {}})
	}
	first, err := pass()
	if err != nil || first.Copied == 0 {
		t.Fatalf("%+v, %v", first, err)
	}
	to := m.move.disk.volume.DataPath()
	if err := errors.Join(os.Rename(to, to+".aside"), os.Mkdir(to, 0o700)); err != nil {
		t.Fatal(err)
	}
	second, err := pass()
	if err != nil || second.Copied < first.Copied/2 {
		t.Errorf("after the folder was made anew %+v, %v; the first time %+v", second, err, first)
	}
	third, err := pass()
	if err != nil || third.Copied > second.Copied/2 {
		t.Errorf("with a ledger of its own %+v, %v; before %+v", third, err, second)
	}
}

// TestMoveDirectoryKilled kills a process that moves as each of its steps begins. What comes of resume is a server with every row, on one of the two
// directories, and applications let in.
func TestMoveDirectoryKilled(t *testing.T) {
	if home := flag.Arg(0); home != "" {
		moveChild(t, home)
		return
	}
	for _, step := range []string{
		"copy while the server runs", "shut applications out", "take the facts of every database", "stop the server", "copy what changed, and compare both sides",
		"compare the control data of both sides", "switch to the volume", "start the server on the volume", "ask whether the server is healthy", "take the facts again, and compare", "let applications in",
	} {
		t.Run(strings.ReplaceAll(step, ",", ""), func(t *testing.T) { // the folder's name comes into a YAML text
			m := newMoving(t, 100)
			want := m.sql("SELECT count(*), md5(string_agg(text, ',' ORDER BY id)) FROM item")
			child := exec.Command(os.Args[0], "-test.run=^TestMoveDirectoryKilled$", m.dir)
			said, err := child.StdoutPipe()
			if err == nil {
				err = child.Start()
			}
			if err != nil {
				t.Fatal(err)
			}
			began := false
			for lines := bufio.NewScanner(said); !began && lines.Scan(); {
				began = lines.Text() == step
			}
			if err := child.Process.Kill(); err != nil || !began {
				t.Fatalf("the step began: %v; %v", began, err)
			}
			if err := child.Wait(); err == nil {
				t.Fatal("it was not killed")
			}
			report, err := m.bound().Resume(t.Context())
			if err != nil && !errors.Is(err, migration.ErrRolledBack) {
				t.Fatalf("resume: %v (hint: %s)", err, holdfast.Hint(err))
			}
			if report.UnderWay || report.Step != migration.Watched && report.Step != migration.RolledBack {
				t.Errorf("it stands at %s, under way %v", report.Step, report.UnderWay)
			}
			if got := m.as("app", "SELECT count(*), md5(string_agg(text, ',' ORDER BY id)) FROM item"); got != want {
				t.Errorf("an application sees %q, want %q", got, want)
			}
			path, err := filepath.EvalSymlinks(m.data)
			if onVolume := path == m.move.disk.volume.DataPath(); err != nil || onVolume != (report.Step == migration.Watched) {
				t.Errorf("the directory is %s at step %s, %v", path, report.Step, err)
			}
		})
	}
}

// moveChild is the process that is killed: it moves what the test that started it has made.
func moveChild(t *testing.T, home string) {
	a := &app{Process: Process{Out: io.Discard, Err: os.Stderr, Now: time.Now, Environ: []string{"HOME=" + home, "HOLDFAST_STATE=" + home + "/state", "PATH=" + os.Getenv("PATH")}}}
	a.flags.config = home + "/holdfast.yaml"
	cfg, err := a.load(config.Flags{}, false)
	if err != nil {
		t.Fatal(err)
	}
	m := &moving{t: t, desk: &desk{app: a, dir: home, cfg: cfg}}
	d, err := a.disk(cfg, "v")
	if err != nil {
		t.Fatal(err)
	}
	m.move = move{cfg: cfg, disk: d, from: filepath.Join(filepath.Dir(d.volume.Mount), "main"), flags: &migrateFlags{}, ready: func(context.Context) error { return nil },
		heard: func(e holdfast.Event) { fmt.Println(e.Message) }}
	if _, err := m.bound().Run(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkMove reports the phases of moving a directory of about 1 GB, from folder to folder, and the downtime beside what it is made of.
func BenchmarkMove(b *testing.B) {
	for b.Loop() {
		m := newMoving(b, 900_000)
		report, err := m.bound().Run(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		of := map[migration.Step]time.Duration{}
		for _, p := range report.Phases {
			of[p.Step] = p.Took
			b.ReportMetric(p.Took.Seconds(), string(p.Step)+"-s")
		}
		parts := of[migration.FactsTaken] + of[migration.FinalCopied]
		b.ReportMetric(float64(report.Size)/1e9, "GB")
		b.ReportMetric(report.Downtime.Seconds(), "downtime-s")
		b.ReportMetric(report.ShutOut.Seconds(), "shut-out-s")
		b.ReportMetric(report.Downtime.Seconds()/parts.Seconds(), "downtime/parts")
	}
}
