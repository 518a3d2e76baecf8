package cli

import (
	"testing"

	"github.com/imdsctl/imdsctl/internal/app"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/plan"
)

func TestUnproven(t *testing.T) {
	proof := &plan.Change{Ref: fleet.Ref{Kind: plan.KindFollowUp}}
	other := &plan.Change{Ref: fleet.Ref{Kind: inventory.KindAutoScaling}}
	for _, c := range []struct {
		change *plan.Change
		state  app.ChangeState
		want   bool
	}{
		{proof, app.ChangeState{Phase: app.ChangeVerified, Reason: "not proven: no launch was seen"}, true},
		{proof, app.ChangeState{Phase: app.ChangeVerified, Reason: "1 launched from lt-1:5"}, false},
		{proof, app.ChangeState{Phase: app.ChangePending, Reason: "not proven"}, false},
		{other, app.ChangeState{Phase: app.ChangeVerified, Reason: "not proven"}, false},
		{nil, app.ChangeState{Phase: app.ChangeVerified, Reason: "not proven"}, false},
	} {
		if got := unproven(c.change, c.state); got != c.want {
			t.Errorf("%+v, %+v: %t", c.change, c.state, got)
		}
	}
}
