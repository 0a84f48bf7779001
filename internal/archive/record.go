package archive

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"holdfast"
)

// signedRecord is a small JSON object with its signature beside it, the signature stored first.
type signedRecord struct {
	what      string // as errors call it
	namespace string
	name      func(suffix string) string
}

func (a *Archive) putRecord(ctx context.Context, r signedRecord, content any) error {
	data, err := json.MarshalIndent(content, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", r.what, err)
	}
	data = append(data, '\n')
	signature, err := a.opt.Signer.Sign(r.namespace, data)
	if err != nil {
		return fmt.Errorf("sign %s: %w", r.what, err)
	}
	if err := a.store.Put(ctx, r.name("json.sig"), bytes.NewReader(signature)); err != nil {
		return fmt.Errorf("store the signature of %s: %w", r.what, err)
	}
	if err := a.store.Put(ctx, r.name("json"), bytes.NewReader(data)); err != nil {
		return fmt.Errorf("store %s: %w", r.what, err)
	}
	return nil
}

// readRecord reads into content what is signed, and reports whether its signer is trusted. A signature that is gone or
// does not fit is holdfast.ErrDifference.
func (a *Archive) readRecord(ctx context.Context, r signedRecord, content any) (bool, error) {
	data, err := a.store.ReadAll(ctx, r.name("json"), maxManifest)
	if err != nil {
		return false, fmt.Errorf("read %s: %w", r.what, err)
	}
	signature, err := a.store.ReadAll(ctx, r.name("json.sig"), maxSignature)
	if errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("%w: the signature of %s is gone", holdfast.ErrDifference, r.what)
	}
	if err != nil {
		return false, fmt.Errorf("read the signature of %s: %w", r.what, err)
	}
	_, trusted, err := a.checkSignature(r.namespace, signature, data)
	if err != nil {
		return false, fmt.Errorf("%w: %s: %w", holdfast.ErrDifference, r.what, err)
	}
	if err := json.Unmarshal(data, content); err != nil {
		return false, fmt.Errorf("%w: %s is not readable: %w", holdfast.ErrDifference, r.what, err)
	}
	return trusted, nil
}
