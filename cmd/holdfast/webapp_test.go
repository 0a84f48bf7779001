package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite"

	"holdfast/internal/durable"
)

// webapp is a small application, for stories that stop, start and check one: it keeps a SQLite database open, and tells how
// it is at /health. It runs until SIGTERM.
//
//	webapp DATABASE ADDRESS PIDFILE
func webapp() {
	if err := serveWebapp(os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "webapp:", err)
		os.Exit(1)
	}
}

func serveWebapp(database, address, pidFile string) (err error) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	db, err := sql.Open("sqlite", "file:"+database+"?_pragma=busy_timeout(10000)")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	// A connection that stays: whoever wants the database alone has to stop the application.
	if err := db.PingContext(ctx); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(w http.ResponseWriter, r *http.Request) {
		var state string
		if err := db.QueryRowContext(r.Context(), "SELECT value FROM settings WHERE name = 'state'").Scan(&state); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintf(w, "the database does not answer: %v, tried with %s", err, os.Getenv("APP_TOKEN"))
			return
		}
		fmt.Fprintf(w, `{"database":"ok","state":%q}`, state)
	})
	server := &http.Server{Handler: mux}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	if err := durable.WriteFile(pidFile, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		return err
	}
	<-ctx.Done()
	closing, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err = server.Shutdown(closing)
	<-ended
	return errors.Join(err, os.Remove(pidFile))
}
