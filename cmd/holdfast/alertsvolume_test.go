package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"holdfast/internal/health"
	"holdfast/internal/volume"
)

// volumeFailure is one way in which things break with an encrypted volume, which is its own, and the alert that is to tell of it. The volume
// is a real one in a file, and stays locked: to open one takes a kernel with a device mapper.
type volumeFailure struct {
	alert, severity string
	alone           bool // no other alert comes along; else the volume is told as locked, too
	lasts           bool // nothing but time mends it
	breaks          func(*lockedVolume)
	mends           func(*lockedVolume)
}

// name is that of the volume.
func (f volumeFailure) name() string { return failure{alert: f.alert, job: plainJob}.name() }

// alerts are those that its volume raises.
func (f volumeFailure) alerts() []string {
	all := []string{alertOf(f.alert, f.severity, "web1", f.name())}
	if !f.alone {
		all = append(all, lockedAlert(f.name()))
	}
	return all
}

// left are those that it raises when it is mended.
func (f volumeFailure) left() []string {
	switch {
	case f.lasts:
		return f.alerts()
	case f.alert == volumeLocked:
		return nil
	}
	return []string{lockedAlert(f.name())}
}

const volumeLocked = "HoldfastVolumeLocked"

func lockedAlert(volume string) string { return alertOf(volumeLocked, "critical", "web1", volume) }

func volumeFailures() []volumeFailure {
	return []volumeFailure{
		{
			// The host was started, and nobody came. The volume is given up.
			alert: volumeLocked, severity: "critical", alone: true,
			mends: func(v *lockedVolume) {
				v.o.change("holdfast.yaml", func(text []byte) []byte { return bytes.Replace(text, []byte(v.config()), nil, 1) })
				v.o.v.signal(syscall.SIGHUP)
				v.o.v.says(3, "configuration read anew")
			},
		},
		{
			// Its disk is not attached. No header says how old its keys are: that its holders are there was confirmed.
			alert: "HoldfastVolumeNotLuks", severity: "critical", alone: true,
			breaks: func(v *lockedVolume) {
				v.holdersChecked(time.Hour)
				v.o.move(v.file, v.file+".away")
			},
			mends: func(v *lockedVolume) { v.o.move(v.file+".away", v.file) },
		},
		{
			// Somebody took the guard off, and a server began an empty database where the volume was not mounted.
			alert: "HoldfastVolumeElsewhere", severity: "critical", alone: true,
			breaks: func(v *lockedVolume) {
				v.run(time.Hour, 0, "guard", v.name, "--off")
				v.o.write(v.o.t, v.mount+"/pgdata/PG_VERSION", "15\n")
			},
			mends: func(v *lockedVolume) {
				v.o.remove(v.mount + "/pgdata")
				v.run(0, 0, "guard", v.name)
			},
		},
		{
			// Somebody removed the recovery key.
			alert: "HoldfastVolumeSlots", severity: "critical",
			breaks: func(v *lockedVolume) {
				v.cryptsetup("", "luksKillSlot", "--batch-mode", "--key-file", v.key("operational"), v.o.path(v.file), "1")
				v.cryptsetup("", "token", "remove", "--token-id", "1", v.o.path(v.file))
			},
			mends: func(v *lockedVolume) {
				v.run(0, 0, "key", "add", v.name, "--role", "recovery", "--with-file", v.key("operational"), "--new-file", v.key("recovery"))
			},
		},
		{
			// Somebody tries to open it.
			alert: "HoldfastVolumeUnlockFailed", severity: "critical", lasts: true,
			breaks: func(v *lockedVolume) { v.run(time.Hour, 1, "unlock", v.name, "--passphrase-file", v.key("wrong")) },
		},
		{
			// Nobody made a copy of its header for more than a month. That there is none at all is not told while a store is down.
			alert: "HoldfastVolumeHeaderBackup", severity: "warning",
			breaks: func(v *lockedVolume) {
				v.o.remove(v.copies())
				v.run(40*24*time.Hour, 0, "header", "backup", v.name)
			},
			mends: func(v *lockedVolume) { v.run(0, 0, "header", "backup", v.name) },
		},
		{
			// For most of a year nobody tried a key, or asked those who are to have it.
			alert: "HoldfastVolumeKeyDue", severity: "warning",
			breaks: func(v *lockedVolume) {
				for slot, role := range health.VolumeRoles() {
					v.cryptsetup("", "token", "remove", "--token-id", fmt.Sprint(slot), v.o.path(v.file))
					v.token(slot, role, 200*24*time.Hour)
				}
			},
			mends: func(v *lockedVolume) {
				v.run(0, 0, "key", "check", v.name, "--operational-file", v.key("operational"), "--recovery-file", v.key("recovery"))
				v.holdersChecked(0)
			},
		},
		{
			// A server was moved, and its old data directory is still there.
			alert: "HoldfastVolumeMigration", severity: "warning",
			breaks: func(v *lockedVolume) { v.migration("moving", "watching", 8*24*time.Hour) },
			mends:  func(v *lockedVolume) { v.migration("ended", "finished", 8*24*time.Hour) },
		},
	}
}

// mountedAlerts are those that are not tried here. They tell how full, how busy and how slow a volume is, and that is measured while it is
// mounted, which takes a kernel with a device mapper. Their rules are tried in internal/metrics, as all are: with promtool, and through a real
// Prometheus and a real Alertmanager.
func mountedAlerts() []string {
	return []string{"HoldfastVolumeFull", "HoldfastVolumeFilling", "HoldfastVolumeBusy", "HoldfastVolumeSlow"}
}

// TestMountedAlerts: what is not tried here are the alerts of what is measured of a mounted volume, and no others.
func TestMountedAlerts(t *testing.T) {
	now := time.Now()
	v := health.Volume{
		Name: "pg-data", State: health.Mounted, Wanted: true, LUKS: true, Guarded: true, HeaderBackup: now, HoldersChecked: now,
		BaselineLatency: time.Millisecond, BaselineQuery: time.Millisecond, Slots: len(health.VolumeRoles()),
	}
	for _, role := range health.VolumeRoles() {
		v.Keys = append(v.Keys, health.VolumeKey{Role: role, Created: now, Checked: now})
		v.Holders = append(v.Holders, health.VolumeHolder{Role: role})
	}
	raised := func() []string {
		alerts := []string{}
		for _, f := range health.Judge(health.State{At: now, Volumes: []health.Volume{v}}, health.Limits{}) {
			alert := "Holdfast"
			for word := range strings.SplitSeq(string(f.Alarm), "_") {
				alert += strings.ToUpper(word[:1]) + word[1:]
			}
			alerts = append(alerts, alert)
		}
		slices.Sort(alerts)
		return slices.Compact(alerts)
	}
	if got := raised(); len(got) > 0 {
		t.Fatalf("a volume that is well raises %q", got)
	}
	v.Size, v.Used = 100, 99
	v.Span, v.Busy, v.BusySince, v.Latency, v.Query = time.Hour, 1, now.Add(-time.Hour), time.Second, time.Second
	if got, want := raised(), slices.Sorted(slices.Values(mountedAlerts())); !slices.Equal(got, want) {
		t.Errorf("what is measured raises %q, and not tried are %q", got, want)
	}
}

// unmeasured requires that nothing of what the alerts are about that are not tried is measured of the volumes, of which there are so many.
func unmeasured(t *testing.T, page map[string]float64, volumes int) {
	t.Helper()
	seen := map[string]int{}
	for name, value := range page {
		switch name, _, _ = strings.Cut(name, "{"); name {
		case "holdfast_volume_used_bytes":
			if value > 0 {
				t.Errorf("%v bytes are used of a volume: try %q", value, mountedAlerts())
			}
		case "holdfast_volume_busy_ratio", "holdfast_volume_latency_seconds", "holdfast_volume_query_seconds":
			if !math.IsNaN(value) {
				t.Errorf("%s of a volume is %v: try %q", name, value, mountedAlerts())
			}
		default:
			continue
		}
		seen[name]++
	}
	for _, n := range seen {
		if n != volumes || len(seen) != 4 {
			t.Fatalf("of %d volumes these are on the page: %v", volumes, seen)
		}
	}
	if len(seen) == 0 {
		t.Fatal("nothing of a volume is on the page")
	}
}

// lockedVolume is a volume of a host.
type lockedVolume struct {
	o           *outage
	name        string
	file, mount string // below the folder of the host
}

// newVolumes makes a volume for each failure, and breaks it.
func newVolumes(o *outage, all []volumeFailure) []*lockedVolume {
	o.t.Helper()
	for name, text := range map[string]string{
		"operational": "calamity capitol getting violet cruelly creature sister swinging",
		"recovery":    "lividly backpedal buckshot poncho evolution flight tinsmith anvil",
		"wrong":       "masculine audio muppet radish gigantic overtime kleenex tint",
	} {
		o.write(o.t, "passphrases/"+name, text)
	}
	var volumes []*lockedVolume
	text := "  volumes: {" + plainJob + "}\nvolumes:\n"
	for _, f := range all {
		v := &lockedVolume{o, f.name(), "volumes/" + f.name() + ".luks", "mounts/" + f.name()}
		v.make()
		volumes = append(volumes, v)
		text += v.config()
	}
	o.change("holdfast.yaml", func(before []byte) []byte { return append(before, text...) })
	o.ran(2*time.Hour, 0, "backup", "volumes")
	for i, v := range volumes {
		v.run(time.Hour, 0, "guard", v.name)
		o.t.Cleanup(func() {
			if err := (volume.Host{}).Unguard(volume.Volume{Name: volume.Name(v.name), Mount: o.path(v.mount)}); err != nil {
				o.t.Error(err)
			}
		})
		v.run(time.Hour, 0, "header", "backup", v.name)
		if breaks := all[i].breaks; breaks != nil {
			breaks(v)
		}
	}
	return volumes
}

// make makes the file, with a key of yesterday for each role.
func (v *lockedVolume) make() {
	v.o.t.Helper()
	const offset = 4160 // where the data begins, in sectors: less makes copies of the header small
	path := v.o.path(v.file)
	v.o.write(v.o.t, v.file, "")
	if err := os.Truncate(path, offset*512+1<<20); err != nil {
		v.o.t.Fatal(err)
	}
	kdf := []string{"--batch-mode", "--pbkdf", "argon2id", "--pbkdf-memory", "32768", "--pbkdf-force-iterations", "4", "--pbkdf-parallel", "1", "--key-file", v.key("operational")}
	v.cryptsetup("", append(kdf, "luksFormat", "--type", "luks2", "--cipher", "aes-xts-plain64", "--key-size", "512", "--label", v.name, "--subsystem", "holdfast",
		"--luks2-keyslots-size", "2M", "--offset", fmt.Sprint(offset), "--key-slot", "0", path)...)
	v.cryptsetup("", append(kdf, "luksAddKey", "--key-slot", "1", path, v.key("recovery"))...)
	for slot, role := range health.VolumeRoles() {
		v.token(slot, role, 24*time.Hour)
	}
}

// token says in the header what a slot is, and how old.
func (v *lockedVolume) token(slot int, role string, age time.Duration) {
	v.o.t.Helper()
	text := fmt.Sprintf(`{"type":"holdfast","keyslots":["%d"],"role":%q,"created":%q}`, slot, role, v.o.now.Add(-age).Format(time.DateOnly))
	v.cryptsetup(text, "token", "import", "--json-file", "-", "--token-id", fmt.Sprint(slot), v.o.path(v.file))
}

func (v *lockedVolume) cryptsetup(input string, args ...string) {
	v.o.t.Helper()
	cmd := exec.Command("cryptsetup", args...)
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		v.o.t.Fatalf("cryptsetup %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// key is the file of a passphrase.
func (v *lockedVolume) key(name string) string { return v.o.path("passphrases/" + name) }

// config is the volume in the configuration.
func (v *lockedVolume) config() string {
	return fmt.Sprintf("  %s: {device: %q, mount: %q, owner: \"999\", job: volumes, holders: [{name: Anna, role: operational}, {name: Ben, role: recovery}]}\n",
		v.name, v.o.path(v.file), v.o.path(v.mount))
}

// run runs a command of volumes, so long before now.
func (v *lockedVolume) run(ago time.Duration, code int, args ...string) {
	v.o.t.Helper()
	v.o.ran(ago, code, append([]string{"volume"}, args...)...)
}

func (v *lockedVolume) holdersChecked(ago time.Duration) {
	v.o.t.Helper()
	v.run(ago, 0, "holders", "check", v.name, "--present", "Anna", "--present", "Ben")
}

// copies is where the store has the copies of its header.
func (v *lockedVolume) copies() string { return "main/commits/volume-" + v.name }

// migration writes down where a migration to the volume stands, as package migration does.
func (v *lockedVolume) migration(course, done string, ago time.Duration) {
	v.o.t.Helper()
	text, err := json.Marshal(map[string]any{
		"version": 1, "volume": v.name, "from": "/var/lib/postgresql/15/main", "to": v.o.path(v.mount) + "/pgdata", "course": course, "done": done,
		"phases": []map[string]any{{"step": "planned", "began": v.o.now.Add(-ago)}},
	})
	if err != nil {
		v.o.t.Fatal(err)
	}
	v.o.write(v.o.t, "state/volumes/"+v.name+".migration.json", string(text))
}
