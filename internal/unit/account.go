package unit

import (
	"path/filepath"
	"strings"
)

// Account returns what makes the user of the services, for systemd-sysusers(8), and gives it its folders, for systemd-tmpfiles(8).
// root is not made. Errors wrap [holdfast.ErrUsage].
func Account(o Options) ([]File, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	var files []File
	if o.User != rootUser {
		files = append(files, File{Path: "/etc/sysusers.d/holdfast.conf", Mode: 0o644, Text: "# The user of holdfast.service, without a password and a shell.\n" +
			"u " + o.User + ` - "Holdfast backups" ` + quote(o.State) + " /usr/sbin/nologin\n"})
	}
	lines := []string{
		"# The configuration is read by the user of the services, and changed by root alone.",
	}
	// A folder that others use as well, such as /etc, stays what it is.
	folder := filepath.Dir(o.Config)
	if strings.HasPrefix(filepath.Base(folder), "holdfast") {
		lines = append(lines, "d "+quote(folder)+" 0750 root "+o.User+" -")
	}
	lines = append(lines,
		"z "+quote(o.Config)+" 0640 root "+o.User+" -",
		"# What root made in the state folder, by holdfast init or a run by hand, is given to that user.",
		"d "+quote(o.State)+" 0700 "+o.User+" "+o.User+" -",
		"Z "+quote(o.State)+" - "+o.User+" "+o.User+" -")
	files = append(files, File{Path: "/etc/tmpfiles.d/holdfast.conf", Mode: 0o644, Text: strings.Join(lines, "\n") + "\n"})
	return files, nil
}
