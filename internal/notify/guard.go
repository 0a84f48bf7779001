package notify

import (
	"fmt"
	"net/netip"
	"strings"
	"syscall"

	"holdfast"
)

// Reach widens where a channel may connect to.
type Reach struct {
	AllowPlain   bool // http to any host; without it only to a loopback address, or the name localhost, as written
	AllowPrivate bool // internal addresses behind a name; without it only an address as written, and localhost
}

// guard decides about addresses at the moment of connecting, when names are resolved and can no longer change.
type guard struct {
	host    string // as it was written, without a port
	private bool   // internal addresses are allowed
}

// control is a net.Dialer's.
func (g guard) control(_, address string, _ syscall.RawConn) error {
	target, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("the address %s is not understood", address)
	}
	return g.check(target.Addr())
}

func (g guard) check(addr netip.Addr) error {
	addr = embedded(addr)
	if metadata(addr) {
		return holdfast.WithHint(fmt.Errorf("the address %s is refused: it is link-local, or else where hosts have their metadata service", addr),
			"write the address of a host that takes messages")
	}
	if localhost(g.host) && !internal(addr) {
		return holdfast.WithHint(fmt.Errorf("the address %s is refused: it is not of this host, and %s is", addr, g.host),
			"look what gives that name another address: as a rule /etc/hosts lacks it")
	}
	if !internal(addr) || g.private {
		return nil
	}
	if _, err := netip.ParseAddr(g.host); err == nil {
		return nil
	}
	if localhost(g.host) && addr.IsLoopback() {
		return nil
	}
	return holdfast.WithHint(fmt.Errorf("the address %s is refused: it is internal, and %s is a name", addr, g.host),
		"when that is meant, write the address itself, or allow private addresses for this channel")
}

// loopback reports whether a host, as written, stays on this machine.
func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return localhost(host) || err == nil && embedded(addr).IsLoopback()
}

func localhost(host string) bool {
	return strings.EqualFold(strings.TrimSuffix(host, "."), "localhost")
}

// embedded is the IPv4 address that an IPv6 one stands for, mapped (RFC 4291), translated (RFC 6052; RFC 8215, whose last 32 bits it is as
// a rule) or of 6to4 (RFC 3056): the same machine answers.
func embedded(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	if addr.Is4() {
		return addr
	}
	raw := addr.As16()
	switch {
	case translated(raw):
		return netip.AddrFrom4([4]byte(raw[12:]))
	case raw[0] == 0x20 && raw[1] == 0x02:
		return netip.AddrFrom4([4]byte(raw[2:]))
	}
	return addr
}

// translated reports whether an address is of 64:ff9b::/96 or 64:ff9b:1::/48.
func translated(raw [16]byte) bool {
	return [12]byte(raw[:]) == [12]byte{1: 0x64, 2: 0xff, 3: 0x9b} || [6]byte(raw[:]) == [6]byte{1: 0x64, 2: 0xff, 3: 0x9b, 5: 1}
}

// metadata reports whether addr is where clouds answer a host about itself: link-local, or one of their fixed addresses.
func metadata(addr netip.Addr) bool {
	switch addr {
	case netip.AddrFrom4([4]byte{100, 100, 100, 200}), netip.AddrFrom4([4]byte{168, 63, 129, 16}), netip.AddrFrom4([4]byte{192, 0, 0, 192}),
		netip.AddrFrom16([16]byte{0: 0xfd, 2: 0x0e, 3: 0xc2, 14: 0x02, 15: 0x54}), netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x20, 3: 0xce, 14: 0x02, 15: 0x54}):
		return true
	}
	return addr.IsLinkLocalUnicast()
}

// internal reports whether addr is of this host or of a network of one's own: RFC 1918, RFC 4193, RFC 6598, and all that Linux
// takes for this host.
func internal(addr netip.Addr) bool {
	if addr.IsLoopback() || addr.IsPrivate() || addr.IsUnspecified() || addr.IsMulticast() {
		return true
	}
	if !addr.Is4() {
		return false
	}
	raw := addr.As4()
	return raw[0] == 0 || raw[0] == 100 && raw[1]&0xc0 == 64
}
