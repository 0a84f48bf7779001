// Command throwaway starts one throwaway PostgreSQL cluster, prints its connection strings (socket first, TCP second if
// there is one), and runs until its standard input ends or a signal comes. Then it stops the cluster and removes it.
//
// It is for the demo and the benchmarks; tests call package testbed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"holdfast/internal/testbed"
)

func main() {
	major := flag.Int("major", 15, "major version of PostgreSQL")
	dir := flag.String("dir", "", "folder of the cluster; must not exist; removed in the end (required)")
	password := flag.String("password", "", "password of the superuser, asked for over TCP; implies TCP")
	tls := flag.Bool("tls", false, "give the server a certificate; implies TCP")
	tcp := flag.Bool("tcp", false, "listen on a free port of 127.0.0.1 too")
	settings := map[string]string{}
	flag.Func("set", "`name=value` of a server setting; may be repeated", func(text string) error {
		name, value, found := strings.Cut(text, "=")
		if !found {
			return errors.New("not name=value")
		}
		settings[name] = value
		return nil
	})
	flag.Parse()
	if err := run(*dir, *major, testbed.ServerOptions{TCP: *tcp, TLS: *tls, Password: *password, Settings: settings}); err != nil {
		fmt.Fprintln(os.Stderr, "throwaway:", err)
		os.Exit(1)
	}
}

func run(dir string, major int, opt testbed.ServerOptions) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if dir == "" {
		return errors.New("-dir is required")
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	server, err := testbed.StartPostgres(dir, major, opt)
	if err != nil {
		return errors.Join(err, os.RemoveAll(dir))
	}
	fmt.Println(server.URL("postgres"))
	if opt.TCP || opt.TLS || opt.Password != "" {
		fmt.Println(server.TCPURL("postgres"))
	}
	ended := make(chan struct{})
	go func() {
		// Ends with the input or with the process; what is written here is of no interest.
		io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	return server.Remove()
}
