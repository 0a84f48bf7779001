package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	yaml "go.yaml.in/yaml/v4"
)

// reader gathers values with their places, and everything that is wrong, on the way from text to [Config].
type reader struct {
	file    string // as it stands in messages
	dir     string // what relative paths of the file start from
	lookup  func(string) (string, bool)
	now     time.Time
	list    []Mistake
	origins map[string]place
}

func (r *reader) fault(at place, format string, args ...any) {
	r.list = append(r.list, Mistake{at.String(), fmt.Sprintf(format, args...), at.line, at.column})
}

func (r *reader) at(node *yaml.Node) place { return place{r.file, node.Line, node.Column} }

// parseTree reads the one document of data; nil when it cannot be read, which is then reported.
func (r *reader) parseTree(data []byte) *yaml.Node {
	start := place{r.file, 1, 1}
	if len(data) > maxFileSize {
		r.fault(start, "the file is larger than 1 MiB; this cannot be a configuration")
		return nil
	}
	var document yaml.Node
	if err := yaml.Load(data, &document); err != nil {
		var load *yaml.LoadError
		if !errors.As(err, &load) {
			r.fault(start, "is not readable YAML")
			return nil
		}
		at := start
		if load.Mark.Line > 0 {
			at = place{r.file, load.Mark.Line, load.Mark.Column}
		}
		// What is quoted is a piece of the file, which may be a secret written in the wrong place.
		text, _, cut := strings.Cut(strings.TrimPrefix(load.Message, "yaml: "), "'")
		switch {
		case strings.Contains(text, "no documents"):
			text = "the file is empty; it needs at least `version: 1`"
		case strings.Contains(text, "multiple"):
			text = "the file holds several YAML documents; it must be one"
		case cut && strings.HasPrefix(text, "unknown anchor"):
			text = "is not readable YAML: an alias (*name) without its anchor (&name); quote a text that begins with *"
		default:
			text = "is not readable YAML: " + strings.TrimSpace(text)
		}
		r.fault(at, "%s", text)
		return nil
	}
	if document.Kind != yaml.DocumentNode || len(document.Content) == 0 {
		r.fault(start, "the file is empty; it needs at least `version: 1`")
		return nil
	}
	return document.Content[0]
}

const maxFileSize = 1 << 20

// follow replaces an alias by what it stands for.
func follow(node *yaml.Node) *yaml.Node {
	for node.Kind == yaml.AliasNode && node.Alias != nil {
		node = node.Alias
	}
	return node
}

type pair struct{ key, value *yaml.Node }

// pairs lists the keys of a mapping in their order, merged ones (<<) last. It reports keys that come twice.
func (r *reader) pairs(node *yaml.Node, path string) []pair {
	var out, merged []pair
	seen := map[string]*yaml.Node{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := follow(node.Content[i]), follow(node.Content[i+1])
		if key.Tag == "!!merge" {
			merged = append(merged, r.merged(value, path)...)
			continue
		}
		if key.Kind != yaml.ScalarNode {
			r.fault(r.at(key), "%sa key must be a plain text", prefix(path))
			continue
		}
		if first := seen[key.Value]; first != nil {
			r.fault(r.at(key), "%skey %q comes twice; it stands already in line %d", prefix(path), key.Value, first.Line)
			continue
		}
		seen[key.Value] = key
		out = append(out, pair{key, value})
	}
	for _, p := range merged {
		if seen[p.key.Value] == nil {
			seen[p.key.Value] = p.key
			out = append(out, p)
		}
	}
	return out
}

// merged lists what a merge key brings in. Merges do not nest: that keeps a file from folding into itself.
func (r *reader) merged(node *yaml.Node, path string) []pair {
	from := []*yaml.Node{node}
	if node.Kind == yaml.SequenceNode {
		from = node.Content
	}
	var out []pair
	for _, n := range from {
		n = follow(n)
		if n.Kind != yaml.MappingNode {
			r.fault(r.at(n), "%s<< takes a section or a list of sections", prefix(path))
			continue
		}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := follow(n.Content[i])
			if key.Tag == "!!merge" {
				r.fault(r.at(key), "%s<< inside of a merged section is not followed; merge it here too", prefix(path))
				continue
			}
			if key.Kind == yaml.ScalarNode {
				out = append(out, pair{key, follow(n.Content[i+1])})
			}
		}
	}
	return out
}

func prefix(path string) string {
	if path == "" {
		return ""
	}
	return path + ": "
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// section is one mapping whose keys were checked against a shape. Its methods read a key that the shape has, note
// where the value stood, and report whether it was there and good; what is wrong is reported by the way.
type section struct {
	r      *reader
	path   string
	at     place
	shape  *shape
	values map[string]*yaml.Node
}

// section reads node as a mapping of shape; nil when it is none.
func (r *reader) section(node *yaml.Node, path string, shape *shape) *section {
	if node.Kind != yaml.MappingNode {
		r.fault(r.at(node), "%smust be a section with the keys %s", prefix(path), strings.Join(shape.names(), ", "))
		return nil
	}
	s := &section{r, path, r.at(node), shape, map[string]*yaml.Node{}}
	for _, p := range r.pairs(node, path) {
		if _, known := shape.field(p.key.Value); !known {
			r.fault(r.at(p.key), "%sunknown key %q; %s", prefix(path), p.key.Value, allowed(p.key.Value, shape.names()))
			continue
		}
		s.values[p.key.Value] = p.value
	}
	for _, f := range shape.fields {
		if f.needed && s.values[f.name] == nil {
			r.fault(s.at, "%skey %q is missing", prefix(path), f.name)
		}
	}
	return s
}

// entry is one named section of a mapping of names.
type entry struct {
	name string
	path string
	at   place // of the name
	node *yaml.Node
}

// entries reads the mapping of names under a key.
func (s *section) entries(name, what string) []entry { return s.checked(name, what, checkName) }

// checked is entries with a rule for names of its own.
func (s *section) checked(name, what string, check func(what, name string) error) []entry {
	node, _, found := s.value(name)
	if !found {
		return nil
	}
	path := join(s.path, name)
	if node.Kind != yaml.MappingNode {
		s.r.fault(s.r.at(node), "%smust be a section with one %s per name", prefix(path), what)
		return nil
	}
	var out []entry
	for _, p := range s.r.pairs(node, path) {
		if err := check(what, p.key.Value); err != nil {
			s.r.fault(s.r.at(p.key), "%s", err)
			continue
		}
		out = append(out, entry{p.key.Value, join(path, p.key.Value), s.r.at(p.key), p.value})
	}
	return out
}

// value returns the node of a key that is there and is not empty.
func (s *section) value(name string) (*yaml.Node, field, bool) {
	f, known := s.shape.field(name)
	if !known {
		panic("config: key " + name + " is read but not in the table of " + s.shape.name)
	}
	node := s.values[name]
	if node == nil {
		return nil, f, false
	}
	if node.Kind == yaml.ScalarNode && node.Tag == "!!null" {
		s.r.fault(s.r.at(node), "%shas no value; give one or remove the key", prefix(join(s.path, name)))
		return nil, f, false
	}
	return node, f, true
}

// found notes where the value of a key stands.
func (s *section) found(name string, node *yaml.Node) place {
	at := s.r.at(node)
	s.r.origins[join(s.path, name)] = at
	return at
}

// placeOf is where the value of a key stands, or the section when the key is not there.
func (s *section) placeOf(name string) place {
	if node := s.values[name]; node != nil {
		return s.r.at(node)
	}
	return s.at
}

// scalar returns the text of one value. Numbers and dates stay as they are written.
func (s *section) scalar(node *yaml.Node, path, want string) (string, bool) {
	if node.Kind != yaml.ScalarNode {
		s.r.fault(s.r.at(node), "%smust be a %s", prefix(path), want)
		return "", false
	}
	switch node.Tag {
	case "!!str", "!!int", "!!float", "!!timestamp":
		return node.Value, true
	case "!!bool":
		if want == string(formFlag) {
			return node.Value, true
		}
		s.r.fault(s.r.at(node), "%smust be a %s, not %s; quote it if it is meant as text", prefix(path), want, node.Value)
	case "!!null":
		s.r.fault(s.r.at(node), "%shas no value; give one or remove it", prefix(path))
	default:
		s.r.fault(s.r.at(node), "%sYAML tags are not used here", prefix(path))
	}
	return "", false
}

// one reads the scalar of a key and lets parse make a value of it. The error of parse says what is allowed.
func (s *section) one(name, want string, parse func(text string, f field) error) bool {
	node, f, found := s.value(name)
	if !found {
		return false
	}
	path := join(s.path, name)
	text, ok := s.scalar(node, path, want)
	if !ok {
		return false
	}
	if err := parse(text, f); err != nil {
		s.r.fault(s.r.at(node), "%s%s", prefix(path), err)
		return false
	}
	s.found(name, node)
	return true
}

func (s *section) text(name string, into *string) bool {
	return s.one(name, "text", func(text string, _ field) error {
		if err := checkText(text); err != nil {
			return err
		}
		*into = text
		return nil
	})
}

func (s *section) pathTo(name string, into *string) bool {
	return s.one(name, "path", func(text string, _ field) error {
		path, err := cleanPath(text, s.r.dir)
		*into = path
		return err
	})
}

func (s *section) choice(name string, into *string) bool {
	return s.one(name, "text", func(text string, f field) error {
		if !slices.Contains(f.choices, text) {
			return fmt.Errorf("%q is not allowed; %s", text, allowed(text, f.choices))
		}
		*into = text
		return nil
	})
}

func (s *section) number(name string, into *int) bool {
	return s.one(name, "whole number", func(text string, f field) error {
		if node := s.values[name]; node.Tag == "!!str" {
			return fmt.Errorf("must be a whole number, not %q", text)
		}
		n, err := parseNumber(text, f.min, f.max)
		if err != nil {
			return fmt.Errorf("%w, not %s", err, text)
		}
		*into = n
		return nil
	})
}

func (s *section) span(name string, into *time.Duration) bool {
	return s.one(name, "duration", func(text string, _ field) error {
		span, err := parseSpan(text)
		if err != nil {
			return fmt.Errorf("%w, not %q", err, text)
		}
		*into = span
		return nil
	})
}

func (s *section) size(name string, into *int64) bool {
	return s.one(name, "size", func(text string, _ field) error {
		n, err := parseSize(text)
		if err != nil {
			return fmt.Errorf("%w, not %q", err, text)
		}
		*into = n
		return nil
	})
}

func (s *section) date(name string, into *time.Time) bool {
	return s.one(name, "date", func(text string, _ field) error {
		date, err := time.Parse(time.DateOnly, text)
		if err != nil {
			return fmt.Errorf("must be a date such as 2027-11-22, not %q", text)
		}
		*into = date
		return nil
	})
}

func (s *section) flag(name string, into *bool) bool {
	return s.one(name, string(formFlag), func(text string, _ field) error {
		if tag := s.values[name].Tag; tag != "!!bool" || text != "true" && text != "false" {
			return fmt.Errorf("must be true or false, not %q", text)
		}
		*into = text == "true"
		return nil
	})
}

// located is a text with its place.
type located struct {
	text string
	at   place
}

// elements returns the nodes of a list.
func (s *section) elements(name, what string) ([]*yaml.Node, bool) {
	node, _, found := s.value(name)
	if !found {
		return nil, false
	}
	if node.Kind != yaml.SequenceNode {
		s.r.fault(s.r.at(node), "%smust be a list of %s: [a, b]", prefix(join(s.path, name)), what)
		return nil, false
	}
	s.found(name, node)
	out := make([]*yaml.Node, len(node.Content))
	for i, n := range node.Content {
		out[i] = follow(n)
	}
	return out, true
}

func element(path, name string, i int) string { return fmt.Sprintf("%s[%d]", join(path, name), i) }

// texts reads a list of texts, none of them empty or twice.
func (s *section) texts(name, what string) []located {
	nodes, _ := s.elements(name, what)
	var out []located
	for i, node := range nodes {
		path := element(s.path, name, i)
		text, ok := s.scalar(node, path, "text")
		if !ok {
			continue
		}
		if err := checkText(text); err != nil {
			s.r.fault(s.r.at(node), "%s%s", prefix(path), err)
			continue
		}
		if slices.ContainsFunc(out, func(l located) bool { return l.text == text }) {
			s.r.fault(s.r.at(node), "%s%q comes twice", prefix(path), text)
			continue
		}
		out = append(out, located{text, s.r.at(node)})
	}
	return out
}

// plainTexts is texts for who needs no places.
func (s *section) plainTexts(name, what string, into *[]string) {
	for _, l := range s.texts(name, what) {
		*into = append(*into, l.text)
	}
}

func (s *section) paths(name string, into *[]string) {
	for i, l := range s.texts(name, "paths") {
		path, err := cleanPath(l.text, s.r.dir)
		if err != nil {
			s.r.fault(l.at, "%s%s", prefix(element(s.path, name, i)), err)
			continue
		}
		*into = append(*into, path)
	}
}

// secret reads a reference to a secret, in either form. No message repeats what stands there.
func (s *section) secret(name string, into *SecretRef) bool {
	node, _, found := s.value(name)
	if !found {
		return false
	}
	path := join(s.path, name)
	switch node.Kind {
	case yaml.ScalarNode:
		ref, err := parseSecretText(node.Value)
		if err != nil {
			s.r.fault(s.r.at(node), "%s%s", prefix(path), err)
			return false
		}
		*into = ref
	case yaml.MappingNode:
		if !s.secretSection(node, path, into) {
			return false
		}
	default:
		s.r.fault(s.r.at(node), "%smust refer to a secret; %s", prefix(path), secretForms)
		return false
	}
	if !s.settle(node, path, into) {
		return false
	}
	s.found(name, node)
	return true
}

// settle makes a reference one that can be resolved from anywhere.
func (s *section) settle(node *yaml.Node, path string, into *SecretRef) bool {
	if into.file != "" {
		file, err := cleanPath(into.file, s.r.dir)
		if err != nil {
			s.r.fault(s.r.at(node), "%s%s", prefix(path), err)
			return false
		}
		into.file = file
	}
	into.lookup = s.r.lookup
	return true
}

func (s *section) secretSection(node *yaml.Node, path string, into *SecretRef) bool {
	pairs := s.r.pairs(node, path)
	if len(pairs) != 1 {
		s.r.fault(s.r.at(node), "%smust have exactly one key; %s", prefix(path), secretForms)
		return false
	}
	key, value := pairs[0].key, pairs[0].value
	texts := func(n *yaml.Node) (string, bool) {
		if n.Kind == yaml.ScalarNode && n.Tag != "!!null" && checkText(n.Value) == nil {
			return n.Value, true
		}
		s.r.fault(s.r.at(n), "%s%s must be a text; %s", prefix(path), key.Value, secretForms)
		return "", false
	}
	switch key.Value {
	case "env", "file":
		text, ok := texts(value)
		if !ok {
			return false
		}
		if key.Value == "env" {
			into.env = text
		} else {
			into.file = text
		}
	case "exec":
		if value.Kind != yaml.SequenceNode || len(value.Content) == 0 {
			s.r.fault(s.r.at(value), "%sexec must be a list of the program and its arguments", prefix(path))
			return false
		}
		var argv []string
		for _, n := range value.Content {
			text, ok := texts(follow(n))
			if !ok {
				return false
			}
			argv = append(argv, text)
		}
		into.exec = argv
	default:
		// A key that resembles none of these may be the secret itself: {hunter2} is a section too.
		known := []string{"env", "file", "exec"}
		if nearest(key.Value, known) == "" {
			s.r.fault(s.r.at(key), "%sunknown key; %s", prefix(path), secretForms)
			return false
		}
		s.r.fault(s.r.at(key), "%sunknown key %q; %s", prefix(path), key.Value, allowed(key.Value, known))
		return false
	}
	return true
}

// checkText refuses what no value may be: nothing, or a control character that a terminal or program would act on.
func checkText(text string) error {
	if strings.TrimSpace(text) == "" {
		return errors.New("must not be empty")
	}
	if strings.ContainsRune(text, 0) {
		return errors.New("must not hold a NUL character")
	}
	return nil
}

// cleanPath makes a path absolute, from dir.
func cleanPath(text, dir string) (string, error) {
	if err := checkText(text); err != nil {
		return "", err
	}
	if text == "~" || strings.HasPrefix(text, "~/") {
		return "", errors.New("~ is not expanded; write the whole path")
	}
	if filepath.IsAbs(text) {
		return filepath.Clean(text), nil
	}
	return filepath.Join(dir, text), nil
}
