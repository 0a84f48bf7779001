package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"holdfast"
	"holdfast/internal/config"
	"holdfast/internal/journal"
	"holdfast/internal/volume"
)

// What sealing may cost.
const (
	mostOverhead     = 0.10
	mostDumpOverhead = 0.15
	mostIOWait       = 0.05
)

// benchmarkFlags say what is measured.
type benchmarkFlags struct {
	plain, size string
	span        time.Duration
	scale       int
	rounds      int
}

func (a *app) volumeBenchmarkCommand() *cobra.Command {
	var f benchmarkFlags
	cmd := &cobra.Command{
		Use: "benchmark [NAME]", Short: "Measure what sealing costs: the same work on a plain folder and on the volume", Args: cobra.MaximumNArgs(1),
		Long: "Do the same work, by turns, in a folder of plain storage and on the volume: write and read a file, let pgbench work on a throwaway server, dump\n" +
			"it. Medians are compared, and the overhead stands beside what is accepted: 10 %, 15 % for the dump, and 5 % more of the time in which\n" +
			"processors wait for disks. The plain folder should be on the disk that the volume is on: by default it is the folder of the volume's file.\n\n" +
			"What was measured is recorded: later the alarm volume_slow goes by it. The exit code is 4 when more than is accepted was measured.",
		Example: "  holdfast volume benchmark pg-data\n  holdfast volume benchmark pg-data --plain /var/lib/postgresql --size 2G --span 60s",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			cfg, d, err := a.diskOf(args)
			if err != nil {
				return err
			}
			lock, err := a.holdVolume(cfg, d)
			if err != nil {
				return err
			}
			defer func() { err = joinClose(err, lock.Release()) }()
			return a.volumeBenchmark(cmd.Context(), cfg, d, f)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.plain, "plain", "", "a `FOLDER` of plain storage (default: that of the volume's file)")
	flags.StringVar(&f.size, "size", "256M", "`SIZE` of the file that is written and read")
	flags.DurationVar(&f.span, "span", 20*time.Second, "how long pgbench works, each time")
	flags.IntVar(&f.scale, "scale", 10, "pgbench's scale, each about 15 MB")
	flags.IntVar(&f.rounds, "rounds", 3, "how often each is done")
	return cmd
}

// sample is what one round in one folder came to.
type sample struct {
	write, read, tps, dump, wait float64
}

func (a *app) volumeBenchmark(ctx context.Context, cfg *config.Config, d disk, f benchmarkFlags) (err error) {
	size, err := parseBytes(f.size)
	if err != nil {
		return err
	}
	if f.rounds < 1 || f.span <= 0 || f.scale < 1 {
		return holdfast.WithHint(fmt.Errorf("%w: nothing would be measured", holdfast.ErrUsage), "give --rounds, --span and --scale of at least 1")
	}
	if err := a.volumeReady(ctx, d); err != nil {
		return err
	}
	if f.plain == "" {
		if f.plain = filepath.Dir(d.volume.Device); within(f.plain, "/dev") {
			return holdfast.WithHint(fmt.Errorf("%w: the volume is a device, and there is no plain folder on it to compare with", holdfast.ErrUsage), "give --plain FOLDER, on a disk like it")
		}
	}
	host := volume.Host{Now: a.Now}
	before, err := host.Counters(d.volume)
	if err != nil {
		return err
	}
	samples := map[string][]sample{}
	for round := range f.rounds {
		for _, dir := range []string{f.plain, d.volume.Mount} {
			a.printer.say(fmt.Sprintf("round %d of %d in %s", round+1, f.rounds, dir))
			one, err := a.measureFolder(ctx, cfg, d, dir, size, f)
			if err != nil {
				return err
			}
			samples[dir] = append(samples[dir], one)
		}
	}
	after, err := host.Counters(d.volume)
	if err != nil {
		return err
	}
	load := after.Since(before)
	var query time.Duration
	if d.config.Source != "" {
		if query, err = a.probeOf(ctx, cfg, d); err != nil {
			a.printer.warn("the test queries: " + holdfast.Sentence(err))
		}
	}
	over := a.showBenchmark(samples[f.plain], samples[d.volume.Mount], f.plain)
	a.noteVolume(cfg, d.config.Name, journal.VolumeMeasured, nil, "benchmark", func(r *journal.Record) {
		r.Figures = map[string]float64{"latency_seconds": load.Latency.Seconds(), "query_seconds": query.Seconds(), "tps_plain": median(samples[f.plain], tps), "tps_sealed": median(samples[d.volume.Mount], tps)}
	})
	a.carryVolume(ctx, cfg, d)
	if over > 0 {
		return holdfast.WithHint(fmt.Errorf("%w: %d figure(s) are above what is accepted", holdfast.ErrDifference, over), "run it when nothing else works, with more --rounds and a longer --span; has the processor AES instructions? `holdfast volume create --check` tells")
	}
	return nil
}

// measureFolder does one round of the work in a folder of its own.
func (a *app) measureFolder(ctx context.Context, cfg *config.Config, d disk, dir string, size int64, f benchmarkFlags) (s sample, err error) {
	own, err := os.MkdirTemp(dir, "holdfast-benchmark-")
	if err != nil {
		return s, fmt.Errorf("make a folder to measure in: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(own)) }()
	if err := os.Chmod(own, 0o755); err != nil {
		return s, err
	}
	speed, err := volume.Sequential(ctx, own, size)
	if err != nil {
		return s, err
	}
	tps, dump, err := a.measureServer(ctx, cfg, d, own, f)
	wait := speed.Waited.Seconds() / speed.Took.Seconds() / float64(runtime.NumCPU())
	return sample{speed.Write, speed.Read, tps, dump.Seconds(), wait}, err
}

func tps(s sample) float64 { return s.tps }

func median(samples []sample, of func(sample) float64) float64 {
	var all []float64
	for _, s := range samples {
		all = append(all, of(s))
	}
	slices.Sort(all)
	if n := len(all); n%2 == 0 {
		return (all[n/2-1] + all[n/2]) / 2
	}
	return all[len(all)/2]
}

// showBenchmark compares, and returns how many figures are above what is accepted.
func (a *app) showBenchmark(plain, sealed []sample, dir string) (over int) {
	w := tabwriter.NewWriter(a.Out, 0, 0, 2, ' ', 0)
	if !a.flags.json {
		fmt.Fprintf(w, "MEDIAN OF %d\tPLAIN (%s)\tSEALED\tOVERHEAD\tACCEPTED\t\n", len(plain), quoted(dir))
	}
	for _, row := range []struct {
		name, unit string
		of         func(sample) float64
		scale      float64
		most       float64
		overhead   func(plain, sealed float64) float64
	}{
		{"write", "MB/s", func(s sample) float64 { return s.write }, 1e-6, mostOverhead, slower},
		{"read", "MB/s", func(s sample) float64 { return s.read }, 1e-6, mostOverhead, slower},
		{"pgbench", "tps", tps, 1, mostOverhead, slower},
		{"dump", "s", func(s sample) float64 { return s.dump }, 1, mostDumpOverhead, longer},
		{"I/O wait", "% of time", func(s sample) float64 { return s.wait }, 100, mostIOWait, func(plain, sealed float64) float64 { return sealed - plain }},
	} {
		x, y := median(plain, row.of), median(sealed, row.of)
		share := row.overhead(x, y)
		verdict := "good"
		if share > row.most {
			verdict = "ABOVE"
			over++
		}
		if a.flags.json {
			a.printEvent("benchmark", map[string]any{"what": row.name, "unit": row.unit, "plain": x * row.scale, "sealed": y * row.scale, "overhead": share, "accepted": row.most, "good": share <= row.most})
			continue
		}
		fmt.Fprintf(w, "%s\t%.1f %s\t%.1f %s\t%+.1f %%\t%.0f %%\t%s\n", row.name, x*row.scale, row.unit, y*row.scale, row.unit, 100*share, 100*row.most, verdict)
	}
	_ = w.Flush() // a terminal that is gone
	return over
}

// slower is by how much less is done in the same time, longer by how much more time the same takes.
func slower(plain, sealed float64) float64 { return 1 - sealed/plain }
func longer(plain, sealed float64) float64 { return sealed/plain - 1 }
