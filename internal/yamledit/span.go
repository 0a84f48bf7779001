package yamledit

import (
	"strings"

	yaml "go.yaml.in/yaml/v4"
)

// span finds where a text on one line begins and ends, quotes included.
func (d *Document) span(node *yaml.Node) (begin, end int, err error) {
	if begin, err = d.offset(node); err != nil {
		return 0, 0, err
	}
	_, stop, _ := d.line(node.Line)
	rest := string(d.text[begin:stop])
	length := 0
	switch {
	case node.Style&yaml.DoubleQuotedStyle != 0:
		length = doubleQuoted(rest)
	case node.Style&yaml.SingleQuotedStyle != 0:
		length = singleQuoted(rest)
	case strings.HasPrefix(rest, node.Value):
		length = len(node.Value)
	}
	if length == 0 {
		return 0, 0, unsafe(node, "the value does not end on its line")
	}
	return begin, begin + length, nil
}

// doubleQuoted returns the length of the quoted text that rest begins with, or 0.
func doubleQuoted(rest string) int {
	if !strings.HasPrefix(rest, `"`) {
		return 0
	}
	for i := 1; i < len(rest); i++ {
		switch rest[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return 0
}

func singleQuoted(rest string) int {
	if !strings.HasPrefix(rest, "'") {
		return 0
	}
	for i := 1; i < len(rest); i++ {
		if rest[i] != '\'' {
			continue
		}
		if i+1 < len(rest) && rest[i+1] == '\'' {
			i++
			continue
		}
		return i + 1
	}
	return 0
}

// insertFlow puts an entry first into a section or list in brackets.
func (d *Document) insertFlow(node *yaml.Node, bracket byte, entry string) ([]byte, error) {
	begin, err := d.offset(node)
	if err != nil {
		return nil, err
	}
	if begin >= len(d.text) || d.text[begin] != bracket {
		return nil, unsafe(node, "the bracket is not found")
	}
	if len(node.Content) > 0 {
		entry += ", "
	}
	return splice(d.text, begin+1, begin+1, entry), nil
}

// lineAfter is the line after which a key is inserted: that of the key called after, if its value ends there, else that of
// the section's own name; 0 when neither is known.
func (d *Document) lineAfter(path []string, section *yaml.Node, after string) int {
	if at := indexOf(section, after); at >= 0 {
		key, value := section.Content[at], section.Content[at+1]
		if value.Kind == yaml.ScalarNode && key.Line == value.Line && plain(value) == nil {
			if _, _, err := d.span(value); err == nil {
				return key.Line
			}
		}
	}
	if len(path) == 0 || len(section.Content) == 0 {
		return 0
	}
	parent, name, err := d.find(path)
	if err != nil {
		return 0
	}
	at := indexOf(parent, name)
	if at < 0 || parent.Content[at].Line == section.Content[0].Line {
		return 0
	}
	return parent.Content[at].Line
}

// insertLine adds a line with an entry of a section, indented as its first key is.
func (d *Document) insertLine(section *yaml.Node, after int, entry string) ([]byte, error) {
	if after == 0 {
		return nil, unsafe(section, "there is no line after which a key could be added")
	}
	first := section.Content[0]
	begin, _, _ := d.line(first.Line)
	at, err := d.offset(first)
	if err != nil {
		return nil, err
	}
	indent := string(d.text[begin:at])
	if strings.Trim(indent, " ") != "" {
		return nil, unsafe(first, "the section does not begin on a line of its own")
	}
	return d.addLine(after, indent+entry), nil
}

// insertItem adds a line with an item before the first one of a list, with its dash where the others have theirs.
func (d *Document) insertItem(name, list *yaml.Node, value string) ([]byte, error) {
	if name == nil || list.Line == name.Line {
		return nil, unsafe(list, "the list does not begin on a line of its own")
	}
	begin, _, _ := d.line(list.Line)
	at, err := d.offset(list)
	if err != nil {
		return nil, err
	}
	indent := string(d.text[begin:at])
	if strings.Trim(indent, " ") != "" || at >= len(d.text) || d.text[at] != '-' {
		return nil, unsafe(list, "the list does not begin on a line of its own")
	}
	return d.addLine(name.Line, indent+"- "+value), nil
}

// addLine adds a line after another, with the line end that the other has.
func (d *Document) addLine(after int, line string) []byte {
	_, end, _ := d.line(after)
	if end < len(d.text) {
		feed := "\n"
		if end > 0 && d.text[end-1] == '\r' {
			feed = "\r\n"
		}
		return splice(d.text, end+1, end+1, line+feed)
	}
	return splice(d.text, end, end, "\n"+line)
}
