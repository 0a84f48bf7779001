package migration

import "context"

// Switch decides which directory the server gets when it starts. Each method may be called again after a death in the middle of it, and
// then ends what was begun. To is never called while the server runs.
type Switch interface {
	// Check lists what would keep it from switching; a check that is good says what will be done.
	Check(ctx context.Context) ([]Check, error)
	// Where says what is.
	Where(ctx context.Context) (Place, error)
	// To makes the server get side, which is not None. For [Restored] a directory stands at [Options.RestoredPath].
	To(ctx context.Context, side Side) error
}

// Place is what a switch says.
type Place struct {
	Side     Side   // what the server gets when it starts; None: a death left it in between, and the server gets nothing
	Old      string // where the old directory is now; "": it is gone
	Restored string // where the restored directory is now; "": there is none
}
