package config

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"holdfast"
)

// Connection texts may hold passwords, so no error here repeats any part of one.

var (
	errConn        = errors.New("is neither a URL (postgres://user@host/database, docker://container/database) nor keyword/value text (host=… dbname=…)")
	errSSLPassword = errors.New("holds sslpassword, which is not taken; use a client key without one, readable by its owner alone")
)

var keywordRule = regexp.MustCompile(`^[a-z_]+ *=`)

func isURL(text string) bool {
	return strings.HasPrefix(text, "postgres://") || strings.HasPrefix(text, "postgresql://") || InContainer(text)
}

// InContainer reports whether a connection text leads to a server in a container. PostgreSQL's variables and the password
// in them are then of no use.
func InContainer(text string) bool { return strings.HasPrefix(text, containerScheme) }

// isConn reports whether text looks like a connection to PostgreSQL.
func isConn(text string) bool { return isURL(text) || keywordRule.MatchString(text) }

// conn is a connection text without its password.
type conn struct {
	text     string
	password holdfast.Secret
	database string // "" when it comes from elsewhere
	user     string
	host     string // of a URL
}

// parseConn takes a connection text apart.
func parseConn(text string) (conn, error) {
	if isURL(text) {
		return parseURL(text)
	}
	if keywordRule.MatchString(text) {
		return parseKeywords(text)
	}
	return conn{}, errConn
}

func parseURL(text string) (conn, error) {
	u, err := url.Parse(text)
	if err != nil {
		return conn{}, errors.New("is not a URL that can be read; characters such as @ : / # % in a name must be percent-encoded")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return conn{}, errors.New("is not a URL that can be read; what follows ? is not well formed")
	}
	if query.Has("sslpassword") {
		return conn{}, errSSLPassword
	}
	c := conn{database: strings.TrimPrefix(u.Path, "/"), user: u.User.Username(), host: u.Host}
	if password, set := u.User.Password(); set {
		c.password = holdfast.NewSecret(password)
		u.User = url.User(c.user)
	}
	if query.Has("password") {
		c.password = holdfast.NewSecret(query.Get("password"))
		query.Del("password")
		u.RawQuery = query.Encode()
	}
	if query.Has("dbname") {
		c.database = query.Get("dbname")
	}
	if query.Has("user") {
		c.user = query.Get("user")
	}
	// Rewritten only where a password was taken out: what net/url makes of several hosts need not be what libpq does.
	if c.text = text; !c.password.IsZero() {
		c.text = u.String()
	}
	return c, nil
}

// parseKeywords reads libpq's keyword/value text: a value may stand in single quotes, and \ takes the next character
// as it is.
func parseKeywords(text string) (conn, error) {
	var c conn
	var kept []string
	rest := strings.TrimSpace(text)
	for rest != "" {
		key, after, found := strings.Cut(rest, "=")
		key = strings.TrimSpace(key)
		if !found || !keywordRule.MatchString(key+"=") {
			return conn{}, errConn
		}
		value, left, err := keywordValue(strings.TrimLeft(after, " \t\r\n"))
		if err != nil {
			return conn{}, err
		}
		rest = strings.TrimLeft(left, " \t\r\n")
		switch key {
		case "password":
			c.password = holdfast.NewSecret(value)
			continue
		case "sslpassword":
			return conn{}, errSSLPassword
		case "dbname":
			if isConn(value) {
				return conn{}, errors.New("holds a connection text inside of dbname; write that one alone")
			}
			c.database = value
		case "user":
			c.user = value
		}
		kept = append(kept, keyword(key, value))
	}
	c.text = strings.Join(kept, " ")
	return c, nil
}

func keywordValue(text string) (value, rest string, err error) {
	quoted := strings.HasPrefix(text, "'")
	var out strings.Builder
	i := 0
	if quoted {
		i = 1
	}
	for ; i < len(text); i++ {
		switch ch := text[i]; {
		case ch == '\\' && i+1 < len(text):
			i++
			out.WriteByte(text[i])
		case quoted && ch == '\'':
			return out.String(), text[i+1:], nil
		case !quoted && strings.IndexByte(" \t\r\n", ch) >= 0:
			return out.String(), text[i:], nil
		default:
			out.WriteByte(ch)
		}
	}
	if quoted {
		return "", "", errors.New("has a quote that is not closed")
	}
	return out.String(), "", nil
}

// keyword writes one keyword and its value, quoted where that is needed.
func keyword(key, value string) string {
	if value != "" && !strings.ContainsAny(value, " \t\r\n'\\") {
		return key + "=" + value
	}
	return fmt.Sprintf("%s='%s'", key, strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value))
}

// connPart is a key of a PostgreSQL source that stands for one keyword.
type connPart struct{ key, keyword string }

func connParts() []connPart {
	return []connPart{{"host", "host"}, {"port", "port"}, {"user", "user"}, {"database", "dbname"}, {"sslmode", "sslmode"}}
}

// keywordOf returns the value of one keyword of a keyword/value text.
func keywordOf(text, name string) string {
	for rest := text; rest != ""; {
		key, after, _ := strings.Cut(rest, "=")
		value, left, err := keywordValue(after)
		if err != nil || key == name {
			return value
		}
		rest = strings.TrimLeft(left, " ")
	}
	return ""
}
