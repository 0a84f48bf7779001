package config

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"holdfast"
	"holdfast/internal/volume"
)

// Volume is an encrypted volume, and what is to know about it beside what its header says.
type Volume struct {
	Name       string      // as volume.ParseName takes it
	Device     string      // a file or a block device; absolute, and below no volume's mount
	Mount      string      // absolute
	Filesystem string      // volume.Ext4 or volume.XFS
	Owner      string      // of the data folder, as it is written: a name or number, and a group behind a colon
	Mode       fs.FileMode // of the data folder: permission bits
	Data       string      // the data folder, below Mount

	Job    holdfast.JobName    // copies of the header go to its stores, sealed to its recipients
	Source holdfast.SourceName // PostgreSQL source of that job whose server's data lies there; "": none
	Server VolumeServer

	Holders []Holder
	Tell    []string // who must be told within one hour of a compromise
}

// VolumeServer says how the server on a volume is stopped and started. Unit and Compose are not both set.
type VolumeServer struct {
	Stop, Start []string // a program and its arguments each; both are set, or none
	Health      []string // ends with 0 when the server is well; none: not asked
	User        string   // who runs them; "": whoever runs Holdfast
	Unit        string   // systemd unit, with its ending; "": none
	Compose     string   // file of Docker Compose, absolute; "": none
	Service     string   // the service in it; set with Compose
	// ContainerData is where the server in the container has its data.
	ContainerData string
	Grace         time.Duration
}

// Holder is a custodian: a person who has a key of a volume.
type Holder struct {
	Name, Contact string
	Role          string    // of the key, as volume.Role has it
	MFA           bool      // it lies behind a second factor
	Since, Until  time.Time // days, zero: not known, and not left; Until is the last one
}

// Left reports whether the holder's last day is over.
func (h Holder) Left(now time.Time) bool { return !h.Until.IsZero() && !now.Before(h.Until.Add(day)) }

// Volume returns the volume called name, or for "" the only one. It fails with [holdfast.ErrUsage] when there is no such volume.
func (c *Config) Volume(name string) (Volume, error) {
	if name == "" && len(c.Volumes) == 1 {
		return c.Volumes[0], nil
	}
	var known []string
	for _, v := range c.Volumes {
		if v.Name == name {
			return v, nil
		}
		known = append(known, v.Name)
	}
	slices.Sort(known)
	switch {
	case len(known) == 0:
		return Volume{}, holdfast.WithHint(fmt.Errorf("%w: no volume is configured", holdfast.ErrUsage), "describe one under volumes: see docs/configuration.md")
	case name == "":
		return Volume{}, holdfast.WithHint(fmt.Errorf("%w: several volumes are configured and none is named", holdfast.ErrUsage),
			"name one of: "+strings.Join(known, ", "))
	}
	return Volume{}, holdfast.WithHint(fmt.Errorf("%w: volume %q is not configured", holdfast.ErrUsage, name), "known volumes: "+strings.Join(known, ", "))
}

// defaultContainerData is that of PostgreSQL's official images, up to 17.
const defaultContainerData = "/var/lib/postgresql/data"

// Owners of the data folder where none is given: Debian's and most others' user, and the one of PostgreSQL's official images.
const (
	hostOwner  = "postgres"
	imageOwner = "999"
)

func newVolume(name string) Volume {
	return Volume{Name: name, Filesystem: volume.Ext4, Mode: 0o700, Data: "pgdata", Server: VolumeServer{Grace: time.Minute, ContainerData: defaultContainerData}}
}

// draftVolume is a volume whose names are not yet looked up.
type draftVolume struct {
	Volume
	at     place
	places map[string]place
}

func checkVolumeName(_, name string) error {
	if _, err := volume.ParseName(name); err != nil {
		return fmt.Errorf("volume name %q is not valid; %s", name, holdfast.Hint(err))
	}
	return nil
}

func (r *reader) readVolume(e entry) draftVolume {
	v := draftVolume{Volume: newVolume(e.name), at: e.at, places: map[string]place{}}
	s := r.section(e.node, e.path, volumesShape())
	if s == nil {
		return v
	}
	for _, f := range s.shape.fields {
		v.places[f.name] = s.placeOf(f.name)
	}
	s.wholePath("device", &v.Device)
	if s.wholePath("mount", &v.Mount) && v.Mount == "/" {
		r.fault(s.placeOf("mount"), "%s: must be a folder of its own, not /", join(s.path, "mount"))
		v.Mount = ""
	}
	s.choice("filesystem", &v.Filesystem)
	s.one("owner", "text", func(text string, _ field) error {
		v.Owner = text
		return checkOwner(text)
	})
	s.one("mode", "text", func(text string, _ field) (err error) {
		v.Mode, err = parseMode(text)
		return err
	})
	s.one("data", "text", func(text string, _ field) error {
		v.Data = text
		return checkData(text)
	})
	s.text("job", (*string)(&v.Job))
	s.text("source", (*string)(&v.Source))
	if node, _, found := s.value("server"); found {
		if inner := r.section(node, join(s.path, "server"), s.shape.shapeOf("server")); inner != nil {
			r.readVolumeServer(inner, &v.Server)
		}
	}
	nodes, _ := s.elements("holders", "sections with name and role")
	for i, node := range nodes {
		if inner := r.section(node, element(s.path, "holders", i), s.shape.shapeOf("holders")); inner != nil {
			v.Holders = append(v.Holders, r.readHolder(inner))
		}
	}
	s.plainTexts("tell", "texts", &v.Tell)
	if v.Owner == "" {
		v.Owner = hostOwner
		if v.Server.Compose != "" {
			v.Owner = imageOwner
		}
	}
	return v
}

func (r *reader) readVolumeServer(s *section, into *VolumeServer) {
	into.Stop, into.Start, into.Health = s.arguments("stop"), s.arguments("start"), s.arguments("health")
	s.text("user", &into.User)
	s.one("unit", "text", func(text string, _ field) error {
		into.Unit = text
		return checkServiceUnit(text)
	})
	s.pathTo("compose", &into.Compose)
	s.one("service", "text", func(text string, _ field) error {
		into.Service = text
		if !containerRule.MatchString(text) {
			return errors.New("is not the name of a service: letters, digits, _, . and -")
		}
		return nil
	})
	s.wholePath("container_data", &into.ContainerData)
	s.span("grace", &into.Grace)
	for _, both := range [][2]string{{"stop", "start"}, {"compose", "service"}} {
		if (s.values[both[0]] == nil) != (s.values[both[1]] == nil) {
			r.fault(s.at, "%s: %s and %s are given together or not at all", s.path, both[0], both[1])
		}
	}
	if s.values["unit"] != nil && s.values["compose"] != nil {
		r.fault(s.placeOf("compose"), "%s: give either unit or compose", join(s.path, "compose"))
	}
}

func (r *reader) readHolder(s *section) Holder {
	var h Holder
	s.text("name", &h.Name)
	s.text("contact", &h.Contact)
	s.choice("role", &h.Role)
	s.flag("mfa", &h.MFA)
	s.date("since", &h.Since)
	if s.date("until", &h.Until) && !h.Since.IsZero() && !h.Until.After(h.Since) {
		r.fault(s.placeOf("until"), "%s: must be after since, %s", join(s.path, "until"), h.Since.Format(time.DateOnly))
	}
	return h
}

// wholePath reads a path that means the same wherever the file lies.
func (s *section) wholePath(name string, into *string) bool {
	return s.one(name, "path", func(text string, _ field) error {
		path, err := cleanPath(text, s.r.dir)
		if err == nil && !filepath.IsAbs(text) {
			err = fmt.Errorf("must be an absolute path, not %q", text)
		}
		if err == nil {
			*into = path
		}
		return err
	})
}

var (
	ownerRule = regexp.MustCompile(`^([A-Za-z_][A-Za-z0-9_.-]{0,31}|0|[1-9][0-9]{0,9})$`)
	modeRule  = regexp.MustCompile(`^0[0-7]{3}$`)
	// The characters of systemd.unit(5), with an instance or without, and no template.
	serviceUnitRule = regexp.MustCompile(`^[A-Za-z0-9:_.\\-]+(@[A-Za-z0-9:_.\\-]+)?\.service$`)
)

func checkOwner(text string) error {
	for _, one := range strings.SplitN(text, ":", 2) {
		// The highest number means "leave it as it is" to chown(2).
		n, err := strconv.ParseUint(one, 10, 64)
		if !ownerRule.MatchString(one) || err == nil && n >= math.MaxUint32 {
			return fmt.Errorf("must be a user such as postgres or 999, or with its group such as postgres:postgres, not %q", text)
		}
	}
	return nil
}

func parseMode(text string) (fs.FileMode, error) {
	bits, err := strconv.ParseUint(text, 8, 32)
	mode := fs.FileMode(bits)
	if err != nil || !modeRule.MatchString(text) || mode&0o700 != 0o700 || mode&0o022 != 0 {
		return 0, fmt.Errorf("must be permissions in octal such as 0700 or 0750, with all for the owner and no writing for others, not %q", text)
	}
	return mode, nil
}

func checkData(text string) error {
	first, _, _ := strings.Cut(text, "/")
	if err := checkText(text); err != nil {
		return err
	}
	if !fs.ValidPath(text) || text == "." || first == "lost+found" {
		return fmt.Errorf("must be a folder below the mount such as pgdata, without a leading slash and without . and .., not %q", text)
	}
	return nil
}

// maxUnitName is that of systemd, which calls it UNIT_NAME_MAX.
const maxUnitName = 255

func checkServiceUnit(text string) error {
	if len(text) > maxUnitName || !serviceUnitRule.MatchString(text) {
		return fmt.Errorf("must be the name of a systemd service such as postgresql@17-main.service, not %q", text)
	}
	return nil
}

// completeVolumes looks up the names of volumes, and checks what they make together. It is about the file alone: what flags make of a job, for
// this once, changes no volume.
func (r *reader) completeVolumes(d *draft) {
	for i, v := range d.volumes {
		path := "volumes." + v.Name
		r.completeVolumeJob(d, v, path)
		if _, taken := named(d.jobs, "volume-"+v.Name, func(j *draftJob) string { return string(j.Name) }); taken {
			r.fault(v.at, "%s: a job is called volume-%s, and copies of the volume's header are backups of a job of that name; rename the job or the volume", path, v.Name)
		}
		for j, other := range d.volumes {
			switch {
			case j < i && v.Device != "" && v.Device == other.Device:
				r.fault(v.places["device"], "%s.device: is the one of volume %s too", path, other.Name)
			case j < i && v.Mount != "" && (below(v.Mount, other.Mount) || below(other.Mount, v.Mount)):
				r.fault(v.places["mount"], "%s.mount: %s and %s of volume %s must be apart, neither in the other", path, v.Mount, other.Mount, other.Name)
			}
			if v.Device != "" && below(v.Device, other.Mount) {
				r.fault(v.places["device"], "%s.device: is below %s, where volume %s is mounted", path, other.Mount, other.Name)
			}
		}
	}
}

// below reports whether a path is folder or in it; both are clean.
func below(path, folder string) bool {
	return folder != "" && (path == folder || strings.HasPrefix(path, strings.TrimSuffix(folder, "/")+"/"))
}

func (r *reader) completeVolumeJob(d *draft, v draftVolume, path string) {
	if v.Job == "" {
		return
	}
	job, found := named(d.jobs, string(v.Job), func(j *draftJob) string { return string(j.Name) })
	if !found {
		var known []string
		for _, j := range d.jobs {
			known = append(known, string(j.Name))
		}
		slices.Sort(known)
		r.fault(v.places["job"], "%s.job: unknown job %q; %s", path, v.Job, allowed(string(v.Job), known))
		return
	}
	if v.Mount != "" && len(job.stores) > 0 && !slices.ContainsFunc(job.stores, func(name string) bool {
		store, found := named(d.stores, name, func(s Store) string { return s.Name })
		return !found || store.Kind != StoreLocal || !below(store.Path, v.Mount)
	}) {
		r.fault(v.places["job"], "%s.job: all stores of job %q are below %s, so the copies of the header would be locked into what they open; name a job with another store or mirror", path, v.Job, v.Mount)
	}
	if job.Seal == SealNone {
		r.fault(v.places["job"], "%s.job: job %q has seal: none, and a copy of a header is never stored unsealed; name a job with recipients", path, v.Job)
	}
	if v.Source == "" {
		return
	}
	var databases []string
	for _, l := range job.sources {
		if src, found := named(d.sources, l.text, func(s Source) string { return string(s.Name) }); found && src.Kind == holdfast.KindPostgres {
			databases = append(databases, l.text)
		}
	}
	if !slices.Contains(databases, string(v.Source)) {
		r.fault(v.places["source"], "%s.source: %q is no PostgreSQL source of job %s; %s", path, v.Source, v.Job, allowed(string(v.Source), databases))
	}
}

// custodians warns of volumes whose keys too few people have.
func (r *reader) custodians(d *draft) []string {
	var warnings []string
	for _, v := range d.volumes {
		var people []string // one may have both keys
		for _, h := range v.Holders {
			if !h.Left(r.now) && !slices.Contains(people, h.Name) {
				people = append(people, h.Name)
			}
		}
		if len(people) < 2 {
			warnings = append(warnings, fmt.Sprintf("volume %s has fewer than two custodians: name them under volumes.%s.holders", v.Name, v.Name))
		}
		for _, role := range volume.Roles() {
			var left []string
			now := 0
			for _, h := range v.Holders {
				switch {
				case h.Role != string(role):
				case h.Left(r.now):
					left = append(left, fmt.Sprintf("%s, until %s", h.Name, h.Until.Format(time.DateOnly)))
				default:
					now++
				}
			}
			switch {
			case now > 0 || len(v.Holders) == 0:
			case len(left) > 0:
				warnings = append(warnings, fmt.Sprintf("volume %s: whoever had its %s key has left (%s); name somebody else, and rotate the key", v.Name, role, strings.Join(left, "; ")))
			default:
				warnings = append(warnings, fmt.Sprintf("volume %s: nobody has its %s key; name somebody under volumes.%s.holders", v.Name, role, v.Name))
			}
		}
	}
	return warnings
}

// volume shows a volume.
func (s *settings) volume(path string, v Volume) {
	s.add(path+"device", v.Device)
	s.add(path+"mount", v.Mount)
	s.add(path+"filesystem", v.Filesystem)
	s.add(path+"owner", v.Owner)
	s.add(path+"mode", fmt.Sprintf("%04o", v.Mode))
	s.add(path+"data", v.Data)
	s.add(path+"job", string(v.Job))
	s.given(path+"source", string(v.Source))
	for _, command := range []struct {
		name string
		args []string
	}{{"stop", v.Server.Stop}, {"start", v.Server.Start}, {"health", v.Server.Health}} {
		if len(command.args) > 0 {
			s.add(path+"server."+command.name, quoteList(command.args))
		}
	}
	s.given(path+"server.user", v.Server.User)
	s.given(path+"server.unit", v.Server.Unit)
	s.given(path+"server.compose", v.Server.Compose)
	s.given(path+"server.service", v.Server.Service)
	if v.Server.Compose != "" {
		s.add(path+"server.container_data", v.Server.ContainerData)
	}
	s.add(path+"server.grace", formatSpan(v.Server.Grace))
	for i, h := range v.Holders {
		inner := element(strings.TrimSuffix(path, "."), "holders", i) + "."
		s.add(inner+"name", h.Name)
		s.given(inner+"contact", h.Contact)
		s.add(inner+"role", h.Role)
		s.add(inner+"mfa", strconv.FormatBool(h.MFA))
		s.day(inner+"since", h.Since)
		s.day(inner+"until", h.Until)
	}
	s.given(path+"tell", strings.Join(v.Tell, ", "))
}
