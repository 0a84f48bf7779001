// Command sampleapp makes the sample application and plays it: see package sample. It is for the demo, the benchmarks
// and for trying things out, and no part of the product.
//
//	sampleapp create [-url URL] [-dir DIR] [-size 10MB] [-seed N]   make the database, and the files with db/auth.db
//	sampleapp write [-url URL] [-sqlite FILE] [-rate N]             keep changing both until a signal or the input's end
//	sampleapp tree -dir DIR [-files 45000] [-bytes 943MB]           make many small files
//	sampleapp damage [-url URL]                                     alter and delete a row
//
// Without -url, "create" and "write" leave the database out; what a URL leaves out comes from PostgreSQL's own variables.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"holdfast"
	"holdfast/internal/sample"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "sampleapp:", err)
		if hint := holdfast.Hint(err); hint != "" {
			fmt.Fprintln(os.Stderr, "  "+hint)
		}
		if errors.Is(err, holdfast.ErrUsage) {
			os.Exit(2)
		}
		os.Exit(1)
	}
}

func run(args []string) error {
	verbs := map[string]func(context.Context, []string) error{"create": create, "write": write, "tree": tree, "damage": damage}
	if len(args) == 0 || verbs[args[0]] == nil {
		return holdfast.WithHint(fmt.Errorf("%w: no such verb", holdfast.ErrUsage), "use create, write, tree or damage; each takes -help")
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return verbs[args[0]](ctx, args[1:])
}

// parse reads the flags of one verb, which takes no other arguments.
func parse(flags *flag.FlagSet, args []string) error {
	if err := flags.Parse(args); err != nil {
		return fmt.Errorf("%w: %w", holdfast.ErrUsage, err)
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%w: %q is not expected", holdfast.ErrUsage, flags.Arg(0))
	}
	return nil
}

func sizeFlag(flags *flag.FlagSet, name string, value int64, usage string) *int64 {
	flags.Func(name, usage, func(text string) (err error) {
		value, err = sample.ParseSize(text)
		return err
	})
	return &value
}

func create(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("create", flag.ContinueOnError)
	url := flags.String("url", "", "the database to make, as a superuser; created when it does not exist")
	dir := flags.String("dir", "", "the folder to make the application's files in")
	size := sizeFlag(flags, "size", 10_000_000, "`bytes` of a plain dump of the database (default 10MB)")
	seed := flags.Uint64("seed", 1, "what chooses the content")
	if err := parse(flags, args); err != nil {
		return err
	}
	if *url == "" && *dir == "" {
		return fmt.Errorf("%w: -url, -dir or both are needed", holdfast.ErrUsage)
	}
	options := sample.Options{Size: *size, Seed: *seed}
	if *url != "" {
		if err := sample.CreateDatabase(ctx, *url, options); err != nil {
			return err
		}
	}
	if *dir == "" {
		return nil
	}
	if err := sample.CreateFiles(*dir, options); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(*dir, "db"), 0o755); err != nil {
		return fmt.Errorf("create the sample's files: %w", err)
	}
	return sample.CreateSQLite(filepath.Join(*dir, "db", "auth.db"), options)
}

func write(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("write", flag.ContinueOnError)
	url := flags.String("url", "", "the sample database")
	path := flags.String("sqlite", "", "the sample SQLite `file`")
	rate := flags.Int("rate", 20, "transactions a second in each")
	if err := parse(flags, args); err != nil {
		return err
	}
	if *url == "" && *path == "" {
		return fmt.Errorf("%w: -url, -sqlite or both are needed", holdfast.ErrUsage)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		// Ends with the input or with the process; what is written here is of no interest.
		io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return sample.Write(ctx, *url, *path, sample.WriteOptions{Rate: *rate})
}

func tree(_ context.Context, args []string) error {
	flags := flag.NewFlagSet("tree", flag.ContinueOnError)
	dir := flags.String("dir", "", "the folder to make; must not exist")
	files := flags.Int("files", 45_000, "how many")
	bytes := sizeFlag(flags, "bytes", 943_000_000, "`bytes` of all together (default 943MB)")
	seed := flags.Uint64("seed", 1, "what chooses the content")
	if err := parse(flags, args); err != nil {
		return err
	}
	if *dir == "" {
		return fmt.Errorf("%w: -dir is needed", holdfast.ErrUsage)
	}
	return sample.CreateTree(*dir, sample.TreeOptions{Files: *files, Bytes: *bytes, Seed: *seed})
}

func damage(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("damage", flag.ContinueOnError)
	url := flags.String("url", "", "the sample database")
	if err := parse(flags, args); err != nil {
		return err
	}
	what, err := sample.Damage(ctx, *url)
	if err != nil {
		return err
	}
	fmt.Println(what)
	return nil
}
