package sample

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// loader fills the tables whose size is chosen.
type loader struct {
	options  Options
	language *prose
}

const day = 24 * time.Hour

// before returns a time up to span before the application's present, to the microsecond.
func before(random *rand.Rand, span time.Duration) time.Time {
	return epoch.Add(-time.Duration(random.Int64N(span.Microseconds())) * time.Microsecond)
}

func pick(random *rand.Rand, list []string) string { return list[random.IntN(len(list))] }

func (l loader) userCount() int64 { return l.options.scale(fullUsers, 50) }

func (l loader) users(ctx context.Context, conn *pgx.Conn) error {
	random := l.options.random("users")
	plans := []string{"free", "free", "free", "Team", "Team", `it's "quoted"`, "two\nlines", "größer"}
	cities := []string{"Zürich", "København", "São Paulo", "Kraków", "Århus", "New\tYork", `Saint "John's"`, "東京"}
	count := l.userCount()
	id := int64(0)
	next := func(r *rows) bool {
		if id++; id > count {
			return false
		}
		first, last := l.language.word(random), l.language.word(random)
		r.int8(id)
		r.text(fmt.Sprintf("%s.%s.%d@example.org", first, last, id))
		r.text(first + " " + last)
		r.text(pick(random, plans))
		r.jsonb(func(out []byte) []byte {
			return fmt.Appendf(out, `{"city": %q, "age": %d, "newsletter": %t, "score": %.3f, "path": "C:\\dir\\%s", "seen": ["%s", null, {"ip": "10.%d.%d.%d"}]}`,
				pick(random, cities), 18+random.IntN(70), random.IntN(2) == 0, random.Float64()*100, first,
				before(random, 400*day).Format(time.RFC3339), random.IntN(256), random.IntN(256), random.IntN(256))
		})
		tags := make([]string, random.IntN(4))
		for i := range tags {
			tags[i] = l.language.word(random)
		}
		r.texts(tags)
		r.cents(random.Int64N(10_001))
		if id == 1 || random.IntN(3) == 0 {
			r.null()
		} else {
			r.int8(1 + random.Int64N(id-1))
		}
		r.time(before(random, 1000*day))
		if random.IntN(2) == 0 {
			r.null()
		} else {
			r.time(before(random, day))
		}
		return true
	}
	const columns = `id, email, "displayName", plan, profile, tags, share, invited_by, created_at, updated_at`
	if err := copyRows(ctx, conn, "app.users", columns, next); err != nil {
		return err
	}
	return run(ctx, conn, "users", "SELECT setval(pg_get_serial_sequence('app.users', 'id'), max(id)) FROM app.users")
}

func (l loader) operations(ctx context.Context, conn *pgx.Conn) error {
	random := l.options.random("operations")
	kinds := []string{"payment", "payment", "payment", "payment", "transfer", "transfer", "fee", "refund", "chargeback", "correction"}
	count, users := l.options.scale(fullOperations, 1000), l.userCount()
	const span = 700 * day
	step := span / time.Duration(count)
	id := int64(0)
	next := func(r *rows) bool {
		if id++; id > count {
			return false
		}
		r.int8(id)
		r.int8(1 + random.Int64N(users))
		r.text(pick(random, kinds))
		r.cents(random.Int64N(200_000) - 20_000)
		r.time(epoch.Add(-span + time.Duration(id)*step).Truncate(time.Second))
		switch id % 16 {
		case 0:
			r.null()
		case 1, 2:
			r.text(`re: C:\orders` + "\t" + `\.`)
		case 3:
			r.made(func(out []byte) []byte { return l.language.appendText(out, random, 20+random.IntN(50)) })
		default:
			r.text(l.language.phrase(random))
		}
		r.jsonb(func(out []byte) []byte { return appendDetails(out, random, l.language) })
		if id%16 == 0 {
			r.made(func(out []byte) []byte { return appendNoise(out, random, 16+random.IntN(48)) })
		} else {
			r.null()
		}
		return true
	}
	const columns = "id, user_id, kind, amount, created_at, note, details, payload"
	if err := copyRows(ctx, conn, "app.operations", columns, next); err != nil {
		return err
	}
	return run(ctx, conn, "operations", "SELECT setval(pg_get_serial_sequence('app.operations', 'id'), max(id)) FROM app.operations")
}

// appendDetails writes the document of one operation; without fmt, for there are millions.
func appendDetails(out []byte, random *rand.Rand, language *prose) []byte {
	bits := random.Uint64()
	out = append(out, `{"channel": "`...)
	out = append(out, [...]string{"web", "mobile", "api", "branch"}[bits&3]...)
	out = append(out, `", "terminal": `...)
	out = strconv.AppendUint(out, bits>>8&0xff, 10)
	out = append(out, `, "currency": "`...)
	out = append(out, [...]string{"EUR", "EUR", "EUR", "CHF", "USD", "SEK", "PLN", "EUR"}[bits>>4&7]...)
	out = append(out, `", "reference": "`...)
	out = strconv.AppendUint(out, bits>>48, 36)
	out = append(out, `", "merchant": "`...)
	out = append(out, language.word(random)...)
	out = append(out, ` GmbH", "approved": `...)
	out = strconv.AppendBool(out, bits>>22&15 != 0)
	if bits>>26&3 == 0 {
		out = append(out, `, "items": [{"sku": "A-`...)
		out = strconv.AppendUint(out, bits>>40&0xfff, 10)
		out = append(out, `", "count": 1}, {"sku": "B\\`...)
		out = strconv.AppendUint(out, bits>>52, 10)
		out = append(out, `", "count": 2, "gift": null}]`...)
	}
	return append(out, '}')
}

func (l loader) notes(ctx context.Context, conn *pgx.Conn) error {
	random := l.options.random("notes")
	count, users := l.options.scale(fullNotes, 100), l.userCount()
	n := int64(0)
	next := func(r *rows) bool {
		if n++; n > count {
			return false
		}
		r.made(func(out []byte) []byte { return appendNoise(out, random, 16) })
		r.int8(1 + random.Int64N(users))
		r.made(func(out []byte) []byte { return l.language.appendText(out, random, 10+random.IntN(30)) })
		// Most notes are short, one in a hundred is stored out of line.
		size := 60 + random.IntN(560)
		if n%100 == 0 {
			size = 4000 + random.IntN(16_000)
		}
		r.made(func(out []byte) []byte { return l.language.appendText(out, random, size) })
		r.date(int32(9000 + random.IntN(640)))
		return true
	}
	return copyRows(ctx, conn, "app.notes", "id, user_id, title, body, written_on", next)
}

func (l loader) snapshots(ctx context.Context, conn *pgx.Conn) error {
	random := l.options.random("snapshots")
	left := l.options.scale(fullImages, 100_000)
	id := int32(0)
	next := func(r *rows) bool {
		if left <= 0 {
			return false
		}
		id += 10
		size := 1000 + random.IntN(199_000)
		left -= int64(size)
		r.int4(id)
		r.time(before(random, 300*day))
		r.text(l.language.word(random))
		r.made(func(out []byte) []byte { return appendNoise(out, random, size) })
		return true
	}
	if err := copyRows(ctx, conn, "app.snapshots", "id, taken_at, label, image", next); err != nil {
		return err
	}
	return run(ctx, conn, "snapshots", "SELECT setval('app.snapshot_numbers', max(id)) FROM app.snapshots")
}

func (l loader) events(ctx context.Context, conn *pgx.Conn) error {
	random := l.options.random("events")
	kinds := []string{"login", "logout", "view", `odd \. kind`, "Überweisung"}
	count := l.options.scale(fullEvents, 200)
	// From the year before the first partition to beyond the last one: the default partition has rows too.
	first := time.Date(2023, time.October, 1, 0, 0, 0, 0, time.UTC)
	span := time.Date(2027, time.February, 1, 0, 0, 0, 0, time.UTC).Sub(first).Microseconds()
	id := int64(0)
	next := func(r *rows) bool {
		if id++; id > count {
			return false
		}
		r.int8(id)
		r.time(first.Add(time.Duration(random.Int64N(span)) * time.Microsecond))
		r.text(pick(random, kinds))
		if random.IntN(4) == 0 {
			r.null()
		} else {
			r.jsonb(func(out []byte) []byte { return appendDetails(out, random, l.language) })
		}
		return true
	}
	return copyRows(ctx, conn, "app.events", "id, occurred_at, kind, body", next)
}
