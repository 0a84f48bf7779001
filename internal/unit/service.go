package unit

import (
	"fmt"
	"slices"
	"time"
)

// Service returns holdfast.service, which runs the schedules of all jobs but their drills. Errors wrap [holdfast.ErrUsage].
func Service(o Options) ([]File, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	var t text
	t.unit("Holdfast: backups on their schedules", "man:holdfast-serve(1)")
	t.section("Service")
	t.serve(o.command(append([]string{"serve", "--tasks", "backups"}, o.Args...), o.State))
	// A drain is a backup that comes to its end.
	t.stop("30min")
	t.backups(o)
	t.install()
	return []File{unitFile("holdfast.service", t)}, nil
}

// Drill returns holdfast-drill.service, which runs the drills of all jobs. It is for a machine that has the identity, best another
// one than makes the backups. Errors wrap [holdfast.ErrUsage].
func Drill(o Options) ([]File, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	var t text
	t.unit("Holdfast: drills on their schedules", "man:holdfast-serve(1)")
	t.section("Service")
	args := []string{"serve", "--tasks", "drills"}
	if o.Identity != "" {
		args = append(args, "--identity", o.Identity)
	}
	t.serve(o.command(append(args, o.Args...), o.DrillState))
	// A drill that is ended has proven nothing, and nothing is lost but its time.
	t.stop("5min")
	t.drills(o)
	t.install()
	return []File{unitFile("holdfast-drill.service", t)}, nil
}

// Timers returns for each of o.Jobs a service that runs once, and its timer. Errors wrap [holdfast.ErrUsage].
func Timers(o Options) ([]File, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	var files []File
	for _, timer := range o.Jobs {
		files = append(files, o.once(timer), timer.file())
	}
	return files, nil
}

// once is the service that a timer starts.
func (o Options) once(timer Timer) File {
	var t text
	state := o.State
	if timer.Drill {
		state = o.DrillState
	}
	t.unit("Holdfast: "+timer.Name, "man:holdfast(1)")
	t.section("Service")
	t.set("Type=oneshot")
	t.exec(o.command(timer.Args, state))
	if timer.Drill {
		t.stop("5min")
		t.drills(o)
	} else {
		t.stop("30min")
		t.backups(o)
	}
	return unitFile("holdfast-"+timer.Name+".service", t)
}

func (timer Timer) file() File {
	var t text
	t.section("Unit")
	t.set("Description=Holdfast: when " + timer.Name + " is due")
	t.section("Timer")
	t.note("Of the expression " + timer.Calendar.String())
	for _, event := range onCalendar(timer.Calendar, timer.Zone) {
		t.set("OnCalendar=" + event)
	}
	t.set("AccuracySec=1s")
	if timer.Jitter > 0 {
		t.set(fmt.Sprintf("RandomizedDelaySec=%ds", (timer.Jitter+time.Second-1)/time.Second))
	}
	t.note("A run that was missed, because the machine was off, is made up for.")
	t.set("Persistent=yes")
	t.section("Install")
	t.set("WantedBy=timers.target")
	return unitFile("holdfast-"+timer.Name+".timer", t)
}

func unitFile(name string, t text) File {
	return File{Path: unitFolder + name, Mode: 0o644, Text: t.out.String()}
}

// command is what runs, by a service and by a timer alike.
func (o Options) command(args []string, state string) []string {
	return slices.Concat([]string{o.Program}, args, []string{"--config", o.Config, "--state", state})
}

func (t *text) unit(description, manual string) {
	t.section("Unit")
	t.set("Description="+description, "Documentation="+manual, "Wants=network-online.target", "After=network-online.target postgresql.service docker.service")
}

func (t *text) exec(command []string) { t.words("ExecStart", command...) }

// serve is how a service that goes on is started, and started again.
func (t *text) serve(command []string) {
	t.set("Type=notify")
	t.exec(command)
	t.set("ExecReload=/bin/kill -HUP $MAINPID", "Restart=on-failure", "RestartSec=30s")
	t.note("2: a mistake in the configuration, which another start does not mend.")
	t.set("RestartPreventExitStatus=2")
}

// stop is how any service ends.
func (t *text) stop(limit string) {
	t.note("The first signal lets what runs come to its end. Only holdfast gets it: its pg_dump and ssh are still needed.")
	t.set("KillSignal=SIGTERM", "KillMode=mixed", "TimeoutStopSec="+limit)
	t.note("A program that ran out of memory fails its run, and not the service.")
	t.set("OOMPolicy=continue")
	t.note("This host is for something else.")
	t.set("Nice=10", "IOSchedulingClass=best-effort", "IOSchedulingPriority=7")
}

func (t *text) install() {
	t.section("Install")
	t.set("WantedBy=multi-user.target")
}
