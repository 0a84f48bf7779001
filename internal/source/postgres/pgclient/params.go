package pgclient

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"holdfast"
)

// Params are connection parameters under libpq's keywords. They hold the password: never print them.
type Params map[string]string

// environment names the variable of libpq that carries each keyword to a child. A keyword with "" has none and
// travels in an argument: it must not be secret.
func environment() map[string]string {
	return map[string]string{
		"host": "PGHOST", "hostaddr": "PGHOSTADDR", "port": "PGPORT", "dbname": "PGDATABASE", "user": "PGUSER",
		"password": "PGPASSWORD", "passfile": "PGPASSFILE", "channel_binding": "PGCHANNELBINDING",
		"options": "PGOPTIONS", "application_name": "PGAPPNAME", "sslmode": "PGSSLMODE",
		"sslnegotiation": "PGSSLNEGOTIATION", "sslcompression": "PGSSLCOMPRESSION", "sslcert": "PGSSLCERT",
		"sslkey": "PGSSLKEY", "sslcertmode": "PGSSLCERTMODE", "sslrootcert": "PGSSLROOTCERT", "sslcrl": "PGSSLCRL",
		"sslcrldir": "PGSSLCRLDIR", "sslsni": "PGSSLSNI", "requirepeer": "PGREQUIREPEER",
		"require_auth":             "PGREQUIREAUTH",
		"ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION", "ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION",
		"min_protocol_version": "PGMINPROTOCOLVERSION", "max_protocol_version": "PGMAXPROTOCOLVERSION",
		"gssencmode": "PGGSSENCMODE", "krbsrvname": "PGKRBSRVNAME", "gsslib": "PGGSSLIB",
		"gssdelegation": "PGGSSDELEGATION", "connect_timeout": "PGCONNECT_TIMEOUT",
		"target_session_attrs": "PGTARGETSESSIONATTRS", "load_balance_hosts": "PGLOADBALANCEHOSTS",
		"keepalives": "", "keepalives_idle": "", "keepalives_interval": "", "keepalives_count": "",
		"tcp_user_timeout": "",
	}
}

// Resolve merges a connection string, a service file and PG* variables, in libpq's order of precedence, and fills in
// libpq's defaults.
func Resolve(url, password holdfast.Secret, env map[string]string) (Params, error) {
	given, err := parse(url)
	if err != nil {
		return nil, err
	}
	keywords := environment()
	for key := range given {
		if _, known := keywords[key]; !known && key != "service" && key != "servicefile" {
			return nil, holdfast.WithHint(
				fmt.Errorf("%w: the PostgreSQL connection string: %q is not supported", holdfast.ErrUsage, key),
				"use the keywords of libpq; a key with a passphrase (sslpassword) cannot be handed to pg_dump")
		}
	}
	home := env["HOME"]
	account, accountErr := user.Current()
	if home == "" && accountErr == nil {
		home = account.HomeDir
	}
	p := Params{"passfile": filepath.Join(home, ".pgpass")}
	for key, name := range keywords {
		if value := env[name]; name != "" && value != "" {
			p[key] = value
		}
	}
	service, file := env["PGSERVICE"], env["PGSERVICEFILE"]
	if given["service"] != "" {
		service = given["service"]
	}
	if given["servicefile"] != "" {
		file = given["servicefile"]
	}
	if service != "" {
		if file == "" {
			file = filepath.Join(home, ".pg_service.conf")
		}
		if err := p.readService(service, file, env["PGSYSCONFDIR"]); err != nil {
			return nil, err
		}
	}
	maps.Copy(p, given)
	delete(p, "service")
	delete(p, "servicefile")
	if !password.IsZero() {
		p["password"] = password.Reveal()
	}
	if p["user"] == "" && accountErr == nil {
		p["user"] = account.Username
	}
	if p["dbname"] == "" {
		p["dbname"] = p["user"]
	}
	if p["connect_timeout"] == "" {
		p["connect_timeout"] = "15"
	}
	p["home"] = home
	return p, nil
}

func (p Params) parseURL(rest string) error {
	rest, query, _ := strings.Cut(rest, "?")
	authority, database, hasDatabase := strings.Cut(rest, "/")
	set := func(key, text string) error {
		value, err := unescape(text)
		if err == nil && value != "" {
			p[key] = value
		}
		return err
	}
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		name, password, _ := strings.Cut(authority[:at], ":")
		if err := errors.Join(set("user", name), set("password", password)); err != nil {
			return err
		}
		authority = authority[at+1:]
	}
	var hosts, ports []string
	anyPort := false
	for part := range strings.SplitSeq(authority, ",") {
		host, port := part, ""
		if inner, found := strings.CutPrefix(part, "["); found {
			address, after, closed := strings.Cut(inner, "]")
			if !closed {
				return errors.New("an address begins with [ and does not end with ]")
			}
			host, port = address, strings.TrimPrefix(after, ":")
		} else if colon := strings.LastIndexByte(part, ':'); colon >= 0 {
			host, port = part[:colon], part[colon+1:]
		}
		host, err := unescape(host)
		if err != nil {
			return err
		}
		anyPort = anyPort || port != ""
		hosts, ports = append(hosts, host), append(ports, port)
	}
	if authority != "" {
		p["host"] = strings.Join(hosts, ",")
	}
	if anyPort {
		p["port"] = strings.Join(ports, ",")
	}
	if hasDatabase {
		if err := set("dbname", database); err != nil {
			return err
		}
	}
	for pair := range strings.SplitSeq(query, "&") {
		if pair == "" {
			continue
		}
		key, text, found := strings.Cut(pair, "=")
		if !found {
			return errors.New("a parameter after ? has no value")
		}
		value, err := unescape(text)
		if err != nil {
			return err
		}
		if key == "ssl" && value == "true" {
			key, value = "sslmode", "require"
		}
		p[key] = value
	}
	return nil
}

// unescape decodes %XX. Its error quotes nothing: the text may hold a password.
func unescape(text string) (string, error) {
	if !strings.Contains(text, "%") {
		return text, nil
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '%' {
			b.WriteByte(text[i])
			continue
		}
		if i+2 >= len(text) {
			return "", errors.New("a % is not followed by two hexadecimal digits")
		}
		value, err := strconv.ParseUint(text[i+1:i+3], 16, 8)
		if err != nil || value == 0 {
			return "", errors.New("a % is not followed by two hexadecimal digits")
		}
		b.WriteByte(byte(value))
		i += 2
	}
	return b.String(), nil
}

func (p Params) parseKeywords(text string) error {
	const space = " \t\r\n\f\v"
	for text = strings.TrimLeft(text, space); text != ""; text = strings.TrimLeft(text, space) {
		key, rest, found := strings.Cut(text, "=")
		key = strings.TrimRight(key, space)
		if !found || key == "" || strings.ContainsAny(key, space) {
			return errors.New("a keyword is not followed by =")
		}
		rest = strings.TrimLeft(rest, space)
		quoted := strings.HasPrefix(rest, "'")
		if quoted {
			rest = rest[1:]
		}
		var value strings.Builder
		i, closed := 0, !quoted
		for ; i < len(rest); i++ {
			c := rest[i]
			if quoted && c == '\'' {
				closed = true
				i++
				break
			}
			if !quoted && strings.IndexByte(space, c) >= 0 {
				break
			}
			if c == '\\' && i+1 < len(rest) {
				i++
				c = rest[i]
			}
			value.WriteByte(c)
		}
		if !closed {
			return errors.New("a quoted value has no end")
		}
		p[key] = value.String()
		text = rest[i:]
	}
	return nil
}

// readService takes the parameters of a service over those of the environment, as libpq does.
func (p Params) readService(service, file, sysconf string) error {
	if sysconf == "" {
		sysconf = "/etc/postgresql-common"
	}
	for _, path := range []string{file, filepath.Join(sysconf, "pg_service.conf")} {
		content, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		inside, seen := false, false
		for line := range strings.Lines(string(content)) {
			line = strings.TrimSpace(line)
			if line == "" || line[0] == '#' {
				continue
			}
			if line[0] == '[' {
				inside = line == "["+service+"]"
				seen = seen || inside
				continue
			}
			if key, value, found := strings.Cut(line, "="); inside && found {
				p[strings.TrimSpace(key)] = strings.TrimSpace(value)
			}
		}
		if seen {
			return nil
		}
	}
	return holdfast.WithHint(fmt.Errorf("%w: the PostgreSQL service %q is not defined", holdfast.ErrUsage, service),
		"define it in "+file+" or set PGSERVICEFILE")
}

// With returns the parameters for sessions in which a setting has a value.
func (p Params) With(setting, value string) Params {
	other := maps.Clone(p)
	escaped := strings.NewReplacer(`\`, `\\`, " ", `\ `).Replace(value)
	other["options"] = strings.TrimSpace(other["options"] + " -c " + setting + "=" + escaped)
	return other
}

// On returns the parameters for another database of the same server.
func (p Params) On(database string) Params {
	other := maps.Clone(p)
	other["dbname"] = database
	return other
}

// env returns the environment of a child, complete, and the arguments for what has no variable.
func (p Params) env() (env, args []string) {
	// Times with a zone are written in the session's: a dump and the dump of its restore must agree on one.
	env = []string{"HOME=" + p["home"], "LC_ALL=C", "TZ=UTC", "PGTZ=UTC", "PGDATESTYLE=ISO",
		"PATH=/usr/local/bin:/usr/bin:/bin"}
	var rest []string
	for key, name := range environment() {
		value, set := p[key]
		switch {
		case !set || value == "":
		case name != "":
			env = append(env, name+"="+value)
		default:
			rest = append(rest, key+"="+QuoteKeyword(value))
		}
	}
	if len(rest) > 0 {
		slices.Sort(rest)
		args = []string{"--dbname=" + strings.Join(rest, " ")}
	}
	return env, args
}

// QuoteKeyword writes a value as a connection string of keywords takes it.
func QuoteKeyword(value string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
}

// Where tells in messages which server is meant.
func (p Params) Where() string {
	host, port := p["host"], p["port"]
	if name := p["container"]; name != "" {
		return fmt.Sprintf("container %q", name)
	}
	if port == "" {
		port = "5432"
	}
	switch {
	case host == "":
		return "the local socket, port " + port
	case strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@"):
		return host + "/.s.PGSQL." + port
	}
	return net.JoinHostPort(host, port)
}

// hosts splits parameters that name several hosts.
func (p Params) hosts() []Params {
	hosts, ports, addresses := strings.Split(p["host"], ","), strings.Split(p["port"], ","), strings.Split(p["hostaddr"], ",")
	n := max(len(hosts), len(addresses))
	if n == 1 {
		return []Params{maps.Clone(p)}
	}
	pick := func(list []string, i int) string {
		if len(list) == 1 {
			return list[0]
		}
		if i < len(list) {
			return list[i]
		}
		return ""
	}
	var all []Params
	for i := range n {
		one := maps.Clone(p)
		one["host"], one["port"], one["hostaddr"] = pick(hosts, i), pick(ports, i), pick(addresses, i)
		all = append(all, one)
	}
	return all
}

// Mask hides the password wherever a server or a program repeats it.
func (p Params) Mask(text string) string {
	if password := p["password"]; password != "" && strings.Contains(text, password) {
		return strings.ReplaceAll(text, password, holdfast.NewSecret(password).String())
	}
	return text
}
