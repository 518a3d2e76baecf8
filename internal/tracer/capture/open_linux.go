package capture

import (
	"log/slog"

	"github.com/imdsctl/imdsctl/internal/tracer"
)

// open sets a tier up. From then on it sees.
func open(tier tracer.Tier, log *slog.Logger) (source, error) {
	if tier == tracer.TierPackets {
		return openPackets(log)
	}
	return openPrograms(tier, log)
}
