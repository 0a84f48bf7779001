package storetest_test

import (
	"testing"

	"holdfast/internal/store"
	"holdfast/internal/store/storetest"
)

func TestMemoryKeepsTheLaws(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Driver { return storetest.NewMemory(t) })
}
