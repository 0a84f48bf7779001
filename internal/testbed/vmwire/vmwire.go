// Package vmwire is what a test and the agent in its virtual machine say to each other, over a serial port that nothing else
// writes to.
//
// It hides the coding of messages. Its laws: a message is read whole or not at all, those of several programs may come mixed, and
// neither side waits for an answer before it goes on. What a message makes one do is the business of the two sides.
package vmwire

import (
	"encoding/gob"
	"io"
	"sync"
)

// Port is the serial port's name, in the machine.
const Port = "holdfast.agent"

// Kind is what a message is for.
type Kind int

// The messages. Those to the agent are Start and Signal.
const (
	Hello  Kind = iota + 1 // the agent is there
	Start                  // run a program
	Signal                 // send it a signal
	Output                 // it wrote something
	Exit                   // it ended, and has written all
)

// Message is one message. Fields that its kind has no use for are empty.
type Message struct {
	Kind    Kind
	Program uint32 // which one it is about; the test numbers them

	// Start.
	Args    []string
	Environ []string // NAME=value, added to the agent's own
	Input   []byte   // all of its standard input

	// Signal.
	Signal int
	Group  bool // its children get it too

	// Output: standard output and standard error, as they came.
	Output []byte

	// Exit.
	Status int    // -1: it was ended by a signal, or never started
	Reason string // of a status -1
}

// Link is one side. Send may be called at once by several, Receive by one.
type Link struct {
	decoder *gob.Decoder

	mu      sync.Mutex // guards encoder
	encoder *gob.Encoder
}

// New makes a side of what carries bytes both ways.
func New(port io.ReadWriter) *Link {
	return &Link{decoder: gob.NewDecoder(port), encoder: gob.NewEncoder(port)}
}

// Send sends m.
func (l *Link) Send(m Message) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.encoder.Encode(m)
}

// Receive waits for the next message. [io.EOF] means that there is no other side any more.
func (l *Link) Receive() (Message, error) {
	var m Message
	err := l.decoder.Decode(&m)
	return m, err
}
