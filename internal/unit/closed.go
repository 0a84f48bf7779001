package unit

import (
	"path/filepath"
	"slices"
	"strings"
)

// hidden are the folders that a service does not see as others do.
func hidden() []string { return []string{"/home", "/root", "/run/user", "/tmp", "/var/tmp"} }

func within(path, folder string) bool {
	return folder == "/" || path == folder || strings.HasPrefix(path, folder+"/")
}

// backups closes all that making, copying and pruning backups does not need.
func (t *text) backups(o Options) {
	t.out.WriteByte('\n')
	t.note("A run by hand takes the same lock, as the same user: runuser -u " + o.User + " -- " + filepath.Base(o.Program) + " backup JOB")
	t.set("User="+o.User, "UMask=0077")
	if o.Docker != "" && o.User != rootUser {
		// Another engine's socket has a group of its own, to be given to the user; one that does not exist would keep the service from starting.
		t.note("Whoever may use the socket " + o.Docker + " is root on this host by it: a source is in a container.")
		if strings.TrimPrefix(o.Docker, "/var") == "/run/docker.sock" {
			t.set("SupplementaryGroups=docker")
		}
	}
	capabilities := ""
	if o.ReadAll {
		capabilities = "CAP_DAC_READ_SEARCH"
		note := "To read files of any owner; it is no right to write."
		if o.Hooks {
			note += " Hooks have it too."
		}
		t.note(note)
	}
	t.set("CapabilityBoundingSet="+capabilities, "AmbientCapabilities="+capabilities)

	t.paths(o, o.State, o.Read)
	t.memory()
	t.closed()
	t.set("ProtectHostname=yes", "RestrictNamespaces=yes", "ProtectProc=invisible", "ProcSubset=pid")
	if o.User != rootUser {
		t.set("RemoveIPC=yes")
	}
	// PrivateUsers= would make nobody of the owners of files, in the archive too.
	calls := "~@privileged @resources"
	if o.Hooks {
		t.note("Hooks run in here as well: they write only to what is listed above, see other folders for temporary files, and gain no rights,",
			"by sudo or otherwise. Left open for them: memory that is written and executed, as Node, Java and PHP do; nice and ionice.",
			"What a hook needs besides belongs into a drop-in (systemctl edit), or into a service of its own that the hook starts.")
		calls = "~@privileged"
	} else {
		t.set("MemoryDenyWriteExecute=yes")
	}
	t.calls("@system-service", calls)
}

// drills closes what remains of a root that builds sandboxes.
func (t *text) drills(o Options) {
	t.out.WriteByte('\n')
	t.note("A drill restores as a user that no account has, in namespaces of its own. For that it is root, with",
		"SYS_ADMIN: namespaces, and the mounts in them; SETPCAP, SETUID, SETGID: to give up all rights for good;",
		"CHOWN, FOWNER, DAC_OVERRIDE: restored files belong to others; KILL: so do programs that must end.")
	t.set("User=root", "UMask=0077",
		"CapabilityBoundingSet=CAP_SYS_ADMIN CAP_SETPCAP CAP_SETUID CAP_SETGID CAP_CHOWN CAP_FOWNER CAP_DAC_OVERRIDE CAP_KILL")
	read := slices.Clone(o.Read)
	if o.Identity != "" {
		read = append(read, o.Identity)
	}
	t.paths(o, o.DrillState, read)
	t.memory()
	t.closed()
	t.note("The sandbox has namespaces of these kinds; user namespaces are not among them. It names its host, so ProtectHostname= is left out.")
	t.set("RestrictNamespaces=mnt net ipc pid uts")
	if o.Docker == "" {
		t.set("ProtectProc=invisible")
	} else {
		t.note("Which throwaway container was left behind is told by whether the process that made it is there: ProtectProc= would hide it.")
	}
	t.note("How much memory is free decides whether a drill can begin (/proc/meminfo).")
	t.set("ProcSubset=all")
	// MemoryDenyWriteExecute= would break restores of databases with languages that have a compiler of their own, such as PL/v8.
	t.calls("@system-service @mount sethostname", "~@resources")
}

// memory keeps plaintext in memory.
func (t *text) memory() {
	t.note("Plaintext passes through memory, in a drill through /dev/shm, which counts here too: none of it is swapped to a disk. With a",
		"limit of 1, neither a core file nor a handler of cores gets it; with 0 a handler would.")
	t.set("MemorySwapMax=0", "LimitCORE=1")
}

// closed is what neither kind of service needs.
func (t *text) closed() {
	t.out.WriteByte('\n')
	t.set("NoNewPrivileges=yes", "PrivateDevices=yes", "ProtectClock=yes", "ProtectControlGroups=yes", "ProtectKernelLogs=yes",
		"ProtectKernelModules=yes", "ProtectKernelTunables=yes", "LockPersonality=yes", "RestrictRealtime=yes", "RestrictSUIDSGID=yes",
		"RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX")
}

// calls allows system calls. Others fail rather than kill, so that a program that merely tries one goes on.
func (t *text) calls(allowed, refused string) {
	t.set("SystemCallArchitectures=native", "SystemCallFilter="+allowed, "SystemCallFilter="+refused, "SystemCallErrorNumber=EPERM")
}

// paths says what is seen, and what of it is written.
func (t *text) paths(o Options, state string, read []string) {
	t.out.WriteByte('\n')
	t.set("ProtectSystem=strict", "PrivateTmp=yes")
	write := slices.Clone(o.Write)
	if name := strings.TrimPrefix(state, stateRoot); name != state {
		t.words("StateDirectory", name)
		t.set("StateDirectoryMode=0700")
	} else {
		write = append(write, state)
	}
	// The folder of the configuration, as a file that is replaced would stay the old one where it is bound.
	read = slices.Concat(read, []string{filepath.Dir(o.Config), o.Program})

	homes, binds := "yes", []string(nil)
	for _, path := range read {
		if within("/home", path) || within("/root", path) {
			homes = "read-only"
		}
	}
	var plain, bound []string
	for _, path := range outermost(write) {
		if seen(path, homes) {
			plain = append(plain, path)
		} else {
			bound = append(bound, path)
		}
	}
	for _, path := range outermost(read) {
		if !seen(path, homes) && !slices.ContainsFunc(bound, func(folder string) bool { return within(path, folder) }) {
			binds = append(binds, path)
		}
	}
	if homes == "yes" && slices.ContainsFunc(slices.Concat(binds, bound), inHome) {
		homes = "tmpfs"
	}
	t.set("ProtectHome=" + homes)
	if len(plain)+len(binds)+len(bound) > 0 {
		t.note("The dash: what is not there does not keep the others from being backed up.")
	}
	t.words("ReadWritePaths", optional(plain)...)
	t.words("BindReadOnlyPaths", optional(binds)...)
	t.words("BindPaths", optional(bound)...)
}

// seen reports whether a service sees a path without a bind.
func seen(path, homes string) bool {
	return !slices.ContainsFunc(hidden(), func(folder string) bool { return within(path, folder) }) || homes == "read-only" && inHome(path)
}

func inHome(path string) bool {
	return within(path, "/home") || within(path, "/root") || within(path, "/run/user")
}

// outermost sorts paths and leaves out those that another one contains.
func outermost(paths []string) []string {
	sorted := slices.Sorted(slices.Values(paths))
	var kept []string
	for _, path := range sorted {
		if !slices.ContainsFunc(kept, func(folder string) bool { return within(path, folder) }) {
			kept = append(kept, path)
		}
	}
	return kept
}

func optional(paths []string) []string {
	marked := make([]string, len(paths))
	for i, path := range paths {
		marked[i] = "-" + path
	}
	return marked
}
