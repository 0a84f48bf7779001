package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"holdfast"
	"holdfast/internal/config"
)

// now is the day on which these tests take place.
var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

const recipient = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj"

// canary stands where secrets stand, and must show up nowhere.
const canary = "canary-hunter2"

func noEnv(string) (string, bool) { return "", false }

// base is a good file up to its jobs, in 8 lines.
const base = `version: 1
keys:
  ops: {recipient: ` + recipient + `}
stores:
  main: {kind: local, path: /srv/backups}
sources:
  db: {kind: postgres, url: "postgres://app@/app"}
  env: {kind: files, secret: true, paths: [/srv/.env]}
`

func TestMistakes(t *testing.T) {
	tests := []struct{ name, text, want string }{
		{"empty", "", "f.yaml:1:1: the file is empty; it needs at least `version: 1`"},
		{"comments only", "# nothing\n", "f.yaml:1:1: the file is empty; it needs at least `version: 1`"},
		{"two documents", "version: 1\n---\nversion: 1\n", "f.yaml:1:1: the file holds several YAML documents; it must be one"},
		{"not YAML", "version: 1\nkeys: [\n", "f.yaml:3:1: is not readable YAML: did not find expected node content"},
		{"tab", "version: 1\nlog:\n\tfile: x\n", "f.yaml:3:1: is not readable YAML: found character that cannot start any token"},
		{"alias without anchor", "version: 1\nhost: *" + canary + "\n", "f.yaml:2:7: is not readable YAML: an alias (*name) without its anchor (&name); quote a text that begins with *"},
		{"not a section", "- version\n", "f.yaml:1:1: must be a section with the keys version, host, state, signer, engine, log, service, alarms, channels, audit, keys, stores, sources, jobs, volumes"},
		{"no version", "host: web1\n", `f.yaml:1:1: key "version" is missing`},
		{"other version", "version: 2\n", "f.yaml:1:10: version: must be 1, not 2"},
		{"quoted number", "version: \"1\"\n", `f.yaml:1:10: version: must be a whole number, not "1"`},
		{"near key", "version: 1\nstoers: {}\n", `f.yaml:2:1: unknown key "stoers"; did you mean "stores"? Known: version, host, state, signer, engine, log, service, alarms, channels, audit, keys, stores, sources, jobs, volumes`},
		{"far key", "version: 1\nlog: {level: debug}\n", `f.yaml:2:7: log: unknown key "level"; known: file`},
		{"key twice", "version: 1\nhost: a\nhost: b\n", `f.yaml:3:1: key "host" comes twice; it stands already in line 2`},
		{"name twice", "version: 1\nstores:\n  a: {kind: local, path: /a}\n  a: {kind: local, path: /b}\n", `f.yaml:4:3: stores: key "a" comes twice; it stands already in line 3`},
		{"no value", "version: 1\nstores:\n", "f.yaml:2:8: stores: has no value; give one or remove the key"},
		{"tag", "version: 1\nhost: !x y\n", "f.yaml:2:7: host: YAML tags are not used here"},
		{"boolean as text", "version: 1\nhost: true\n", "f.yaml:2:7: host: must be a text, not true; quote it if it is meant as text"},
		{"list as text", "version: 1\nhost: [a]\n", "f.yaml:2:7: host: must be a text"},
		{"empty text", "version: 1\nhost: ' '\n", "f.yaml:2:7: host: must not be empty"},
		{"home path", "version: 1\nstate: ~/holdfast\n", "f.yaml:2:8: state: ~ is not expanded; write the whole path"},
		{"bad merge", "version: 1\nlog: {<<: 1}\n", "f.yaml:2:11: log: << takes a section or a list of sections"},
		{"merge of itself", "version: 1\nlog: &a {<<: *a}\n", "f.yaml:2:10: log: << inside of a merged section is not followed; merge it here too"},

		{"key name", "version: 1\nkeys: {Ops: {}}\n", `f.yaml:2:8: key name "Ops" is not valid; use lower-case letters, digits and dashes, at most 63, beginning with a letter or digit`},
		{"job name", "version: 1\njobs: {a_b: {}}\n", `f.yaml:2:8: job name "a_b" is not valid; use lower-case letters, digits and dashes, at most 63, beginning with a letter or digit`},
		{"key of nothing", "version: 1\nkeys: {ops: {holder: Anna}}\n", "f.yaml:2:8: keys.ops: a key has exactly one of recipient, recipient_file and passphrase; none of them is given"},
		{"key of two", "version: 1\nkeys: {ops: {recipient: " + recipient + ", passphrase: env:PW}}\n", "f.yaml:2:8: keys.ops: a key has exactly one of recipient, recipient_file and passphrase; recipient and passphrase are given"},
		{"malformed recipient", "version: 1\nkeys: {ops: {recipient: age1" + canary + "}}\n", "f.yaml:2:25: keys.ops.recipient: is not a recipient; a recipient begins with age1 and is one line; `holdfast key new` or age-keygen makes one"},
		{"identity as recipient", "version: 1\nkeys: {ops: {recipient: AGE-SECRET-KEY-1" + canary + "}}\n", "f.yaml:2:25: keys.ops.recipient: is an identity, the private half of a key; give the public half, which begins with age1, and keep the identity off this host"},
		{"recipient file", "version: 1\nkeys: {ops: {recipient_file: /nowhere/x}}\n", "f.yaml:2:30: keys.ops.recipient_file: cannot be read: stat /nowhere/x: no such file or directory"},
		{"date", "version: 1\nkeys: {ops: {recipient: " + recipient + ", expires: 22.11.2027}}\n", `f.yaml:2:98: keys.ops.expires: must be a date such as 2027-11-22, not "22.11.2027"`},

		{"retired key", "version: 1\nkeys: {ops: {recipient: " + recipient + ", retired: [{id: age1x, since: soon}]}}\n",
			"f.yaml:2:99: keys.ops.retired[0]: key \"ids\" is missing\nf.yaml:2:99: keys.ops.retired[0]: key \"until\" is missing\n" +
				"f.yaml:2:100: keys.ops.retired[0]: unknown key \"id\"; did you mean \"ids\"? Known: ids, holder, since, until\n" +
				`f.yaml:2:118: keys.ops.retired[0].since: must be a date such as 2027-11-22, not "soon"`},

		{"store kind", "version: 1\nstores: {a: {kind: locl, path: /a}}\n", `f.yaml:2:20: stores.a.kind: "locl" is not allowed; did you mean "local"? Known: local, s3, sftp, rsync`},
		{"store without path", "version: 1\nstores: {a: {kind: local}}\n", `f.yaml:2:13: stores.a: key "path" is missing`},

		{"short memory", "version: 1\naudit: {keep: 30d}\n", `f.yaml:2:15: audit.keep: must be at least 365d`},
		{"store without kind", "version: 1\nstores: {a: {path: /a}}\n", `f.yaml:2:10: stores.a: key "kind" is missing; known kinds: local, s3, sftp, rsync`},
		{"key of another kind of store", "version: 1\nstores: {a: {kind: local, path: /a, bucket: b}}\n", `f.yaml:2:37: stores.a: unknown key "bucket"; known: kind, path, bandwidth`},
		{"endpoint", "version: 1\nstores: {a: {kind: s3, bucket: b, endpoint: 'https://user:" + canary + "@h'}}\n", `f.yaml:2:45: stores.a.endpoint: must be the address of a server: https://HOST or https://HOST:PORT`},
		{"secret key in the file", "version: 1\nstores: {a: {kind: s3, bucket: b, access_key: " + canary + ", secret_key: {env: B}}}\n", "f.yaml:2:47: stores.a.access_key: a secret is never written here itself; write {env: NAME}, {file: PATH} or {exec: [program, argument]}"},
		{"half a key", "version: 1\nstores: {a: {kind: s3, bucket: b, access_key: env:A}}\n", `f.yaml:2:13: stores.a: access_key and secret_key are given together or not at all`},
		{"lock without time", "version: 1\nstores: {a: {kind: s3, bucket: b, lock: compliance}}\n", `f.yaml:2:13: stores.a: lock and lock_for are given together or not at all`},
		{"kms key without kms", "version: 1\nstores: {a: {kind: s3, bucket: b, kms_key: k}}\n", `f.yaml:2:44: stores.a.kms_key: has a meaning only with sse: kms`},
		{"small parts", "version: 1\nstores: {a: {kind: s3, bucket: b, part_size: 1MB}}\n", `f.yaml:2:46: stores.a.part_size: must be at least 5MB, which is what servers take`},
		{"size", "version: 1\nstores: {a: {kind: s3, bucket: b, bandwidth: 20}}\n", `f.yaml:2:46: stores.a.bandwidth: must be a size such as 64KB, 16MB or 2GB, not "20"`},
		{"host that is an option", "version: 1\nstores: {a: {kind: sftp, host: -oProxyCommand=x, user: u, path: p}}\n", `f.yaml:2:13: stores.a: the host must not begin with a dash`},
		{"path that leaves", "version: 1\nstores: {a: {kind: sftp, host: h, user: u, path: ../x}}\n", `f.yaml:2:13: stores.a: the path must not have .. in it`},
		{"rsync first", "version: 1\nstores: {a: {kind: rsync, host: h, user: u, path: p}}\nsources: {s: {kind: sqlite, path: /a}}\njobs: {j: {sources: [s], store: a, seal: none}}\n", `f.yaml:4:33: jobs.j.store: "a" is of kind rsync, which can only be a mirror; name another store and put this one into mirrors`},
		{"unknown mirror", "version: 1\nstores: {a: {kind: local, path: /a}}\nsources: {s: {kind: sqlite, path: /a}}\njobs: {j: {sources: [s], store: a, mirrors: [b], seal: none}}\n", `f.yaml:4:46: jobs.j.mirrors: unknown store "b"; did you mean "a"? Known: a`},
		{"mirror at the same place", "version: 1\nstores: {a: {kind: local, path: /a}, b: {kind: local, path: /b/../a/}}\nsources: {s: {kind: sqlite, path: /a}}\njobs: {j: {sources: [s], store: a, mirrors: [b], seal: none}}\n", `f.yaml:4:46: jobs.j.mirrors: "b" is the same place as store "a", /a; a mirror is another one`},
		{"mirror of itself", "version: 1\nstores: {a: {kind: local, path: /a}}\nsources: {s: {kind: sqlite, path: /a}}\njobs: {j: {sources: [s], store: a, mirrors: [a], seal: none}}\n", `f.yaml:4:46: jobs.j.mirrors: "a" is the job's own store; a mirror is another one`},
		{"keeps nothing", "version: 1\nstores: {a: {kind: local, path: /a}}\nsources: {s: {kind: sqlite, path: /a}}\njobs: {j: {sources: [s], store: a, seal: none, keep: {min_age: 1d}}}\n", `f.yaml:4:54: jobs.j.keep: keeps nothing; say how much is kept, for example daily: 7, or forever: true`},
		{"keeps less than nothing", "version: 1\nstores: {a: {kind: local, path: /a}}\nsources: {s: {kind: sqlite, path: /a}}\njobs: {j: {sources: [s], store: a, seal: none, keep: {last: 1, daily: -1}}}\n", `f.yaml:4:71: jobs.j.keep.daily: must be between 0 and 100000, or the word forever; not "-1"`},
		{"unknown kind of run", "version: 1\nstores: {a: {kind: local, path: /a}}\nsources: {s: {kind: sqlite, path: /a}}\njobs: {j: {sources: [s], store: a, seal: none, keep: {last: 1, kinds: {dayly: {last: 1}}}}}\n", `f.yaml:4:72: jobs.j.keep.kinds.dayly: unknown kind of run; known: full, hourly, manual, safety, imported`},
		{"rule for a strange store", "version: 1\nstores: {a: {kind: local, path: /a}}\nsources: {s: {kind: sqlite, path: /a}}\njobs: {j: {sources: [s], store: a, seal: none, keep: {last: 1, stores: {b: {last: 1}}}}}\n", `f.yaml:4:73: jobs.j.keep.stores: "b" is no store of this job; did you mean "a"? Known: a`},
		{"zone", "version: 1\nstores: {a: {kind: local, path: /a}}\nsources: {s: {kind: sqlite, path: /a}}\njobs: {j: {sources: [s], store: a, seal: none, keep: {last: 1, zone: Berlin}}}\n", `f.yaml:4:70: jobs.j.keep.zone: "Berlin" is not a time zone such as Europe/Berlin`},

		{"source kind", "version: 1\nsources: {a: {kind: postgress}}\n", `f.yaml:2:21: sources.a.kind: "postgress" is not allowed; did you mean "postgres"? Known: postgres, sqlite, files`},
		{"source without kind", "version: 1\nsources: {a: {path: /a}}\n", `f.yaml:2:11: sources.a: key "kind" is missing; known kinds: postgres, sqlite, files`},
		{"key of another kind", "version: 1\nsources: {a: {kind: sqlite, path: /a, paths: [/b]}}\n", `f.yaml:2:39: sources.a: unknown key "paths"; did you mean "path"? Known: kind, optional, secret, path, max_lock`},
		{"password in url", "version: 1\nsources: {a: {kind: postgres, url: 'postgres://u:" + canary + "@h/d'}}\n", "f.yaml:2:36: sources.a.url: holds a password; take it out and refer to it: password: {env: NAME} or {file: PATH}"},
		{"password in keywords", "version: 1\nsources: {a: {kind: postgres, url: 'host=h password=" + canary + "'}}\n", "f.yaml:2:36: sources.a.url: holds a password; take it out and refer to it: password: {env: NAME} or {file: PATH}"},
		{"broken url", "version: 1\nsources: {a: {kind: postgres, url: 'postgres://u:" + canary + "%zz@h/d'}}\n", "f.yaml:2:36: sources.a.url: is not a URL that can be read; characters such as @ : / # % in a name must be percent-encoded"},
		{"no url", "version: 1\nsources: {a: {kind: postgres, url: " + canary + "}}\n", "f.yaml:2:36: sources.a.url: is neither a URL (postgres://user@host/database, docker://container/database) nor keyword/value text (host=… dbname=…)"},
		{"url and host", "version: 1\nsources: {a: {kind: postgres, url: 'postgres://', host: h}}\n", "f.yaml:2:57: sources.a.host: give either url or host"},
		{"port", "version: 1\nsources: {a: {kind: postgres, port: 70000}}\n", "f.yaml:2:37: sources.a.port: must be between 1 and 65535, not 70000"},
		{"octal port", "version: 1\nsources: {a: {kind: postgres, port: 0123}}\n", "f.yaml:2:37: sources.a.port: must be a whole number without leading zeros, not 0123"},
		{"plain password", "version: 1\nsources: {a: {kind: postgres, password: " + canary + "}}\n", "f.yaml:2:41: sources.a.password: a secret is never written here itself; write {env: NAME}, {file: PATH} or {exec: [program, argument]}"},
		{"unknown reference", "version: 1\nsources: {a: {kind: postgres, password: {fiel: /x}}}\n", `f.yaml:2:42: sources.a.password: unknown key "fiel"; did you mean "file"? Known: env, file, exec`},
		{"secret as a section", "version: 1\nsources: {a: {kind: postgres, password: {" + canary + "}}}\n", "f.yaml:2:42: sources.a.password: unknown key; write {env: NAME}, {file: PATH} or {exec: [program, argument]}"},
		{"two references", "version: 1\nsources: {a: {kind: postgres, password: {file: /x, env: X}}}\n", "f.yaml:2:41: sources.a.password: must have exactly one key; write {env: NAME}, {file: PATH} or {exec: [program, argument]}"},
		{"exec as text", "version: 1\nsources: {a: {kind: postgres, password: {exec: pass db}}}\n", "f.yaml:2:48: sources.a.password: exec must be a list of the program and its arguments"},
		{"exec in short form", "version: 1\nsources: {a: {kind: postgres, password: 'exec:pass db'}}\n", `f.yaml:2:41: sources.a.password: exec: needs a list such as exec:["program","argument"]`},
		{"flag", "version: 1\nsources: {a: {kind: postgres, globals: yes}}\n", `f.yaml:2:40: sources.a.globals: must be true or false, not "yes"`},
		{"duration", "version: 1\nsources: {a: {kind: postgres, stall: 5 minutes}}\n", `f.yaml:2:38: sources.a.stall: must be a duration such as 60s, 5m, 2h, 90d or 2w, not "5 minutes"`},
		{"bare duration", "version: 1\nsources: {a: {kind: sqlite, path: /a, max_lock: 30}}\n", `f.yaml:2:49: sources.a.max_lock: must be a duration such as 60s, 5m, 2h, 90d or 2w, not "30"`},
		{"text as list", "version: 1\nsources: {a: {kind: postgres, exclude_tables: logs}}\n", "f.yaml:2:47: sources.a.exclude_tables: must be a list of patterns: [a, b]"},
		{"twice in a list", "version: 1\nsources: {a: {kind: postgres, exclude_tables: [a, a]}}\n", `f.yaml:2:51: sources.a.exclude_tables[1]: "a" comes twice`},
		{"no paths", "version: 1\nsources: {a: {kind: files, paths: []}}\n", "f.yaml:2:35: sources.a.paths: needs at least one path"},
		{"path section", "version: 1\nsources: {a: {kind: files, paths: [{pth: /a}]}}\n", "f.yaml:2:36: sources.a.paths[0]: key \"path\" is missing\nf.yaml:2:37: sources.a.paths[0]: unknown key \"pth\"; did you mean \"path\"? Known: path, optional"},
		{"preset", "version: 1\nsources: {a: {kind: files, paths: [/a], exclude: ['preset:cache']}}\n", `f.yaml:2:51: sources.a.exclude[0]: preset "cache" is not known; did you mean "caches"? Known: caches, logs, node_modules`},
		{"pattern", "version: 1\nsources: {a: {kind: files, paths: [/a], exclude: ['[a', '!b']}}\n", "f.yaml:2:51: sources.a.exclude[0]: \"[a\" is not a pattern; a [ is not closed or a \\ stands at the end\nf.yaml:2:57: sources.a.exclude[1]: a pattern cannot take something in again (!)"},

		{"unknown source", base + "jobs: {j: {sources: [dbx, env], store: main, recipients: [ops]}}\n", `f.yaml:9:22: jobs.j.sources: unknown source "dbx"; did you mean "db"? Known: db, env`},
		{"unknown store", base + "jobs: {j: {sources: [db], store: offsite, recipients: [ops]}}\n", `f.yaml:9:34: jobs.j.store: unknown store "offsite"; known: main`},
		{"unknown key", base + "jobs: {j: {sources: [db], store: main, recipients: [anna]}}\n", `f.yaml:9:53: jobs.j.recipients: unknown key "anna"; known: ops`},
		{"no sources", base + "jobs: {j: {sources: [], store: main, recipients: [ops]}}\n", "f.yaml:9:21: jobs.j.sources: needs at least one name"},
		{"no recipients", base + "jobs: {j: {sources: [db], store: main}}\n", "f.yaml:9:8: jobs.j: has no recipients; add recipients: [NAME] with the name of a key (known: ops), or say seal: none"},
		{"recipients of none", base + "jobs: {j: {sources: [db], store: main, seal: none, recipients: [ops]}}\n", "f.yaml:9:64: jobs.j.recipients: have no meaning with seal: none; remove one of the two"},
		{"secret unsealed", base + "jobs: {j: {sources: [env], store: main, seal: none}}\n", `f.yaml:9:47: jobs.j.seal: source "env" is secret and is never stored unsealed; remove seal: none, or take the source out of this job`},
		{"seal", base + "jobs: {j: {sources: [db], store: main, seal: gpg, recipients: [ops]}}\n", `f.yaml:9:46: jobs.j.seal: "gpg" is not allowed; known: age, openpgp, openssl, none`},
		{"compression", base + "jobs: {j: {sources: [db], store: main, compression: gzp, recipients: [ops]}}\n", `f.yaml:9:53: jobs.j.compression: "gzp" is not allowed; did you mean "gzip"? Known: zstd, gzip, none`},
		{"level", base + "jobs: {j: {sources: [db], store: main, level: 23, recipients: [ops]}}\n", "f.yaml:9:47: jobs.j.level: must be between 1 and 22, not 23"},
		{"gzip level", base + "jobs: {j: {sources: [db], store: main, level: 19, compression: gzip, recipients: [ops]}}\n", "f.yaml:9:47: jobs.j.level: must be between 1 and 9 for gzip, not 19"},
		{"level of none", base + "jobs: {j: {sources: [db], store: main, level: 3, compression: none, recipients: [ops]}}\n", "f.yaml:9:47: jobs.j.level: has no meaning with compression: none"},
		{"workers", base + "jobs: {j: {sources: [db], store: main, workers: -1, recipients: [ops]}}\n", "f.yaml:9:49: jobs.j.workers: must be between 0 and 256, not -1"},
		{"passphrase among keys", strings.Replace(base, "keys:\n", "keys:\n  pw: {passphrase: env:PW}\n", 1) + "jobs: {j: {sources: [db], store: main, recipients: [ops, pw]}}\n",
			`f.yaml:10:58: jobs.j.recipients: key "pw" is a passphrase, which must be the only key of a job`},
		{"assertion's source", base + "jobs: {j: {sources: [db, env], store: main, recipients: [ops], drill: {assertions: [{source: env, sql: select true}]}}}\n",
			`f.yaml:9:94: jobs.j.drill.assertions[0].source: "env" is no database of this job; known: db`},
		{"several", "version: 1\nhost: [x]\nstoers: {}\nlog: {file: ~, x: 1}\n",
			"f.yaml:2:7: host: must be a text\nf.yaml:3:1: unknown key \"stoers\"; did you mean \"stores\"? Known: version, host, state, signer, engine, log, service, alarms, channels, audit, keys, stores, sources, jobs, volumes\n" +
				"f.yaml:4:13: log.file: has no value; give one or remove the key\nf.yaml:4:16: log: unknown key \"x\"; known: file"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := config.Parse("f.yaml", []byte(test.text), noEnv, now)
			if err == nil {
				t.Fatal("it was taken")
			}
			if err.Error() != test.want {
				t.Errorf("\n got %s\nwant %s", err, test.want)
			}
			if !errors.Is(err, holdfast.ErrUsage) || !config.IsMistake(err) {
				t.Error("it is no mistake of usage")
			}
			if strings.Contains(err.Error()+holdfast.Hint(err), canary) {
				t.Error("it repeats a secret")
			}
		})
	}
}

func TestMistakesOfFlagsAndVariables(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain.txt")
	if err := os.WriteFile(plain, []byte("text"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "holdfast.yaml")
	if err := os.WriteFile(file, []byte(base+"jobs: {j: {sources: [db, env], store: main, recipients: [ops]}}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, want string
		environ    []string
		flags      config.Flags
	}{
		{"level", "environment HOLDFAST_LEVEL: must be a whole number, not \"much\"", []string{"HOLDFAST_LEVEL=much"}, config.Flags{}},
		{"level of a flag", "flag --level: must be between 1 and 22, not \"30\"", nil, config.Flags{Level: 30}},
		{"compression", "environment HOLDFAST_COMPRESSION: \"zst\" is not allowed; did you mean \"zstd\"? Known: zstd, gzip, none", []string{"HOLDFAST_COMPRESSION=zst"}, config.Flags{}},
		{"seal", "flag --seal: \"gpg\" is not allowed; known: age, openpgp, openssl, none", nil, config.Flags{Seal: "gpg"}},
		{"secret unsealed", "flag --seal: jobs.j.seal: source \"env\" is secret and is never stored unsealed; remove seal: none, or take the source out of this job", nil, config.Flags{Seal: "none"}},
		{"job", "environment HOLDFAST_JOB: job name \"A B\" is not valid; use lower-case letters, digits and dashes, at most 63, beginning with a letter or digit", []string{"HOLDFAST_JOB=A B"}, config.Flags{}},
		{"store", "flag --to: unknown store \"mian\"; did you mean \"main\"? Known: main; the path of a folder needs a slash: ./mian", nil, config.Flags{To: "mian"}},
		{"two stores", "flag --store: --store and --to are two names of one thing, and say different things", nil, config.Flags{To: "main", Store: "/srv/x"}},
		{"identity as recipient", "environment HOLDFAST_RECIPIENT: is an identity, the private half of a key; give the public half, which begins with age1, and keep the identity off this host", []string{"HOLDFAST_RECIPIENT=AGE-SECRET-KEY-1" + canary}, config.Flags{}},
		{"recipients file", "flag --recipients-file: " + plain + ": line 1: the text is not a recipient; a recipient begins with age1 and is one line; `holdfast key new` or age-keygen makes one", nil, config.Flags{RecipientsFile: plain}},
		{"source that is not there", "flag --source: /nowhere/data: nothing is there; a source is a URL (postgres://…), keyword/value text (service=…), sqlite:PATH, files:PATH, secrets:PATH, the path of a SQLite file or of a folder", nil, config.Flags{Sources: []string{"/nowhere/data"}}},
		{"two sources of one name", "flag --source: two sources are called db", nil, config.Flags{Sources: []string{"db=sqlite:/a", "db=sqlite:/b"}}},
		{"source that may be a mistyped URL", "flag --source: nothing is there; a source is a URL (postgres://…), keyword/value text (service=…), sqlite:PATH, files:PATH, secrets:PATH, the path of a SQLite file or of a folder", nil, config.Flags{Sources: []string{"postgres/u:" + canary + "@h/d"}}},
		{"source of no kind", "flag --source: " + plain + ": the file is not a SQLite database; write files:PATH to take it as a file", nil, config.Flags{Sources: []string{plain}}},
		{"source of another URL", "environment HOLDFAST_SOURCE: no source is reached by this kind of URL; known: postgres://, postgresql://, docker://", []string{"HOLDFAST_SOURCE=mysql://u:" + canary + "@h/d"}, config.Flags{}},
		{"file's and flag's", "flag --level: must be between 1 and 22, not \"30\"\nflag --scratch: ~ is not expanded; write the whole path", nil, config.Flags{Level: 30, Scratch: "~/x"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := config.Resolve(config.Inputs{Path: file, Environ: test.environ, Flags: test.flags, Now: now})
			if err == nil {
				t.Fatal("it was taken")
			}
			if err.Error() != test.want {
				t.Errorf("\n got %s\nwant %s", err, test.want)
			}
			if !errors.Is(err, holdfast.ErrUsage) {
				t.Error("it is no mistake of usage")
			}
			if strings.Contains(err.Error()+holdfast.Hint(err), canary) {
				t.Error("it repeats a secret")
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(base + "jobs: {j: {sources: [db], store: main, recipients: [ops]}}\n"))
	f.Add([]byte("version: 1\nlog: &a {<<: *a}\n"))
	f.Add([]byte("version: 1\nsources: {a: {kind: postgres, url: 'host=h password=x', password: {exec: [a, *b]}}}\n"))
	f.Add([]byte("? [a]\n: 1\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := config.Parse("f.yaml", data, noEnv, now)
		if err != nil {
			if !errors.Is(err, holdfast.ErrUsage) {
				t.Fatalf("not a mistake of usage: %v", err)
			}
			return
		}
		if len(c.Show()) == 0 {
			t.Fatal("a good file without settings")
		}
	})
}
