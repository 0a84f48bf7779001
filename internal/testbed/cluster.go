package testbed

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// initialise fills the data folder: a copy of a template in the cache, made by initdb the first time. The template is
// shared by all test processes, which saves each a second or more.
func (s *Server) initialise(owner *syscall.Credential) error {
	if s.options.TLS {
		if err := s.certify(owner); err != nil {
			return err
		}
	}
	if s.options.Fresh {
		return s.initdb(s.Data, owner)
	}
	template, err := s.template(owner)
	if err != nil {
		return err
	}
	return copyTree(template, s.Data)
}

// template returns the folder of a cluster that never ran, made with the options of s.
func (s *Server) template(owner *syscall.Credential) (string, error) {
	// Another build of the server may need another cluster.
	program, err := os.Stat(filepath.Join(s.bin, "postgres"))
	if err != nil {
		return "", err
	}
	key := sha256.Sum256(fmt.Appendf(nil, "%d %d %d %q %v", s.Major, owner.Uid, program.ModTime().UnixNano(), s.User, s.initArgs()))
	dir := filepath.Join(cache(), "templates")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	path := filepath.Join(dir, fmt.Sprintf("%d-%s", s.Major, hex.EncodeToString(key[:8])))
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close() // and so unlocks
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", err
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	work := filepath.Join(s.Dir, "template")
	if err := s.initdb(work, owner); err != nil {
		return "", err
	}
	// The copy gets its name last, so that an interrupted one is never taken for a template.
	unfinished := path + ".new"
	if err := os.RemoveAll(unfinished); err != nil {
		return "", err
	}
	if err := copyTree(work, unfinished); err != nil {
		return "", err
	}
	return path, errors.Join(os.Rename(unfinished, path), os.RemoveAll(work))
}

func (s *Server) initArgs() []string {
	return append([]string{"--encoding=UTF8", "--locale=" + s.options.Locale}, s.options.InitArgs...)
}

func (s *Server) initdb(data string, owner *syscall.Credential) error {
	args := append([]string{"--no-sync", "--auth=trust", "--username=" + s.User, "--pgdata=" + data}, s.initArgs()...)
	cmd := exec.Command(filepath.Join(s.bin, "initdb"), args...)
	cmd.Dir = s.Dir
	cmd.Env = []string{"LC_ALL=C.UTF-8", "TZ=UTC", "PATH=/usr/bin:/bin"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: owner}
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb of PostgreSQL %d: %w\n%s", s.Major, err, output)
	}
	return nil
}

// copyTree copies a folder with owners and modes to a path that does not exist.
func copyTree(from, to string) error {
	output, err := exec.Command("cp", "-a", "--reflink=auto", "--no-target-directory", from, to).CombinedOutput()
	if err != nil {
		return fmt.Errorf("copy a cluster: %w: %s", err, strings.TrimSpace(string(output)))
	}
	return nil
}
