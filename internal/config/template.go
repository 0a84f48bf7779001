package config

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"holdfast"
)

// TemplateOptions says what a new configuration file is about.
type TemplateOptions struct {
	Host   string // "" leaves it to the machine
	State  string // "" leaves the default
	Signer string // "" leaves the default
	// Job names sources, store and keys; its zero values become the defaults. A password that was given itself is
	// not written: its place is.
	Job Job
}

// Template writes a commented configuration that [Parse] takes as it stands. Keys that have a default stand in it as
// comments.
func Template(opt TemplateOptions) []byte {
	t := &template{}
	job := opt.Job
	if job.Name == "" {
		job.Name = "default"
	}
	t.line(0, "# Configuration of holdfast. `holdfast config check` checks it, `holdfast config show` shows what is in effect.")
	t.line(0, "# docs/configuration.md describes every key; lines that begin with # show defaults and examples. A block counts once the first # of")
	t.line(0, "# each of its lines is taken away; a second one stands before what is to be looked at and changed first.")
	t.line(0, "version: 1")
	root := rootShape()
	t.value(0, root, "host", opt.Host)
	t.value(0, root, "state", opt.State)
	t.value(0, root, "signer", opt.Signer)
	t.line(0, "# log: {file: /var/log/holdfast.log}")
	t.line(0, "# audit: {keep: 396d, syslog: auto}  # "+auditShape().doc)

	t.heading("Who can open backups. The identities belonging to these recipients must not stay on this host.")
	if len(job.Recipients) == 0 {
		t.line(0, "# keys:")
		t.line(1, "# ops: {recipient: age1…}")
	} else {
		t.line(0, "keys:")
	}
	for _, k := range job.Recipients {
		t.key(k)
	}

	t.heading("Where backups are kept.")
	t.line(0, "stores:")
	t.store(job.Store)
	for _, mirror := range job.Mirrors {
		t.store(mirror)
	}

	t.heading("What to back up.")
	t.line(0, "sources:")
	for _, src := range job.Sources {
		t.source(src)
	}

	t.heading("How `holdfast serve` works, what is worth telling, and who is told. What is due when is said with each job.")
	t.block(0, rootShape(), "service", serviceShape(), nil)
	t.block(0, rootShape(), "alarms", alarmsShape(), nil)
	t.channels()

	t.heading("Which sources go where, sealed to whom.")
	t.line(0, "jobs:")
	t.job(job)
	t.volumes(job)
	return []byte(t.out.String())
}

type template struct{ out strings.Builder }

func (t *template) line(depth int, text string) {
	t.out.WriteString(strings.Repeat("  ", depth) + text + "\n")
}

func (t *template) heading(text string) { t.out.WriteString("\n# " + text + "\n") }

// value writes a key with its value, or as a comment with its default or an example.
func (t *template) value(depth int, of *shape, name, text string) {
	if text != "" {
		t.line(depth, name+": "+quoteText(text))
		return
	}
	t.comment(depth, of, name)
}

// comment writes a key as a comment: what it would be, and what it does.
func (t *template) comment(depth int, of *shape, name string) {
	f, known := of.field(name)
	if !known {
		panic("config: the template names the key " + name + ", which is not in the table of " + of.name)
	}
	t.explain(depth, "# "+name+": "+f.sample(), f.doc)
}

// explain writes a key and, behind it, what it does.
func (t *template) explain(depth int, line, doc string) {
	t.line(depth, fmt.Sprintf("%-*s  # %s", commentColumn, line, doc))
}

const commentColumn = 34

// sample is what a key could be.
func (f field) sample() string {
	switch {
	case f.example != "":
		return f.example
	case f.form == formSection:
		return f.shape.needs()
	case f.form == formTexts, f.form == formPaths, f.form == formSections, f.form == formRoots:
		return "[]"
	}
	return f.fallback
}

// needs is a section with what must be given.
func (s *shape) needs() string {
	var parts []string
	for _, f := range s.fields {
		if f.needed {
			parts = append(parts, f.name+": "+f.sample())
		}
	}
	return "{" + strings.Join(parts, ", ") + "}"
}

// block writes a section as comments that can be taken in as they stand: what is the default, what must be given, and what values have. The
// examples of its other keys, which are somebody else's, stand behind a second sign.
func (t *template) block(depth int, in *shape, name string, of *shape, values map[string]string) {
	about, known := in.field(name)
	if !known {
		panic("config: the template names the section " + name + ", which is not in the table of " + in.name)
	}
	t.explain(depth, "# "+name+":", about.doc)
	t.settings(depth+1, of, values)
}

func (t *template) settings(depth int, of *shape, values map[string]string) {
	for _, f := range of.fields {
		sign, text := "# ", f.sample()
		if value, given := values[f.name]; given {
			text = value
		} else if !f.needed && (f.example != "" || f.fallback == "") {
			sign = "# # "
		}
		t.explain(depth, sign+f.name+": "+text, f.doc)
	}
}

// channels writes one channel with all its keys, and what each other kind needs.
func (t *template) channels() {
	about, _ := rootShape().field("channels")
	t.explain(0, "# channels:", about.doc)
	for _, kind := range channelKinds() {
		of := channelShapes()[kind]
		if kind == ChannelMail {
			t.explain(1, "# "+kind+":", of.doc)
			t.settings(2, of, nil)
			continue
		}
		t.explain(1, "# # "+kind+": "+of.needs(), of.doc)
	}
}

// volumes writes a volume as an example. Copies of its header are sealed, so a job that seals nothing gets none.
func (t *template) volumes(job Job) {
	if len(job.Recipients) == 0 {
		return
	}
	values := map[string]string{"job": string(job.Name)}
	about, _ := rootShape().field("volumes")
	t.heading(about.doc)
	t.line(0, "# volumes:  # docs/volumes.md tells how one is made")
	t.line(1, "# pg-data:")
	of := *volumesShape()
	of.fields = slices.DeleteFunc(of.fields, func(f field) bool { return f.name == "source" })
	if i := slices.IndexFunc(job.Sources, func(s Source) bool { return s.Kind == holdfast.KindPostgres }); i >= 0 {
		of, values["source"] = *volumesShape(), string(job.Sources[i].Name)
	}
	t.settings(2, &of, values)
}

// due are the times of a schedule that count once they are taken in. What needs mirrors or rules that the job has not stays an example.
func due(job Job) map[string]string {
	values := map[string]string{}
	for _, task := range holdfast.Tasks() {
		_, condition := defaultTime(task)
		if f, _ := scheduleShape().field(string(task)); condition == "" || condition == withMirrors && len(job.Mirrors) > 0 {
			values[f.name] = f.sample()
		}
	}
	return values
}

// rest writes the keys of a shape that are not in done as comments.
func (t *template) rest(depth int, of *shape, done ...string) {
	for _, f := range of.fields {
		written := false
		for _, name := range done {
			written = written || name == f.name
		}
		if !written && f.form != formSection {
			t.comment(depth, of, f.name)
		}
	}
}

func (t *template) key(k Key) {
	t.line(1, k.Name+":")
	switch {
	case !k.Passphrase.IsZero():
		t.secret(2, "passphrase", k.Passphrase)
		t.value(2, keyShape(), "format", string(k.Format))
	case k.File != "":
		t.line(2, "recipient_file: "+quoteText(k.File))
	case len(k.Recipients) > 0:
		text := k.Recipients[0]
		if strings.Contains(text, "\n") {
			text = quoteText(text)
		}
		t.line(2, "recipient: "+text)
	}
	t.value(2, keyShape(), "holder", k.Holder)
	t.day(2, keyShape(), "created", k.Created)
	t.day(2, keyShape(), "expires", k.Expires)
}

// day writes a date, or as a comment an example.
func (t *template) day(depth int, of *shape, name string, day time.Time) {
	if day.IsZero() {
		t.comment(depth, of, name)
		return
	}
	t.line(depth, name+": "+day.Format(time.DateOnly))
}

func (t *template) secret(depth int, name string, ref SecretRef) {
	switch {
	case ref.env != "":
		t.line(depth, fmt.Sprintf("%s: {env: %s}", name, quoteText(ref.env)))
	case ref.file != "":
		t.line(depth, fmt.Sprintf("%s: {file: %s}", name, quoteText(ref.file)))
	case len(ref.exec) > 0:
		t.line(depth, fmt.Sprintf("%s: {exec: %s}", name, quoteList(ref.exec)))
	}
}

func (t *template) source(src Source) {
	t.line(1, string(src.Name)+":")
	t.line(2, "kind: "+string(src.Kind))
	done := []string{"kind"}
	if src.Secret {
		t.line(2, "secret: true")
		done = append(done, "secret")
	}
	if src.Optional {
		t.line(2, "optional: true")
		done = append(done, "optional")
	}
	of := sourceShapes()[string(src.Kind)]
	switch src.Kind {
	case holdfast.KindPostgres:
		done = append(done, "url", "container", "host", "port", "user", "database", "sslmode")
		if src.Postgres.Conn != "" {
			t.line(2, "url: "+quoteText(src.Postgres.Conn))
		} else {
			t.comment(2, of, "url")
		}
		if ref := src.Postgres.Password; !ref.IsZero() && ref.given.IsZero() {
			t.secret(2, "password", ref)
			done = append(done, "password")
		}
		if src.Postgres.AllDatabases {
			t.line(2, "all_databases: true")
			done = append(done, "all_databases")
		}
	case holdfast.KindSQLite:
		t.line(2, "path: "+quoteText(src.SQLite.Path))
		done = append(done, "path")
	case holdfast.KindFiles:
		t.line(2, "paths:")
		for _, p := range src.Files.Paths {
			if p.Optional {
				t.line(3, fmt.Sprintf("- {path: %s, optional: true}", quoteText(p.Path)))
				continue
			}
			t.line(3, "- "+quoteText(p.Path))
		}
		done = append(done, "paths")
		if len(src.Files.Exclude) > 0 {
			t.line(2, "exclude: "+quoteList(src.Files.Exclude))
			done = append(done, "exclude")
		}
	}
	t.rest(2, of, done...)
}

func (t *template) job(job Job) {
	t.line(1, string(job.Name)+":")
	var sources, keys []string
	for _, src := range job.Sources {
		sources = append(sources, string(src.Name))
	}
	for _, k := range job.Recipients {
		keys = append(keys, k.Name)
	}
	t.line(2, "sources: ["+strings.Join(sources, ", ")+"]")
	t.line(2, "store: "+job.Store.Name)
	done := []string{"sources", "store"}
	if len(job.Mirrors) > 0 {
		var mirrors []string
		for _, mirror := range job.Mirrors {
			mirrors = append(mirrors, mirror.Name)
		}
		t.line(2, "mirrors: ["+strings.Join(mirrors, ", ")+"]")
		done = append(done, "mirrors")
	}
	if len(keys) > 0 {
		t.line(2, "recipients: ["+strings.Join(keys, ", ")+"]")
		done = append(done, "recipients")
	} else {
		t.line(2, "seal: none  # stored readable for whoever reads the store")
		done = append(done, "seal", "recipients")
	}
	if job.Compression != "" {
		t.line(2, "compression: "+string(job.Compression))
		done = append(done, "compression")
	}
	t.rest(2, jobShape(), done...)
	t.line(2, "# keep: {daily: 7, weekly: 4, monthly: 12, yearly: forever}  # "+keepShape().doc)
	t.block(2, jobShape(), "schedule", scheduleShape(), due(job))
	t.block(2, jobShape(), "objectives", objectivesShape(), map[string]string{"rpo": "24h", "rto": "4h"})
	t.line(2, "# hooks: {backup: {before: [{run: [systemctl, stop, app]}], after: [{run: [systemctl, start, app]}]}}  # What is run around its backups and restores: docs/hooks.md")
	if job.Drill.Scratch == "" && !job.Drill.AllowDiskScratch {
		t.block(2, jobShape(), "drill", drillShape(), nil)
		return
	}
	t.line(2, "drill:")
	done = nil
	if job.Drill.Scratch != "" {
		t.line(3, "scratch: "+quoteText(job.Drill.Scratch))
		done = append(done, "scratch")
	}
	if job.Drill.AllowDiskScratch {
		t.line(3, "allow_disk_scratch: true")
		done = append(done, "allow_disk_scratch")
	}
	t.rest(3, drillShape(), done...)
}
