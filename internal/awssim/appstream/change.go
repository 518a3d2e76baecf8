package appstream

import (
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// start and stop are accepted at once and carried out in simulated time.
func start(c *core.Call, m *machine) error { return move(c, m, stopped, starting, running) }

func stop(c *core.Call, m *machine) error { return move(c, m, running, stopping, stopped) }

func move(c *core.Call, m *machine, from, over, to string) error {
	now := m.state.Newest()
	switch now.name {
	case from:
	case to:
		return nil // as it is already
	default:
		return wire.Errorf("ConcurrentModificationException", "%s is %s.", m.Name, now.name)
	}
	m.set(c, state{over, now.disableV1})
	m.arrive(c.Place, c.Now, to)
	return nil
}

// arrive brings a machine that is on its way to the state in which it stays.
func (m *machine) arrive(p *core.Place, now time.Time, to string) {
	p.After(now, p.World().Settle(), func(at time.Time) {
		m.state.Set(at, p.World().Consistency(), state{to, m.state.Newest().disableV1})
	})
}

func (m *machine) set(c *core.Call, s state) {
	m.state.Set(c.Now, c.World.Consistency(), s)
	c.Mutated(m.id())
}

// shown writes the machine, as it is after the change, into the response.
func shown(member string, change func(*core.Call, *machine) error) func(*core.Call, *machine) error {
	return func(c *core.Call, m *machine) error {
		if err := change(c, m); err != nil {
			return err
		}
		c.Out.Struct(member, func() { m.write(c, m.state.Newest()) })
		return nil
	}
}

// update sets what only a stopped machine takes (UpdateFleet, UpdateAppBlockBuilder).
func update(member string) func(*core.Call, *machine) error {
	return shown(member, func(c *core.Call, m *machine) error {
		disable, set, err := c.In.Bool("DisableIMDSV1")
		if err != nil {
			return invalid("DisableIMDSV1 must be true or false.")
		}
		now := m.state.Newest()
		if !set {
			return nil
		}
		if now.name != stopped {
			return wire.Errorf("OperationNotPermittedException", "%s must be stopped to change DisableIMDSV1.", m.Name)
		}
		m.set(c, state{now.name, &disable})
		return nil
	})
}
