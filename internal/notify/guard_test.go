package notify_test

import (
	"context"
	"encoding/binary"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"

	"holdfast"
	"holdfast/internal/notify"
)

func TestGuard(t *testing.T) {
	never := []string{
		"169.254.169.254", "169.254.0.1", "fe80::1", "fe80::1%eth0", "febf::1", "::ffff:169.254.169.254",
		"64:ff9b::169.254.169.254", "fd00:ec2::254", "fd00:ec2::254%eth0", "fd20:ce::254", "64:ff9b:1::169.254.169.254", "2002:a9fe:a9fe::1",
		"100.100.100.200", "168.63.129.16", "192.0.0.192", "64:ff9b::168.63.129.16",
	}
	inside := []string{
		"127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.0.1", "fd12::1",
		"fc00::1", "0.0.0.0", "::", "0.1.2.3", "100.64.0.1", "100.127.255.255", "64:ff9b::10.0.0.1", "224.0.0.1", "ff02::1",
		"64:ff9b:1::10.0.0.1", "64:ff9b:1:ffff::192.168.0.1", "2002:c0a8:1::", "2002:a00:1::5",
	}
	outside := []string{"93.184.215.14", "172.32.0.1", "100.63.255.255", "100.128.0.1", "2606:2800:21f:cb07::1", "64:ff9b::93.184.215.14", "64:ff9b:1::93.184.215.14", "2002:5db8:d70e::1"}
	name, localhost, literal := "hooks.example.com", "LocalHost.", "10.9.9.9"
	check := func(host string, reach notify.Reach, address, want string) {
		t.Helper()
		err := notify.CheckAddress(host, reach, address)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || holdfast.Hint(err) == "") {
			t.Errorf("%s for %s: got %v, want %q", address, host, err, want)
		}
	}
	open := notify.Reach{AllowPrivate: true, AllowPlain: true}
	for _, address := range never {
		for _, host := range []string{name, localhost, literal, address} {
			check(host, open, address, "link-local")
		}
	}
	for _, address := range inside {
		check(name, notify.Reach{AllowPlain: true}, address, "it is internal, and hooks.example.com is a name")
		check(name, open, address, "")
		check(address, notify.Reach{}, address, "")
		if !netip.MustParseAddr(address).Unmap().IsLoopback() {
			check(localhost, notify.Reach{}, address, "it is internal")
		}
	}
	check(localhost, notify.Reach{}, "127.0.0.1", "")
	check(localhost, notify.Reach{}, "::1", "")
	for _, address := range outside {
		check(name, notify.Reach{}, address, "")
		check(localhost, open, address, "it is not of this host") // plain text may go there because it is
	}
	check("127.1", notify.Reach{}, "127.0.0.1", "it is internal")      // what only some resolvers take for an address
	check("2130706433", notify.Reach{}, "127.0.0.1", "it is internal") // the same, as one number
}

// nameServer answers every question for an IPv4 address with one address, and has none of IPv6 (RFC 1035).
func nameServer(t *testing.T, address string) *net.Resolver {
	t.Helper()
	server, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() { server.Close(); <-ended })
	go func() {
		defer close(ended)
		packet := make([]byte, 512)
		for {
			n, from, err := server.ReadFrom(packet)
			if err != nil {
				return
			}
			end := 12
			for end < n && packet[end] != 0 {
				end += int(packet[end]) + 1
			}
			end += 5 // the root, type and class
			if end > n {
				continue
			}
			kind := binary.BigEndian.Uint16(packet[end-4:])
			answer := append([]byte{packet[0], packet[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, packet[12:end]...)
			if kind == 1 {
				answer[7] = 1
				answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4)
				answer = append(answer, netip.MustParseAddr(address).AsSlice()...)
			}
			if _, err := server.WriteTo(answer, from); err != nil {
				return
			}
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", server.LocalAddr().String())
	}}
}

// A public name does not lead into the internal network, whatever it resolves to.
func TestNamesThatLeadInside(t *testing.T) {
	each(t, func(t *testing.T, s service) {
		sink := newSink(t, func(w http.ResponseWriter, _ *http.Request) { s.answer(w) })
		at, err := url.Parse(sink.URL)
		if err != nil {
			t.Fatal(err)
		}
		base := "http://hooks.example.com:" + at.Port()
		inside, metadata := nameServer(t, "127.0.0.1"), nameServer(t, "169.254.169.254")

		channel := s.must(t, base, notify.Reach{AllowPlain: true})
		notify.Resolve(channel, inside)
		s.failure(t, channel, channel.Send(t.Context(), alarm), "the address 127.0.0.1 is refused: it is internal")
		if n := len(sink.requests()); n != 0 {
			t.Fatalf("%d requests", n)
		}

		channel = s.must(t, base, notify.Reach{AllowPlain: true, AllowPrivate: true})
		notify.Resolve(channel, inside)
		if err := channel.Send(t.Context(), alarm); err != nil || len(sink.requests()) != 1 {
			t.Errorf("%d requests: %v", len(sink.requests()), err)
		}
		notify.Resolve(channel, metadata)
		err = channel.Send(t.Context(), alarm)
		s.failure(t, channel, err, "the address 169.254.169.254 is refused: it is link-local")
		if holdfast.Hint(err) == "" {
			t.Error("nothing is said about what to do")
		}
	})
}

// What the environment says about proxies is not asked. It would be asked once in the life of a process, so this one has its own.
func TestNoProxy(t *testing.T) {
	const mark = "HOLDFAST_TEST_PROXY"
	if os.Getenv(mark) == "" {
		proxy := newSink(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestNoProxy$", "-test.count=1")
		cmd.Env = append(os.Environ(), mark+"=1", "HTTP_PROXY="+proxy.URL, "http_proxy="+proxy.URL, "NO_PROXY=", "no_proxy=")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		if n := len(proxy.requests()); n != 0 {
			t.Errorf("%d requests went to the proxy", n)
		}
		return
	}
	for _, s := range services {
		sink := newSink(t, func(w http.ResponseWriter, _ *http.Request) { s.answer(w) })
		at, err := url.Parse(sink.URL)
		if err != nil {
			t.Fatal(err)
		}
		channel := s.must(t, "http://hooks.example.com:"+at.Port(), notify.Reach{AllowPlain: true, AllowPrivate: true})
		notify.Resolve(channel, nameServer(t, "127.0.0.1"))
		if err := channel.Send(t.Context(), alarm); err != nil {
			t.Error(err)
		}
		if n := len(sink.requests()); n != 1 {
			t.Errorf("%s: %d requests", s.name, n)
		}
	}
}
