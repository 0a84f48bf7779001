package notify

import (
	"crypto/x509"
	"net"
	"net/netip"
	"time"

	"holdfast"
)

func (c *client) inner() *client { return c }

func innerOf(channel Channel) *client { return channel.(interface{ inner() *client }).inner() }

// Trust trusts other certificates than the system's.
func Trust(channel Channel, roots *x509.CertPool) {
	if m, ok := channel.(*Mail); ok {
		m.roots = roots
		return
	}
	innerOf(channel).roots = roots
}

// Resolve asks another resolver than the system's.
func Resolve(channel Channel, resolver *net.Resolver) { innerOf(channel).resolver = resolver }

// Hurry waits less long for an answer.
func Hurry(channel Channel, limit time.Duration) { innerOf(channel).limit = limit }

// CheckAddress is what is said of an address at the moment of connecting to it.
func CheckAddress(host string, reach Reach, address string) error {
	return guard{host, reach.AllowPrivate}.check(netip.MustParseAddr(address))
}

// Sign is the value of the signature header.
func Sign(secret string, now time.Time, body string) string {
	return sign(holdfast.NewSecret(secret), now, []byte(body))
}

// The laws of texts.
var (
	Cut     = cut
	InBytes = inBytes
	InUnits = inUnits
	InSlack = inSlack
	InJSON  = inJSON
)

// Fit is a message as a text.
func (m Message) Fit(head string, limit int, size func(rune) int) string {
	return m.clean().fit(head, limit, size)
}
