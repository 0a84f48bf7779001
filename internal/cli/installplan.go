package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/unit"
)

// unitFolder is where systemd looks for the units of this host.
const unitFolder = "/etc/systemd/system"

// plan turns a configuration into what unit needs to know of it.
type plan struct {
	app     *app
	cfg     *config.Config
	flags   installFlags
	program string
	path    string // of the configuration
	origins map[string]string
	more    []string // arguments of every run
	remarks []string // for a person
}

func (a *app) newPlan(cfg *config.Config, f installFlags) (*plan, error) {
	p := &plan{app: a, cfg: cfg, flags: f, program: f.program, origins: map[string]string{}}
	if cfg.File == "" {
		return nil, holdfast.WithHint(fmt.Errorf("%w: there is no configuration to install", holdfast.ErrUsage), "write one with `holdfast init`, or name it with --config")
	}
	var err error
	if p.path, err = filepath.Abs(cfg.File); err != nil {
		return nil, fmt.Errorf("find the configuration: %w", err)
	}
	if p.program == "" {
		if p.program, err = os.Executable(); err != nil {
			return nil, holdfast.WithHint(fmt.Errorf("find this program: %w", err), "give --program PATH")
		}
	}
	var strangers []string
	for _, setting := range cfg.Show() {
		p.origins[setting.Path] = setting.Origin
		name, fromEnvironment := strings.CutPrefix(setting.Origin, "environment ")
		// What is about the host goes into the command of each run.
		if fromEnvironment && !slices.Contains([]string{"state", "engine", "log.file", "identity"}, setting.Path) && !slices.Contains(strangers, name) {
			strangers = append(strangers, name)
		}
	}
	if len(strangers) > 0 {
		p.remark("what runs by itself does not see the variables of this shell, and here there are %s: put what they say into the configuration", strings.Join(strangers, ", "))
	}
	if cfg.Engine != "" && !p.inFile("engine") {
		p.more = append(p.more, "--engine", cfg.Engine)
	}
	if cfg.LogFile != "" && !p.inFile("log.file") {
		p.more = append(p.more, "--log-file", cfg.LogFile)
	}
	return p, nil
}

// inFile reports whether the file gives a setting.
func (p *plan) inFile(setting string) bool {
	return strings.HasPrefix(p.origins[setting], p.cfg.File+":")
}

func (p *plan) remark(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); !slices.Contains(p.remarks, text) {
		p.remarks = append(p.remarks, text)
	}
}

func (p *plan) tell(a *app) {
	for _, text := range p.remarks {
		a.printer.warn(text)
	}
}

// base is what all units and lines have in common.
func (p *plan) base() unit.Options {
	o := unit.Options{Program: p.program, Config: p.path, User: p.flags.user, Zone: serverZone(), Args: p.more}
	// The default is another one for whoever is not root, and these units are root's.
	if p.origins["state"] != "default" {
		o.State = p.cfg.State
	}
	return o
}

// serverZone is the name of the time zone that /etc/localtime leads to; "" if that is not known.
func serverZone() string {
	target, err := os.Readlink("/etc/localtime")
	if err != nil {
		return ""
	}
	_, zone, _ := strings.Cut(target, "/zoneinfo/")
	return strings.TrimPrefix(zone, "Etc/")
}

// files are those that the flags ask for.
func (p *plan) files(ctx context.Context) ([]unit.File, error) {
	if !p.flags.timers && !slices.ContainsFunc(p.cfg.Jobs, func(job config.Job) bool { return job.Schedule.Given }) {
		return nil, errNoSchedule()
	}
	if p.flags.drill {
		o, err := p.drills()
		if err != nil {
			return nil, err
		}
		return unit.Drill(o)
	}
	o, err := p.backups(ctx)
	if err != nil {
		return nil, err
	}
	files, err := unit.Account(o)
	if err != nil {
		return nil, err
	}
	if !p.flags.timers {
		service, err := unit.Service(o)
		return append(files, service...), err
	}
	all, err := p.timers()
	if err != nil {
		return nil, err
	}
	drilling := func(t unit.Timer) bool { return t.Drill }
	o.Jobs = slices.DeleteFunc(slices.Clone(all), drilling)
	timers, err := unit.Timers(o)
	if err != nil {
		return nil, err
	}
	files = append(files, timers...)
	if p.flags.identity == "" {
		return files, nil
	}
	p.remark("these timers back up and drill on one host: whoever takes it over can read every backup; drills belong on another machine")
	if o, err = p.drills(); err != nil {
		return nil, err
	}
	o.Jobs = slices.DeleteFunc(all, func(t unit.Timer) bool { return !drilling(t) })
	timers, err = unit.Timers(o)
	return append(files, timers...), err
}

// lookAround says what of an earlier installation would do the same work.
func (p *plan) lookAround(files []unit.File) {
	folder := filepath.Join(p.flags.dir, unitFolder)
	entries, err := os.ReadDir(folder)
	if err != nil {
		return // there is none
	}
	written := units(files)
	var others, backups []string
	for _, entry := range entries {
		name := entry.Name()
		timer := strings.HasPrefix(name, "holdfast-") && strings.HasSuffix(name, ".timer")
		if slices.Contains(written, name) || name != "holdfast.service" && name != "holdfast-drill.service" && !timer {
			continue
		}
		drills := drillUnit(name)
		switch {
		case p.flags.drill && !drills:
			backups = append(backups, name)
		case p.flags.drill, !drills, p.flags.timers && p.flags.identity != "":
			others = append(others, name)
		}
	}
	if len(backups) > 0 {
		p.remark("this host backs up too (%s): whoever takes it over can read every backup; drills belong on another machine", strings.Join(backups, ", "))
	}
	if len(others) > 0 {
		p.remark("of before there are still %s, which do the same work: systemctl disable --now them, and delete their files", strings.Join(others, ", "))
	}
}

// drillUnit reports whether a unit of that name drills.
func drillUnit(name string) bool {
	stem := strings.TrimSuffix(strings.TrimSuffix(name, ".timer"), ".service")
	return stem == "holdfast-drill" || slices.ContainsFunc(holdfast.Tasks(), func(task holdfast.Task) bool {
		return task.Opens() && strings.HasSuffix(stem, "-"+string(task))
	})
}

// next are the commands that put the files into force.
func (p *plan) next(files []unit.File) []string {
	var all []string
	for _, file := range files {
		switch filepath.Dir(file.Path) {
		case "/etc/sysusers.d":
			all = append(all, "systemd-sysusers "+filepath.Base(file.Path))
		case "/etc/tmpfiles.d":
			all = append(all, "systemd-tmpfiles --create "+filepath.Base(file.Path))
		}
	}
	if p.flags.drill {
		all = append(all, "chmod 600 "+shellQuoted(p.cfg.Identity))
	} else {
		all = append(all, p.handOver()...)
	}
	return append(all, "systemctl daemon-reload", "systemctl enable --now "+strings.Join(starts(files), " "))
}

// handOver are the commands that give the user of backups what must belong to it.
func (p *plan) handOver() []string {
	who, err := accountNamed(p.flags.user)
	if err != nil || who.uid == 0 {
		return nil
	}
	var all []string
	for _, place := range p.stores() {
		if place.IsLocal() && !who.ownsPath(place.Path) {
			all = append(all, "chown -R "+p.flags.user+": "+shellQuoted(place.Path))
		}
	}
	var paths []string
	for _, ref := range p.secrets() {
		if path, is := strings.CutPrefix(ref.String(), "file:"); is {
			paths = append(paths, path)
		}
	}
	for _, place := range p.stores() {
		paths = append(paths, absolute(place.SSH.KeyFile)...)
	}
	if !within(p.cfg.Signer, p.cfg.State) {
		paths = append(paths, p.cfg.Signer)
	}
	slices.Sort(paths)
	for _, path := range slices.Compact(paths) {
		if !who.ownsPath(path) {
			all = append(all, "chown "+p.flags.user+": "+shellQuoted(path))
		}
	}
	for _, path := range p.logs() {
		if !who.ownsPath(path) {
			all = append(all, "touch "+shellQuoted(path)+" && chown "+p.flags.user+": "+shellQuoted(path))
		}
	}
	if textfile := p.cfg.Service.Textfile; textfile != "" && !p.flags.timers && !who.ownsPath(filepath.Dir(textfile)) {
		p.remark("the user %s must be able to write the folder of service.textfile, %s: make it one of its own", p.flags.user, filepath.Dir(textfile))
	}
	return all
}

// shellQuoted makes one word of a path.
func shellQuoted(path string) string {
	if strings.Trim(path, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/._-+@:,=") == "" {
		return path
	}
	return "'" + strings.ReplaceAll(path, "'", `'"'"'`) + "'"
}
