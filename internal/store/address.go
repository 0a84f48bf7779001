package store

import (
	"net"
	"path"
	"strconv"
	"strings"
)

// SSHAddress tells people where a folder at the far side of SSH is: kind://user@host:port/path, with /./ before a path that begins
// in the user's home. The port 22, and 0, are left out; so is no user.
func SSHAddress(kind, user, host string, port int, folder string) string {
	where := host
	switch {
	case port != 0 && port != 22:
		where = net.JoinHostPort(host, strconv.Itoa(port))
	case strings.Contains(host, ":"):
		where = "[" + host + "]"
	}
	if user != "" {
		where = user + "@" + where
	}
	if !path.IsAbs(folder) {
		folder = "/./" + folder
	}
	return kind + "://" + where + folder
}
