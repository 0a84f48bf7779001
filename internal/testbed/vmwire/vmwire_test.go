package vmwire_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"reflect"
	"sync"
	"testing"

	"holdfast/internal/testbed/vmwire"
)

// TestMixed has several send at once: each message arrives whole, and each sender's in order.
func TestMixed(t *testing.T) {
	here, there := net.Pipe()
	sender, receiver := vmwire.New(here), vmwire.New(there)
	const senders, each = 4, 50
	message := func(program uint32, i int) vmwire.Message {
		return vmwire.Message{Kind: vmwire.Output, Program: program, Output: bytes.Repeat([]byte{byte(program)}, 1+i*i)}
	}
	var sending sync.WaitGroup
	for program := range uint32(senders) {
		sending.Go(func() {
			for i := range each {
				if err := sender.Send(message(program, i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	var closing sync.WaitGroup
	closing.Go(func() {
		sending.Wait()
		here.Close()
	})
	seen := map[uint32]int{}
	for {
		m, err := receiver.Receive()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if want := message(m.Program, seen[m.Program]); !reflect.DeepEqual(m, want) {
			t.Fatalf("message %d of %d differs: %d bytes, want %d", seen[m.Program], m.Program, len(m.Output), len(want.Output))
		}
		seen[m.Program]++
	}
	closing.Wait()
	for program := range uint32(senders) {
		if seen[program] != each {
			t.Errorf("%d messages of %d arrived", seen[program], program)
		}
	}
}
