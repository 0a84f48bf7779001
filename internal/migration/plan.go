package migration

import (
	"context"
	"fmt"
	"strings"
	"time"

	"holdfast"
)

// room is what the volume needs beyond the copy itself: a server without free space stops.
const room = 0.1

// roomAdvised is what it should have.
const roomAdvised = 0.2

// Check is one condition of going.
type Check struct {
	Name  string
	Good  bool
	Warns bool   // it is good enough, but a person should know
	Text  string // what is
	Fix   string // what to do, if it is not good or warns
}

// Plan is what a migration would do.
type Plan struct {
	Volume, From, To string
	Size, Free       int64         // bytes: of the directory, free on the volume
	Estimate         time.Duration // of the first copy, which is made while the server runs
	Measured         bool          // the estimate comes from a copy that was measured here
	Proof            Proof
	Checks           []Check
}

// Go reports whether the migration may begin.
func (p Plan) Go() bool {
	for _, c := range p.Checks {
		if !c.Good {
			return false
		}
	}
	return true
}

// Lines tell the plan to a person.
func (p Plan) Lines() []string {
	how := "by the rule of 1.5 minutes per GB; a dry run measures it"
	if p.Measured {
		how = "by what was measured here"
	}
	lines := []string{
		fmt.Sprintf("Move %s to %s on volume %s.", p.From, p.To, p.Volume),
		fmt.Sprintf("The directory has %s, the volume %s free. Both stand side by side until finish: %s in all.", size(p.Size), size(p.Free), size(2*p.Size)),
		fmt.Sprintf("The first copy takes about %s, %s. The server runs meanwhile.", rounded(p.Estimate), how),
		"Then applications are shut out for the facts of every database, twice, what changed since the first copy, and its comparison.",
	}
	for _, c := range p.Checks {
		verdict := "go"
		if c.Warns {
			verdict = "go, but"
		}
		if !c.Good {
			verdict = "NO-GO"
		}
		lines = append(lines, fmt.Sprintf("%s: %s: %s.", verdict, c.Name, c.Text))
		if c.Fix != "" {
			lines = append(lines, "  "+c.Fix+".")
		}
	}
	return lines
}

// Plan looks at everything and changes nothing. What could not be found out is a check that is not good; errors are those of the state file, and
// the end of ctx.
func (m Migration) Plan(ctx context.Context) (Plan, error) {
	s, _, err := m.load()
	if err != nil {
		return Plan{}, err
	}
	r := &run{Migration: m, s: s}
	plan, err := r.plan(ctx)
	if err == nil && s.Course != "" && s.Course != ended {
		underWay := m.underWay(s)
		plan.Checks = append([]Check{{Name: "migration", Text: holdfast.Sentence(underWay), Fix: holdfast.Hint(underWay)}}, plan.Checks...)
	}
	return plan, err
}

// gate plans, and refuses to go if a check says no.
func (r *run) gate(ctx context.Context) (Plan, error) {
	plan, err := r.plan(ctx)
	if err != nil {
		return plan, err
	}
	var no []string
	fix := ""
	for _, c := range plan.Checks {
		if c.Good {
			continue
		}
		no = append(no, c.Name+": "+c.Text)
		if fix == "" {
			fix = c.Fix
		}
	}
	if len(no) == 0 {
		return plan, nil
	}
	return plan, holdfast.WithHint(fmt.Errorf("%w: %s", ErrNoGo, strings.Join(no, "; ")), fix)
}

func (r *run) plan(ctx context.Context) (Plan, error) {
	plan := Plan{Volume: r.o.Volume, From: r.o.From, To: r.o.To, Measured: r.s.Rate > 0}
	for _, check := range []func(context.Context, *Plan) Check{r.server, r.applications, r.ready, r.empty, r.outside, r.space, r.proven} {
		plan.Checks = append(plan.Checks, check(ctx, &plan))
	}
	switching, err := r.w.Switch.Check(ctx)
	if err != nil {
		switching = []Check{unknown("switch", err)}
	}
	plan.Checks = append(plan.Checks, switching...)
	rate := r.s.Rate
	if rate == 0 {
		rate = DefaultRate
	}
	plan.Estimate = time.Duration(float64(plan.Size) / 1e9 * float64(rate))
	if ctx.Err() != nil {
		return Plan{}, context.Cause(ctx)
	}
	return plan, nil
}

// unknown is a check that could not be made.
func unknown(name string, err error) Check {
	return Check{Name: name, Text: holdfast.Sentence(err), Fix: holdfast.Hint(err)}
}

func (r *run) server(ctx context.Context, _ *Plan) Check {
	if err := r.onSide(ctx, Old); err != nil {
		c := unknown("server", err)
		if c.Fix == "" {
			c.Fix = "start the server on " + r.o.From + ": the first copy and the facts are taken from it"
		}
		return c
	}
	if err := r.w.Health(ctx); err != nil {
		return unknown("server", fmt.Errorf("the server is not healthy: %w", err))
	}
	return Check{Name: "server", Good: true, Text: "the server runs on " + r.o.From + " and is healthy"}
}

func (r *run) applications(ctx context.Context, _ *Plan) Check {
	found, err := r.w.Obstacles(ctx)
	switch {
	case err != nil:
		return unknown("applications", err)
	case len(found) > 0:
		return Check{Name: "applications", Text: strings.Join(found, "; "), Fix: "mend this first: applications must be kept out, and every database be compared, while the data is moved"}
	}
	return Check{Name: "applications", Good: true, Text: "they can be kept out, and every database can be compared"}
}

func (r *run) ready(ctx context.Context, _ *Plan) Check {
	if err := r.w.Ready(ctx); err != nil {
		return unknown("volume", err)
	}
	return Check{Name: "volume", Good: true, Text: "it is mounted and verified"}
}

func (r *run) empty(ctx context.Context, _ *Plan) Check {
	empty, err := r.w.Empty(ctx)
	switch {
	case err != nil:
		return unknown("data folder", err)
	case empty:
		return Check{Name: "data folder", Good: true, Text: r.o.To + " is empty"}
	case r.s.Ours:
		return Check{Name: "data folder", Good: true, Text: r.o.To + " has what an earlier migration copied, which is made equal"}
	}
	if r.s.Done == Finished {
		return Check{Name: "data folder", Text: r.o.To + " has the data that an earlier migration moved there, perhaps the only copy of it", Fix: "`holdfast volume status` shows where the data is"}
	}
	return Check{Name: "data folder", Text: r.o.To + " holds files that no migration put there", Fix: "look what they are, and empty the folder"}
}

func (r *run) outside(ctx context.Context, _ *Plan) Check {
	found, err := r.w.Outside(ctx)
	switch {
	case err != nil:
		return unknown("one directory", err)
	case len(found) > 0:
		return Check{Name: "one directory", Text: "parts of it are elsewhere, where both servers would write them: " + strings.Join(found, ", "),
			Fix: "move tablespaces and pg_wal into the directory first, with the server's own commands"}
	}
	return Check{Name: "one directory", Good: true, Text: "nothing of it is elsewhere"}
}

func (r *run) space(ctx context.Context, plan *Plan) Check {
	var err error
	if plan.Size, err = r.w.Size(ctx); err != nil {
		return unknown("space", err)
	}
	if plan.Free, err = r.w.Free(ctx); err != nil {
		return unknown("space", err)
	}
	c := Check{Name: "space", Good: true, Text: fmt.Sprintf("the directory has %s, the volume %s free", size(plan.Size), size(plan.Free))}
	short := func(part float64) bool { return float64(plan.Free) < float64(plan.Size)*(1+part) }
	if short(roomAdvised) {
		c.Warns, c.Fix = true, fmt.Sprintf("a volume of at least %s leaves the server %.0f %%", size(int64(float64(plan.Size)*(1+roomAdvised))), roomAdvised*100)
	}
	// What an earlier copy left is written over, so that less is needed; how much is known only when it was done.
	if short(room) && !r.s.Ours {
		c.Good, c.Warns = false, false
	}
	return c
}

func (r *run) proven(ctx context.Context, plan *Plan) Check {
	c := Check{Name: "proven backup", Fix: "run: holdfast backup, then holdfast drill"}
	var err error
	if plan.Proof, err = r.w.Proven(ctx); err != nil {
		c.Text = holdfast.Sentence(err)
		if hint := holdfast.Hint(err); hint != "" {
			c.Fix = hint
		}
		return c
	}
	age := r.w.Now().Sub(plan.Proof.Taken)
	c.Text = fmt.Sprintf("backup %s is proven and %s old", plan.Proof.Backup, rounded(age))
	if age > r.o.MaxAge {
		c.Text += fmt.Sprintf(", more than %s", rounded(r.o.MaxAge))
		return c
	}
	c.Good, c.Fix = true, ""
	return c
}
