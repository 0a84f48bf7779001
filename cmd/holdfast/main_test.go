// The stories of testdata/script run the real command line against real servers: each tells what one person does, what
// they read, the exit code they get, and that nothing was lost.
package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"holdfast/internal/cli"
	"holdfast/internal/sandbox"
	"holdfast/internal/testbed"
)

func TestMain(m *testing.M) {
	sandbox.Child()
	testscript.Main(m, map[string]func(){
		"webapp":    webapp,
		"sampleapp": makeSample,
		"holdfast": func() {
			os.Exit(cli.Main(cli.Process{
				Args: os.Args[1:], In: os.Stdin, Out: os.Stdout, Err: os.Stderr, Environ: os.Environ(), Now: storyNow, Version: "test",
			}))
		},
	})
}

func TestStories(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                "testdata/script",
		RequireUniqueNames: true,
		Setup: func(env *testscript.Env) error {
			home := filepath.Join(env.WorkDir, "home")
			env.Setenv("HOME", home)
			env.Setenv("HOLDFAST_STATE", filepath.Join(env.WorkDir, "state"))
			env.Setenv("USER", "tester")
			env.Setenv("TESTBED_BIN", filepath.Dir(testbed.Program(env.T().(testing.TB), "age")))
			env.Values[worldKey{}] = &world{t: env.T().(testing.TB), servers: map[string]*server{}}
			return os.Mkdir(home, 0o700)
		},
		Cmds: commands(),
	})
}
