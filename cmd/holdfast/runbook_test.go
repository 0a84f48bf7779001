package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"holdfast/internal/sample"
)

const runbooks = "../../docs/runbooks"

// makeSample makes the databases and the files of the sample application.
//
//	sampleapp URL FOLDER
func makeSample() {
	opt := sample.Options{Size: 1_000_000, Seed: 1}
	dir := os.Args[2]
	err := errors.Join(
		sample.CreateDatabase(context.Background(), os.Args[1], opt), sample.CreateFiles(dir, opt),
		os.Mkdir(filepath.Join(dir, "db"), 0o755), sample.CreateSQLite(filepath.Join(dir, "db", "auth.db"), opt))
	if err != nil {
		fmt.Fprintln(os.Stderr, "sampleapp:", err)
		os.Exit(1)
	}
}

// block is one fenced block of a page.
type block struct {
	line  int
	info  string // what stands behind the fence
	text  string
	shows []string // of a block that is run: what its output must show, line by line
}

// blocks lists the fenced blocks of a page.
func blocks(t *testing.T, path string) []block {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []block
	var open *block
	for i, line := range strings.Split(string(text), "\n") {
		info, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && open == nil:
			open = &block{line: i + 1, info: info}
		case fence:
			if open.info == "text shows" {
				if len(all) == 0 {
					t.Fatalf("%s:%d: no block before shows anything", path, open.line)
				}
				all[len(all)-1].shows = strings.Split(strings.TrimSpace(open.text), "\n")
			} else {
				all = append(all, *open)
			}
			open = nil
		case open != nil:
			open.text += line + "\n"
		}
	}
	if open != nil {
		t.Fatalf("%s:%d: the block does not end", path, open.line)
	}
	return all
}

var runs = regexp.MustCompile(`^sh run(?:=([0-9]+))?$`)

const mark = "=== "

// pageScript makes a script of the blocks of a page that are to be run, in their order. One shell runs them all, as one
// person types them; each says where it stands.
func pageScript(all []block) string {
	var out strings.Builder
	for _, b := range all {
		match := runs.FindStringSubmatch(b.info)
		if match == nil {
			continue
		}
		fmt.Fprintf(&out, "echo; echo %q\n", fmt.Sprintf("%s%d", mark, b.line))
		if match[1] == "" {
			out.WriteString(b.text)
			continue
		}
		fmt.Fprintf(&out, "set +e\n( set -e\n%s)\nstatus=$?\nset -e\n[ $status = %s ] || { echo \"exit code $status, want %s\"; exit 1; }\n", b.text, match[1], match[1])
	}
	return out.String()
}

// TestRunbooks follows every page of docs/runbooks on a machine where what it is about has happened. The page is what is
// run: its blocks that are marked `sh run`, from top to bottom. Blocks marked `text shows` must be seen in the output.
func TestRunbooks(t *testing.T) {
	pages, err := filepath.Glob(runbooks + "/*.md")
	if err != nil || len(pages) < 5 {
		t.Fatalf("%d pages, %v", len(pages), err)
	}
	configuration := ""
	for _, b := range blocks(t, runbooks+"/README.md") {
		if b.info == "yaml" {
			configuration = b.text
		}
	}
	if configuration == "" {
		t.Fatal("docs/runbooks/README.md has no configuration")
	}
	program, err := exec.LookPath("holdfast")
	if err != nil {
		t.Fatal(err)
	}
	stories := 0
	for _, page := range pages {
		name := strings.TrimSuffix(filepath.Base(page), ".md")
		all := blocks(t, page)
		script := pageScript(all)
		story, err := os.ReadFile(filepath.Join("testdata", "runbooks", name+".sh"))
		if script == "" && errors.Is(err, fs.ErrNotExist) {
			continue // a page to read
		}
		if err != nil || script == "" {
			t.Errorf("page %s has %d bytes to run, and its story: %v", name, len(script), err)
			continue
		}
		stories++
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			media := t.TempDir()
			files := filepath.Join(media, "machine")
			if err := os.CopyFS(files, os.DirFS("testdata/runbooks")); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(files, "holdfast.yaml"), []byte(configuration), 0o644); err != nil {
				t.Fatal(err)
			}
			head := fmt.Sprintf("set -euo pipefail\nFILES=/mnt/machine BIN=%s\n. $FILES/machine.sh\n. $FILES/%s.sh\n", filepath.Dir(program), name)
			body := "before\n"
			if strings.Contains(string(story), "\nelsewhere() {") {
				// What is left of the first machine is what was carried away from it.
				if out, err := machine(t, media, head+body); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				body = "elsewhere\n"
			}
			out, err := machine(t, media, head+body+script+"echo; echo "+mark+"after\nafter\n")
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			shown(t, page, all, out)
		})
	}
	if stories == 0 {
		t.Error("no page was followed")
	}
}

// machine runs a script on a machine of its own.
func machine(t *testing.T, media, script string) (string, error) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "story.sh")
	if err := os.WriteFile(path, []byte(script), 0o644); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(dir, "machine")
	if err := os.Mkdir(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "--kill-child", "bash", "testdata/runbooks/enter.sh", folder, media, path)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// shown looks for what the blocks are said to show.
func shown(t *testing.T, page string, all []block, out string) {
	t.Helper()
	for _, b := range all {
		if b.shows == nil {
			continue
		}
		_, said, found := strings.Cut(out, fmt.Sprintf("%s%d\n", mark, b.line))
		said, _, _ = strings.Cut(said, "\n"+mark)
		if !found {
			t.Errorf("%s:%d was not run", page, b.line)
		}
		for _, line := range b.shows {
			pattern := strings.ReplaceAll(regexp.QuoteMeta(strings.TrimSpace(line)), "…", ".*")
			if !regexp.MustCompile(pattern).MatchString(said) {
				t.Errorf("%s:%d does not show %q, but:\n%s", page, b.line, line, said)
			}
		}
	}
}

var spans = regexp.MustCompile("`([^`]+)`")

// TestRunbookSentences: what the page on troubleshooting explains is what the program says.
func TestRunbookSentences(t *testing.T) {
	var source strings.Builder
	err := filepath.WalkDir("../../internal", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		source.Write(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	words, err := os.ReadFile("../../errors.go")
	if err != nil {
		t.Fatal(err)
	}
	source.Write(words)
	page, err := os.ReadFile(runbooks + "/troubleshooting.md")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for i, line := range strings.Split(string(page), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) != 5 {
			continue
		}
		for _, span := range spans.FindAllStringSubmatch(cells[1], -1) {
			for _, fragment := range strings.Split(span[1], "…") {
				if fragment = strings.TrimSpace(fragment); fragment != "" {
					checked++
					if !strings.Contains(source.String(), fragment) {
						t.Errorf("troubleshooting.md:%d: the program never says %q", i+1, fragment)
					}
				}
			}
		}
	}
	if checked < 40 {
		t.Errorf("only %d sentences were looked for", checked)
	}
}
