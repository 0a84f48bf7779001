// Package runbook writes the pages for an installation's encrypted volumes: what is there, and what to do on a good day and on a bad one.
//
// It hides the pages' text, and how a site's names get into them. Its laws: a page never has an empty blank: what the site does not have is named
// as not configured, with the key to set; whatever a value holds, it stays text on its line, and in a command it is one word; the same site gives
// the same bytes. It reads nothing and writes nothing: what is configured is found out by whoever calls it, and where pages go too.
package runbook

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"
	"text/template"
	"time"

	"holdfast"
)

//go:embed text/*.md
var texts embed.FS

// blankLines are those that parts of a page leave which a site does not have.
var blankLines = regexp.MustCompile(`\n{3,}`)

// Write renders the pages, in the order in which they are read. README.md comes first, and links to the others.
func Write(site Site) []File {
	pages := template.Must(template.New("").Option("missingkey=error").Funcs(template.FuncMap{
		"text": text, "code": code, "sh": word, "line": line, "day": day, "span": span, "unset": unset, "given": given, "role": Volume.role, "roles": roles, "present": Volume.present, "of": site.job,
	}).ParseFS(texts, "text/*.md"))
	names, err := fs.Glob(texts, "text/*.md")
	if err != nil {
		panic("runbook: " + err.Error()) // the pattern is a constant
	}
	tidy := tidied(site)
	files := make([]File, 0, len(names))
	for _, name := range names {
		var out bytes.Buffer
		if err := pages.ExecuteTemplate(&out, path.Base(name), tidy); err != nil {
			panic("runbook: " + err.Error()) // the pages are embedded, and every one is written by a test
		}
		file := File{Name: path.Base(name), Text: blankLines.ReplaceAll(out.Bytes(), []byte("\n\n"))}
		if file.Name == "README.md" {
			files = append([]File{file}, files...)
			continue
		}
		files = append(files, file)
	}
	return files
}

// tidied is the site with names that can stand in a command and in a link, whatever they were.
func tidied(site Site) Site {
	volumes := make([]Volume, len(site.Volumes))
	for i, v := range site.Volumes {
		v.Name, v.Job = plain(v.Name), holdfast.JobName(plain(string(v.Job)))
		volumes[i] = v
	}
	jobs := make([]Job, len(site.Jobs))
	for i, j := range site.Jobs {
		stores := make([]string, len(j.Stores))
		for k, store := range j.Stores {
			stores[k] = plain(store)
		}
		j.Name, j.Stores = holdfast.JobName(plain(string(j.Name))), stores
		jobs[i] = j
	}
	site.Volumes, site.Jobs = volumes, jobs
	return site
}

// plain keeps of a name what the configuration takes as one.
func plain(name string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune("-_.", r) || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '?'
	}, name)
}

// present are the arguments that name everybody who holds a key now.
func (v Volume) present(now time.Time) string {
	var b strings.Builder
	told := map[string]bool{}
	for _, role := range roles() {
		for _, h := range v.role(role, now) {
			if !told[h.Name] {
				told[h.Name] = true
				b.WriteString(" --present " + word(h.Name))
			}
		}
	}
	return b.String()
}

// job is the job of that name, with the name that commands have; a zero one when there is none.
func (s Site) job(v Volume) Job {
	for _, j := range tidied(s).Jobs {
		if j.Name == v.Job && v.Job != "" {
			return j
		}
	}
	return Job{}
}

// role are the custodians of a role who have not left at the time now.
func (v Volume) role(role string, now time.Time) []Holder {
	var found []Holder
	for _, h := range v.Holders {
		if h.Role == role && (h.Until.IsZero() || now.Before(h.Until.Add(24*time.Hour))) {
			found = append(found, h)
		}
	}
	return found
}

// unset says that something is not configured, and by which key it is: a section, a name in it, and what is below that.
func unset(path ...any) string {
	words := make([]string, len(path))
	for i, word := range path {
		words[i] = fmt.Sprint(word)
		if i == 1 {
			words[i] = plain(words[i])
		}
	}
	return fmt.Sprintf("**not configured** (set `%s`)", strings.Join(words, "."))
}

// given is a value as text, or what says that it is not configured.
func given(value any, path ...any) string {
	if written := fmt.Sprint(value); written != "" {
		return text(written)
	}
	return unset(path...)
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// span writes a duration as a person would: 4h, 1h30m, 60s.
func span(d time.Duration) string {
	if d == time.Minute {
		return "60s"
	}
	return strings.Replace(strings.Replace(d.String(), "m0s", "m", 1), "h0m", "h", 1)
}

func roles() []string { return []string{"operational", "recovery"} }
