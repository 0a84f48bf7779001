package config

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"holdfast"
)

// overlaySources lets sources given by flags or environment be those of the selected job, which it makes if need be.
func (r *reader) overlaySources(d *draft, flags Flags, o *overlaid) {
	var texts []located
	for _, text := range flags.Sources {
		texts = append(texts, located{text, place{where: "flag --source"}})
	}
	if len(texts) == 0 {
		text, _ := r.lookup(envSource)
		for line := range strings.Lines(text) {
			texts = append(texts, located{strings.TrimSpace(line), place{where: "environment " + envSource}})
		}
	}
	texts = slices.DeleteFunc(texts, func(l located) bool { return l.text == "" })
	if len(texts) == 0 {
		return
	}
	if o.selected == "" {
		o.selected = "default"
	}
	at := texts[0].at
	job, found := named(d.jobs, string(o.selected), func(j *draftJob) string { return string(j.Name) })
	if !found {
		job = newJob(o.selected, at)
		job.adHoc = true
		d.jobs = append(d.jobs, job)
	}
	job.sources = nil
	job.Drill.Assertions, job.sourceOf = keepAssertions(job, texts)
	r.origins["jobs."+string(o.selected)+".sources"] = at
	for _, l := range texts {
		if _, known := named(d.sources, l.text, func(s Source) string { return string(s.Name) }); known {
			job.sources = append(job.sources, l)
			continue
		}
		src, ok := r.sourceOf(l.text, l.at, d.sources)
		if !ok {
			continue
		}
		if strings.HasPrefix(l.at.where, "flag") && !src.Postgres.Password.given.IsZero() {
			o.warnings = append(o.warnings, "a password on the command line can be seen by everyone on this host while the command runs; use PGPASSWORD, a password file, or HOLDFAST_SOURCE")
		}
		d.sources = append(d.sources, src)
		job.sources = append(job.sources, located{string(src.Name), l.at})
		r.noteSource(src, l.at)
	}
}

// keepAssertions keeps of a job's assertions those about sources that are still to be taken.
func keepAssertions(job *draftJob, texts []located) (kept []Assertion, at []place) {
	for i, a := range job.Drill.Assertions {
		if slices.ContainsFunc(texts, func(l located) bool { return l.text == string(a.Source) }) {
			kept, at = append(kept, a), append(at, job.sourceOf[i])
		}
	}
	return kept, at
}

// noteSource remembers where a source's settings came from.
func (r *reader) noteSource(src Source, at place) {
	path := "sources." + string(src.Name) + "."
	keys := []string{"kind"}
	switch src.Kind {
	case holdfast.KindPostgres:
		keys = append(keys, "url")
		if !src.Postgres.Password.IsZero() {
			keys = append(keys, "password")
		}
	case holdfast.KindSQLite:
		keys = append(keys, "path")
	case holdfast.KindFiles:
		keys = append(keys, "paths")
	}
	for _, key := range keys {
		r.origins[path+key] = at
	}
}

// sourceOf makes a source of what --source takes.
func (r *reader) sourceOf(text string, at place, others []Source) (Source, bool) {
	given, rest := givenName(text)
	plain, secret := strings.CutPrefix(rest, "secrets:")
	if secret {
		rest = "files:" + plain
	}
	src, name, err := r.recognise(rest)
	if err != nil {
		r.fault(at, "%s", err)
		return Source{}, false
	}
	taken := func(name string) bool {
		return slices.ContainsFunc(others, func(s Source) bool { return string(s.Name) == name })
	}
	if taken(string(given)) {
		r.fault(at, "two sources are called %s", given)
		return Source{}, false
	}
	src.Secret = secret
	src.Name = cmp.Or(given, holdfast.SourceName(unique(cleanName(name, string(src.Kind)), taken)))
	return src, true
}

// givenName takes NAME= off a source. A keyword of a connection is no name; after most of them stands neither a URL, nor a
// kind, nor a path, and the others are named here.
func givenName(text string) (holdfast.SourceName, string) {
	before, after, _ := strings.Cut(text, "=")
	name, err := holdfast.ParseSourceName(before)
	paths := []string{"host", "passfile", "servicefile", "sslcert", "sslcrl", "sslcrldir", "sslkey", "sslrootcert"}
	if err != nil || slices.Contains(paths, before) {
		return "", text
	}
	for _, start := range []string{"sqlite:", "files:", "secrets:", "/", "./", "../"} {
		if strings.HasPrefix(after, start) {
			return name, after
		}
	}
	if isURL(after) {
		return name, after
	}
	return "", text
}

// recognise tells what kind of source text names, and proposes a name for it. Text that may hold a password stands
// in no error.
func (r *reader) recognise(text string) (Source, string, error) {
	if isConn(text) {
		c, err := parseConn(text)
		if err != nil {
			return Source{}, "", err
		}
		src := newSource("", holdfast.KindPostgres)
		src.Postgres.Conn = c.text
		src.Postgres.Password = SecretRef{given: c.password}
		database := c.database
		if InContainer(text) {
			return src, cmp.Or(database, c.user, c.host), nil
		}
		for _, variable := range []string{"PGDATABASE", "PGSERVICE", "PGUSER"} {
			if database == "" {
				database, _ = r.lookup(variable)
			}
			if database == "" && variable == "PGSERVICE" {
				database = c.user
			}
		}
		return src, database, nil
	}
	if strings.Contains(text, "://") {
		return Source{}, "", errors.New("no source is reached by this kind of URL; known: postgres://, postgresql://, docker://")
	}
	how, path := "", text
	for _, prefix := range []string{"sqlite", "files"} {
		if rest, found := strings.CutPrefix(text, prefix+":"); found {
			how, path = prefix, rest
		}
	}
	absolute, err := workingPath(path)
	if err != nil {
		return Source{}, "", err
	}
	if how == "" {
		if how, err = look(absolute); err != nil {
			return Source{}, "", err
		}
	}
	name := filepath.Base(absolute)
	if how == "files" {
		src := newSource("", holdfast.KindFiles)
		src.Files.Paths = []FilePath{{Path: absolute}}
		return src, name, nil
	}
	src := newSource("", holdfast.KindSQLite)
	src.SQLite.Path = absolute
	return src, strings.TrimSuffix(name, filepath.Ext(name)), nil
}

const sqliteMagic = "SQLite format 3\x00"

// look finds out what lies at a path: "sqlite" or "files".
func look(path string) (string, error) {
	known := "a source is a URL (postgres://…), keyword/value text (service=…), sqlite:PATH, files:PATH, secrets:PATH, the path of a SQLite file or of a folder"
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", errors.New(about(path) + "nothing is there; " + known)
	}
	if err != nil {
		return "", err
	}
	if info.IsDir() {
		return "files", nil
	}
	if !info.Mode().IsRegular() {
		return "", errors.New(about(path) + "is neither a file nor a folder; " + known)
	}
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	magic := make([]byte, len(sqliteMagic))
	if n, _ := f.Read(magic); string(magic[:n]) == sqliteMagic {
		return "sqlite", nil
	}
	return "", errors.New(about(path) + "the file is not a SQLite database; write files:PATH to take it as a file")
}

// about says which path a message is about, unless it may be the text of a connection with a slip in it, which may hold
// a password.
func about(path string) string {
	if strings.ContainsAny(path, "@:=?") {
		return ""
	}
	return path + ": "
}
