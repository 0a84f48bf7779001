package rsync_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"holdfast/internal/store"
	"holdfast/internal/store/rsync"
	"holdfast/internal/testbed"
)

// cutter stands before a server. Of the connections that are accepted, those that plan names end after some bytes.
type cutter struct {
	listener net.Listener
	group    sync.WaitGroup
	stall    atomic.Bool // an ended connection stays open and carries nothing

	mu    sync.Mutex // guards the rest
	plan  []int64    // bytes from the server that the next connections may carry; -1: all
	conns []net.Conn
}

func startCutter(t *testing.T, target string) *cutter {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{listener: listener}
	c.group.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", target)
			if err != nil {
				near.Close()
				continue
			}
			limit := int64(-1)
			c.mu.Lock()
			if len(c.plan) > 0 {
				limit, c.plan = c.plan[0], c.plan[1:]
			}
			c.conns = append(c.conns, near, far)
			c.mu.Unlock()
			c.group.Go(func() {
				io.Copy(far, near)
				far.Close()
			})
			c.group.Go(func() {
				if limit < 0 {
					io.Copy(near, far)
				} else {
					io.CopyN(near, far, limit)
					if c.stall.Load() {
						return
					}
				}
				near.Close()
				far.Close()
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		c.mu.Lock()
		for _, conn := range c.conns {
			conn.Close()
		}
		c.mu.Unlock()
		c.group.Wait()
	})
	return c
}

func (c *cutter) next(limits ...int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.plan = limits
}

func (c *cutter) through(t *testing.T, s *testbed.SSHD, opt rsync.Options) rsync.Options {
	t.Helper()
	opt.Port = c.listener.Addr().(*net.TCPAddr).Port
	known, err := os.ReadFile(s.KnownHosts)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "known_hosts")
	text := strings.ReplaceAll(string(known), fmt.Sprintf(":%d ", s.Port), fmt.Sprintf(":%d ", opt.Port))
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	opt.KnownHosts = []string{file}
	return opt
}

func random(size int) []byte {
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(size)}).Read(data) // never fails
	return data
}

// wantNoPart: whatever has an object's name is the object.
func wantNoPart(t *testing.T, dir string, all objects) {
	t.Helper()
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || store.CheckName(name) != nil {
			return err
		}
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, all[name]) {
			t.Errorf("%s has %d bytes that are not the %d pushed; error %v", name, len(got), len(all[name]), err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestPushSurvivesCuts: each connection of a Push is cut at some place, and the rest comes with the next.
func TestPushSurvivesCuts(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{NoSFTP: true})
	c := startCutter(t, s.Addr())
	all := objects{"a": random(3 << 20), "b/c": random(100), "d": random(1 << 20)}
	for i, limit := range []int64{100, 3000, 3500, 4200} {
		dir := fmt.Sprintf("mirror-%d", i)
		d := open(t, c.through(t, s, options(t, s, dir)))
		c.next(limit, -1, limit+50, limit+100) // list, look, send: each is cut
		if err := d.Push(t.Context(), all.list(), all.open); err != nil {
			t.Errorf("cut after %d bytes: %v", limit, err)
			c.next()
			wantNoPart(t, filepath.Join(s.Dir, dir), all)
			err = d.Push(t.Context(), all.list(), all.open)
			if err != nil {
				t.Errorf("pushed again: %v", err)
			}
		}
		c.next()
		wantMirror(t, d, all)
		wantNoPart(t, filepath.Join(s.Dir, dir), all)
	}
}

// TestCutReads: a fetch or a list that is cut is an error and never less than there is.
func TestCutReads(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{NoSFTP: true})
	c := startCutter(t, s.Addr())
	d := open(t, c.through(t, s, options(t, s, "mirror")))
	all := objects{"large": random(2 << 20)}
	for i := range 200 {
		all[fmt.Sprintf("many/%03d", i)] = nil
	}
	if err := d.Push(t.Context(), all.list(), all.open); err != nil {
		t.Fatal(err)
	}
	cut := 0
	for _, limit := range []int64{0, 1000, 3000, 4000, 6000, 1 << 20, 2 << 20} {
		c.next(limit)
		n, failed := 0, false
		for _, err := range d.List(t.Context(), "many/") {
			if failed = err != nil; !failed {
				n++
			}
		}
		if failed {
			cut++
		} else if n != 200 {
			t.Errorf("cut after %d bytes: a list of %d objects without an error", limit, n)
		}
		c.next(limit)
		got, err := fetch(t, d, "large")
		if err != nil && len(got) > 0 || err == nil && !bytes.Equal(got, all["large"]) {
			t.Errorf("cut after %d bytes: %d bytes were fetched, error %v", limit, len(got), err)
		}
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, store.ErrNoStore) {
			t.Errorf("cut after %d bytes: %v is not what happened", limit, err)
		}
	}
	if cut < 3 {
		t.Errorf("%d lists were cut: this test looks at little", cut)
	}
}

// TestStalledLine: a server that says nothing any more is given up.
func TestStalledLine(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{NoSFTP: true})
	c := startCutter(t, s.Addr())
	opt := c.through(t, s, options(t, s, "mirror"))
	opt.Stall = 2 * time.Second
	d := open(t, opt)
	all := objects{"a": random(1 << 20)}
	c.stall.Store(true)
	c.next(-1, -1, 3600)
	if err := d.Push(t.Context(), all.list(), all.open); err != nil {
		t.Error(err)
	}
	wantMirror(t, d, all)
}

// TestInterrupted: a run that is interrupted ends rsync and ssh, and leaves no part under a name.
func TestInterrupted(t *testing.T) {
	s := testbed.StartSSHD(t, testbed.SSHDOptions{NoSFTP: true})
	opt := options(t, s, "mirror")
	opt.Bandwidth = 1 << 20
	d := open(t, opt)
	all := objects{"a": random(100 << 20)}
	ctx, cancel := context.WithCancel(t.Context())
	sending := make(chan struct{})
	go func() {
		defer cancel()
		<-sending
		// The transfer has begun when its temporary file is there.
		for ctx.Err() == nil {
			if found, _ := filepath.Glob(filepath.Join(s.Dir, "mirror", ".a.*")); len(found) > 0 {
				return
			}
		}
	}()
	err := d.Push(ctx, all.list(), func(ctx context.Context, name string) (io.ReadCloser, error) {
		close(sending)
		return all.open(ctx, name)
	})
	cancel()
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
	wantNoPart(t, filepath.Join(s.Dir, "mirror"), all)
}
