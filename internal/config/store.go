package config

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	yaml "go.yaml.in/yaml/v4"

	"holdfast/internal/store"
)

// The kinds of stores.
const (
	StoreLocal = "local"
	StoreS3    = "s3"
	StoreSFTP  = "sftp"
	StoreRsync = "rsync"
)

// Store is a place that keeps objects. Of Path, S3 and SSH those of its kind are set.
type Store struct {
	Name      string
	Kind      string
	Path      string // of a local store: absolute
	S3        S3
	SSH       SSH           // of sftp and rsync
	Bandwidth int64         // bytes per second; 0: no limit
	Stall     time.Duration // 0: the drivers' own
}

// S3 says where a bucket is and how objects are put into it.
type S3 struct {
	Endpoint, Region, Bucket, Prefix   string
	PathStyle                          bool
	CAFile                             string
	AccessKey, SecretKey, SessionToken SecretRef // zero: AWS's variables, shared files, roles
	SSE, KMSKey, StorageClass          string    // SSE: "", "s3" or "kms"
	Lock                               string    // "", "governance" or "compliance"
	LockFor                            time.Duration
	PartSize                           int64 // 0: the driver's own
	Parts                              int
}

// SSH says how to reach a folder at a host.
type SSH struct {
	Host       string
	Port       int
	User       string
	Path       string // of the folder there; relative to the login folder, or absolute
	KeyFile    string
	Passphrase SecretRef // of the key file
	Password   SecretRef
	KnownHosts []string
	Agent      string // socket of the agent; "" when none is used
	Timeout    time.Duration
}

// IsLocal reports whether the store is a folder of this host.
func (s Store) IsLocal() bool { return s.Kind == StoreLocal }

// Address tells the store apart from all others, and tells people where it is. It holds no secret.
func (s Store) Address() string {
	switch s.Kind {
	case StoreS3:
		address := "s3://" + path.Join(s.S3.Bucket, s.S3.Prefix)
		if s.S3.Endpoint != "" {
			address += "?endpoint=" + s.S3.Endpoint
		}
		return address
	case StoreSFTP, StoreRsync:
		return store.SSHAddress(s.Kind, s.SSH.User, s.SSH.Host, s.SSH.Port, s.SSH.Path)
	}
	return s.Path
}

// answers reports whether a store of the configuration is what text, which was read as described, means: the same place, and text
// says nothing else about how to reach it.
func (s Store) answers(described Store, text string) bool {
	if s.Kind != described.Kind || s.Address() != described.Address() {
		return false
	}
	_, query, _ := strings.Cut(text, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		return false
	}
	for name, value := range map[string]string{
		"key_file": s.SSH.KeyFile, "known_hosts": strings.Join(s.SSH.KnownHosts, ","), "region": s.S3.Region, "ca_file": s.S3.CAFile,
		"path_style": strconv.FormatBool(s.S3.PathStyle),
	} {
		if asked := values.Get(name); asked != "" && asked != value {
			return false
		}
	}
	return true
}

const noneWord = "none"

// readStore reads one store of the file. Its kind decides which keys are known.
func (r *reader) readStore(e entry) Store {
	st := Store{Name: e.name}
	shape, kind, ok := r.kindOf(e, storeShapes(), storeKinds())
	if !ok {
		return st
	}
	s := r.section(e.node, e.path, shape)
	if s == nil {
		return st
	}
	st.Kind = kind
	s.choice("kind", &st.Kind)
	s.size("bandwidth", &st.Bandwidth)
	switch kind {
	case StoreLocal:
		s.pathTo("path", &st.Path)
	case StoreS3:
		s.span("stall", &st.Stall)
		r.readS3(s, &st.S3)
	case StoreSFTP:
		s.span("stall", &st.Stall)
		s.secret("key_passphrase", &st.SSH.Passphrase)
		s.secret("password", &st.SSH.Password)
		r.readSSH(s, &st.SSH)
	case StoreRsync:
		r.readSSH(s, &st.SSH)
	}
	return st
}

// kindOf finds the shape that the key kind of an entry chooses.
func (r *reader) kindOf(e entry, shapes map[string]*shape, kinds []string) (*shape, string, bool) {
	if e.node.Kind != yaml.MappingNode {
		r.fault(r.at(e.node), "%s: must be a section with the key kind: %s", e.path, strings.Join(kinds, ", "))
		return nil, "", false
	}
	var kindNode *yaml.Node
	for _, p := range (&reader{file: r.file}).pairs(e.node, e.path) {
		if p.key.Value == "kind" {
			kindNode = p.value
		}
	}
	if kindNode == nil {
		r.fault(e.at, "%s: key \"kind\" is missing; known kinds: %s", e.path, strings.Join(kinds, ", "))
		return nil, "", false
	}
	shape := shapes[kindNode.Value]
	if shape == nil || kindNode.Kind != yaml.ScalarNode {
		r.fault(r.at(kindNode), "%s.kind: %q is not allowed; %s", e.path, kindNode.Value, allowed(kindNode.Value, kinds))
		return nil, "", false
	}
	return shape, kindNode.Value, true
}

func (r *reader) readS3(s *section, into *S3) {
	checked := func(name string, to *string, check func(string) error) {
		s.one(name, "text", func(text string, _ field) error {
			*to = text
			return check(text)
		})
	}
	checked("endpoint", &into.Endpoint, checkEndpoint)
	s.text("region", &into.Region)
	checked("bucket", &into.Bucket, checkBucket)
	checked("prefix", &into.Prefix, checkPrefix)
	into.PathStyle = pathStyle(into.Endpoint)
	s.flag("path_style", &into.PathStyle)
	s.pathTo("ca_file", &into.CAFile)
	s.secret("access_key", &into.AccessKey)
	s.secret("secret_key", &into.SecretKey)
	s.secret("session_token", &into.SessionToken)
	if (s.values["access_key"] == nil) != (s.values["secret_key"] == nil) {
		r.fault(s.at, "%s: access_key and secret_key are given together or not at all", s.path)
	}
	s.choice("sse", &into.SSE)
	s.text("kms_key", &into.KMSKey)
	if into.KMSKey != "" && into.SSE != "kms" {
		r.fault(s.placeOf("kms_key"), "%s.kms_key: has a meaning only with sse: kms", s.path)
	}
	s.text("storage_class", &into.StorageClass)
	s.choice("lock", &into.Lock)
	s.span("lock_for", &into.LockFor)
	into.SSE, into.Lock = orNone(into.SSE), orNone(into.Lock)
	if (into.Lock == "") != (into.LockFor == 0) {
		r.fault(s.at, "%s: lock and lock_for are given together or not at all", s.path)
	}
	if s.size("part_size", &into.PartSize) && into.PartSize < smallestPart {
		r.fault(s.placeOf("part_size"), "%s.part_size: must be at least 5MB, which is what servers take", s.path)
	}
	s.number("parts", &into.Parts)
}

const smallestPart = 5 << 20

func orNone(text string) string {
	if text == noneWord {
		return ""
	}
	return text
}

func (r *reader) readSSH(s *section, into *SSH) {
	s.text("host", &into.Host)
	s.number("port", &into.Port)
	s.text("user", &into.User)
	s.text("path", &into.Path)
	s.pathTo("key_file", &into.KeyFile)
	s.paths("known_hosts", &into.KnownHosts)
	s.span("timeout", &into.Timeout)
	if err := checkSSH(*into); err != nil {
		r.fault(s.at, "%s: %s", s.path, err)
	}
	r.settleSSH(into)
}

// settleSSH fills in what the environment of the user says.
func (r *reader) settleSSH(into *SSH) {
	if len(into.KnownHosts) == 0 {
		if home, found := r.lookup("HOME"); found {
			into.KnownHosts = append(into.KnownHosts, filepath.Join(home, ".ssh", "known_hosts"))
		}
		into.KnownHosts = append(into.KnownHosts, "/etc/ssh/ssh_known_hosts")
	}
	if into.KeyFile == "" {
		into.Agent, _ = r.lookup("SSH_AUTH_SOCK")
	}
}

// checkSSH refuses what a program or a command line would take for something else.
func checkSSH(of SSH) error {
	for _, part := range []struct{ what, text string }{{"host", of.Host}, {"user", of.User}, {"path", of.Path}} {
		switch {
		case strings.HasPrefix(part.text, "-"):
			return fmt.Errorf("the %s must not begin with a dash", part.what)
		case part.what != "path" && strings.ContainsAny(part.text, " \t\r\n/@'\"\\`$"):
			return fmt.Errorf("the %s %q has a character that none has", part.what, part.text)
		case strings.ContainsAny(part.text, "\r\n\x00"):
			return fmt.Errorf("the %s must be one line", part.what)
		}
	}
	if slices.Contains(strings.Split(of.Path, "/"), "..") {
		return errors.New("the path must not have .. in it")
	}
	return nil
}

func checkEndpoint(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || u.RawQuery != "" || strings.Trim(u.Path, "/") != "" {
		return errors.New("must be the address of a server: https://HOST or https://HOST:PORT")
	}
	return nil
}

func checkBucket(text string) error {
	if text == "" || len(text) > 255 || strings.ContainsAny(text, "/ \t\r\n\\?#") {
		return fmt.Errorf("%q is not the name of a bucket", text)
	}
	return nil
}

func checkPrefix(text string) error {
	if text == "" || text != path.Clean(text) || strings.HasPrefix(text, "/") || strings.HasPrefix(text, "..") || strings.ContainsAny(text, "\r\n\\?#") {
		return fmt.Errorf("%q is not a folder in a bucket: write web1 or teams/web1", text)
	}
	return nil
}

// pathStyle reports whether a bucket cannot be part of the host's name.
func pathStyle(endpoint string) bool {
	u, err := url.Parse(endpoint)
	if err != nil || endpoint == "" {
		return false
	}
	host := u.Hostname()
	return host == "localhost" || strings.Trim(host, "0123456789.") == "" || strings.Contains(host, ":")
}

// addStore adds the store that g describes to the stores: the path of a folder, or a URL.
func (r *reader) addStore(d *draft, g given) given {
	store, err := r.storeOf(g.text)
	if err != nil {
		r.fault(g.at, "%s", err)
		return given{}
	}
	for _, known := range d.stores {
		if known.answers(store, g.text) {
			return given{known.Name, g.at}
		}
	}
	store.Name = unique("default", func(name string) bool {
		return slices.ContainsFunc(d.stores, func(s Store) bool { return s.Name == name })
	})
	d.stores = append(d.stores, store)
	for _, key := range []string{"kind", "path", "endpoint", "region", "bucket", "prefix", "path_style", "host", "port", "user"} {
		if _, known := storeShapes()[store.Kind].field(key); known {
			r.origins["stores."+store.Name+"."+key] = g.at
		}
	}
	return given{store.Name, g.at}
}

// isStoreURL reports whether text is meant as a URL rather than as a path.
func isStoreURL(text string) bool { return strings.Contains(text, "://") }

// StoreFromText makes a store, without a name, of what --store takes.
func StoreFromText(text string, environ []string) (Store, error) {
	r := newReader("", ".", environment(environ), time.Time{})
	store, err := r.storeOf(text)
	if err != nil {
		return Store{}, mistakes([]Mistake{{Where: "flag --store", Text: err.Error()}})
	}
	return store, nil
}

func (r *reader) storeOf(text string) (Store, error) {
	if !isStoreURL(text) {
		dir, err := workingPath(text)
		if err != nil {
			return Store{}, err
		}
		return Store{Kind: StoreLocal, Path: filepath.Clean(dir)}, nil
	}
	u, err := url.Parse(text)
	if err != nil {
		// The error of Parse repeats the text, which may have a password.
		return Store{}, errors.New("the address of the store is not readable; write s3://BUCKET/FOLDER?endpoint=https://HOST, sftp://USER@HOST:PORT/PATH or rsync://USER@HOST:PORT/PATH")
	}
	if _, has := u.User.Password(); has {
		return Store{}, errors.New("an address with a password can be seen by everyone on this host; use a key (key_file), or a store of the configuration with password: {file: PATH}")
	}
	switch u.Scheme {
	case StoreS3:
		return r.s3Of(u)
	case StoreSFTP, StoreRsync:
		return r.sshOf(u)
	}
	return Store{}, fmt.Errorf("no store is reached by %s://; known: a folder, s3://, sftp://, rsync://", u.Scheme)
}

func (r *reader) s3Of(u *url.URL) (Store, error) {
	store := Store{Kind: StoreS3, S3: S3{Bucket: u.Host, Prefix: strings.Trim(u.Path, "/")}}
	if err := checkBucket(store.S3.Bucket); err != nil {
		return Store{}, err
	}
	if store.S3.Prefix != "" {
		if err := checkPrefix(store.S3.Prefix); err != nil {
			return Store{}, err
		}
	}
	query := u.Query()
	store.S3.Endpoint, store.S3.Region = query.Get("endpoint"), query.Get("region")
	if store.S3.Endpoint != "" {
		if err := checkEndpoint(store.S3.Endpoint); err != nil {
			return Store{}, fmt.Errorf("endpoint: %w", err)
		}
	}
	store.S3.PathStyle = pathStyle(store.S3.Endpoint)
	if text := query.Get("path_style"); text != "" {
		flag, err := strconv.ParseBool(text)
		if err != nil {
			return Store{}, errors.New("path_style must be true or false")
		}
		store.S3.PathStyle = flag
	}
	if file := query.Get("ca_file"); file != "" {
		dir, err := workingPath(file)
		if err != nil {
			return Store{}, fmt.Errorf("ca_file: %w", err)
		}
		store.S3.CAFile = dir
	}
	known := []string{"endpoint", "region", "path_style", "ca_file"}
	return store, checkQuery(query, known)
}

func (r *reader) sshOf(u *url.URL) (Store, error) {
	ssh := SSH{Host: u.Hostname(), User: u.User.Username(), Path: path.Clean(u.Path)}
	if text := u.Port(); text != "" {
		port, err := parseNumber(text, 1, 65535)
		if err != nil {
			return Store{}, fmt.Errorf("port: %w", err)
		}
		ssh.Port = port
	}
	// /./PATH and /~/PATH begin at the login folder.
	for _, home := range []string{"/./", "/~/"} {
		if rest, found := strings.CutPrefix(u.Path, home); found {
			ssh.Path = path.Clean(rest)
		}
	}
	if ssh.Host == "" || ssh.User == "" || u.Path == "" || u.Path == "/" {
		return Store{}, fmt.Errorf("write %s://USER@HOST:PORT/PATH; /./PATH begins at the login folder", u.Scheme)
	}
	query := u.Query()
	for _, key := range []struct {
		name string
		into func(string)
	}{
		{"key_file", func(file string) { ssh.KeyFile = file }},
		{"known_hosts", func(file string) { ssh.KnownHosts = []string{file} }},
	} {
		if text := query.Get(key.name); text != "" {
			file, err := workingPath(text)
			if err != nil {
				return Store{}, fmt.Errorf("%s: %w", key.name, err)
			}
			key.into(file)
		}
	}
	if err := checkSSH(ssh); err != nil {
		return Store{}, err
	}
	r.settleSSH(&ssh)
	return Store{Kind: u.Scheme, SSH: ssh}, checkQuery(query, []string{"key_file", "known_hosts"})
}

func checkQuery(query url.Values, known []string) error {
	for name := range query {
		if !slices.Contains(known, name) {
			return fmt.Errorf("unknown part %q; %s", name, allowed(name, known))
		}
	}
	return nil
}

// store shows a store, which tells where each of its values came from.
func (s *settings) store(prefix string, st Store) {
	s.add(prefix+"kind", st.Kind)
	switch st.Kind {
	case StoreS3:
		s.given(prefix+"endpoint", st.S3.Endpoint)
		s.given(prefix+"region", st.S3.Region)
		s.add(prefix+"bucket", st.S3.Bucket)
		s.given(prefix+"prefix", st.S3.Prefix)
		s.add(prefix+"path_style", strconv.FormatBool(st.S3.PathStyle))
		s.given(prefix+"ca_file", st.S3.CAFile)
		s.given(prefix+"access_key", st.S3.AccessKey.String())
		s.given(prefix+"secret_key", st.S3.SecretKey.String())
		s.given(prefix+"session_token", st.S3.SessionToken.String())
		s.given(prefix+"sse", st.S3.SSE)
		s.given(prefix+"kms_key", st.S3.KMSKey)
		s.given(prefix+"storage_class", st.S3.StorageClass)
		s.given(prefix+"lock", st.S3.Lock)
		s.span(prefix+"lock_for", st.S3.LockFor)
		s.size(prefix+"part_size", st.S3.PartSize)
		s.count(prefix+"parts", st.S3.Parts)
	case StoreSFTP, StoreRsync:
		s.add(prefix+"host", st.SSH.Host)
		s.count(prefix+"port", st.SSH.Port)
		s.add(prefix+"user", st.SSH.User)
		s.add(prefix+"path", st.SSH.Path)
		s.given(prefix+"key_file", st.SSH.KeyFile)
		s.given(prefix+"key_passphrase", st.SSH.Passphrase.String())
		s.given(prefix+"password", st.SSH.Password.String())
		s.given(prefix+"known_hosts", strings.Join(st.SSH.KnownHosts, ", "))
		s.span(prefix+"timeout", st.SSH.Timeout)
	default:
		s.add(prefix+"path", st.Path)
	}
	s.size(prefix+"bandwidth", st.Bandwidth)
	s.span(prefix+"stall", st.Stall)
}

// store writes a store into the template.
func (t *template) store(st Store) {
	t.line(1, st.Name+":")
	t.line(2, "kind: "+st.Kind)
	done := []string{"kind"}
	text := func(name, value string) {
		if value != "" {
			t.line(2, name+": "+quoteText(value))
			done = append(done, name)
		}
	}
	secret := func(name string, ref SecretRef) {
		if !ref.IsZero() && ref.given.IsZero() {
			t.secret(2, name, ref)
			done = append(done, name)
		}
	}
	switch st.Kind {
	case StoreS3:
		text("endpoint", st.S3.Endpoint)
		text("region", st.S3.Region)
		text("bucket", st.S3.Bucket)
		text("prefix", st.S3.Prefix)
		if st.S3.PathStyle != pathStyle(st.S3.Endpoint) {
			t.line(2, "path_style: "+strconv.FormatBool(st.S3.PathStyle))
			done = append(done, "path_style")
		}
		text("ca_file", st.S3.CAFile)
		secret("access_key", st.S3.AccessKey)
		secret("secret_key", st.S3.SecretKey)
	case StoreSFTP, StoreRsync:
		text("host", st.SSH.Host)
		if st.SSH.Port != 0 {
			t.line(2, "port: "+strconv.Itoa(st.SSH.Port))
			done = append(done, "port")
		}
		text("user", st.SSH.User)
		text("path", st.SSH.Path)
		text("key_file", st.SSH.KeyFile)
		if len(st.SSH.KnownHosts) > 0 {
			t.line(2, "known_hosts: "+quoteList(st.SSH.KnownHosts))
			done = append(done, "known_hosts")
		}
	default:
		text("path", st.Path)
	}
	t.rest(2, storeShapes()[st.Kind], done...)
}
