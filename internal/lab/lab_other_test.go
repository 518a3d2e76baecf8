//go:build !linux

package lab_test

import (
	"context"
	"errors"
	"net"
	"testing"

	"github.com/imdsctl/imdsctl/internal/lab"
)

// TestElsewhere: other systems are told what to do instead.
func TestElsewhere(t *testing.T) {
	lab.Inside()
	nobody := func(context.Context, ...net.Listener) error { return nil }
	if _, err := lab.Run(t.Context(), lab.Options{Serve: nobody}, []string{"true"}); !errors.Is(err, lab.ErrUnsupported) {
		t.Errorf("%v", err)
	}
}
