package testbed

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// StartPrometheus starts a Prometheus server with a configuration, and returns its address. It ends with the test.
func StartPrometheus(t testing.TB, config string) string {
	t.Helper()
	return startMonitor(t, "prometheus", "/-/ready", config, func(program, config, data, address string) *exec.Cmd {
		return exec.Command(program, "--config.file="+config, "--storage.tsdb.path="+data, "--web.listen-address="+address, "--log.level=warn")
	})
}

// StartAlertmanager starts an Alertmanager with a configuration, and returns its address. It ends with the test.
func StartAlertmanager(t testing.TB, config string) string {
	t.Helper()
	return startMonitor(t, "prometheus-alertmanager", "/-/ready", config, func(program, config, data, address string) *exec.Cmd {
		// Without a cluster it has no second port.
		return exec.Command(program, "--config.file="+config, "--storage.path="+data, "--web.listen-address="+address, "--cluster.listen-address=", "--log.level=warn")
	})
}

// StartNodeExporter starts a node_exporter that shows the .prom files of a folder and nothing else, and returns its address. It ends with
// the test.
func StartNodeExporter(t testing.TB, dir string) string {
	t.Helper()
	return startMonitor(t, "prometheus-node-exporter", "/metrics", "", func(program, _, _, address string) *exec.Cmd {
		return exec.Command(program, "--collector.disable-defaults", "--web.disable-exporter-metrics", "--collector.textfile", "--collector.textfile.directory="+dir,
			"--web.listen-address="+address, "--log.level=warn")
	})
}

// startMonitor starts one of Debian's programs, and waits until it answers ready.
func startMonitor(t testing.TB, name, ready, config string, command func(program, config, data, address string) *exec.Cmd) string {
	t.Helper()
	program, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%v: run testbed/install.sh", err)
	}
	dir := t.TempDir()
	file, log := filepath.Join(dir, "config.yml"), filepath.Join(dir, "log")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 3 { // another process may take the port in between
		var address string
		if address, err = freeAddress(); err != nil {
			break
		}
		m := &monitor{cmd: command(program, file, filepath.Join(dir, "data"), address), ended: make(chan struct{})}
		if err = m.start(t.Context(), "http://"+address+ready, log); err == nil {
			t.Cleanup(m.stop)
			return "http://" + address
		}
	}
	said, _ := os.ReadFile(log) // told as far as it can be read
	t.Fatalf("start %s: %v\n%s", name, err, said)
	return ""
}

type monitor struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

func (m *monitor) start(ctx context.Context, url, log string) error {
	// A file and no pipe: a pipe that something inherits would be waited for.
	file, err := os.Create(log)
	if err != nil {
		return err
	}
	defer file.Close() // the server has its own
	m.cmd.Stdout, m.cmd.Stderr = file, file
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if err := m.cmd.Start(); err != nil {
		return err
	}
	go func() {
		defer close(m.ended)
		_ = m.cmd.Wait() // it is killed in the end
	}()
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	if err := m.await(ctx, url); err != nil {
		m.stop()
		return err
	}
	return nil
}

func (m *monitor) await(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	for {
		answer, err := http.DefaultClient.Do(request)
		if err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(answer.Status)
		}
		select {
		case <-m.ended:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return fmt.Errorf("it does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stop kills the server: nothing of it is needed any more.
func (m *monitor) stop() {
	_ = syscall.Kill(-m.cmd.Process.Pid, syscall.SIGKILL) // it may have ended
	<-m.ended
}
