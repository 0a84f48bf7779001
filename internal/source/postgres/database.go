package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"holdfast/internal/source"
	"holdfast/internal/source/postgres/pgclient"
)

// record is what a restore needs besides the items; it travels in Facts.Driver.
type record struct {
	// Layout is 1.
	Layout int `json:"layout"`
	// Server is the server's version number, as in 150004.
	Server int `json:"server"`
	// Client is the major version of the pg_dump that was used.
	Client int `json:"client"`
	// Bootstrap is the name of the role that initdb made.
	Bootstrap string `json:"bootstrap"`
	// Monetary is lc_monetary, by which values of type money are written and read.
	Monetary string `json:"monetary"`
	// Preload is shared_preload_libraries, where the role may see it.
	Preload string `json:"preload,omitempty"`
	// Globals names the item of roles and tablespaces, "" if it was left out.
	Globals string `json:"globals,omitempty"`
	// GlobalsDigest is the SHA-256 of that item.
	GlobalsDigest string `json:"globals_digest,omitempty"`
	// Passwords says whether the globals carry password hashes.
	Passwords bool `json:"passwords"`
	// Filters are pg_dump's arguments that leave things out.
	Filters []string `json:"filters,omitempty"`
	// Container is the image of the container that the server ran in; nil: it ran in none that was known.
	Container *madeIn    `json:"container,omitempty"`
	Databases []database `json:"databases"`
}

func (r record) major() int { return r.Server / 10000 }

// readRecord decodes the driver's part of stored facts.
func readRecord(stored source.Stored) (record, error) {
	var r record
	if err := json.Unmarshal(stored.Facts.Driver, &r); err != nil {
		return r, fmt.Errorf("read what was recorded of source %s: %w", stored.Source, err)
	}
	if r.Layout != 1 {
		return r, fmt.Errorf("source %s was recorded by a newer version (layout %d)", stored.Source, r.Layout)
	}
	if len(r.Databases) == 0 {
		return r, fmt.Errorf("source %s holds no database", stored.Source)
	}
	return r, nil
}

// database is what the catalogs say of one database as a whole, none of which pg_dump writes.
type database struct {
	Name   string `json:"name"`
	Create string `json:"create"` // the item with the statements that make it
	Dump   string `json:"dump"`   // the item with its contents
	Prefix string `json:"prefix"` // of the names of its facts: "" or "NAME: "
	// CreateDigest is the SHA-256 of the item Create.
	CreateDigest string `json:"create_digest"`

	Owner            string    `json:"owner"`
	Encoding         string    `json:"encoding"`
	Provider         string    `json:"provider"` // libc, icu or builtin
	Collate          string    `json:"collate"`
	CType            string    `json:"ctype"`
	Locale           string    `json:"locale,omitempty"` // of ICU or the builtin provider
	ICURules         string    `json:"icu_rules,omitempty"`
	CollationVersion string    `json:"collation_version,omitempty"`
	Tablespace       string    `json:"tablespace"`
	Comment          string    `json:"comment,omitempty"`
	ConnectionLimit  int       `json:"connection_limit"`
	Template         bool      `json:"template,omitempty"`
	DefaultGrants    bool      `json:"default_grants"`
	Grants           []grant   `json:"grants,omitempty"`
	Settings         []setting `json:"settings,omitempty"`
	// Roles are those that the database or something in it refers to.
	Roles []string `json:"roles,omitempty"`
	// Schemas are those of users, and public if it is there.
	Schemas []string `json:"schemas,omitempty"`
	// Extensions are those installed, plpgsql apart.
	Extensions []extension `json:"extensions,omitempty"`
}

type grant struct {
	Grantee    string   `json:"grantee"` // "" is PUBLIC
	Privileges []string `json:"privileges"`
	Grantable  []string `json:"grantable,omitempty"`
}

type setting struct {
	Role  string `json:"role,omitempty"` // "" is every role
	Name  string `json:"name"`
	Value string `json:"value"`
}

type extension struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Schema  string `json:"schema"`
}

// readDatabase asks the catalogs about the database that the session is in. The row of pg_database comes as JSON,
// since its columns differ in every other version.
func readDatabase(ctx context.Context, s pgclient.Session) (database, error) {
	var d database
	var columns struct {
		Name     string `json:"datname"`
		Owner    string `json:"owner"`
		Encoding string `json:"encoding_name"`
		Provider string `json:"datlocprovider"`
		Collate  string `json:"datcollate"`
		CType    string `json:"datctype"`
		Locale   string `json:"datlocale"`    // since 17
		ICU      string `json:"daticulocale"` // 15 and 16
		Rules    string `json:"daticurules"`
		Version  string `json:"datcollversion"`
		Space    string `json:"tablespace"`
		Comment  string `json:"comment"`
		Limit    int    `json:"datconnlimit"`
		Template bool   `json:"datistemplate"`
	}
	err := pgclient.Row(ctx, s, `
SELECT pg_catalog.to_jsonb(d) || pg_catalog.jsonb_build_object(
		'owner', pg_catalog.pg_get_userbyid(d.datdba), 'encoding_name', pg_catalog.pg_encoding_to_char(d.encoding),
		'tablespace', (SELECT spcname FROM pg_catalog.pg_tablespace t WHERE t.oid = d.dattablespace),
		'comment', pg_catalog.shobj_description(d.oid, 'pg_database')) - 'datacl',
	(SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('grantee', grantee, 'privileges', held, 'grantable', grantable) ORDER BY grantee)
		FROM (SELECT CASE WHEN a.grantee = 0 THEN '' ELSE pg_catalog.pg_get_userbyid(a.grantee)::text END AS grantee,
				pg_catalog.jsonb_agg(DISTINCT a.privilege_type ORDER BY a.privilege_type) AS held,
				pg_catalog.jsonb_agg(DISTINCT a.privilege_type ORDER BY a.privilege_type) FILTER (WHERE a.is_grantable) AS grantable
			FROM pg_catalog.aclexplode(coalesce(d.datacl, pg_catalog.acldefault('d', d.datdba))) a GROUP BY 1) g),
	(SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('role', CASE WHEN s.setrole = 0 THEN '' ELSE pg_catalog.pg_get_userbyid(s.setrole)::text END,
			'name', pg_catalog.split_part(entry, '=', 1), 'value', pg_catalog.substr(entry, pg_catalog.strpos(entry, '=') + 1)))
		FROM pg_catalog.pg_db_role_setting s, pg_catalog.unnest(s.setconfig) entry WHERE s.setdatabase = d.oid),
	(SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('name', e.extname, 'version', e.extversion, 'schema', n.nspname) ORDER BY e.extname)
		FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname <> 'plpgsql'),
	pg_catalog.to_jsonb(ARRAY(SELECT pg_catalog.pg_get_userbyid(d.datdba)::text
		UNION SELECT pg_catalog.pg_get_userbyid(s.refobjid)::text FROM pg_catalog.pg_shdepend s
			WHERE s.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND s.refobjid <> 0
			AND (s.dbid = d.oid OR s.dbid = 0 AND s.classid = 'pg_catalog.pg_database'::pg_catalog.regclass AND s.objid = d.oid)
		UNION SELECT pg_catalog.pg_get_userbyid(s.setrole)::text FROM pg_catalog.pg_db_role_setting s
			WHERE s.setdatabase = d.oid AND s.setrole <> 0
		ORDER BY 1)),
	pg_catalog.to_jsonb(ARRAY(SELECT nspname::text FROM pg_catalog.pg_namespace
		WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY 1)),
	d.datacl IS NULL
FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()`,
		pgclient.JSON{Into: &columns}, pgclient.JSON{Into: &d.Grants}, pgclient.JSON{Into: &d.Settings}, pgclient.JSON{Into: &d.Extensions},
		pgclient.JSON{Into: &d.Roles}, pgclient.JSON{Into: &d.Schemas}, &d.DefaultGrants)
	if err != nil {
		return d, pgclient.ExplainQuery("read the properties of the database", err)
	}
	d.Name, d.Owner, d.Encoding = columns.Name, columns.Owner, columns.Encoding
	d.Collate, d.CType, d.Locale = columns.Collate, columns.CType, columns.Locale+columns.ICU
	d.ICURules, d.CollationVersion, d.Tablespace = columns.Rules, columns.Version, columns.Space
	d.Comment, d.ConnectionLimit, d.Template = columns.Comment, columns.Limit, columns.Template
	switch columns.Provider {
	case "i":
		d.Provider = "icu"
	case "b":
		d.Provider = "builtin"
	default:
		d.Provider = "libc"
	}
	slices.SortFunc(d.Settings, func(a, b setting) int {
		return strings.Compare(a.Role+"\x00"+a.Name, b.Role+"\x00"+b.Name)
	})
	return d, nil
}

// createSQL is the statement that makes an empty database with this encoding and locale on a server of the given
// major version.
func (d database) createSQL(name string, major int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "CREATE DATABASE %s WITH TEMPLATE = template0 ENCODING = %s", pgclient.QuoteIdent(name), pgclient.QuoteLiteral(d.Encoding))
	if major >= 15 {
		fmt.Fprintf(&b, " LOCALE_PROVIDER = %s", d.Provider)
	}
	fmt.Fprintf(&b, " LC_COLLATE = %s LC_CTYPE = %s", pgclient.QuoteLiteral(d.Collate), pgclient.QuoteLiteral(d.CType))
	if d.Locale != "" {
		switch {
		case d.Provider == "icu":
			fmt.Fprintf(&b, " ICU_LOCALE = %s", pgclient.QuoteLiteral(d.Locale))
		case d.Provider == "builtin":
			fmt.Fprintf(&b, " BUILTIN_LOCALE = %s", pgclient.QuoteLiteral(d.Locale))
		}
	}
	if d.ICURules != "" {
		fmt.Fprintf(&b, " ICU_RULES = %s", pgclient.QuoteLiteral(d.ICURules))
	}
	return b.String()
}

// propertySQL are the statements that give database name its owner, comment, grants and settings.
func (d database) propertySQL(name string) []string {
	ident := pgclient.QuoteIdent(name)
	list := []string{fmt.Sprintf("ALTER DATABASE %s OWNER TO %s", ident, pgclient.QuoteIdent(d.Owner))}
	if d.Comment != "" {
		list = append(list, fmt.Sprintf("COMMENT ON DATABASE %s IS %s", ident, pgclient.QuoteLiteral(d.Comment)))
	}
	if d.DefaultGrants {
		list = append(list, fmt.Sprintf("GRANT CONNECT, TEMPORARY ON DATABASE %s TO PUBLIC", ident))
	} else {
		list = append(list, fmt.Sprintf("REVOKE ALL ON DATABASE %s FROM PUBLIC", ident),
			fmt.Sprintf("REVOKE ALL ON DATABASE %s FROM %s", ident, pgclient.QuoteIdent(d.Owner)))
		for _, g := range d.Grants {
			to := "PUBLIC"
			if g.Grantee != "" {
				to = pgclient.QuoteIdent(g.Grantee)
			}
			var plain []string
			for _, privilege := range g.Privileges {
				if !slices.Contains(g.Grantable, privilege) {
					plain = append(plain, privilege)
				}
			}
			if len(plain) > 0 {
				list = append(list, fmt.Sprintf("GRANT %s ON DATABASE %s TO %s", strings.Join(plain, ", "), ident, to))
			}
			if len(g.Grantable) > 0 {
				list = append(list, fmt.Sprintf("GRANT %s ON DATABASE %s TO %s WITH GRANT OPTION", strings.Join(g.Grantable, ", "), ident, to))
			}
		}
	}
	return append(list, d.settingSQL(name)...)
}

func (d database) settingSQL(name string) []string {
	var list []string
	for _, s := range d.Settings {
		what := "ALTER DATABASE " + pgclient.QuoteIdent(name)
		if s.Role != "" {
			what = fmt.Sprintf("ALTER ROLE %s IN DATABASE %s", pgclient.QuoteIdent(s.Role), pgclient.QuoteIdent(name))
		}
		list = append(list, fmt.Sprintf("%s SET %s TO %s", what, settingName(s.Name), settingValue(s.Name, s.Value)))
	}
	return list
}

// finalSQL are the statements that would hinder the restore itself.
func (d database) finalSQL(name string) []string {
	var list []string
	if d.ConnectionLimit >= 0 {
		list = append(list, fmt.Sprintf("ALTER DATABASE %s CONNECTION LIMIT %d", pgclient.QuoteIdent(name), d.ConnectionLimit))
	}
	if d.Template {
		list = append(list, fmt.Sprintf("ALTER DATABASE %s IS_TEMPLATE true", pgclient.QuoteIdent(name)))
	}
	return list
}

// script is the whole of it for stock psql.
func (d database) script(major int) string {
	var b strings.Builder
	b.WriteString("-- Makes the database that the dump goes into: psql -X -f THIS postgres\n")
	b.WriteString("SET standard_conforming_strings = on;\nSET client_encoding = 'UTF8';\n")
	if d.Tablespace != "" && d.Tablespace != "pg_default" {
		fmt.Fprintf(&b, "-- It was in the tablespace %s.\n", strings.ReplaceAll(pgclient.QuoteIdent(d.Tablespace), "\n", " "))
	}
	b.WriteString(d.createSQL(d.Name, major) + ";\n")
	for _, statement := range append(d.propertySQL(d.Name), d.finalSQL(d.Name)...) {
		b.WriteString(statement + ";\n")
	}
	return b.String()
}

// facts are what a drill compares of the database as a whole.
func (d database) facts() []source.Fact {
	list := []source.Fact{
		{Class: "database", Name: d.Prefix + "encoding and owner", Rule: source.Exact,
			Text: d.Encoding + ", owner " + d.Owner},
		// A newer server writes an ICU locale in its own way.
		{Class: "database", Name: d.Prefix + "locale", Rule: source.Text,
			Text: strings.TrimRight(strings.Join([]string{d.Provider, d.Collate, d.CType, d.Locale, d.ICURules}, " "), " ")},
	}
	if d.Comment != "" {
		list = append(list, source.Fact{Class: "database", Name: d.Prefix + "comment", Rule: source.Exact, Text: d.Comment})
	}
	for _, g := range d.Grants {
		name := g.Grantee
		if name == "" {
			name = "PUBLIC"
		} else {
			name = pgclient.QuoteIdent(name)
		}
		text := strings.Join(g.Privileges, ", ")
		if len(g.Grantable) > 0 {
			text += "; may grant " + strings.Join(g.Grantable, ", ")
		}
		list = append(list, source.Fact{Class: "database grant", Name: d.Prefix + name, Rule: source.Exact, Text: text})
	}
	for _, s := range d.Settings {
		name := s.Name
		if s.Role != "" {
			name = "role " + pgclient.QuoteIdent(s.Role) + ": " + s.Name
		}
		list = append(list, source.Fact{Class: "database setting", Name: d.Prefix + name, Rule: source.Text, Text: s.Value})
	}
	for _, e := range d.Extensions {
		list = append(list, source.Fact{Class: "extension version", Name: d.Prefix + e.Name, Rule: source.Text, Text: e.Version})
	}
	return list
}

// properties are shown with the facts.
func (d database) properties() map[string]string {
	all := map[string]string{
		"database": d.Name, "owner": d.Owner, "encoding": d.Encoding, "locale provider": d.Provider,
		"collate": d.Collate, "ctype": d.CType, "locale": d.Locale, "collation version": d.CollationVersion,
		"tablespace": d.Tablespace,
	}
	maps.DeleteFunc(all, func(_, value string) bool { return value == "" })
	return all
}

// settingName quotes each part of a name such as "plugin.option".
func settingName(name string) string {
	parts := strings.Split(name, ".")
	for i := range parts {
		parts[i] = pgclient.QuoteIdent(parts[i])
	}
	return strings.Join(parts, ".")
}

// settingValue writes a value as SET takes it. The settings that hold lists of names store them quoted already; one
// literal around such a list would make it a single name.
func settingValue(name, value string) string {
	switch strings.ToLower(name) {
	case "local_preload_libraries", "search_path", "session_preload_libraries", "shared_preload_libraries",
		"temp_tablespaces", "unix_socket_directories", "createrole_self_grant":
	default:
		return pgclient.QuoteLiteral(value)
	}
	var list []string
	for rest := strings.TrimSpace(value); rest != ""; {
		var item string
		if rest[0] == '"' {
			end := 1
			for end < len(rest) {
				if rest[end] == '"' {
					if end+1 >= len(rest) || rest[end+1] != '"' {
						break
					}
					end++
				}
				end++
			}
			if end >= len(rest) {
				return pgclient.QuoteLiteral(value)
			}
			item = strings.ReplaceAll(rest[1:end], `""`, `"`)
			rest = rest[end+1:]
		} else {
			item, _, _ = strings.Cut(rest, ",")
			rest = rest[len(item):]
			item = strings.TrimSpace(item)
		}
		list = append(list, pgclient.QuoteLiteral(item))
		rest = strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(rest), ","))
	}
	if len(list) == 0 {
		return "''"
	}
	return strings.Join(list, ", ")
}

// versionName writes 150004 as 15.4.
func versionName(number int) string {
	return strconv.Itoa(number/10000) + "." + strconv.Itoa(number%10000)
}
