package sample

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// sparseSize is the length of the sparse file, of which three short pieces hold data.
const sparseSize = 64 << 20

// CreateFiles makes in dir the file set of a Node service: config and data folders, .env secrets, ecosystem.config.js,
// a systemd unit, an nginx site with certificates, and what a backup leaves out: node_modules and logs. Among the data
// are a sparse file, links of both kinds, names of any bytes, extended attributes and an ACL where the file system has
// them, and owners that exist in no user database where the caller is root. dir is made; what is in it already stays,
// and a file that would be overwritten is an error. It holds no SQLite file: see [CreateSQLite].
func CreateFiles(dir string, options Options) error {
	w := &fileWriter{root: dir}
	language := newProse(options)
	for _, file := range plainFiles {
		w.write(file.name, file.mode, []byte(file.text))
	}
	certificate, key, err := certificates(options)
	if err != nil {
		return err
	}
	w.write("deploy/nginx/tls/app.example.org.crt", 0o644, certificate)
	w.write("deploy/nginx/tls/app.example.org.key", 0o600, key)
	w.data(options, language)
	w.odd()
	w.leftOut(options, language)
	w.owners()
	w.times()
	if w.err != nil {
		return fmt.Errorf("create the sample's files: %w", w.err)
	}
	return nil
}

// fileWriter makes files below a folder and keeps its first error.
type fileWriter struct {
	root string
	err  error
}

func (w *fileWriter) path(name string) string { return filepath.Join(w.root, name) }

func (w *fileWriter) do(err error) {
	if w.err == nil {
		w.err = err
	}
}

func (w *fileWriter) mkdir(name string, mode uint32) {
	if w.err != nil {
		return
	}
	w.do(os.MkdirAll(w.path(name), 0o755))
	// The umask is not asked, and os.FileMode keeps the set-id bits elsewhere.
	w.do(unix.Chmod(w.path(name), mode))
}

func (w *fileWriter) write(name string, mode uint32, data []byte) {
	if w.err != nil {
		return
	}
	w.do(os.MkdirAll(filepath.Dir(w.path(name)), 0o755))
	f, err := os.OpenFile(w.path(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		w.do(err)
		return
	}
	_, err = f.Write(data)
	w.do(errors.Join(err, f.Close()))
	w.do(unix.Chmod(w.path(name), mode))
}

// data makes uploads, whose pictures do not compress, and documents, which do.
func (w *fileWriter) data(options Options, language *prose) {
	random := options.random("files")
	left := options.fileBytes()
	for n := 0; left > 0 || n < 12; n++ {
		size := 200 + random.IntN(60_000)
		left -= int64(size)
		folder := fmt.Sprintf("data/uploads/%02x", n%16)
		switch n % 3 {
		case 0:
			w.write(fmt.Sprintf("%s/picture-%04d.jpg", folder, n), 0o644, appendNoise([]byte("\xff\xd8\xff\xe0"), random, size))
		case 1:
			w.write(fmt.Sprintf("%s/letter %04d.txt", folder, n), 0o640, language.appendText(nil, random, size))
		default:
			w.write(fmt.Sprintf("%s/record-%04d.json", folder, n), 0o664, appendDetails(nil, random, language))
		}
	}
}

// odd makes what file systems allow and archivers forget.
func (w *fileWriter) odd() {
	w.mkdir("data/empty folder", 0o755)
	w.mkdir("data/shared", 0o2775)
	w.mkdir("data/tmp", 0o1777)
	w.mkdir("data/private", 0o700)
	w.write("data/empty", 0o644, nil)
	w.write("data/only-readable", 0o400, []byte("nobody writes this\n"))
	w.write("data/no-modes", 0, []byte("only root reads this\n"))
	w.write("data/shared/run", 0o4755, []byte("#!/bin/sh\nexit 0\n"))
	for _, name := range []string{
		" leading and trailing ", "-rf", "two\nlines", "tab\there", `back\slash`, `"quotes" and 'quotes'`, "*?[x]", "$HOME `x`",
		"Zürich (composed)", "Zu\u0308rich (decomposed)", "日本語.txt", "😀", "latin1-\xe9\xff", ".hidden", "...", "~", "#comment", "a:b",
		strings.Repeat("n", 255),
	} {
		w.write("data/names/"+name, 0o644, []byte("called "+name+"\n"))
	}
	deep := "data/" + strings.Repeat("deep folder, one of many/", 12) + "bottom"
	w.write(deep, 0o644, []byte("a path longer than the fields of an old tar\n"))

	w.do(os.MkdirAll(w.path("data/links"), 0o755))
	w.symlink("../../config/app.yaml", "data/links/relative")
	w.symlink("/etc/hostname", "data/links/absolute")
	w.symlink("nowhere/at all", "data/links/dangling")
	w.symlink("self", "data/links/self")
	w.symlink("../uploads", "data/links/folder")
	w.symlink(strings.Repeat("very/", 60)+"long", "data/links/long")
	w.write("data/links/hard-1", 0o644, []byte("one file of three names\n"))
	w.link("data/links/hard-1", "data/links/hard-2")
	w.link("data/links/hard-1", "data/hard-3")

	w.sparse("data/sparse.img")
	w.attribute("data/empty", "user.holdfast.sample", "")
	w.attribute("config/app.yaml", "user.checked by", "Größe\x00\n\xff")
	w.attribute("data/shared", "user.folder", strings.Repeat("v", 1000))
	// user:rw-, user 12345:r--, group:r--, mask:rw-, other:--- in the kernel's own format.
	w.attribute("data/links/hard-1", "system.posix_acl_access", "\x02\x00\x00\x00"+
		"\x01\x00\x06\x00\xff\xff\xff\xff\x02\x00\x04\x00\x39\x30\x00\x00\x04\x00\x04\x00\xff\xff\xff\xff"+
		"\x10\x00\x06\x00\xff\xff\xff\xff\x20\x00\x00\x00\xff\xff\xff\xff")
}

func (w *fileWriter) symlink(target, name string) {
	if w.err == nil {
		w.do(os.Symlink(target, w.path(name)))
	}
}

func (w *fileWriter) link(from, name string) {
	if w.err == nil {
		w.do(os.Link(w.path(from), w.path(name)))
	}
}

func (w *fileWriter) sparse(name string) {
	w.write(name, 0o644, nil)
	if w.err != nil {
		return
	}
	f, err := os.OpenFile(w.path(name), os.O_WRONLY, 0)
	if err != nil {
		w.do(err)
		return
	}
	w.do(f.Truncate(sparseSize))
	for _, offset := range []int64{0, 20<<20 + 4096, sparseSize - 5000} {
		_, err := f.WriteAt([]byte(strings.Repeat("data\n", 800)), offset)
		w.do(err)
	}
	w.do(f.Close())
}

// attribute sets an extended attribute, unless the file system has none of the kind.
func (w *fileWriter) attribute(name, attribute, value string) {
	if w.err != nil {
		return
	}
	if err := unix.Lsetxattr(w.path(name), attribute, []byte(value), 0); !errors.Is(err, unix.ENOTSUP) {
		w.do(err)
	}
}

// leftOut makes what a backup of a Node service leaves out.
func (w *fileWriter) leftOut(options Options, language *prose) {
	random := options.random("left out")
	for n := range 40 {
		folder := fmt.Sprintf("node_modules/%s-%d", strings.ToLower(language.word(random)), n)
		w.write(folder+"/package.json", 0o644, fmt.Appendf(nil, "{\"name\": %q, \"version\": \"1.%d.0\"}\n", filepath.Base(folder), n))
		w.write(folder+"/lib/index.js", 0o644, appendSource(nil, random, language, 2000))
		w.write(folder+"/node_modules/nested/index.js", 0o644, []byte("module.exports = 1\n"))
	}
	w.mkdir("node_modules/.bin", 0o755)
	w.symlink("../../ecosystem.config.js", "node_modules/.bin/app")
	for n := range 5 {
		w.write(fmt.Sprintf("logs/app-%d.log", n), 0o640, language.appendText(nil, random, 20_000))
	}
	w.write(".cache/compiled.bin", 0o644, appendNoise(nil, random, 50_000))
}

// owners gives some files to others, by numbers that have no name too; only root can.
func (w *fileWriter) owners() {
	if os.Geteuid() != 0 || w.err != nil {
		return
	}
	const wwwData, nobodyKnows = 33, 123_456
	for name, owner := range map[string][2]int{
		"data/uploads":                         {wwwData, wwwData},
		"data/shared":                          {0, wwwData},
		"data/private":                         {nobodyKnows, nobodyKnows},
		"data/names/-rf":                       {wwwData, nobodyKnows},
		"data/links/dangling":                  {wwwData, wwwData},
		"deploy/nginx/tls/app.example.org.key": {0, wwwData},
	} {
		w.do(os.Lchown(w.path(name), owner[0], owner[1]))
	}
	// A change of owner takes the set-id bits away.
	w.do(unix.Chmod(w.path("data/shared"), 0o2775))
}

// times sets every time to the nanosecond, folders after what is in them.
func (w *fileWriter) times() {
	if w.err != nil {
		return
	}
	n := int64(0)
	var folders []string
	set := func(path string) error {
		n++
		t := epoch.Add(-time.Duration(n) * (time.Hour + 123_456_789))
		if n%17 == 0 {
			t = time.Unix(-n, 999_999_999)
		}
		spec := unix.NsecToTimespec(t.UnixNano())
		return unix.UtimesNanoAt(unix.AT_FDCWD, path, []unix.Timespec{spec, spec}, unix.AT_SYMLINK_NOFOLLOW)
	}
	w.do(filepath.WalkDir(w.root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			folders = append(folders, path)
			return nil
		}
		return set(path)
	}))
	for i := len(folders) - 1; i >= 0; i-- {
		w.do(set(folders[i]))
	}
}
