package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// etcFile is one small file of the host's /etc that programs inside may need and that tells nothing.
type etcFile struct {
	path    string
	link    string // when it leads into /usr, the link is kept: initdb finds the time zone's name that way
	content []byte
}

// readEtc reads the files that are copied. Everything else of /etc stays away, above all shadow and keys.
func readEtc() ([]etcFile, error) {
	var files []etcFile
	for _, path := range []string{"/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/localtime", "/etc/timezone",
		"/etc/locale.alias", "/etc/locale.conf", "/etc/ssl/openssl.cnf", "/etc/pki/tls/openssl.cnf"} {
		real, err := filepath.EvalSymlinks(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		file := etcFile{path: path}
		if strings.HasPrefix(real, "/usr/") {
			file.link = real
		} else if file.content, err = os.ReadFile(real); err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		files = append(files, file)
	}
	return files, nil
}

// writeEtc writes the copies, and the databases of users, groups and hosts with what exists inside.
func writeEtc(files []etcFile, uid, gid int) error {
	files = append(files,
		etcFile{path: "/etc/passwd", content: fmt.Appendf(nil, "root:x:0:0::/:/usr/sbin/nologin\nholdfast-drill:x:%d:%d::/:/usr/sbin/nologin\n", uid, gid)},
		etcFile{path: "/etc/group", content: fmt.Appendf(nil, "root:x:0:\nholdfast-drill:x:%d:\n", gid)},
		etcFile{path: "/etc/hosts", content: []byte("127.0.0.1 localhost drill\n")},
		etcFile{path: "/etc/nsswitch.conf", content: []byte("passwd: files\ngroup: files\nhosts: files\n")},
	)
	for _, file := range files {
		if err := os.MkdirAll(filepath.Dir(file.path), 0o755); err != nil {
			return fmt.Errorf("write %s: %w", file.path, err)
		}
		var err error
		if file.link != "" {
			err = os.Symlink(file.link, file.path)
		} else {
			err = os.WriteFile(file.path, file.content, 0o644)
		}
		if err != nil {
			return fmt.Errorf("write %s: %w", file.path, err)
		}
	}
	return nil
}
