package config

import (
	"strconv"
	"strings"
	"time"

	"holdfast"
)

// Setting is one effective value and where it came from.
type Setting struct {
	Path   string `json:"path"`   // "jobs.app.compression"
	Value  string `json:"value"`  // never a secret: references and masks only
	Origin string `json:"origin"` // "holdfast.yaml:12:5", "environment HOLDFAST_LEVEL", "flag --level" or "default"
}

// settings gathers what [Config.Show] returns.
type settings struct {
	list    []Setting
	origins map[string]place
}

func (s *settings) add(path, value string) {
	origin := "default"
	if at, found := s.origins[path]; found {
		origin = at.String()
	}
	s.list = append(s.list, Setting{path, value, origin})
}

// given adds a value only if there is one.
func (s *settings) given(path, value string) {
	if value != "" {
		s.add(path, value)
	}
}

// Show lists every effective setting, in the order of the file's documentation.
func (c *Config) Show() []Setting {
	s := &settings{origins: c.origins}
	s.add("host", c.Host)
	s.add("state", c.State)
	s.add("signer", c.Signer)
	s.given("engine", c.Engine)
	s.given("log.file", c.LogFile)
	s.given("audit.file", c.Audit.File)
	s.add("audit.keep", formatSpan(c.Audit.Keep))
	s.add("audit.syslog", c.Audit.Syslog)
	s.service(c.Service)
	s.alarms(c.Alarms)
	for _, channel := range c.Channels {
		s.channel("channels."+channel.Name+".", channel)
	}
	s.given("identity", c.Identity)
	for _, k := range c.Keys {
		s.key("keys."+k.Name+".", k)
	}
	for _, store := range c.Stores {
		s.store("stores."+store.Name+".", store)
	}
	for _, src := range c.Sources {
		s.source("sources."+string(src.Name)+".", src)
	}
	for _, job := range c.Jobs {
		s.job("jobs."+string(job.Name)+".", job)
	}
	for _, v := range c.Volumes {
		s.volume("volumes."+v.Name+".", v)
	}
	for _, name := range postgresVariables() {
		if value, found := c.PostgresEnv[name]; found {
			s.list = append(s.list, Setting{name, value, "environment " + name})
		}
	}
	if !c.PostgresPassword.IsZero() {
		s.list = append(s.list, Setting{envPostgresPassword, c.PostgresPassword.String(), "environment " + envPostgresPassword})
	}
	return append(s.list, c.switches...)
}

func (s *settings) key(path string, k Key) {
	switch {
	case !k.Passphrase.IsZero():
		s.add(path+"passphrase", k.Passphrase.String())
		s.add(path+"format", string(k.Format))
	case k.File != "":
		s.add(path+"recipient_file", k.File)
	default:
		s.add(path+"recipient", k.recipientText())
	}
	s.given(path+"holder", k.Holder)
	s.day(path+"created", k.Created)
	s.day(path+"expires", k.Expires)
	for i, old := range k.Retired {
		inner := element(strings.TrimSuffix(path, "."), "retired", i) + "."
		s.add(inner+"ids", strings.Join(old.IDs, ", "))
		s.given(inner+"holder", old.Holder)
		s.day(inner+"since", old.Since)
		s.day(inner+"until", old.Until)
	}
}

// span, size and count add what there is.
func (s *settings) span(path string, span time.Duration) {
	if span != 0 {
		s.add(path, formatSpan(span))
	}
}

func (s *settings) size(path string, n int64) {
	if n != 0 {
		s.add(path, formatSize(n))
	}
}

func (s *settings) count(path string, n int) {
	if n != 0 {
		s.add(path, strconv.Itoa(n))
	}
}

// day adds a date only if there is one.
func (s *settings) day(path string, day time.Time) {
	if !day.IsZero() {
		s.add(path, day.Format(time.DateOnly))
	}
}

func (s *settings) source(path string, src Source) {
	s.add(path+"kind", string(src.Kind))
	s.add(path+"optional", strconv.FormatBool(src.Optional))
	s.add(path+"secret", strconv.FormatBool(src.Secret))
	switch src.Kind {
	case holdfast.KindPostgres:
		p := src.Postgres
		s.conn(path, p.Conn)
		s.given(path+"password", p.Password.String())
		s.add(path+"all_databases", strconv.FormatBool(p.AllDatabases))
		s.given(path+"include_tables", strings.Join(p.IncludeTables, ", "))
		s.given(path+"include_schemas", strings.Join(p.IncludeSchemas, ", "))
		s.given(path+"exclude_tables", strings.Join(p.ExcludeTables, ", "))
		s.given(path+"exclude_table_data", strings.Join(p.ExcludeTableData, ", "))
		s.given(path+"exclude_schemas", strings.Join(p.ExcludeSchemas, ", "))
		s.add(path+"globals", strconv.FormatBool(p.Globals))
		s.add(path+"lock_wait", formatSpan(p.LockWait))
		s.add(path+"stall", formatSpan(p.Stall))
	case holdfast.KindSQLite:
		s.add(path+"path", src.SQLite.Path)
		s.add(path+"max_lock", formatSpan(src.SQLite.MaxLock))
	case holdfast.KindFiles:
		var paths []string
		for _, p := range src.Files.Paths {
			if p.Optional {
				p.Path += " (optional)"
			}
			paths = append(paths, p.Path)
		}
		s.add(path+"paths", strings.Join(paths, ", "))
		s.given(path+"exclude", strings.Join(src.Files.Exclude, ", "))
		s.add(path+"one_filesystem", strconv.FormatBool(src.Files.OneFilesystem))
		s.add(path+"tolerate_unreadable", strconv.FormatBool(src.Files.TolerateUnreadable))
	}
}

// conn shows the parts of a connection if the file gave parts, else its text.
func (s *settings) conn(path, text string) {
	if _, inside := s.origins[path+"container"]; inside {
		s.add(path+"container", text) // with what stands beside it
		return
	}
	parts := false
	for _, key := range connParts() {
		if _, found := s.origins[path+key.key]; found {
			s.add(path+key.key, keywordOf(text, key.keyword))
			parts = true
		}
	}
	if !parts {
		s.add(path+"url", text)
	}
}

func (s *settings) job(path string, job Job) {
	var sources, keys, mirrors []string
	for _, mirror := range job.Mirrors {
		mirrors = append(mirrors, mirror.Name)
	}
	for _, src := range job.Sources {
		sources = append(sources, string(src.Name))
	}
	for _, k := range job.Recipients {
		keys = append(keys, k.Name)
	}
	s.add(path+"sources", strings.Join(sources, ", "))
	s.add(path+"store", job.Store.Name)
	s.given(path+"mirrors", strings.Join(mirrors, ", "))
	s.keep(path+"keep.", job.Keep)
	s.given(path+"recipients", strings.Join(keys, ", "))
	s.add(path+"seal", string(job.Seal))
	s.add(path+"compression", string(job.Compression))
	s.add(path+"level", strconv.Itoa(job.Level))
	s.add(path+"workers", strconv.Itoa(job.Workers))
	s.schedule(path+"schedule.", job.Schedule)
	s.objectives(path+"objectives.", job.Objectives)
	s.hooks(path+"hooks.", job.Hooks)
	drill := job.Drill
	path += "drill."
	s.add(path+"scratch", drill.Scratch)
	s.add(path+"allow_disk_scratch", strconv.FormatBool(drill.AllowDiskScratch))
	s.add(path+"every", formatSpan(drill.Every))
	s.given(path+"bin_dirs", strings.Join(drill.BinDirs, ", "))
	s.add(path+"container", drill.Container)
	s.given(path+"image", drill.Image)
	for i, a := range drill.Assertions {
		inner := element(strings.TrimSuffix(path, "."), "assertions", i) + "."
		s.add(inner+"source", string(a.Source))
		s.add(inner+"sql", a.SQL)
		s.add(inner+"name", a.Name)
	}
}
