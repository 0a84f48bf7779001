package config

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	yaml "go.yaml.in/yaml/v4"

	"holdfast"
	"holdfast/internal/seal"
)

// draft is a configuration on its way: what was read, with names that are not yet looked up.
type draft struct {
	host, state, signer, engine, logFile string

	audit   Audit
	service Service
	alarms  Alarms

	channels    []Channel
	channelJobs [][]located // of each channel

	keys    []draftKey
	stores  []Store
	sources []Source
	jobs    []*draftJob
	volumes []draftVolume
}

// draftKey is a key that may still turn out expired.
type draftKey struct {
	Key
	at place // of the day it expires
}

// draftJob is a job whose names are not yet looked up. Store and Sources of its Job are not set.
type draftJob struct {
	Job
	at         place
	adHoc      bool // made of flags and variables
	sources    []located
	store      located
	mirrors    []located
	stores     []string // store and mirrors by the file, whatever flags make of them for this once
	keepStores []located
	recipients []located
	places     map[string]place // of what is checked later
	expired    []Mistake        // keys that may not be sealed to any more
	sourceOf   []place          // of each assertion's source
}

// readFile makes a draft of the document's tree.
func (r *reader) readFile(tree *yaml.Node) draft {
	d := draft{service: newService(), alarms: newAlarms()}
	root := r.section(tree, "", rootShape())
	if root == nil {
		return d
	}
	var version int
	root.number("version", &version)
	root.text("host", &d.host)
	root.pathTo("state", &d.state)
	root.pathTo("signer", &d.signer)
	root.one("engine", "text", func(text string, _ field) error {
		d.engine = text
		return checkEngine(text)
	})
	if node, _, found := root.value("log"); found {
		if log := r.section(node, "log", logShape()); log != nil {
			log.pathTo("file", &d.logFile)
		}
	}
	if node, _, found := root.value("audit"); found {
		if audit := r.section(node, "audit", auditShape()); audit != nil {
			audit.pathTo("file", &d.audit.File)
			audit.choice("syslog", &d.audit.Syslog)
			if audit.span("keep", &d.audit.Keep) && d.audit.Keep < leastAudit {
				r.fault(audit.placeOf("keep"), "audit.keep: must be at least 365d")
			}
		}
	}
	if node, _, found := root.value("service"); found {
		if service := r.section(node, "service", serviceShape()); service != nil {
			d.service = r.readService(service)
		}
	}
	if node, _, found := root.value("alarms"); found {
		if alarms := r.section(node, "alarms", alarmsShape()); alarms != nil {
			r.readAlarms(alarms, &d.alarms)
		}
	}
	for _, e := range root.entries("channels", "channel") {
		channel, jobs := r.readChannel(e)
		d.channels, d.channelJobs = append(d.channels, channel), append(d.channelJobs, jobs)
	}
	for _, e := range root.entries("keys", "key") {
		// What cannot be read keeps its name, so that jobs that refer to it are not reported too.
		k := draftKey{Key: Key{Name: e.name}, at: e.at}
		if s := r.section(e.node, e.path, keyShape()); s != nil {
			r.readKey(e, s, &k)
		}
		d.keys = append(d.keys, k)
	}
	for _, e := range root.entries("stores", "store") {
		d.stores = append(d.stores, r.readStore(e))
	}
	for _, e := range root.entries("sources", "source") {
		d.sources = append(d.sources, r.readSource(e))
	}
	for _, e := range root.entries("jobs", "job") {
		if s := r.section(e.node, e.path, jobShape()); s != nil {
			d.jobs = append(d.jobs, r.readJob(e, s))
		}
	}
	for _, e := range root.checked("volumes", "volume", checkVolumeName) {
		d.volumes = append(d.volumes, r.readVolume(e))
	}
	return d
}

// Records of what was done are kept for so long at the least, and by default for a month more than a year.
const (
	leastAudit   = 365 * day
	defaultAudit = 396 * day
)

func (r *reader) readKey(e entry, s *section, k *draftKey) {
	var given []string
	for _, name := range []string{"recipient", "recipient_file", "passphrase"} {
		if s.values[name] != nil {
			given = append(given, name)
		}
	}
	if len(given) != 1 {
		what := "none of them is given"
		if len(given) > 1 {
			what = strings.Join(given, " and ") + " are given"
		}
		r.fault(e.at, "%s: a key has exactly one of recipient, recipient_file and passphrase; %s", e.path, what)
	}
	var recipient string
	if s.one("recipient", "text", func(text string, _ field) error {
		recipient = strings.TrimSpace(text)
		return checkRecipient(recipient)
	}) {
		k.Recipients = []string{recipient}
	}
	s.one("recipient_file", "path", func(text string, _ field) error {
		file, err := cleanPath(text, r.dir)
		if err != nil {
			return err
		}
		k.File = file
		k.Recipients, err = readRecipients(file)
		return err
	})
	s.secret("passphrase", &k.Passphrase)
	k.Format = seal.Age
	if s.choice("format", (*string)(&k.Format)) && k.Passphrase.IsZero() {
		r.fault(s.placeOf("format"), "%s.format: has a meaning only beside passphrase; a public key tells its format itself", e.path)
	}
	k.Ends = ends(k.Recipients)
	s.text("holder", &k.Holder)
	s.date("created", &k.Created)
	if s.date("expires", &k.Expires) {
		k.at = s.placeOf("expires")
	}
	nodes, _ := s.elements("retired", "sections with ids and until")
	for i, node := range nodes {
		if inner := r.section(node, element(s.path, "retired", i), retiredShape()); inner != nil {
			var old RetiredKey
			inner.plainTexts("ids", "key IDs", &old.IDs)
			inner.text("holder", &old.Holder)
			inner.date("since", &old.Since)
			inner.date("until", &old.Until)
			k.Retired = append(k.Retired, old)
		}
	}
}

func (r *reader) readSource(e entry) Source {
	src := newSource(holdfast.SourceName(e.name), "")
	// The kind decides which keys are known, so it is looked for before the others are checked.
	shape, kind, ok := r.kindOf(e, sourceShapes(), sourceKinds())
	if !ok {
		return src
	}
	s := r.section(e.node, e.path, shape)
	s.choice("kind", &kind)
	src = newSource(holdfast.SourceName(e.name), holdfast.Kind(kind))
	s.flag("optional", &src.Optional)
	s.flag("secret", &src.Secret)
	switch src.Kind {
	case holdfast.KindPostgres:
		r.readPostgres(s, &src.Postgres)
	case holdfast.KindSQLite:
		s.pathTo("path", &src.SQLite.Path)
		s.span("max_lock", &src.SQLite.MaxLock)
	case holdfast.KindFiles:
		r.readFiles(s, &src.Files)
	}
	return src
}

// newSource returns a source with the defaults of its kind.
func newSource(name holdfast.SourceName, kind holdfast.Kind) Source {
	src := Source{Name: name, Kind: kind}
	switch kind {
	case holdfast.KindPostgres:
		src.Postgres = Postgres{Globals: true, LockWait: time.Minute, Stall: 5 * time.Minute}
	case holdfast.KindSQLite:
		src.SQLite = SQLite{MaxLock: 30 * time.Second}
	case holdfast.KindFiles:
		src.Files = Files{OneFilesystem: true}
	}
	return src
}

func (r *reader) readPostgres(s *section, into *Postgres) {
	s.one("url", "text", func(text string, _ field) error {
		c, err := parseConn(text)
		if err != nil {
			return err
		}
		if !c.password.IsZero() {
			return errors.New("holds a password; take it out and refer to it: password: {env: NAME} or {file: PATH}")
		}
		into.Conn = c.text
		return nil
	})
	var parts []string
	values := map[string]string{}
	for _, part := range connParts() {
		text, ok := readPart(s, part.key)
		if !ok {
			continue
		}
		if s.values["url"] != nil {
			r.fault(s.placeOf(part.key), "%s: give either url or %s", join(s.path, part.key), part.key)
		}
		parts = append(parts, keyword(part.keyword, text))
		values[part.keyword] = text
	}
	if conn, ok := r.readContainer(s, values); ok {
		into.Conn = conn
	}
	if into.Conn == "" {
		into.Conn = strings.Join(parts, " ")
	}
	s.secret("password", &into.Password)
	s.flag("all_databases", &into.AllDatabases)
	s.plainTexts("include_tables", "patterns", &into.IncludeTables)
	s.plainTexts("include_schemas", "patterns", &into.IncludeSchemas)
	s.plainTexts("exclude_tables", "patterns", &into.ExcludeTables)
	s.plainTexts("exclude_table_data", "patterns", &into.ExcludeTableData)
	s.plainTexts("exclude_schemas", "patterns", &into.ExcludeSchemas)
	s.flag("globals", &into.Globals)
	s.span("lock_wait", &into.LockWait)
	s.span("stall", &into.Stall)
}

// readPart reads one part of a connection as text, by the form that its key has.
func readPart(s *section, key string) (text string, ok bool) {
	switch f, _ := s.shape.field(key); f.form {
	case formNumber:
		var n int
		ok = s.number(key, &n)
		text = strconv.Itoa(n)
	case formChoice:
		ok = s.choice(key, &text)
	default:
		ok = s.text(key, &text)
	}
	return text, ok
}

func (r *reader) readFiles(s *section, into *Files) {
	nodes, found := s.elements("paths", "paths")
	if found && len(nodes) == 0 {
		r.fault(s.placeOf("paths"), "%s: needs at least one path", join(s.path, "paths"))
	}
	for i, node := range nodes {
		at := element(s.path, "paths", i)
		var root FilePath
		var ok bool
		if node.Kind == yaml.MappingNode {
			inner := r.section(node, at, rootPathShape())
			ok = inner.pathTo("path", &root.Path)
			inner.flag("optional", &root.Optional)
		} else if text, plain := s.scalar(node, at, "path"); plain {
			var err error
			if root.Path, err = cleanPath(text, r.dir); err != nil {
				r.fault(r.at(node), "%s: %s", at, err)
			}
			ok = err == nil
		}
		if ok && slices.ContainsFunc(into.Paths, func(p FilePath) bool { return p.Path == root.Path }) {
			r.fault(r.at(node), "%s: %q comes twice", at, root.Path)
			continue
		}
		if ok {
			into.Paths = append(into.Paths, root)
		}
	}
	for i, l := range s.texts("exclude", "patterns") {
		if err := checkPattern(l.text); err != nil {
			r.fault(l.at, "%s: %s", element(s.path, "exclude", i), err)
			continue
		}
		into.Exclude = append(into.Exclude, l.text)
	}
	s.flag("one_filesystem", &into.OneFilesystem)
	s.flag("tolerate_unreadable", &into.TolerateUnreadable)
}

func checkPattern(text string) error {
	if name, preset := strings.CutPrefix(text, "preset:"); preset {
		if !slices.Contains(presets(), name) {
			return fmt.Errorf("preset %q is not known; %s", name, allowed(name, presets()))
		}
		return nil
	}
	if strings.HasPrefix(text, "!") {
		return errors.New("a pattern cannot take something in again (!)")
	}
	if _, err := path.Match(text, "x"); err != nil {
		return fmt.Errorf("%q is not a pattern; a [ is not closed or a \\ stands at the end", text)
	}
	return nil
}

func (r *reader) readJob(e entry, s *section) *draftJob {
	j := newJob(holdfast.JobName(e.name), e.at)
	j.sources = s.texts("sources", "names of sources")
	if s.values["sources"] != nil && len(j.sources) == 0 {
		r.fault(s.placeOf("sources"), "%s: needs at least one name", join(s.path, "sources"))
	}
	if s.text("store", &j.store.text) {
		j.store.at = s.placeOf("store")
	}
	j.mirrors = s.texts("mirrors", "names of stores")
	for _, l := range append([]located{j.store}, j.mirrors...) {
		j.stores = append(j.stores, l.text)
	}
	j.recipients = s.texts("recipients", "names of keys")
	note := func(key string) { j.places[key] = s.placeOf(key) }
	if s.choice("seal", (*string)(&j.Seal)) {
		note("seal")
	}
	if s.values["recipients"] != nil {
		note("recipients")
	}
	s.choice("compression", (*string)(&j.Compression))
	if s.number("level", &j.Level) {
		note("level")
	}
	s.number("workers", &j.Workers)
	if node, _, found := s.value("drill"); found {
		if drill := r.section(node, join(s.path, "drill"), drillShape()); drill != nil {
			r.readDrill(drill, j)
		}
	}
	if node, _, found := s.value("keep"); found {
		if keep := r.section(node, join(s.path, "keep"), keepShape()); keep != nil {
			r.readKeep(keep, j)
		}
	}
	if node, _, found := s.value("schedule"); found {
		if inner := r.section(node, join(s.path, "schedule"), scheduleShape()); inner != nil {
			r.readSchedule(inner, j)
		}
	}
	if node, _, found := s.value("objectives"); found {
		if inner := r.section(node, join(s.path, "objectives"), objectivesShape()); inner != nil {
			inner.span("rpo", &j.Objectives.RPO)
			inner.span("rto", &j.Objectives.RTO)
		}
	}
	if node, _, found := s.value("hooks"); found {
		path := join(s.path, "hooks")
		if hooks := r.section(node, path, hooksShape()); hooks != nil {
			r.readHooks(hooks, path, &j.Hooks)
		}
	}
	return j
}

// newJob returns a job with the defaults.
func newJob(name holdfast.JobName, at place) *draftJob {
	return &draftJob{
		Job:    Job{Name: name, Compression: seal.Zstd, Level: 1, Drill: newDrill()},
		at:     at,
		places: map[string]place{},
	}
}

func newDrill() Drill { return Drill{Scratch: "/dev/shm", Every: 90 * day, Container: ContainerAuto} }

func (r *reader) readDrill(s *section, j *draftJob) {
	d := &j.Drill
	s.pathTo("scratch", &d.Scratch)
	s.flag("allow_disk_scratch", &d.AllowDiskScratch)
	s.span("every", &d.Every)
	s.paths("bin_dirs", &d.BinDirs)
	s.choice("container", &d.Container)
	s.text("image", &d.Image)
	nodes, _ := s.elements("assertions", "sections with source and sql")
	for i, node := range nodes {
		inner := r.section(node, element(s.path, "assertions", i), assertionShape())
		if inner == nil {
			continue
		}
		var a Assertion
		inner.text("source", (*string)(&a.Source))
		inner.text("sql", &a.SQL)
		a.Name = a.SQL
		inner.text("name", &a.Name)
		d.Assertions = append(d.Assertions, a)
		j.sourceOf = append(j.sourceOf, inner.placeOf("source"))
	}
}
