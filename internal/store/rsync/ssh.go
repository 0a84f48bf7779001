package rsync

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"holdfast"
)

const (
	// farHost is what rsync and ssh call the server. Its real name stands in the settings alone.
	farHost = "mirror"

	sshConfigName = "ssh_config"

	// unquotable are characters that cannot stand between quotes in ssh's settings or in rsync's -e.
	unquotable = "\"'\\$`\n\r\x00\t"
)

// sshConfig is a settings file for ssh (ssh_config(5)). Everything that a user wrote stands here and nowhere else: rsync splits
// the command that it is given at spaces.
func (opt Options) sshConfig() (string, error) {
	var text strings.Builder
	var broken error
	line := func(key string, values ...string) {
		text.WriteString(key)
		for _, value := range values {
			if strings.ContainsAny(value, unquotable) {
				broken = fmt.Errorf("%w: %q has a character that cannot be written for ssh", holdfast.ErrUsage, value)
			}
			text.WriteString(` "` + value + `"`)
		}
		text.WriteString("\n")
	}
	// A percent sign begins what ssh replaces.
	file := func(name string) string {
		absolute, err := filepath.Abs(name)
		broken = errors.Join(broken, err)
		return strings.ReplaceAll(absolute, "%", "%%")
	}
	line("Host", farHost)
	line("HostName", opt.Host)
	line("Port", fmt.Sprint(opt.Port))
	line("User", opt.User)
	var known []string
	for _, name := range opt.KnownHosts {
		known = append(known, file(name))
	}
	line("UserKnownHostsFile", known...)
	line("GlobalKnownHostsFile", "/dev/null")
	line("StrictHostKeyChecking", "yes")
	line("UpdateHostKeys", "no")
	line("BatchMode", "yes")
	if opt.KeyFile != "" {
		line("IdentityFile", file(opt.KeyFile))
		line("IdentitiesOnly", "yes")
		line("IdentityAgent", "none")
	}
	line("PreferredAuthentications", "publickey")
	line("ConnectTimeout", fmt.Sprint(seconds(opt.Timeout)))
	// A dead line ends although rsync is busy with its disk.
	line("ServerAliveInterval", fmt.Sprint(seconds(opt.Stall/4)))
	line("ServerAliveCountMax", "4")
	line("ControlPath", "none")
	line("ClearAllForwardings", "yes")
	line("ForwardAgent", "no")
	line("PermitLocalCommand", "no")
	line("LogLevel", "ERROR")
	return text.String(), broken
}

func seconds(d time.Duration) int { return max(1, int(d/time.Second)) }
