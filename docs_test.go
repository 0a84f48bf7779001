package holdfast_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"holdfast/internal/cli"
)

// page is one Markdown file of the tree.
type page struct {
	name string // slash-separated, relative to the root
	text string
}

// pages returns every Markdown file.
func pages(t *testing.T) []page {
	t.Helper()
	var all []page
	err := filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && name != "." && (strings.HasPrefix(entry.Name(), ".") || slices.Contains([]string{"testdata", "bin", "demo-out"}, entry.Name())) {
			return fs.SkipDir
		}
		if entry.IsDir() || filepath.Ext(name) != ".md" {
			return nil
		}
		text, err := os.ReadFile(name)
		all = append(all, page{filepath.ToSlash(name), string(text)})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 20 {
		t.Fatalf("only %d pages found: this test looks at nothing", len(all))
	}
	return all
}

// lines calls found for every line of a page, and says whether it stands in a code block.
func (p page) lines(found func(number int, line string, code bool)) {
	code := false
	for i, line := range strings.Split(p.text, "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "```") {
			code = !code
			continue
		}
		found(i+1, line, code)
	}
}

var notInAnchors = regexp.MustCompile(`[^\p{L}\p{N} _-]`)

// anchors are the names that a page's headings can be linked by.
func (p page) anchors() []string {
	var all []string
	p.lines(func(_ int, line string, code bool) {
		if heading := strings.TrimLeft(line, "#"); !code && heading != line && strings.HasPrefix(heading, " ") {
			all = append(all, strings.ReplaceAll(notInAnchors.ReplaceAllString(strings.ToLower(strings.TrimSpace(heading)), ""), " ", "-"))
		}
	})
	return all
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// TestDocsLinks: whatever a page links to is there.
func TestDocsLinks(t *testing.T) {
	all := pages(t)
	byName := map[string]page{}
	for _, p := range all {
		byName[p.name] = p
	}
	for _, p := range all {
		p.lines(func(number int, line string, code bool) {
			if code {
				return
			}
			for _, match := range link.FindAllStringSubmatch(line, -1) {
				if strings.Contains(match[1], "://") || strings.HasPrefix(match[1], "mailto:") {
					continue
				}
				file, anchor, _ := strings.Cut(match[1], "#")
				target := p.name
				if file != "" {
					target = path.Join(path.Dir(p.name), file)
				}
				if _, err := os.Stat(filepath.FromSlash(target)); err != nil {
					t.Errorf("%s:%d: %s leads nowhere", p.name, number, match[1])
				} else if anchor != "" && !slices.Contains(byName[target].anchors(), anchor) {
					t.Errorf("%s:%d: %s has no heading %q", p.name, number, target, anchor)
				}
			}
		})
	}
}

// help returns what `holdfast ARGUMENTS --help` prints.
func help(t *testing.T, arguments ...string) string {
	t.Helper()
	var out bytes.Buffer
	code := cli.Main(cli.Process{
		Args: append(slices.Clone(arguments), "--help"), In: os.Stdin, Out: &out, Err: os.Stderr, Now: time.Now, Version: "test",
	})
	if code != 0 {
		t.Fatalf("holdfast %s --help ended with %d", strings.Join(arguments, " "), code)
	}
	return out.String()
}

var (
	exitLine = regexp.MustCompile(`(?m)^  (\d+) +(\S.*)$`)
	exitRow  = regexp.MustCompile(`(?m)^\| (\d+) \| (.+) \|$`)
)

// TestDocsExitCodes: the table of exit codes is the one that the program prints.
func TestDocsExitCodes(t *testing.T) {
	text, err := os.ReadFile("docs/exit-codes.md")
	if err != nil {
		t.Fatal(err)
	}
	_, printed, _ := strings.Cut(help(t), "Exit codes:\n")
	printed, _, _ = strings.Cut(printed, "\n\n")
	want, got := exitLine.FindAllStringSubmatch(printed, -1), exitRow.FindAllStringSubmatch(string(text), -1)
	if len(want) < 8 || len(want) != len(got) {
		t.Fatalf("the program prints %d exit codes, docs/exit-codes.md has %d", len(want), len(got))
	}
	for i := range want {
		if want[i][1] != got[i][1] || want[i][2] != got[i][2] {
			t.Errorf("the program says %s %q, docs/exit-codes.md says %s %q", want[i][1], want[i][2], got[i][1], got[i][2])
		}
	}
}

// command is one command as its help describes it.
type command struct {
	flags map[string]bool // "--name" and "-n"; true: takes a value
	words int             // how many arguments it takes at most
	subs  []string
}

var (
	flagLine = regexp.MustCompile(`^ +(?:(-\w), )?(--[a-z-]+)(?: (\S.*?))? {2,}\S`)
	subLine  = regexp.MustCompile(`^  ([a-z][a-z0-9]*) {2,}\S`)
)

// commands returns every command by its path below holdfast; "" is holdfast itself.
func commands(t *testing.T) map[string]command {
	t.Helper()
	all := map[string]command{}
	var add func(words []string)
	add = func(words []string) {
		c := command{flags: map[string]bool{}}
		section := ""
		for _, line := range strings.Split(help(t, words...), "\n") {
			if strings.HasSuffix(line, ":") && !strings.HasPrefix(line, " ") {
				section = line
				continue
			}
			switch section {
			case "Usage:":
				for _, word := range strings.Fields(line) {
					if word = strings.Trim(word, "[]"); word != "" && word == strings.ToUpper(word) {
						c.words++
					}
				}
			case "Flags:", "Global Flags:":
				if match := flagLine.FindStringSubmatch(line); match != nil {
					c.flags[match[2]] = match[3] != ""
					if match[1] != "" {
						c.flags[match[1]] = match[3] != ""
					}
				}
			case "Available Commands:":
				if match := subLine.FindStringSubmatch(line); match != nil && match[1] != "help" {
					c.subs = append(c.subs, match[1])
				}
			}
		}
		all[strings.Join(words, " ")] = c
		for _, sub := range c.subs {
			add(append(slices.Clone(words), sub))
		}
	}
	add(nil)
	if len(all) < 15 || !all["backup"].flags["--recipient"] || !all["backup"].flags["-r"] || all["backup"].words != 1 {
		t.Fatalf("the help of the program is not understood: %v", all)
	}
	all["help"] = command{flags: map[string]bool{}, words: 2}
	return all
}

// words splits a command line as a shell does, up to where another command begins. It knows quotes, and no expansion but
// $(…), which counts as part of its word.
func words(line string) []string {
	var all []string
	var word strings.Builder
	begun, depth := false, 0
	var quote rune
	end := func() {
		if begun {
			all = append(all, word.String())
			word.Reset()
			begun = false
		}
	}
	for _, r := range line {
		switch {
		case quote != 0:
			if r == quote {
				quote = 0
			} else {
				word.WriteRune(r)
			}
		case r == '\'' || r == '"':
			quote, begun = r, true
		case depth > 0 || r == '(' && strings.HasSuffix(word.String(), "$"):
			depth += strings.Count(string(r), "(") - strings.Count(string(r), ")")
			word.WriteRune(r)
		case r == ' ':
			end()
		case r == ';' || r == '|' || r == '>' || r == '<' || r == '&' || r == '#' && !begun:
			end()
			return all
		default:
			word.WriteRune(r)
			begun = true
		}
	}
	end()
	return all
}

// misused says what is wrong with a command line that begins with holdfast, or "".
func misused(known map[string]command, line string) string {
	arguments := words(line)[1:]
	name := ""
	c := known[""]
	given := 0
	for i := 0; i < len(arguments); i++ {
		argument := arguments[i]
		if strings.HasPrefix(argument, "-") && argument != "-" {
			flag, _, joined := strings.Cut(argument, "=")
			takes, there := c.flags[flag]
			if !there {
				return fmt.Sprintf("holdfast %s has no flag %s", name, flag)
			}
			if takes && !joined {
				if i++; i == len(arguments) {
					return fmt.Sprintf("holdfast %s: flag %s has no value", name, flag)
				}
			}
			continue
		}
		if sub, there := known[strings.TrimSpace(name+" "+argument)]; there && given == 0 {
			name, c = strings.TrimSpace(name+" "+argument), sub
			continue
		}
		if given++; given > c.words {
			return fmt.Sprintf("holdfast %s takes no %q", name, argument)
		}
	}
	return ""
}

var span = regexp.MustCompile("`(holdfast [^`]+)`")

// TestDocsCommands: every command line in a page uses what exists, and every command is told of somewhere.
func TestDocsCommands(t *testing.T) {
	known := commands(t)
	told := map[string]bool{}
	checked := 0
	check := func(p page, number int, line string) {
		checked++
		if problem := misused(known, line); problem != "" {
			t.Errorf("%s:%d: %s", p.name, number, problem)
		}
		for name := range known {
			if strings.HasPrefix(line+" ", "holdfast "+name+" ") {
				told[name] = true
			}
		}
	}
	for _, p := range pages(t) {
		joined := ""
		p.lines(func(number int, line string, code bool) {
			if !code {
				for _, match := range span.FindAllStringSubmatch(line, -1) {
					check(p, number, match[1])
				}
				return
			}
			if before, continued := strings.CutSuffix(line, `\`); continued {
				joined += before
				return
			}
			line, joined = joined+line, ""
			// A command may follow a schedule, another command or its path.
			for _, before := range []string{"", "sudo ", "sudo sh -c '", "/usr/local/bin/"} {
				for rest := line; ; {
					i := strings.Index(rest, before+"holdfast ")
					if i < 0 || before == "" && i > 0 {
						break
					}
					rest = rest[i+len(before):]
					check(p, number, strings.TrimSuffix(rest, "'"))
					rest = rest[len("holdfast "):]
				}
			}
		})
	}
	if checked < 50 {
		t.Errorf("only %d command lines found: this test looks at nothing", checked)
	}
	for _, name := range slices.Sorted(maps.Keys(known)) {
		if len(known[name].subs) == 0 && !told[name] {
			t.Errorf("no page tells of holdfast %s", name)
		}
	}
}

// TestDocsCommandsAreWatched misuses the program in each way once.
func TestDocsCommandsAreWatched(t *testing.T) {
	known := commands(t)
	for _, test := range []struct{ line, want string }{
		{"holdfast backup app --reason 'before release 4' # why", ""},
		{"holdfast key new --out - > recipient.txt", ""},
		{"holdfast drill --identity $(cat where is)/identity.txt | tail", ""},
		{"holdfast --json list", ""},
		{"holdfast bakup", `takes no "bakup"`},
		{"holdfast key old", `takes no "old"`},
		{"holdfast backup app shop", `takes no "shop"`},
		{"holdfast list --identity x", "no flag --identity"},
		{"holdfast drill --identity", "has no value"},
		{"holdfast drill --latest 7k2m", "no flag --latest"},
		{"holdfast list --json x", `takes no "x"`},
	} {
		problem := misused(known, test.line)
		if (problem == "") != (test.want == "") || !strings.Contains(problem, test.want) {
			t.Errorf("%s: found %q, want %q", test.line, problem, test.want)
		}
	}
}

var (
	floorRow = regexp.MustCompile(`(?m)^\| (\d) \| ([^|]+) \|`)
	quotedOf = regexp.MustCompile("`([^`]+)`")
)

// TestDocsFloors: ARCHITECTURE.md shows the floors that arch_test.go enforces.
func TestDocsFloors(t *testing.T) {
	text, err := os.ReadFile("ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]int{}
	for _, row := range floorRow.FindAllStringSubmatch(string(text), -1) {
		floor, err := strconv.Atoi(row[1])
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range quotedOf.FindAllStringSubmatch(row[2], -1) {
			dir := name[1]
			if dir == "holdfast" {
				dir = "" // the root
			}
			shown[dir] = floor
		}
	}
	if !maps.Equal(shown, floors) {
		t.Errorf("ARCHITECTURE.md shows %v\narch_test.go enforces %v", shown, floors)
	}
}
