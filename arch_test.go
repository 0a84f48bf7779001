package holdfast_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// floors says where each package stands: it imports only from strictly lower floors. A package that is not here has no
// place yet: give it one, in ARCHITECTURE.md too.
var floors = map[string]int{
	"":                 0,
	"internal/durable": 0,

	"internal/seal":      1,
	"internal/store":     1,
	"internal/retention": 1,
	"internal/source":    1,
	"internal/sandbox":   1,
	"internal/scratch":   1,
	"internal/joblock":   1,
	"internal/yamledit":  1,
	"internal/hook":      1,
	"internal/container": 1,
	"internal/schedule":  1,
	"internal/child":     1,
	"internal/notify":    1,
	"internal/phrase":    1,
	"internal/clone":     1,

	"internal/store/storetest":          2,
	"internal/source/sourcetest":        2,
	"internal/source/postgres/pgdump":   2,
	"internal/source/postgres/pgclient": 2,
	"internal/source/postgres/pgdata":   2,
	"internal/report":                   2,
	"internal/foreign":                  2,
	"internal/keyring":                  2,
	"internal/health":                   2,
	"internal/unit":                     2,
	"internal/runbook":                  2,

	"internal/store/local":     3,
	"internal/store/s3":        3,
	"internal/store/sftp":      3,
	"internal/store/rsync":     3,
	"internal/source/postgres": 3,
	"internal/source/sqlite":   3,
	"internal/source/files":    3,
	"internal/archive":         3,
	"internal/journal":         3,
	"internal/metrics":         3,
	"internal/alarm":           3,
	"internal/volume":          3,
	"internal/migration":       3,

	"internal/engine": 4,
	"internal/config": 4,
	"internal/survey": 4,
	"internal/daemon": 4,

	"internal/cli": 5,

	"cmd/holdfast": 6,
}

// testOnly holds what serves tests, the demo and the benchmarks. It may import what is below floor 5; of the product
// nothing imports it.
var testOnly = map[string]bool{
	"internal/testbed":               true,
	"internal/testbed/cmd/throwaway": true,
	"internal/testbed/cmd/vmagent":   true,
	"internal/testbed/vmwire":        true,
	"internal/sample":                true,
	"cmd/sampleapp":                  true,
	"bench/cmd/measure":              true,
	"bench/cmd/manybackups":          true,
	"bench/cmd/history":              true,
	"bench/cmd/clonetree":            true,
}

const testOnlyFloor = 5

// drivers are named in driverWiring alone: nothing else may know which ones exist.
var drivers = []string{
	"internal/store/local", "internal/store/s3", "internal/store/sftp", "internal/store/rsync",
	"internal/source/postgres", "internal/source/sqlite", "internal/source/files",
}

// driverWiring are the three files: one for sources, one for stores, one for the server on a volume.
var driverWiring = []string{"internal/cli/wire.go", "internal/cli/wirestore.go", "internal/cli/wirevolume.go"}

// environment readers beside internal/config and cmd, with what each is for.
var mayReadEnvironment = map[string]string{
	"internal/sandbox Environ": "the child hands on to the program the environment that its parent gave it, and no other",
	"internal/testbed Getenv":  "the tests' cache folder is no configuration of the product",
}

const module = "holdfast"

// sourceFile is one parsed file of the tree.
type sourceFile struct {
	name string // slash-separated, relative to the root
	file *ast.File
	set  *token.FileSet
}

func (f sourceFile) dir() string {
	if dir := path.Dir(f.name); dir != "." {
		return dir
	}
	return ""
}

func (f sourceFile) test() bool { return strings.HasSuffix(f.name, "_test.go") }

// imports returns the import paths.
func (f sourceFile) imports() []string {
	var imports []string
	for _, spec := range f.file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			panic("arch_test: " + err.Error()) // the parser has accepted it
		}
		imports = append(imports, imported)
	}
	return imports
}

// uses calls found for every pkg.Name in the file whose pkg is an import.
func (f sourceFile) uses(found func(imported, name string, node ast.Node)) {
	named := map[string]string{}
	for i, imported := range f.imports() {
		name := path.Base(imported)
		if spec := f.file.Imports[i]; spec.Name != nil {
			name = spec.Name.Name
		}
		named[name] = imported
	}
	ast.Inspect(f.file, func(node ast.Node) bool {
		selector, ok := node.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if ident, ok := selector.X.(*ast.Ident); ok && named[ident.Name] != "" {
			found(named[ident.Name], selector.Sel.Name, node)
		}
		return true
	})
}

func (f sourceFile) at(node ast.Node) string {
	return fmt.Sprintf("%s:%d", f.name, f.set.Position(node.Pos()).Line)
}

// law looks at one file that is not a test and tells what breaks it.
type law func(f sourceFile, broken func(format string, args ...any))

// lawOfFloors: imports run one way.
func lawOfFloors(f sourceFile, broken func(string, ...any)) {
	floor, known := floors[f.dir()]
	if testOnly[f.dir()] {
		floor, known = testOnlyFloor, true
	}
	if !known {
		broken("%s: package %q stands on no floor: add it to arch_test.go", f.name, f.dir())
		return
	}
	for _, imported := range f.imports() {
		local, ours := strings.CutPrefix(imported+"/", module+"/")
		if !ours {
			continue
		}
		local = strings.TrimSuffix(local, "/")
		if testOnly[local] {
			if !testOnly[f.dir()] {
				broken("%s imports %s, which only tests may", f.name, local)
			}
			continue
		}
		if other, known := floors[local]; known && other >= floor {
			broken("%s: floor %d imports %s of floor %d", f.name, floor, local, other)
		}
	}
}

// lawOfCiphers: whoever audits the cryptography reads internal/seal. The cipher of a connection seals no backup.
func lawOfCiphers(f sourceFile, broken func(string, ...any)) {
	if f.dir() == "internal/seal" {
		return
	}
	for _, imported := range f.imports() {
		if f.dir() == "internal/store/sftp" && strings.HasPrefix(imported+"/", "golang.org/x/crypto/ssh/") {
			continue
		}
		for _, cipher := range []string{"filippo.io/age", "github.com/ProtonMail", "golang.org/x/crypto", "crypto/aes", "crypto/cipher"} {
			if imported == cipher || strings.HasPrefix(imported, cipher+"/") {
				broken("%s imports %s: only internal/seal may", f.name, imported)
			}
		}
	}
}

// lawOfDrivers: two files know which drivers exist.
func lawOfDrivers(f sourceFile, broken func(string, ...any)) {
	if slices.Contains(driverWiring, f.name) || testOnly[f.dir()] {
		return
	}
	for _, imported := range f.imports() {
		if slices.Contains(drivers, strings.TrimPrefix(imported, module+"/")) {
			broken("%s imports %s: only %s may", f.name, imported, strings.Join(driverWiring, " and "))
		}
	}
}

// lawOfStatic: the binary needs no library of the host.
func lawOfStatic(f sourceFile, broken func(string, ...any)) {
	if slices.Contains(f.imports(), "C") {
		broken("%s uses cgo: the binary must be static", f.name)
	}
}

// lawOfEnvironment: what a run depends on is in the configuration.
func lawOfEnvironment(f sourceFile, broken func(string, ...any)) {
	if f.dir() == "internal/config" || strings.HasPrefix(f.dir(), "cmd/") {
		return
	}
	f.uses(func(imported, name string, node ast.Node) {
		reads := slices.Contains([]string{"Getenv", "LookupEnv", "Environ", "ExpandEnv"}, name)
		if reads && (imported == "os" || imported == "syscall") && mayReadEnvironment[f.dir()+" "+name] == "" {
			broken("%s: %s.%s: only internal/config and cmd read the environment", f.at(node), imported, name)
		}
	})
}

// lawOfTime: the engine is told the time, so that a test can tell it another.
func lawOfTime(f sourceFile, broken func(string, ...any)) {
	if f.dir() != "internal/engine" {
		return
	}
	f.uses(func(imported, name string, node ast.Node) {
		if imported == "time" && slices.Contains([]string{"Now", "Since", "Until"}, name) {
			broken("%s: time.%s: the engine knows no time of day", f.at(node), name)
		}
	})
}

// lawOfInit: nothing happens before main.
func lawOfInit(f sourceFile, broken func(string, ...any)) {
	for _, declaration := range f.file.Decls {
		if function, ok := declaration.(*ast.FuncDecl); ok && function.Recv == nil && function.Name.Name == "init" {
			broken("%s: func init is forbidden", f.at(function))
		}
	}
}

// lawOfNames: a package is named after what it hides.
func lawOfNames(f sourceFile, broken func(string, ...any)) {
	banned := []string{"util", "utils", "common", "types", "model", "models", "errors", "helper", "helpers", "misc", "base", "shared", "lib"}
	if slices.Contains(banned, f.file.Name.Name) {
		broken("%s: package %s is named after nothing that it hides", f.name, f.file.Name.Name)
	}
}

// lawOfShells: a program is run with an argument vector, so that no name in the data becomes a command.
func lawOfShells(f sourceFile, broken func(string, ...any)) {
	ast.Inspect(f.file, func(node ast.Node) bool {
		call, ok := node.(*ast.CallExpr)
		if !ok {
			return true
		}
		selector, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || !slices.Contains([]string{"Command", "CommandContext", "LookPath", "Exec", "StartProcess", "ForkExec"}, selector.Sel.Name) {
			return true
		}
		for _, argument := range call.Args {
			literal, ok := argument.(*ast.BasicLit)
			if !ok || literal.Kind != token.STRING {
				continue
			}
			if text, err := strconv.Unquote(literal.Value); err == nil &&
				slices.Contains([]string{"sh", "bash", "dash", "zsh", "ksh", "busybox", "env"}, path.Base(text)) {
				broken("%s: runs %s: programs are run with an argument vector", f.at(call), text)
			}
		}
		return true
	})
}

var sentenceEnd = regexp.MustCompile(`[.!?](\s|$)`)

// lawOfDocs: every package says what it hides, its laws and what is not its job; two sentences are the least.
func lawOfDocs(files []sourceFile) []string {
	sentences := map[string]int{}
	for _, f := range files {
		if !f.test() {
			sentences[f.dir()] += len(sentenceEnd.FindAllString(f.file.Doc.Text(), -1))
		}
	}
	var broken []string
	for _, dir := range slices.Sorted(maps.Keys(sentences)) {
		if n := sentences[dir]; n < 2 {
			broken = append(broken, fmt.Sprintf("package %q: %d sentences of package documentation, at least 2 are due", dir, n))
		}
	}
	return broken
}

// broken returns all that breaks a law.
func broken(files []sourceFile) []string {
	laws := []law{lawOfFloors, lawOfCiphers, lawOfDrivers, lawOfStatic, lawOfEnvironment, lawOfTime, lawOfInit, lawOfNames, lawOfShells}
	var found []string
	for _, f := range files {
		if f.test() {
			continue
		}
		for _, law := range laws {
			law(f, func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) })
		}
	}
	return append(found, lawOfDocs(files)...)
}

func TestArchitecture(t *testing.T) {
	var files []sourceFile
	err := filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && name != "." && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata") {
			return fs.SkipDir
		}
		if entry.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, nil, parser.ParseComments)
		files = append(files, sourceFile{filepath.ToSlash(name), file, set})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 10 {
		t.Fatalf("only %d files found: this test looks at nothing", len(files))
	}
	for _, text := range broken(files) {
		t.Error(text)
	}
}

// TestArchitectureIsWatched breaks each law once.
func TestArchitectureIsWatched(t *testing.T) {
	const doc = "// Package x is one. It is two.\n"
	for _, test := range []struct{ name, file, source, want string }{
		{"nothing is wrong", "internal/engine/x.go", doc + `package engine; import ("time"; "holdfast/internal/archive"); var _ = time.Second; var _ archive.X`, ""},
		{"upwards", "internal/store/x.go", doc + `package store; import _ "holdfast/internal/engine"`, "floor 1 imports internal/engine of floor 4"},
		{"sideways", "internal/seal/x.go", doc + `package seal; import _ "holdfast/internal/source"`, "floor 1 imports internal/source of floor 1"},
		{"the root imports", "x.go", doc + `package holdfast; import _ "holdfast/internal/durable"`, "floor 0 imports internal/durable of floor 0"},
		{"no floor", "internal/thing/x.go", doc + `package thing`, `package "internal/thing" stands on no floor`},
		{"tests only", "internal/cli/x.go", doc + `package cli; import _ "holdfast/internal/testbed"`, "which only tests may"},
		{"the testbed imports the command line", "internal/sample/x.go", doc + `package sample; import _ "holdfast/internal/cli"`, "floor 5 imports internal/cli of floor 5"},
		{"a cipher", "internal/store/x.go", doc + `package store; import _ "crypto/aes"`, "only internal/seal may"},
		{"a connection's cipher", "internal/store/sftp/x.go", doc + `package sftp; import _ "golang.org/x/crypto/ssh/agent"`, ""},
		{"a cipher beside a connection", "internal/store/sftp/x.go", doc + `package sftp; import _ "golang.org/x/crypto/argon2"`, "only internal/seal may"},
		{"age", "internal/cli/x.go", doc + `package cli; import _ "filippo.io/age/armor"`, "only internal/seal may"},
		{"a driver", "internal/cli/x.go", doc + `package cli; import _ "holdfast/internal/store/local"`, "only internal/cli/wire.go and internal/cli/wirestore.go and internal/cli/wirevolume.go may"},
		{"a driver in its place", "internal/cli/wire.go", doc + `package cli; import _ "holdfast/internal/store/local"`, ""},
		{"two blank imports", "internal/seal/x.go", doc + `package seal; import (_ "holdfast/internal/cli"; _ "fmt")`, "floor 1 imports internal/cli of floor 5"},
		{"cgo", "internal/seal/x.go", doc + `package seal; import "C"`, "uses cgo"},
		{"environment", "internal/cli/x.go", doc + `package cli; import "os"; var _ = os.Getenv("HOME")`, "x.go:2: os.Getenv"},
		{"environment under another name", "internal/cli/x.go", doc + `package cli; import s "os"; var _ = s.Environ`, "os.Environ"},
		{"environment in its place", "internal/config/x.go", doc + `package config; import "os"; var _ = os.Getenv("HOME")`, ""},
		{"time", "internal/engine/x.go", doc + `package engine; import "time"; var _ = time.Now`, "time.Now"},
		{"init", "internal/seal/x.go", doc + `package seal; func init() {}`, "func init is forbidden"},
		{"a name", "internal/seal/x.go", doc + `package utils`, "named after nothing"},
		{"a shell", "internal/seal/x.go", doc + `package seal; import "os/exec"; var _ = exec.Command("/bin/sh", "-c", "x")`, "runs /bin/sh"},
		{"a shell in a test", "internal/seal/x_test.go", doc + `package seal; import "os/exec"; var _ = exec.Command("sh")`, ""},
		{"no documentation", "internal/seal/x.go", `package seal`, "0 sentences"},
		{"one sentence", "internal/seal/x.go", "// Package seal seals.\npackage seal", "1 sentences"},
	} {
		t.Run(test.name, func(t *testing.T) {
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, test.file, test.source, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			found := broken([]sourceFile{{test.file, file, set}})
			switch {
			case test.want == "" && len(found) > 0:
				t.Errorf("unexpected: %q", found)
			case test.want != "" && (len(found) != 1 || !strings.Contains(found[0], test.want)):
				t.Errorf("found %q, want %q alone", found, test.want)
			}
		})
	}
}
