package config

import (
	"holdfast"
	"holdfast/internal/seal"
)

// The tables below are the one place where a key is named and described: the reader refuses what is not in them, and
// the JSON schema, the template and docs/configuration.md are made from them.

// form says how a value is written.
type form string

const (
	formText     form = "text"
	formPath     form = "path"
	formFlag     form = "true or false"
	formNumber   form = "number"
	formSpan     form = "duration"
	formDate     form = "date"
	formChoice   form = "choice"
	formSecret   form = "secret reference"
	formTexts    form = "list of texts"
	formPaths    form = "list of paths"
	formSection  form = "section"
	formNamed    form = "named sections"
	formSections form = "list of sections"
	formRoots    form = "list of paths or sections"
	formSources  form = "named sources"
	formStores   form = "named stores"
	formChannels form = "named channels"
	formVolumes  form = "named volumes"
	formSize     form = "size"
	formCount    form = "number, or `forever`"

	formArguments form = "list of a program and its arguments"
	formVariables form = "section of variables"

	formContainer form = "text or section"
	formWord      form = "text or number"
)

// field is one key.
type field struct {
	name     string
	form     form
	fallback string // the default as a person would write it; "" for none
	needed   bool
	doc      string
	choices  []string
	min, max int
	shape    *shape // of a section
	example  string // for the template and the documentation, where there is no default
}

// shape is the keys of one section.
type shape struct {
	name   string
	doc    string
	fields []field
}

func (s *shape) field(name string) (field, bool) {
	for _, f := range s.fields {
		if f.name == name {
			return f, true
		}
	}
	return field{}, false
}

func (s *shape) names() []string {
	names := make([]string, len(s.fields))
	for i, f := range s.fields {
		names[i] = f.name
	}
	return names
}

// formats are the ways to seal.
func formats() []string { return []string{string(SealAge), string(SealOpenPGP), string(SealOpenSSL)} }

// presets are the names that the exclude list of a file source takes after "preset:".
func presets() []string { return []string{"caches", "logs", "node_modules"} }

// The highest levels of the compressions.
const (
	maxLevel     = 22
	maxGzipLevel = 9
)

func rootShape() *shape {
	return &shape{name: "", doc: "The file itself.", fields: []field{
		{name: "version", form: formNumber, needed: true, min: 1, max: 1, example: "1", doc: "The version of this format."},
		{name: "host", form: formText, fallback: "the machine's hostname", example: "web1", doc: "The name of this host in manifests and proofs."},
		{name: "state", form: formPath, fallback: "/var/lib/holdfast for root, else $XDG_STATE_HOME/holdfast", example: "/var/lib/holdfast", doc: "Folder of locks, the signer and the records of runs."},
		{name: "signer", form: formPath, fallback: "signer in the state folder", example: "/etc/holdfast/signer", doc: "File of the key that signs this host's manifests."},
		{name: "engine", form: formText, fallback: "unix:///var/run/docker.sock", doc: "Socket of the Docker Engine, or of Podman, for servers in containers and drills in them."},
		{name: "log", form: formSection, shape: logShape(), doc: "Where runs are logged besides the terminal."},
		{name: "service", form: formSection, shape: serviceShape(), doc: "How `holdfast serve` works."},
		{name: "alarms", form: formSection, shape: alarmsShape(), doc: "When something is worth telling, and how often."},
		{name: "channels", form: formChannels, doc: "Who is told, and how."},
		{name: "audit", form: formSection, shape: auditShape(), doc: "Where the lines of the journal go besides."},
		{name: "keys", form: formNamed, shape: keyShape(), doc: "Who can open backups. A job names them as its recipients."},
		{name: "stores", form: formStores, doc: "Where backups are kept."},
		{name: "sources", form: formSources, doc: "What to back up."},
		{name: "jobs", form: formNamed, shape: jobShape(), doc: "Which sources go where, sealed to whom."},
		{name: "volumes", form: formVolumes, shape: volumesShape(), doc: "Encrypted volumes that databases lie on."},
	}}
}

func logShape() *shape {
	return &shape{name: "log", doc: "The log file.", fields: []field{
		{name: "file", form: formPath, example: "/var/log/holdfast.log", doc: "File that log lines are appended to; made with mode 0640."},
	}}
}

func auditShape() *shape {
	return &shape{name: "audit", doc: "Where the lines of the journal go besides: see docs/audit.md.", fields: []field{
		{name: "file", form: formPath, fallback: "audit.log in the state folder", example: "/var/log/holdfast-audit.log", doc: "File that gets a line for each record; made with mode 0600."},
		{name: "keep", form: formSpan, fallback: "396d", doc: "How long records are kept before `holdfast audit expire` lets them go; at least 365d."},
		{name: "syslog", form: formChoice, fallback: SyslogAuto, choices: []string{SyslogAuto, SyslogAlways, SyslogNever}, doc: "Whether the line goes to the system's log too, as auth.info: auto, where there is /dev/log."},
	}}
}

func keyShape() *shape {
	return &shape{name: "key", doc: "A key has exactly one of recipient, recipient_file and passphrase.", fields: []field{
		{name: "recipient", form: formText, example: "age1…", doc: "The public key of an age identity, or an armored OpenPGP public key."},
		{name: "recipient_file", form: formPath, example: "/etc/holdfast/ops.asc", doc: "File of age recipients, one per line, for the long post-quantum ones; or of OpenPGP public keys, as `gpg --export` writes them, armored or not."},
		{name: "passphrase", form: formSecret, example: "{file: /etc/holdfast/passphrase}", doc: "Seals to a passphrase instead, and this host can then read the backups. It must be the only key of its jobs; only one of format openpgp may stand beside OpenPGP keys."},
		{name: "format", form: formChoice, fallback: "age", choices: formats(), doc: "How the passphrase seals: as age does, as `gpg --symmetric` (openpgp), or as `openssl enc -aes-256-cbc -pbkdf2` (openssl, which does not notice a changed file by itself)."},
		{name: "holder", form: formText, example: "Anna, +49 30 123456", doc: "Who keeps the identity and how to reach them; printed where it is needed."},
		{name: "created", form: formDate, example: "2026-07-24", doc: "The day on which the key was made, for its age. `key new`, `key rotate` and `init` write it."},
		{name: "expires", form: formDate, example: "2027-11-22", doc: "The last day on which backups may be sealed to this key."},
		{name: "retired", form: formSections, fallback: "none", shape: retiredShape(), example: `[{ids: [age1q9zrv38s4qe], until: 2026-07-24}]`, doc: "What was sealed to before; `key rotate` keeps this record. The identities are needed as long as backups that are sealed to them."},
	}}
}

func retiredShape() *shape {
	return &shape{name: "retired key", doc: "A key that was replaced.", fields: []field{
		{name: "ids", form: formTexts, needed: true, example: "[age1q9zrv38s4qe]", doc: "Key IDs, as `show` and `key list` print them."},
		{name: "holder", form: formText, example: "Anna, +49 30 123456", doc: "Who kept its identity."},
		{name: "since", form: formDate, example: "2025-07-01", doc: "The day on which it was made."},
		{name: "until", form: formDate, needed: true, example: "2026-07-24", doc: "The day on which it was replaced."},
	}}
}

func commonFields(kind holdfast.Kind) []field {
	return []field{
		{name: "kind", form: formChoice, needed: true, choices: []string{string(kind)}, example: string(kind), doc: "What the source is."},
		{name: "optional", form: formFlag, fallback: "false", doc: "When the source is missing, warn instead of failing."},
		{name: "secret", form: formFlag, fallback: "false", doc: "Never store this source unsealed, and restore it readable by its owner only."},
	}
}

func postgresShape() *shape {
	return &shape{name: "postgres source", doc: "A PostgreSQL database, or all databases of a cluster. What is not given comes from PostgreSQL's own variables (PGHOST, PGSERVICE, …).", fields: append(commonFields(holdfast.KindPostgres), []field{
		{name: "url", form: formText, example: "postgres://app@/app?host=/var/run/postgresql", doc: "Connection URL, or keyword/value text such as `service=app`; without a password."},
		{name: "container", form: formContainer, shape: containerShape(), example: "shop-db-1", doc: "The container that the server runs in. It is reached from inside, by the container's own programs: user, database, port and password may be given besides, but no url, host or sslmode, and PostgreSQL's variables do not count."},
		{name: "host", form: formText, example: "/var/run/postgresql", doc: "Server's name, address or socket folder; instead of url."},
		{name: "port", form: formNumber, min: 1, max: 65535, example: "5432", doc: "Server's port."},
		{name: "user", form: formText, example: "backup", doc: "Role to connect as."},
		{name: "database", form: formText, example: "app", doc: "Database to connect to."},
		{name: "sslmode", form: formChoice, choices: []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}, example: "verify-full", doc: "How TLS is used."},
		{name: "password", form: formSecret, example: "{env: DB_PASSWORD}", doc: "The role's password."},
		{name: "all_databases", form: formFlag, fallback: "false", doc: "Take every database of the cluster that accepts connections."},
		{name: "include_tables", form: formTexts, fallback: "all", doc: "Take only these tables (pg_dump patterns)."},
		{name: "include_schemas", form: formTexts, fallback: "all", doc: "Take only these schemas (pg_dump patterns)."},
		{name: "exclude_tables", form: formTexts, fallback: "none", doc: "Leave these tables out (pg_dump patterns)."},
		{name: "exclude_table_data", form: formTexts, fallback: "none", doc: "Take the definition of these tables without their rows (pg_dump patterns)."},
		{name: "exclude_schemas", form: formTexts, fallback: "none", doc: "Leave these schemas out (pg_dump patterns)."},
		{name: "globals", form: formFlag, fallback: "true", doc: "Take roles and their settings too."},
		{name: "lock_wait", form: formSpan, fallback: "60s", doc: "How long to wait for a table that another session locks."},
		{name: "stall", form: formSpan, fallback: "5m", doc: "How long the server may send nothing before the backup fails."},
	}...)}
}

func sqliteShape() *shape {
	return &shape{name: "sqlite source", doc: "A SQLite file that may be in use.", fields: append(commonFields(holdfast.KindSQLite), []field{
		{name: "path", form: formPath, needed: true, example: "/srv/app/auth.db", doc: "The database file."},
		{name: "max_lock", form: formSpan, fallback: "30s", doc: "How long writers may be held up when the database is in rollback mode."},
	}...)}
}

func filesShape() *shape {
	return &shape{name: "files source", doc: "File trees.", fields: append(commonFields(holdfast.KindFiles), []field{
		{name: "paths", form: formRoots, needed: true, shape: rootPathShape(), example: "[/etc/nginx]", doc: "Folders and files to take."},
		{name: "exclude", form: formTexts, fallback: "none", doc: "Names or patterns to leave out, and `preset:caches`, `preset:logs`, `preset:node_modules`."},
		{name: "one_filesystem", form: formFlag, fallback: "true", doc: "Do not descend into other file systems."},
		{name: "tolerate_unreadable", form: formFlag, fallback: "false", doc: "Report what cannot be read instead of failing."},
	}...)}
}

func rootPathShape() *shape {
	return &shape{name: "path", doc: "An entry of paths is the path alone, or this section.", fields: []field{
		{name: "path", form: formPath, needed: true, example: "/srv/app/ecosystem.config.js", doc: "The folder or file."},
		{name: "optional", form: formFlag, fallback: "false", doc: "When it is missing, warn instead of failing."},
	}}
}

func sourceShapes() map[string]*shape {
	return map[string]*shape{
		string(holdfast.KindPostgres): postgresShape(),
		string(holdfast.KindSQLite):   sqliteShape(),
		string(holdfast.KindFiles):    filesShape(),
	}
}

// sourceKinds lists the kinds in the order of the documentation.
func sourceKinds() []string {
	return []string{string(holdfast.KindPostgres), string(holdfast.KindSQLite), string(holdfast.KindFiles)}
}

func jobShape() *shape {
	return &shape{name: "job", doc: "A job.", fields: []field{
		{name: "sources", form: formTexts, needed: true, example: "[db, config]", doc: "Names of sources, backed up in this order."},
		{name: "store", form: formText, needed: true, example: "main", doc: "Name of the store."},
		{name: "mirrors", form: formTexts, fallback: "none", doc: "Names of further stores that get every backup too, byte for byte. A run that does not reach them all is incomplete, and the next one makes up for it."},
		{name: "recipients", form: formTexts, example: "[ops]", doc: "Names of keys to seal to. Each of them alone can open the backup. Needed unless seal is none."},
		{name: "seal", form: formChoice, fallback: "what the recipients are made for", example: "age", choices: append(formats(), string(SealNone)), doc: "How items are sealed; it follows from the recipients. `none` stores them readable for whoever reads the store, and is refused for secret sources."},
		{name: "compression", form: formChoice, fallback: "zstd", choices: []string{string(seal.Zstd), string(seal.Gzip), string(seal.None)}, doc: "How items are compressed before they are sealed."},
		{name: "level", form: formNumber, fallback: "1", min: 1, max: maxLevel, doc: "Level of the compression: 1 to 22 for zstd, 1 to 9 for gzip."},
		{name: "workers", form: formNumber, fallback: "0", min: 0, max: 256, doc: "Threads that compress; 0 is one per processor."},
		{name: "keep", form: formSection, shape: keepShape(), doc: "Which of its backups a prune keeps. Without it nothing is ever deleted."},
		{name: "drill", form: formSection, shape: drillShape(), doc: "How its backups are proven."},
		{name: "schedule", form: formSection, shape: scheduleShape(), doc: "When what of it is run. Without it the job is run by hand."},
		{name: "objectives", form: formSection, shape: objectivesShape(), doc: "What was promised, and is compared with what is measured."},
		{name: "hooks", form: formSection, shape: hooksShape(), doc: "What is run around its backups and restores."},
	}}
}

func drillShape() *shape {
	return &shape{name: "drill", doc: "How a job's backups are proven.", fields: []field{
		{name: "scratch", form: formPath, fallback: "/dev/shm", doc: "Folder where a drill restores; it must be in memory or on an encrypted volume."},
		{name: "allow_disk_scratch", form: formFlag, fallback: "false", doc: "Allow a scratch folder that is neither. The report says so."},
		{name: "every", form: formSpan, fallback: "90d", doc: "How long a proof is good for; after that the next drill is due."},
		{name: "assertions", form: formSections, fallback: "none", shape: assertionShape(), example: `[{source: db, sql: "select count(*) > 0 from users"}]`, doc: "Queries that must give true on what was restored."},
		{name: "bin_dirs", form: formPaths, fallback: "the usual places", example: "[/usr/lib/postgresql/17/bin]", doc: "Folders to look for PostgreSQL's server programs in first."},
		{name: "container", form: formChoice, fallback: ContainerAuto, choices: containerChoices(), doc: "Whether PostgreSQL's throwaway server runs in a container: auto, when this host has no server of that version and an image is known; never; or always."},
		{name: "image", form: formText, fallback: "the one that the backup came from", example: "postgres:17", doc: "Image of that container. It must be there: none is ever pulled."},
	}}
}

func assertionShape() *shape {
	return &shape{name: "assertion", doc: "A query on the restored data.", fields: []field{
		{name: "source", form: formText, needed: true, example: "db", doc: "Name of a source of the job."},
		{name: "sql", form: formText, needed: true, example: `"select count(*) > 0 from users"`, doc: "The query; the first column of its first row must be true."},
		{name: "name", form: formText, fallback: "the query", doc: "What the report calls it."},
	}}
}

// Variable is one variable of the environment that Holdfast reads.
type Variable struct {
	Name     string
	Doc      string
	Fallback string // the default as a person would write it
	Flag     string // the flag that goes before it; "" when there is none
}

// Variables lists the HOLDFAST variables.
func Variables() []Variable {
	return []Variable{
		{envConfig, "The configuration file.", "/etc/holdfast/holdfast.yaml for root, else $XDG_CONFIG_HOME/holdfast/holdfast.yaml", "--config"},
		{envSource, "What to back up, one per line: a PostgreSQL URL or keyword/value text, `docker://CONTAINER/DATABASE`, `sqlite:PATH`, `files:PATH`, the path of a SQLite file or folder, or the name of a source of the file.", "the job's", "--source"},
		{envStore, "Where backups are kept: the path of a folder, s3://…, sftp://…, or the name of a store of the file.", "the job's", "--store, --to"},
		{envMirrors, "Further stores that get every backup too, separated by blanks.", "the job's", "--mirror"},
		{envRecipient, "Whom to seal to: an age recipient, a file of recipients or of an OpenPGP public key, or the name of a key of the file.", "the job's", "--recipient"},
		{envRecipients, "Several of them, separated by commas or blanks.", "the job's", "--recipient"},
		{envRecipientsFile, "File of age recipients, one per line, or of OpenPGP public keys.", "none", "--recipients-file"},
		{envIdentity, "File of the identity that opens backups.", "none", "--identity"},
		{envJob, "The job: one of the file, or the name of the job made of HOLDFAST_SOURCE.", "default", "--job"},
		{envSeal, "How items are sealed: age, openpgp, openssl or none.", "what the recipients are made for", "--seal"},
		{envCompression, "How items are compressed: zstd, gzip or none.", "zstd", "--compression"},
		{envLevel, "Level of the compression, 1 to 22.", "1", "--level"},
		{envState, "Folder of locks, the signer and the records of runs.", "/var/lib/holdfast for root, else $XDG_STATE_HOME/holdfast", "--state"},
		{envSigner, "File of the key that signs this host's manifests.", "signer in the state folder", "--signer"},
		{envHost, "The name of this host in manifests and proofs.", "the machine's hostname", "--host"},
		{envLogFile, "File that log lines are appended to.", "none", "--log-file"},
		{envScratch, "Folder where a drill restores.", "/dev/shm", "--scratch"},
		{EnvContent, "Number of an open descriptor that the configuration file's content is read from; its name still says where paths start. The service gives its runs the content that it accepted.", "none", ""},
		{envEngine, "Socket of the Docker Engine, or of Podman.", "unix:///var/run/docker.sock", "--engine"},
	}
}

// EnvContent is the variable by which the service hands on the configuration that it accepted.
const EnvContent = "HOLDFAST_CONFIG_FD"

const (
	envConfig         = "HOLDFAST_CONFIG"
	envSource         = "HOLDFAST_SOURCE"
	envStore          = "HOLDFAST_STORE"
	envMirrors        = "HOLDFAST_MIRRORS"
	envRecipient      = "HOLDFAST_RECIPIENT"
	envRecipients     = "HOLDFAST_RECIPIENTS"
	envRecipientsFile = "HOLDFAST_RECIPIENTS_FILE"
	envIdentity       = "HOLDFAST_IDENTITY"
	envJob            = "HOLDFAST_JOB"
	envSeal           = "HOLDFAST_SEAL"
	envCompression    = "HOLDFAST_COMPRESSION"
	envLevel          = "HOLDFAST_LEVEL"
	envState          = "HOLDFAST_STATE"
	envSigner         = "HOLDFAST_SIGNER"
	envHost           = "HOLDFAST_HOST"
	envLogFile        = "HOLDFAST_LOG_FILE"
	envScratch        = "HOLDFAST_SCRATCH"
	envEngine         = "HOLDFAST_ENGINE"
)

const envPostgresPassword = "PGPASSWORD"

// postgresVariables are the variables that PostgreSQL's client library reads, but PGPASSWORD.
func postgresVariables() []string {
	return []string{
		"PGAPPNAME", "PGCHANNELBINDING", "PGCLIENTENCODING", "PGCONNECT_TIMEOUT", "PGDATABASE", "PGGSSDELEGATION",
		"PGGSSENCMODE", "PGGSSLIB", "PGHOST", "PGHOSTADDR", "PGKRBSRVNAME", "PGLOADBALANCEHOSTS",
		"PGMAXPROTOCOLVERSION", "PGMINPROTOCOLVERSION", "PGOPTIONS", "PGPASSFILE", "PGPORT", "PGREQUIREAUTH",
		"PGREQUIREPEER", "PGREQUIRESSL", "PGSERVICE", "PGSERVICEFILE", "PGSSLCERT", "PGSSLCERTMODE",
		"PGSSLCOMPRESSION", "PGSSLCRL", "PGSSLCRLDIR", "PGSSLKEY", "PGSSLMAXPROTOCOLVERSION",
		"PGSSLMINPROTOCOLVERSION", "PGSSLMODE", "PGSSLNEGOTIATION", "PGSSLROOTCERT", "PGSSLSNI", "PGSYSCONFDIR",
		"PGTARGETSESSIONATTRS", "PGTZ", "PGUSER",
	}
}
