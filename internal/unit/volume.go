package unit

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Volume is an encrypted volume as systemd sees it.
type Volume struct {
	Name   string // lower-case letters, digits, dashes and underscores, at most 41
	Device string // the file or the block device that holds it; absolute and clean
	Mount  string // where it is mounted; absolute and clean
	Server string // unit of the server whose data lies on it, such as postgresql@17-main.service; "" for none
}

// VolumeWait is how long the service of a volume asks for the passphrase. Whoever asks ends the question then: `systemd-ask-password
// --timeout`. A little later what waits for the volume fails, and the boot is complete without it.
const VolumeWait = 10 * time.Minute

// volumeLimit leaves time for what follows an answer in the last minute.
const volumeLimit = VolumeWait + 5*time.Minute

var (
	volumeRule  = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,40}$`)
	serverRule  = regexp.MustCompile(`^[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\-]+)?\.service$`)
	serviceRule = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)
)

const maxUnitName = 255 // UNIT_NAME_MAX of systemd

// VolumeUnits returns holdfast-volume-NAME.service, which asks for the passphrase and unlocks the volume, and locks it when it is stopped; and
// where v.Server is given, a drop-in by which that server is started after the volume, never without it, and stopped before it. Of o, Program,
// Config and State count. Errors wrap [holdfast.ErrUsage].
//
// The question is put to systemd's password agents: the console, then whoever is logged in, by wall(1). It is asked while the rest of the boot
// goes on, so that one can log in and answer with systemd-tty-ask-password-agent(1), or with `holdfast volume unlock`. When nobody does, the
// service fails after [VolumeWait], and the server with it; multi-user.target is reached then, and nothing else has waited.
func VolumeUnits(o Options, v Volume) ([]File, error) {
	o, err := o.complete()
	if err == nil {
		err = v.check()
	}
	if err != nil {
		return nil, err
	}
	service := "holdfast-volume-" + v.Name + ".service"
	var t text
	t.section("Unit")
	t.set("Description=Holdfast: volume "+v.Name, "Documentation=man:holdfast-volume(1)")
	if device := v.deviceUnit(); device != "" {
		// Wanted and not required: that it is missing is told by the command, with what to do.
		t.set("Wants="+device, "After="+device)
		t.words("RequiresMountsFor", v.Mount)
	} else {
		t.words("RequiresMountsFor", filepath.Dir(v.Device), v.Mount)
	}
	t.note("Then what waits for the volume fails, and the boot goes on. What runs is not ended: it may be a file system that is being mended.")
	t.set(fmt.Sprintf("JobRunningTimeoutSec=%ds", volumeLimit/time.Second))
	t.section("Service")
	t.set("Type=oneshot", "RemainAfterExit=yes")
	t.exec(o.command([]string{"volume", "unlock", v.Name, "--ask-password"}, o.State))
	t.words("ExecStop", o.command([]string{"volume", "lock", v.Name}, o.State)...)
	t.note(fmt.Sprintf("The question ends by itself after %d minutes.", VolumeWait/time.Minute))
	t.set("TimeoutStartSec=infinity", "TimeoutStopSec=5min")
	t.mounts()
	t.install()
	files := []File{unitFile(service, t)}
	if v.Server == "" {
		return files, nil
	}
	var d text
	d.section("Unit")
	d.note("Started after the volume " + v.Name + ", never without it, and stopped before it.")
	d.set("Requires="+service, "After="+service)
	d.words("RequiresMountsFor", v.Mount)
	d.note("The service of a volume that was locked by hand still counts as started. Assert and not Condition: with a condition that does not hold,",
		"a start says that all is well and starts nothing.")
	d.set("AssertPathIsMountPoint=" + strings.ReplaceAll(v.Mount, "%", "%%"))
	return append(files, unitFile(v.Server+".d/holdfast-volume-"+v.Name+".conf", d)), nil
}

// mounts closes what neither unlocking nor locking a volume needs, and nothing that would give the service mounts of its own: the host would
// not see the volume in them. So Protect…=, Private…= and the lists of paths are left out, but those without a mount.
func (t *text) mounts() {
	t.out.WriteByte('\n')
	t.note("The volume is mounted for the whole host, so this service sees it as the host does. What it may:",
		"SYS_ADMIN, MKNOD: mounts and mappings; IPC_LOCK: keys that stay in memory; LINUX_IMMUTABLE, FOWNER: the guard of the mount point;",
		"CHOWN, DAC_OVERRIDE: the data folder belongs to the server; SYS_PTRACE: to name who still uses the volume.")
	t.set("User=root", "UMask=0077",
		"CapabilityBoundingSet=CAP_SYS_ADMIN CAP_MKNOD CAP_IPC_LOCK CAP_LINUX_IMMUTABLE CAP_FOWNER CAP_CHOWN CAP_DAC_OVERRIDE CAP_SYS_PTRACE")
	t.note("The passphrase passes through memory: none of it is swapped to a disk, and with a limit of 1 no handler of cores gets it.")
	t.set("MemorySwapMax=0", "LimitCORE=1")
	t.out.WriteByte('\n')
	t.set("NoNewPrivileges=yes", "LockPersonality=yes", "RestrictRealtime=yes", "RestrictSUIDSGID=yes", "RestrictNamespaces=yes",
		"ProtectHostname=yes", "MemoryDenyWriteExecute=yes")
	t.note("Logs and password agents; udev; the kernel's ciphers, with which cryptsetup opens a key. No network.")
	t.set("RestrictAddressFamilies=AF_UNIX AF_NETLINK AF_ALG")
	t.calls("@system-service @mount", "~@resources")
}

func (v Volume) check() error {
	if err := checkVolume(v.Name); err != nil {
		return err
	}
	if v.Server != "" && (len(v.Server) > maxUnitName || !serverRule.MatchString(v.Server)) {
		return refused("unit", v.Server, "use the name of a service, such as postgresql@17-main.service")
	}
	if !filepath.IsAbs(v.Device) || filepath.Clean(v.Device) != v.Device {
		return refused("device", v.Device, "write it as an absolute path, without . and .. and double slashes")
	}
	// The names of devices below /dev/disk/by-path have colons, and no harm is in them here.
	if err := checkText("device", v.Device); err != nil {
		return err
	}
	return checkMount(v.Mount)
}

func checkVolume(name string) error {
	if !volumeRule.MatchString(name) {
		return refused("name of a volume", name, "use lower-case letters, digits, dashes and underscores, at most 41, beginning with a letter or digit")
	}
	return nil
}

func checkMount(path string) error {
	// AssertPathIsMountPoint= takes its line as it is, but for blanks at the end.
	if path == "/" || strings.TrimRight(path, " ") != path {
		return refused("mount point", path, "use a folder of its own, with a name that does not end with a blank")
	}
	return checkPath("mount point", path)
}

// deviceUnit is the unit that systemd has for a block device, by systemd.unit(5) and systemd.device(5); "" for a file.
func (v Volume) deviceUnit() string {
	if !within(v.Device, "/dev") || within(v.Device, "/dev/shm") {
		return ""
	}
	var name strings.Builder
	for _, c := range []byte(strings.TrimPrefix(v.Device, "/")) {
		switch {
		case c == '/':
			name.WriteByte('-')
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == ':', c == '_', c == '.':
			name.WriteByte(c)
		default:
			fmt.Fprintf(&name, `\x%02x`, c)
		}
	}
	return name.String() + ".device"
}

// Overlay is what a service of Docker Compose has to be told of a volume.
type Overlay struct {
	Volume  string // its name
	Service string // in the file that is overlaid
	Data    string // the data folder, on the volume; absolute and clean
	Target  string // where the server in the container has its data: what the file mounts there is replaced; absolute and clean
}

// Text returns a file for `docker compose --file FILE --file OVERLAY`. With it the service has its data on the volume, is not started by
// Docker itself, which would be before the volume is unlocked, and fails where the data folder is not there, so that no empty database is made in
// its place. Errors wrap [holdfast.ErrUsage].
func (o Overlay) Text() (string, error) {
	err := checkVolume(o.Volume)
	if err == nil {
		err = checkPath("data folder", o.Data)
	}
	if err == nil {
		err = checkPath("data folder in the container", o.Target)
	}
	if err == nil && !serviceRule.MatchString(o.Service) {
		err = refused("service", o.Service, "use letters, digits, dots, dashes and underscores")
	}
	if err != nil {
		return "", err
	}
	return `# The data of service ` + o.Service + ` on the encrypted volume ` + o.Volume + `. Give this file after the other one:
# docker compose --file OTHER --file THIS up --detach ` + o.Service + `
services:
  ` + strconv.Quote(o.Service) + `:
    # After a boot the volume is unlocked first, by a person.
    restart: "no"
    volumes:
      - type: bind
        source: ` + strconv.Quote(o.Data) + `
        target: ` + strconv.Quote(o.Target) + `
        bind:
          # While the volume is locked there is no such folder, and none is made.
          create_host_path: false
`, nil
}
