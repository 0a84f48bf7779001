package journal

import (
	"errors"
	"log/syslog"
)

// Syslog returns a function that writes a line to the system's log, facility auth, severity info, under the tag.
func Syslog(tag string) func(line string) error { return syslogAt("", "", tag) }

// syslogAt is Syslog for a log that listens elsewhere; without a network it is the system's.
func syslogAt(network, address, tag string) func(line string) error {
	return func(line string) error {
		w, err := syslog.Dial(network, address, syslog.LOG_AUTH|syslog.LOG_INFO, tag)
		if err != nil {
			return err
		}
		_, err = w.Write([]byte(line))
		return errors.Join(err, w.Close())
	}
}
