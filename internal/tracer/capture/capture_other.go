//go:build !linux

package capture

import (
	"log/slog"

	"github.com/imdsctl/imdsctl/internal/tracer"
)

func open(tracer.Tier, *slog.Logger) (source, error) { return nil, ErrUnsupported }
