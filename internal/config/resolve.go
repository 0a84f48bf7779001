package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"holdfast"
	"holdfast/internal/seal"
)

// Inputs is all that a configuration is made of. The zero value of each field means that it was not given.
type Inputs struct {
	Path    string   // of the file; "" for HOLDFAST_CONFIG, else the default place
	NoFile  bool     // read no file at all
	Environ []string // as os.Environ returns it
	Flags   Flags
	Now     time.Time // decides what has expired
	// Seals says that the command makes backups: then keys that expire soon are warned about too.
	Seals bool
}

// Flags are the values given on a command line; they go before everything else.
type Flags struct {
	Sources          []string
	To, Store        string // two spellings of one thing
	Mirrors          []string
	Recipients       []string
	RecipientsFile   string
	Identity         string
	Job              string
	Seal             string
	Compression      string
	Level            int
	State            string
	Signer           string
	Host             string
	Engine           string
	LogFile          string
	Scratch          string
	AllowDiskScratch bool
}

// Resolve makes the effective configuration: flags go before environment, environment before file, file before
// default. A file that was named must exist; the one at the default place need not.
//
// What describes a job (store, recipients, seal, compression, level, scratch) applies to every job. Sources replace
// those of the selected job, or make a job, called "default" unless another name is given.
func Resolve(in Inputs) (*Config, error) {
	r := newReader("", ".", environment(in.Environ), in.Now)
	d := draft{service: newService(), alarms: newAlarms()}
	var content []byte
	if path, named := configPath(in, r.lookup); !in.NoFile && path != "" {
		data, err := readContent(path, r.lookup)
		switch {
		case errors.Is(err, fs.ErrNotExist) && !named:
		case err != nil:
			return nil, err
		default:
			if d, err = r.readData(path, data); err != nil {
				return nil, err
			}
			content = data
		}
	}
	c, err := r.finish(d, in.Flags, in.Seals)
	if err != nil {
		return nil, err
	}
	c.content = content
	for _, pair := range in.Environ {
		if strings.HasPrefix(pair, "HOME=") || strings.HasPrefix(pair, "SSH_AUTH_SOCK=") {
			c.environ = append(c.environ, pair)
		}
	}
	c.Warnings = append(c.Warnings, strangers(in.Environ, c)...)
	return c, nil
}

// Load is [Resolve] for the file at path and the variables that env finds.
func Load(path string, env func(string) (string, bool), now time.Time) (*Config, error) {
	data, err := readConfig(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, data, env, now)
}

// Parse is [Load] for a file's content; name stands in messages, and its folder is where relative paths start.
func Parse(name string, data []byte, env func(string) (string, bool), now time.Time) (*Config, error) {
	r := newReader("", ".", env, now)
	d, err := r.readData(name, data)
	if err != nil {
		return nil, err
	}
	return r.finish(d, Flags{}, true)
}

// FromEnvironment is [Resolve] without a file and without flags.
func FromEnvironment(environ []string, now time.Time) (*Config, error) {
	return Resolve(Inputs{NoFile: true, Environ: environ, Now: now})
}

// SourceFromText makes a source of what --source takes, with a name derived from it. Environ serves to find the
// name of a database that text leaves to PGDATABASE.
func SourceFromText(text string, environ []string) (Source, error) {
	r := newReader("", ".", environment(environ), time.Time{})
	at := place{where: "flag --source"}
	src, ok := r.sourceOf(text, at, nil)
	if !ok {
		return Source{}, mistakes(r.list)
	}
	return src, nil
}

func newReader(file, dir string, lookup func(string) (string, bool), now time.Time) *reader {
	// A variable that is set to nothing is not set: that is how scripts and unit files take one back.
	set := func(name string) (string, bool) {
		if value, found := lookup(name); found && value != "" {
			return value, true
		}
		return "", false
	}
	return &reader{file: file, dir: dir, lookup: set, now: now, origins: map[string]place{}}
}

// environment looks variables up in environ; of one that comes twice, the last counts.
func environment(environ []string) func(string) (string, bool) {
	set := make(map[string]string, len(environ))
	for _, pair := range environ {
		if name, value, found := strings.Cut(pair, "="); found {
			set[name] = value
		}
	}
	return func(name string) (string, bool) {
		value, found := set[name]
		return value, found
	}
}

// configPath returns the file to read and whether somebody named it.
func configPath(in Inputs, lookup func(string) (string, bool)) (string, bool) {
	if in.Path != "" {
		return in.Path, true
	}
	if path, found := lookup(envConfig); found {
		return path, true
	}
	return defaultPath(lookup), false
}

// DefaultPath is where the configuration is looked for, and written, when no flag names a file: HOLDFAST_CONFIG, else
// the default place; "" when the user has no home.
func DefaultPath(environ []string) string {
	path, _ := configPath(Inputs{}, newReader("", "", environment(environ), time.Time{}).lookup)
	return path
}

func defaultPath(lookup func(string) (string, bool)) string {
	if os.Geteuid() == 0 {
		return "/etc/holdfast/holdfast.yaml"
	}
	dir := userFolder(lookup, "XDG_CONFIG_HOME", ".config")
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, "holdfast", "holdfast.yaml")
}

// userFolder returns a folder of the XDG base directories; "" when there is no home.
func userFolder(lookup func(string) (string, bool), variable, below string) string {
	if dir, found := lookup(variable); found && filepath.IsAbs(dir) {
		return dir
	}
	if home, found := lookup("HOME"); found {
		return filepath.Join(home, below)
	}
	return ""
}

// readContent reads the file at path, or in its place what the service handed on.
func readContent(path string, lookup func(string) (string, bool)) ([]byte, error) {
	text, found := lookup(EnvContent)
	if !found {
		return readConfig(path)
	}
	number, err := parseNumber(text, 3, 1<<20)
	if err != nil {
		return nil, fmt.Errorf("%w: environment %s: %w, not %q", holdfast.ErrUsage, EnvContent, err, text)
	}
	// It is not closed: a command may resolve its configuration twice. No program that this one runs, such as a hook, gets it.
	unix.CloseOnExec(number)
	data, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d", number))
	if err != nil {
		return nil, fmt.Errorf("read the configuration that the service hands on: %w", err)
	}
	return data, nil
}

func readConfig(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		err = &fs.PathError{Op: "open", Path: path, Err: errors.New("is a folder")}
	}
	if err == nil && info.Size() > maxFileSize {
		err = &fs.PathError{Op: "open", Path: path, Err: errors.New("larger than 1 MiB")}
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, holdfast.WithHint(fmt.Errorf("%w: read configuration: %w", holdfast.ErrUsage, err),
			"name another file with --config, or write one with `holdfast init`")
	}
	return data, nil
}

// readData makes a draft of a file. Only what is not YAML ends here: the rest is reported by finish, together.
func (r *reader) readData(name string, data []byte) (draft, error) {
	r.file = name
	dir, err := filepath.Abs(filepath.Dir(name))
	if err != nil {
		return draft{}, fmt.Errorf("find the folder of %s: %w", name, err)
	}
	r.dir = dir
	tree := r.parseTree(data)
	if tree == nil {
		return draft{}, mistakes(r.list)
	}
	return r.readFile(tree), nil
}

// given is a value from a flag or a variable; at is zero when there was none.
type given struct {
	text string
	at   place
}

func (g given) found() bool { return g.at != place{} }

// given returns what the flag says, else what the variable says.
func (r *reader) given(flag, value, variable string) given {
	if value != "" {
		return given{value, place{where: "flag " + flag}}
	}
	if value, found := r.lookup(variable); found {
		return given{value, place{where: "environment " + variable}}
	}
	return given{}
}

// set puts a given text through parse; path is the setting it decides.
func (r *reader) set(g given, path string, parse func(text string) error) {
	if !g.found() {
		return
	}
	if err := parse(g.text); err != nil {
		r.fault(g.at, "%s", err)
		return
	}
	r.origins[path] = g.at
}

// setPath sets a path that starts from the working folder.
func (r *reader) setPath(g given, path string, into *string) {
	r.set(g, path, func(text string) error {
		absolute, err := workingPath(text)
		if err == nil {
			*into = absolute
		}
		return err
	})
}

func workingPath(text string) (string, error) {
	if _, err := cleanPath(text, "."); err != nil {
		return "", err
	}
	return filepath.Abs(text)
}

// finish puts flags and environment over the draft, looks up names, and checks what only the whole can tell.
func (r *reader) finish(d draft, flags Flags, seals bool) (*Config, error) {
	c := &Config{
		File: r.file, Host: d.host, State: d.state, Signer: d.signer, Engine: d.engine, LogFile: d.logFile, Audit: d.audit, Service: d.service, Alarms: d.alarms,
		drill: newDrill(), origins: r.origins, incomplete: map[holdfast.JobName]error{}, expired: map[holdfast.JobName]error{},
		PostgresEnv: map[string]string{},
	}
	r.overlayHost(c, flags)
	c.Warnings = idle(d) // before flags change what a job takes this once
	r.completeVolumes(&d)
	c.Warnings = append(c.Warnings, r.custodians(&d)...)
	for _, v := range d.volumes {
		c.Volumes = append(c.Volumes, v.Volume)
	}
	o := r.overlay(&d, flags)
	c.Selected = o.selected

	drill := &draftJob{Job: Job{Drill: newDrill()}}
	r.overlayDrill(drill, flags, "")
	c.drill = drill.Drill

	for _, k := range d.keys {
		c.Keys = append(c.Keys, k.Key)
	}
	c.Stores, c.Sources = d.stores, d.sources
	if store, found := named(c.Stores, o.store.text, func(s Store) string { return s.Name }); found {
		c.Store, c.chosen = store, true
	} else if len(c.Stores) == 1 {
		c.Store = c.Stores[0]
	}
	for _, l := range o.recipients {
		if k, found := named(d.keys, l.text, func(k draftKey) string { return k.Name }); found {
			c.Given = append(c.Given, k.Key)
		}
	}
	for _, j := range d.jobs {
		r.overlayDrill(j, flags, "jobs."+string(j.Name)+".drill")
		if err := r.complete(&d, j); err != nil {
			c.incomplete[j.Name] = err
			continue
		}
		c.Jobs = append(c.Jobs, j.Job)
		if err := mistakes(j.expired); err != nil {
			c.expired[j.Name] = err
		}
	}
	r.completeChannels(&d)
	c.Channels = d.channels
	if c.Alarms.Zone == nil {
		c.Alarms.Zone = c.Service.Zone
	}
	c.Warnings = append(c.Warnings, r.expired(&d)...)
	if seals {
		c.Warnings = append(c.Warnings, r.expiring(&d)...)
	}
	c.Warnings = append(c.Warnings, o.warnings...)
	switches := r.aliasSwitches()
	c.Disabled, c.switches = switches.disabled, switches.settings
	c.Warnings = append(c.Warnings, switches.warnings...)
	for _, name := range postgresVariables() {
		if value, found := r.lookup(name); found {
			c.PostgresEnv[name] = value
		}
	}
	if password, found := r.lookup(envPostgresPassword); found {
		c.PostgresPassword = holdfast.NewSecret(password)
	}
	if err := mistakes(r.list); err != nil {
		return nil, err
	}
	return c, nil
}

// overlayHost settles what is about the host rather than about a job.
func (r *reader) overlayHost(c *Config, flags Flags) {
	r.set(r.given("--host", flags.Host, envHost), "host", func(text string) error {
		c.Host = text
		return checkText(text)
	})
	r.setPath(r.given("--state", flags.State, envState), "state", &c.State)
	r.setPath(r.given("--signer", flags.Signer, envSigner), "signer", &c.Signer)
	r.set(r.given("--engine", flags.Engine, envEngine), "engine", func(text string) error {
		c.Engine = text
		return checkEngine(text)
	})
	r.setPath(r.given("--log-file", flags.LogFile, envLogFile), "log.file", &c.LogFile)
	r.setPath(r.given("--identity", flags.Identity, envIdentity), "identity", &c.Identity)
	if c.Host == "" {
		c.Host = "localhost"
		if name, err := os.Hostname(); err == nil && name != "" {
			c.Host = name
		}
	}
	if c.State == "" {
		c.State = "/var/lib/holdfast"
		if dir := userFolder(r.lookup, "XDG_STATE_HOME", ".local/state"); os.Geteuid() != 0 && dir != "" {
			c.State = filepath.Join(dir, "holdfast")
		}
	}
	if c.Signer == "" {
		c.Signer = filepath.Join(c.State, "signer")
	}
	if c.Audit.Keep == 0 {
		c.Audit.Keep = defaultAudit
	}
	if c.Audit.Syslog == "" {
		c.Audit.Syslog = SyslogAuto
	}
	if c.Audit.File == "" {
		c.Audit.File = filepath.Join(c.State, "audit.log")
	}
}

// overlaid is what overlay found besides what it changed in the draft.
type overlaid struct {
	selected   holdfast.JobName
	store      given // name of the store, once it is known
	warnings   []string
	recipients []located // names of keys
}

// overlay puts what describes jobs over the draft.
func (r *reader) overlay(d *draft, flags Flags) overlaid {
	var o overlaid
	if g := r.given("--job", flags.Job, envJob); g.found() {
		name, err := holdfast.ParseJobName(g.text)
		if err != nil {
			r.fault(g.at, "job name %q is not valid; %s", g.text, holdfast.Hint(err))
		}
		o.selected = name
	}
	r.overlaySources(d, flags, &o)
	o.store = r.overlayStore(d, flags)
	mirrors := r.overlayMirrors(d, flags)
	recipients := r.overlayRecipients(d, flags)
	o.recipients = recipients
	for _, j := range d.jobs {
		path := "jobs." + string(j.Name) + "."
		if o.store.found() {
			j.store = located(o.store)
			r.origins[path+"store"] = o.store.at
		}
		if len(mirrors) > 0 {
			j.mirrors = mirrors
			r.origins[path+"mirrors"] = mirrors[0].at
		}
		sealing := r.given("--seal", flags.Seal, envSeal)
		r.set(sealing, path+"seal", func(text string) error {
			if err := oneOf(text, jobShape(), "seal"); err != nil {
				return err
			}
			j.Seal = Seal(text)
			if j.Seal == SealNone {
				j.recipients = nil
				delete(j.places, "recipients")
			}
			j.places["seal"] = sealing.at
			return nil
		})
		if len(recipients) > 0 && j.Seal != SealNone {
			j.recipients = recipients
			r.origins[path+"recipients"] = recipients[0].at
			j.places["recipients"] = recipients[0].at
		}
		r.set(r.given("--compression", flags.Compression, envCompression), path+"compression", func(text string) error {
			j.Compression = seal.Compression(text)
			return oneOf(text, jobShape(), "compression")
		})
		level := ""
		if flags.Level != 0 {
			level = strconv.Itoa(flags.Level)
		}
		g := r.given("--level", level, envLevel)
		r.set(g, path+"level", func(text string) error {
			n, err := parseNumber(text, 1, maxLevel)
			if err != nil {
				return fmt.Errorf("%w, not %q", err, text)
			}
			j.Level = n
			j.places["level"] = g.at
			return nil
		})
	}
	r.aliases(d, flags, &o)
	return o
}

// oneOf validates a choice as its key's field allows.
func oneOf(text string, of *shape, key string) error {
	f, _ := of.field(key)
	if !slices.Contains(f.choices, text) {
		return fmt.Errorf("%q is not allowed; %s", text, allowed(text, f.choices))
	}
	return nil
}

func (r *reader) overlayDrill(j *draftJob, flags Flags, path string) {
	r.setPath(r.given("--scratch", flags.Scratch, envScratch), join(path, "scratch"), &j.Drill.Scratch)
	if flags.AllowDiskScratch {
		j.Drill.AllowDiskScratch = true
		r.origins[join(path, "allow_disk_scratch")] = place{where: "flag --allow-disk-scratch"}
	}
}

// overlayMirrors returns the names of the mirrors that flags or environment choose.
func (r *reader) overlayMirrors(d *draft, flags Flags) []located {
	texts, at := flags.Mirrors, place{where: "flag --mirror"}
	if len(texts) == 0 {
		text, _ := r.lookup(envMirrors)
		texts, at = strings.Fields(text), place{where: "environment " + envMirrors}
	}
	var names []located
	for _, text := range texts {
		if g := r.storeNamed(d, given{text, at}); g.found() {
			names = append(names, located(g))
		}
	}
	return names
}

// overlayStore returns the name of the store that flags or environment choose.
func (r *reader) overlayStore(d *draft, flags Flags) given {
	to, store := given{flags.To, place{where: "flag --to"}}, given{flags.Store, place{where: "flag --store"}}
	if to.text != "" && store.text != "" && to.text != store.text {
		r.fault(store.at, "--store and --to are two names of one thing, and say different things")
	}
	g := to
	if g.text == "" {
		g = store
	}
	if g.text == "" {
		if g = r.given("", "", envStore); !g.found() {
			return given{}
		}
	}
	return r.storeNamed(d, g)
}

// storeNamed returns the name of the store that g names, or describes: then it is added.
func (r *reader) storeNamed(d *draft, g given) given {
	var known []string
	for _, s := range d.stores {
		known = append(known, s.Name)
	}
	if slices.Contains(known, g.text) {
		return g
	}
	if len(known) > 0 && !strings.ContainsRune(g.text, '/') && !isStoreURL(g.text) && g.text != "." && g.text != ".." {
		slices.Sort(known)
		r.fault(g.at, "unknown store %q; %s; the path of a folder needs a slash: ./%s", g.text, allowed(g.text, known), g.text)
		return given{}
	}
	return r.addStore(d, g)
}

// overlayRecipients returns the names of the keys that flags or environment choose, and adds to the draft those that
// are given as themselves.
func (r *reader) overlayRecipients(d *draft, flags Flags) []located {
	var texts []located
	file := given{flags.RecipientsFile, place{where: "flag --recipients-file"}}
	for _, text := range flags.Recipients {
		texts = append(texts, located{text, place{where: "flag --recipient"}})
	}
	if len(texts) == 0 && file.text == "" {
		for _, name := range []string{envRecipient, envRecipients} {
			text, _ := r.lookup(name)
			list := strings.FieldsFunc(text, func(c rune) bool { return strings.ContainsRune(", \t\r\n", c) })
			if strings.HasPrefix(strings.TrimSpace(text), armorBegin) {
				list = []string{text}
			}
			for _, one := range list {
				texts = append(texts, located{one, place{where: "environment " + name}})
			}
		}
		file = r.given("", "", envRecipientsFile)
	}
	isKey := func(name string) bool {
		return slices.ContainsFunc(d.keys, func(k draftKey) bool { return k.Name == name })
	}
	var refs []located
	add := func(key Key, at place) {
		key.Name = unique("recipient", isKey)
		d.keys = append(d.keys, draftKey{Key: key, at: at})
		path := "keys." + key.Name + "."
		if key.File == "" {
			r.origins[path+"recipient"] = at
		} else {
			r.origins[path+"recipient_file"] = at
		}
		refs = append(refs, located{key.Name, at})
	}
	for _, l := range texts {
		text := strings.TrimSpace(l.text)
		switch {
		case slices.ContainsFunc(refs, func(ref located) bool { return ref.text == text }):
		case isKey(text):
			refs = append(refs, located{text, l.at})
		default:
			key, err := RecipientKey(text)
			if err != nil {
				r.fault(l.at, "%s", holdfast.Sentence(err))
				continue
			}
			add(key, l.at)
		}
	}
	if file.text != "" {
		path, err := workingPath(file.text)
		var recipients []string
		if err == nil {
			recipients, err = readRecipients(path)
		}
		if err != nil {
			r.fault(file.at, "%s", err)
			return refs
		}
		add(Key{Format: seal.Age, Recipients: recipients, File: path, Ends: ends(recipients)}, file.at)
	}
	return refs
}

// unique returns base, or base with the first number that makes it new.
func unique(base string, taken func(string) bool) string {
	name := base
	for n := 2; taken(name); n++ {
		name = fmt.Sprintf("%s-%d", base, n)
	}
	return name
}

func named[T any](list []T, name string, nameOf func(T) string) (T, bool) {
	for _, one := range list {
		if nameOf(one) == name {
			return one, true
		}
	}
	var none T
	return none, false
}

// strangers warns of variables that look like Holdfast's and are not: most likely a slip of the pen.
func strangers(environ []string, c *Config) []string {
	var known []string
	for _, v := range Variables() {
		known = append(known, v.Name)
	}
	referred := map[string]bool{}
	for _, src := range c.Sources {
		referred[src.Postgres.Password.env] = true
	}
	for _, key := range c.Keys {
		referred[key.Passphrase.env] = true
	}
	for _, v := range c.hookVariables() {
		referred[v.Secret.env] = true
	}
	for _, store := range c.Stores {
		for _, ref := range []SecretRef{store.S3.AccessKey, store.S3.SecretKey, store.S3.SessionToken, store.SSH.Password, store.SSH.Passphrase} {
			referred[ref.env] = true
		}
	}
	referred[c.Service.Queue.Password.env] = true
	for _, channel := range c.Channels {
		for _, ref := range []SecretRef{channel.URL, channel.Password, channel.Token, channel.Topic, channel.Sign, channel.Authorization} {
			referred[ref.env] = true
		}
	}
	var warnings []string
	for _, pair := range environ {
		name, _, _ := strings.Cut(pair, "=")
		if !strings.HasPrefix(name, "HOLDFAST_") || referred[name] || slices.Contains(known, name) {
			continue
		}
		if near := nearest(name, known); near != "" {
			warnings = append(warnings, fmt.Sprintf("the variable %s is not known and does nothing; did you mean %s?", name, near))
		}
	}
	slices.Sort(warnings)
	return slices.Compact(warnings)
}
