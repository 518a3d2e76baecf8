package engine

import (
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// Drivers opens kinds in places, as the role that may write.
type Drivers interface {
	// Driver gives the kind at work in the place. It may be called often and from many goroutines; it makes no AWS call.
	Driver(place fleet.Place, kindName string) (kind.Driver, error)
	// Kind gives the kind's description.
	Kind(name string) (kind.Kind, bool)
}
