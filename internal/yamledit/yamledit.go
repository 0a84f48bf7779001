// Package yamledit changes single values of a YAML text and leaves every other byte of it as it was: comments, order,
// quotes, blank lines.
//
// It hides where a value begins and ends in the text. Its laws: a text is changed by replacing or inserting one piece at a
// time, on lines that it understands whole; after each change the text is read again, and must say what it said before but
// for that one value; what cannot be done so for certain (anchors, aliases and merges on the way, values over several
// lines) is refused with [ErrUnsafe], and nothing is changed.
//
// It is not its job to know what the values mean, or to touch a file.
package yamledit

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	yaml "go.yaml.in/yaml/v4"
)

// ErrUnsafe: the text says it in a way in which it cannot be changed for certain. The error's text begins with the line.
var ErrUnsafe = errors.New("this cannot be edited safely")

// Document is a YAML text. It is not safe for concurrent use.
type Document struct {
	text []byte
	root *yaml.Node
}

// Parse reads a text with one mapping at its top.
func Parse(text []byte) (*Document, error) {
	root, err := load(text)
	if err != nil {
		return nil, err
	}
	return &Document{text, root}, nil
}

// load reads a text; what is wrong with it is not repeated, since it may be a secret.
func load(text []byte) (*yaml.Node, error) {
	var document yaml.Node
	if err := yaml.Load(text, &document); err != nil {
		return nil, errors.New("it is not readable YAML")
	}
	if document.Kind != yaml.DocumentNode || len(document.Content) != 1 || document.Content[0].Kind != yaml.MappingNode {
		return nil, errors.New("it holds no keys")
	}
	return document.Content[0], nil
}

// Bytes returns the text as it is now.
func (d *Document) Bytes() []byte { return d.text }

// Has reports whether there is a value at path.
func (d *Document) Has(path ...string) bool {
	node := d.root
	for _, name := range path {
		if node = valueOf(node, name); node == nil {
			return false
		}
	}
	return true
}

// Replace gives the key at path another value, and another name when name is not that of the key. value is YAML on one
// line. The value before must be a plain or quoted text on one line.
func (d *Document) Replace(path []string, name, value string) error {
	parent, key, err := d.find(path)
	if err != nil {
		return err
	}
	at := indexOf(parent, key)
	if at < 0 {
		return fmt.Errorf("there is no %s", strings.Join(path, "."))
	}
	keyNode, old := parent.Content[at], parent.Content[at+1]
	if err := plain(old); err != nil {
		return err
	}
	begin, end, err := d.span(old)
	if err != nil {
		return err
	}
	changed, err := fragment(value)
	if err != nil {
		return err
	}
	text := splice(d.text, begin, end, value)
	if name != key {
		if indexOf(parent, name) >= 0 {
			return fmt.Errorf("%s is there already", name)
		}
		keyBegin, keyEnd, err := d.span(keyNode)
		if err != nil {
			return err
		}
		text = splice(text, keyBegin, keyEnd, name)
	}
	return d.take(text, func() { keyNode.Value, parent.Content[at+1] = name, changed })
}

// Insert adds a key to the section at path, right after the key called after if that one's value ends on its line, else
// as its first. value is YAML on one line.
func (d *Document) Insert(path []string, after, name, value string) error {
	parent, last, err := d.find(append(append([]string{}, path...), name))
	if err != nil {
		return err
	}
	if indexOf(parent, last) >= 0 {
		return fmt.Errorf("%s is there already", strings.Join(append(path, name), "."))
	}
	added, err := fragment(value)
	if err != nil {
		return err
	}
	entry := name + ": " + value
	var text []byte
	if parent.Style&yaml.FlowStyle != 0 {
		text, err = d.insertFlow(parent, '{', entry)
	} else {
		text, err = d.insertLine(parent, d.lineAfter(path, parent, after), entry)
	}
	if err != nil {
		return err
	}
	return d.take(text, func() {
		key := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: name}
		parent.Content = append(parent.Content, key, added)
	})
}

// Prepend puts a value before the others of the list at path, which must be there. value is YAML on one line.
func (d *Document) Prepend(path []string, value string) error {
	parent, key, err := d.find(path)
	if err != nil {
		return err
	}
	list := valueOf(parent, key)
	if list == nil {
		return fmt.Errorf("there is no %s", strings.Join(path, "."))
	}
	if err := unshared(list); err != nil {
		return err
	}
	if list.Kind != yaml.SequenceNode {
		return fmt.Errorf("%s is no list", strings.Join(path, "."))
	}
	added, err := fragment(value)
	if err != nil {
		return err
	}
	var text []byte
	switch {
	case list.Style&yaml.FlowStyle != 0:
		text, err = d.insertFlow(list, '[', value)
	case len(list.Content) == 0:
		err = unsafe(list, "the list is empty")
	default:
		var keyNode *yaml.Node
		if at := indexOf(parent, key); at >= 0 {
			keyNode = parent.Content[at]
		}
		text, err = d.insertItem(keyNode, list, value)
	}
	if err != nil {
		return err
	}
	return d.take(text, func() { list.Content = append([]*yaml.Node{added}, list.Content...) })
}

// take accepts a new text if it says what the tree says once change was made to it.
func (d *Document) take(text []byte, change func()) error {
	now, err := load(text)
	if err != nil {
		return fmt.Errorf("%w: after the change %w", ErrUnsafe, err)
	}
	change()
	if meaning(d.root) != meaning(now) {
		// The tree was changed already: it is made anew from the text, which was not.
		if d.root, err = load(d.text); err != nil {
			return err
		}
		return fmt.Errorf("%w: the change would say something else", ErrUnsafe)
	}
	d.text, d.root = text, now
	return nil
}

// find returns the mapping that holds the last name of path. All on the way must be written where it stands.
func (d *Document) find(path []string) (*yaml.Node, string, error) {
	node := d.root
	if err := unshared(node); err != nil {
		return nil, "", err
	}
	for _, name := range path[:len(path)-1] {
		node = valueOf(node, name)
		if node == nil {
			return nil, "", fmt.Errorf("there is no %s", strings.Join(path[:len(path)-1], "."))
		}
		if err := unshared(node); err != nil {
			return nil, "", err
		}
		if node.Kind != yaml.MappingNode {
			return nil, "", fmt.Errorf("%s is no section", name)
		}
	}
	return node, path[len(path)-1], nil
}

// unshared refuses what stands in another place too, and sections that take keys from elsewhere.
func unshared(node *yaml.Node) error {
	switch {
	case node.Kind == yaml.AliasNode:
		return unsafe(node, "an alias (*"+node.Value+") stands here")
	case node.Anchor != "":
		return unsafe(node, "an anchor (&"+node.Anchor+") stands here, so that it may be used elsewhere")
	}
	if node.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Tag == "!!merge" {
				return unsafe(node.Content[i], "a merge (<<) stands here")
			}
			if err := unsharedKey(node.Content[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

func unsharedKey(key *yaml.Node) error {
	if key.Kind != yaml.ScalarNode || key.Anchor != "" {
		return unsafe(key, "a key that is no plain text stands here")
	}
	return nil
}

// plain refuses values that do not end where they seem to.
func plain(node *yaml.Node) error {
	if err := unshared(node); err != nil {
		return err
	}
	if node.Kind != yaml.ScalarNode || node.Style&(yaml.LiteralStyle|yaml.FoldedStyle|yaml.TaggedStyle) != 0 {
		return unsafe(node, "the value is no text on one line")
	}
	return nil
}

func unsafe(node *yaml.Node, why string) error {
	return fmt.Errorf("%w: line %d: %s", ErrUnsafe, node.Line, why)
}

func indexOf(mapping *yaml.Node, name string) int {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if mapping.Content[i].Value == name && mapping.Content[i].Kind == yaml.ScalarNode {
			return i
		}
	}
	return -1
}

func valueOf(node *yaml.Node, name string) *yaml.Node {
	if node.Kind != yaml.MappingNode {
		return nil
	}
	if at := indexOf(node, name); at >= 0 {
		return node.Content[at+1]
	}
	return nil
}

// fragment reads a value that is to be put into the text.
func fragment(value string) (*yaml.Node, error) {
	root, err := load([]byte("v: " + value + "\n"))
	if err != nil || len(root.Content) != 2 || strings.ContainsAny(value, "\n\r") {
		return nil, errors.New("the new value is no YAML on one line")
	}
	return root.Content[1], nil
}

// meaning writes down what a tree says. The order of keys counts for nothing, since keys are inserted anywhere.
func meaning(node *yaml.Node) string {
	parts := make([]string, 0, len(node.Content))
	if node.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(node.Content); i += 2 {
			parts = append(parts, meaning(node.Content[i])+meaning(node.Content[i+1]))
		}
		slices.Sort(parts)
	} else {
		for _, child := range node.Content {
			parts = append(parts, meaning(child))
		}
	}
	inner := strings.Join(parts, "")
	return fmt.Sprintf("%d %s %d:%s %d:%s %d:%s ", node.Kind, node.ShortTag(), len(node.Anchor), node.Anchor, len(node.Value), node.Value, len(inner), inner)
}

func splice(text []byte, begin, end int, piece string) []byte {
	out := make([]byte, 0, len(text)+len(piece))
	out = append(out, text[:begin]...)
	out = append(out, piece...)
	return append(out, text[end:]...)
}

// offset finds where a node begins: its column counts characters.
func (d *Document) offset(node *yaml.Node) (int, error) {
	begin, _, ok := d.line(node.Line)
	if !ok {
		return 0, unsafe(node, "the line is not found")
	}
	for range node.Column - 1 {
		if begin >= len(d.text) || d.text[begin] == '\n' {
			return 0, unsafe(node, "the column is not found")
		}
		_, size := utf8.DecodeRune(d.text[begin:])
		begin += size
	}
	return begin, nil
}

// line returns where a line, counted from 1, begins and ends; its line feed comes after the end.
func (d *Document) line(number int) (begin, end int, ok bool) {
	for ; number > 1; number-- {
		next := bytes.IndexByte(d.text[begin:], '\n')
		if next < 0 {
			return 0, 0, false
		}
		begin += next + 1
	}
	if next := bytes.IndexByte(d.text[begin:], '\n'); next >= 0 {
		return begin, begin + next, true
	}
	return begin, len(d.text), true
}
