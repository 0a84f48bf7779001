package yamledit_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	yaml "go.yaml.in/yaml/v4"

	"holdfast/internal/yamledit"
)

const file = `# the host of the shop
version: 1   # of the format

keys:
  # Anna has it
  ops:
    recipient: age1old  # made in May
    holder: "Jörg, \"the\" admin"   # ask him
    # retired: none yet

  flow: {recipient: 'it''s', holder: "ä, b"}   # one line
jobs:
    app: {recipients: [ops,
      flow]}
`

func parse(t *testing.T, text string) *yamledit.Document {
	t.Helper()
	d, err := yamledit.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestEdits(t *testing.T) {
	for _, c := range []struct {
		name     string
		text     string
		edit     func(d *yamledit.Document) error
		old, new string // the piece of the text that changes
	}{
		{"plain text", file, func(d *yamledit.Document) error {
			return d.Replace([]string{"keys", "ops", "recipient"}, "recipient", "age1new")
		}, "recipient: age1old  # made", "recipient: age1new  # made"},
		{"with its name", file, func(d *yamledit.Document) error {
			return d.Replace([]string{"keys", "ops", "recipient"}, "recipient_file", `"/etc/x y"`)
		}, "recipient: age1old  # made", `recipient_file: "/etc/x y"  # made`},
		{"double quoted", file, func(d *yamledit.Document) error {
			return d.Replace([]string{"keys", "ops", "holder"}, "holder", `"Eve"`)
		}, `"Jörg, \"the\" admin"   # ask`, `"Eve"   # ask`},
		{"single quoted, in brackets", file, func(d *yamledit.Document) error {
			return d.Replace([]string{"keys", "flow", "recipient"}, "recipient", "age1x")
		}, "{recipient: 'it''s', holder", "{recipient: age1x, holder"},
		{"after other letters", file, func(d *yamledit.Document) error {
			return d.Replace([]string{"keys", "flow", "holder"}, "name", "[a]")
		}, `holder: "ä, b"}`, `name: [a]}`},
		{"number", file, func(d *yamledit.Document) error { return d.Replace([]string{"version"}, "version", "2") }, "version: 1 ", "version: 2 "},
		{"a key after another", file, func(d *yamledit.Document) error {
			return d.Insert([]string{"keys", "ops"}, "recipient", "created", "2026-07-24")
		}, "# made in May\n", "# made in May\n    created: 2026-07-24\n"},
		{"a key at the beginning", file, func(d *yamledit.Document) error {
			return d.Insert([]string{"keys"}, "", "new", "{recipient: age1n}")
		}, "keys:\n", "keys:\n  new: {recipient: age1n}\n"},
		{"a key in brackets", file, func(d *yamledit.Document) error {
			return d.Insert([]string{"keys", "flow"}, "recipient", "created", "2026-07-24")
		}, "flow: {recipient", "flow: {created: 2026-07-24, recipient"},
		{"a key at the top", file, func(d *yamledit.Document) error { return d.Insert(nil, "version", "host", "web1") }, "# of the format\n", "# of the format\nhost: web1\n"},
		{"an item in brackets", file, func(d *yamledit.Document) error {
			return d.Prepend([]string{"jobs", "app", "recipients"}, "new")
		}, "[ops,", "[new, ops,"},
		{"empty brackets", "a: {}\nb: []\n", func(d *yamledit.Document) error {
			return errors.Join(d.Insert([]string{"a"}, "", "x", "1"), d.Prepend([]string{"b"}, "y"))
		}, "a: {}\nb: []\n", "a: {x: 1}\nb: [y]\n"},
		{"an item of its own line", "a:\n  b: # some\n  - {x: 1}\n  - {x: 2}\n", func(d *yamledit.Document) error {
			return d.Prepend([]string{"a", "b"}, "{x: 0}")
		}, "# some\n", "# some\n  - {x: 0}\n"},
		{"DOS line ends", "a:\r\n  b: c\r\n  d: e\r\n", func(d *yamledit.Document) error {
			return errors.Join(d.Replace([]string{"a", "b"}, "b", "x"), d.Insert([]string{"a"}, "b", "n", "m"))
		}, "b: c\r\n", "b: x\r\n  n: m\r\n"},
		{"no line feed at the end", "a:\n  b: c", func(d *yamledit.Document) error { return d.Insert([]string{"a"}, "b", "n", "m") }, "b: c", "b: c\n  n: m"},
		{"anchors elsewhere", "x: &x {a: 1}\ny: *x\nz: {<<: *x}\nkeys: {k: {r: old}}\n", func(d *yamledit.Document) error {
			return d.Replace([]string{"keys", "k", "r"}, "r", "new")
		}, "r: old", "r: new"},
		{"a value in brackets before", "a:\n  b: [1,\n    2]\n  d: e\n", func(d *yamledit.Document) error { return d.Insert([]string{"a"}, "b", "n", "m") }, "a:\n", "a:\n  n: m\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := parse(t, c.text)
			if err := c.edit(d); err != nil {
				t.Fatal(err)
			}
			want := strings.Replace(c.text, c.old, c.new, 1)
			if got := string(d.Bytes()); got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	replace := func(d *yamledit.Document) error {
		return d.Replace([]string{"keys", "k", "r"}, "r", "new")
	}
	insert := func(d *yamledit.Document) error { return d.Insert([]string{"keys", "k"}, "r", "n", "new") }
	for _, c := range []struct {
		name, text string
		edit       func(d *yamledit.Document) error
		want       string
	}{
		{"value is an alias", "x: &x a\nkeys: {k: {r: *x}}\n", replace, "line 2: an alias (*x) stands here"},
		{"section is an alias", "x: &x {r: a}\nkeys: {k: *x}\n", insert, "line 2: an alias (*x) stands here"},
		{"section has an anchor", "keys: {k: &x {r: a}}\ny: *x\n", insert, "line 1: an anchor (&x) stands here"},
		{"value has an anchor", "keys:\n  k:\n    r: &x a\ny: *x\n", replace, "line 3: an anchor (&x) stands here"},
		{"keys have an anchor", "keys: &x {k: {r: a}}\n", replace, "line 1: an anchor"},
		{"a merge in the section", "x: &x {r: a}\nkeys:\n  k:\n    <<: *x\n    r: b\n", replace, "line 4: a merge (<<) stands here"},
		{"a merge above", "x: &x {}\nkeys: {<<: *x, k: {r: b}}\n", insert, "line 2: a merge (<<) stands here"},
		{"block text", "keys: {}\nk: |\n  a\n", func(d *yamledit.Document) error { return d.Replace([]string{"k"}, "k", "b") }, "line 2: the value is no text on one line"},
		{"folded text", "k: >-\n  a\n", func(d *yamledit.Document) error { return d.Replace([]string{"k"}, "k", "b") }, "line 1: the value is no text on one line"},
		{"plain text over two lines", "k: a\n  b\n", func(d *yamledit.Document) error { return d.Replace([]string{"k"}, "k", "b") }, "line 1: the value does not end on its line"},
		{"quoted text over two lines", "k: \"a\n  b\"\n", func(d *yamledit.Document) error { return d.Replace([]string{"k"}, "k", "b") }, "line 1: the value does not end on its line"},
		{"a section", "k: {a: b}\n", func(d *yamledit.Document) error { return d.Replace([]string{"k"}, "k", "b") }, "line 1: the value is no text on one line"},
		{"a tag", "k: !!str a\n", func(d *yamledit.Document) error { return d.Replace([]string{"k"}, "k", "b") }, "line 1: the value is no text on one line"},
		{"written with a question mark", "keys:\n  ? k\n  : r: a\n", insert, "line 3: the section does not begin on a line of its own"},
		{"no value on one line", "k: {a: b}\n", func(d *yamledit.Document) error { return d.Insert([]string{"k"}, "", "n", "[a") }, "the new value is no YAML on one line"},
		{"two lines", "k: {a: b}\n", func(d *yamledit.Document) error { return d.Insert([]string{"k"}, "", "n", "a\nb: c") }, "the new value is no YAML on one line"},
		{"a comment in brackets", "k: {a: b}\n", func(d *yamledit.Document) error { return d.Insert([]string{"k"}, "", "n", "a # b") }, "after the change it is not readable YAML"},
		{"there already", "k: {a: b}\n", func(d *yamledit.Document) error { return d.Insert([]string{"k"}, "", "a", "c") }, "k.a is there already"},
		{"renamed to one that is there", "k: {a: b, c: d}\n", func(d *yamledit.Document) error { return d.Replace([]string{"k", "a"}, "c", "e") }, "c is there already"},
		{"not there", "k: {a: b}\n", func(d *yamledit.Document) error { return d.Replace([]string{"k", "x"}, "x", "e") }, "there is no k.x"},
		{"nowhere", "k: {a: b}\n", func(d *yamledit.Document) error { return d.Insert([]string{"z", "y"}, "", "x", "e") }, "there is no z.y"},
		{"no list", "k: {a: b}\n", func(d *yamledit.Document) error { return d.Prepend([]string{"k", "a"}, "e") }, "k.a is no list"},
		{"no section", "k: a\n", func(d *yamledit.Document) error { return d.Insert([]string{"k"}, "", "x", "e") }, "k is no section"},
		{"a mark at the beginning", "\ufeffk: a\n", func(d *yamledit.Document) error { return d.Replace([]string{"k"}, "k", "b") }, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := parse(t, c.text)
			err := c.edit(d)
			if c.want == "" {
				// It may be done or refused, but not done wrongly.
				if err == nil && string(d.Bytes()) != strings.Replace(c.text, "a", "b", 1) {
					t.Errorf("got %q", d.Bytes())
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if strings.HasPrefix(c.want, "line") && !errors.Is(err, yamledit.ErrUnsafe) {
				t.Errorf("%v is not ErrUnsafe", err)
			}
			if string(d.Bytes()) != c.text {
				t.Errorf("the text was changed to\n%s", d.Bytes())
			}
		})
	}
	for _, text := range []string{"", "a", "[a]", "a: [\n", "a: 1\n---\nb: 2\n"} {
		if _, err := yamledit.Parse([]byte(text)); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

func TestHas(t *testing.T) {
	d := parse(t, file)
	if !d.Has("keys", "ops", "holder") || d.Has("keys", "ops", "retired") || d.Has("version", "x") || !d.Has() {
		t.Error("what is there is not told from what is not")
	}
}

// FuzzEdit: whatever the text, an edit that is made says what it should, and changes nothing else.
func FuzzEdit(f *testing.F) {
	f.Add(file, "ops", "recipient", "age1new")
	f.Add("keys:\n  k:\n    r: |\n      x\n", "k", "r", "'x'")
	f.Add("keys: {k: {r: [a, 'b',\n c]}}", "k", "s", "{x: [y, \"z\"]}")
	f.Add("keys:\n  ? k\n  : {r: a}\n", "k", "r", "b")
	f.Add("keys:\n  \"k\": \n   r: \"a\\\n  b\"\n   s: 1", "k", "r", "null")
	f.Fuzz(func(t *testing.T, text, name, key, value string) {
		d, err := yamledit.Parse([]byte(text))
		if err != nil {
			return
		}
		var before, added map[string]any
		if yaml.Load([]byte(text), &before) != nil || yaml.Load([]byte("v: "+value), &added) != nil {
			return
		}
		if d.Has("keys", name, key) {
			err = d.Replace([]string{"keys", name, key}, key, value)
		} else {
			err = d.Insert([]string{"keys", name}, "recipient", key, value)
		}
		if err != nil {
			if string(d.Bytes()) != text {
				t.Fatalf("a refused edit changed %q to %q", text, d.Bytes())
			}
			return
		}
		var after map[string]any
		if err := yaml.Load(d.Bytes(), &after); err != nil {
			t.Fatalf("%q became %q: %v", text, d.Bytes(), err)
		}
		section := func(tree map[string]any) map[string]any {
			keys, _ := tree["keys"].(map[string]any)
			of, _ := keys[name].(map[string]any)
			return of
		}
		if section(before) == nil || section(after) == nil {
			return // keys that are no texts; the package compared the nodes
		}
		if !reflect.DeepEqual(section(after)[key], added["v"]) {
			t.Fatalf("%q became %q: the value is %v, want %v", text, d.Bytes(), section(after)[key], added["v"])
		}
		section(before)[key] = added["v"]
		if !reflect.DeepEqual(before, after) {
			t.Fatalf("%q became %q: something else changed", text, d.Bytes())
		}
	})
}
