package plan

import (
	"cmp"
	"fmt"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/policy"
)

// Actions of follow-ups. FieldStatus of their state becomes StatusDone.
const (
	ActionManual  = "manual"
	ActionSSM     = "ssm"
	ActionCommand = "command"

	FieldStatus = "status"
	StatusDone  = "done"
)

// Parameters of follow-ups. Parameters and Command are JSON: a map of lists of texts, and a list of texts.
const (
	ParamInstance   = "instance" // the id of the resource that is followed up
	ParamName       = "name"
	ParamDocument   = "document"
	ParamParameters = "parameters"
	ParamCommand    = "command"
	ParamText       = "text"
	ParamTimeout    = "timeout" // as time.ParseDuration reads it
)

// followUps are what the configuration asks to be done after the fleet changes of a stack: to a resource once, however many
// of its settings change, and to an instance only while it runs. They belong to the step of the change they follow.
func (b *Builder) followUps(s *Stack, ix *inventory.Index, changes []*Change, needs []*Need, members []int) ([]*Change, error) {
	last := map[fleet.Ref]int{}
	for _, i := range members {
		if needs[i].Stage == StageFleet {
			last[changes[i].Ref] = i
		}
	}
	var out []*Change
	for _, i := range members {
		c := changes[i]
		if at, ok := last[c.Ref]; !ok || at != i || !observable(ix, c) {
			continue
		}
		for _, f := range b.config.FollowUpsFor(assess.Facts(ix, ix.Resource(c.Ref))) {
			follow, err := b.followUp(f, c)
			if err != nil {
				return nil, fmt.Errorf("follow-up %q of %s: %w", f.Name, c.Ref, err)
			}
			out = append(out, follow)
			s.Steps[c.Step].Changes++
		}
	}
	return out, nil
}

func (b *Builder) followUp(f policy.FollowUp, after *Change) (*Change, error) {
	ref := after.Ref.Sibling(KindFollowUp, fmt.Sprintf("%s/%s/%d", after.Ref.ID, f.Name, b.plan.Header.Created.Unix()))
	c := &Change{Ref: ref, Name: after.Name, Class: ClassStart, Stack: after.Stack, Step: after.Step, Canary: after.Canary,
		Before: fleet.State{}, After: fleet.State{FieldStatus: StatusDone}, Needs: []string{after.ID}, Undo: "none",
		Disruption: "restart", Evidence: after.Evidence, Override: after.Override, Calls: map[string]int{},
		Params: map[string]string{ParamInstance: after.Ref.ID, ParamName: f.Name},
		Why:    fmt.Sprintf("follow-up %q of %s", f.Name, after.Ref.ID)}
	var err error
	switch {
	case f.Manual != "":
		c.Action, c.Class = ActionManual, ClassManual
		c.Params[ParamText] = f.Manual
	case f.SSM.Document != "":
		c.Action = ActionSSM
		c.Params[ParamDocument] = f.SSM.Document
		if len(f.SSM.Parameters) > 0 {
			c.Params[ParamParameters], err = asJSON(f.SSM.Parameters)
		}
		c.Calls = map[string]int{"ssm:SendCommand": 1, "ssm:ListCommands": 2}
	default:
		c.Action = ActionCommand
		c.Params[ParamCommand], err = asJSON(f.Command)
	}
	if c.Class != ClassManual {
		c.Params[ParamTimeout] = cmp.Or(f.Timeout, policy.DefaultFollowUpTimeout).String()
	}
	c.ID = changeID(NeedKey(ref, c.Action, ""))
	return c, err
}
