// Package sagemakernotebook is the kind sagemaker-notebook: the minimum version of the metadata service on Amazon SageMaker AI
// notebook instances.
//
// It owns how a notebook instance is read, how it is stopped, set and started again. The minimum version can be set only
// while the notebook instance is stopped, so that one in service takes three changes, each of which can be taken back by
// itself. Nothing counts what calls the metadata service there: a person has to know.
package sagemakernotebook

import (
	"regexp"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// Verbs.
const (
	VerbStop       = "stop"
	VerbStart      = "start"
	VerbSetMinimum = "set-minimum-version"
)

// Fields of the state, in the API's names.
const (
	// FieldMinimum is "1" or "2"; absent where the API does not say it.
	FieldMinimum = "MinimumInstanceMetadataServiceVersion"
	// FieldStatus is the settled status: that at which a transition under way will end.
	FieldStatus = "NotebookInstanceStatus"
)

const (
	minimumV1 = "1"
	minimumV2 = "2"

	statusInService = "InService"
	statusStopped   = "Stopped"
	statusFailed    = "Failed"
)

const (
	actionList     = "sagemaker:ListNotebookInstances"
	actionDescribe = "sagemaker:DescribeNotebookInstance"
	actionTags     = "sagemaker:ListTags"
	actionStop     = "sagemaker:StopNotebookInstance"
	actionStart    = "sagemaker:StartNotebookInstance"
	actionUpdate   = "sagemaker:UpdateNotebookInstance"
)

const notebooks = "arn:{partition}:sagemaker:{region}:{account}:notebook-instance/*"

// Kind describes SageMaker notebook instances.
func Kind() kind.Kind {
	reads := func(write string) map[string]int { return map[string]int{actionDescribe: 2, actionTags: 2, write: 1} }
	return kind.Kind{
		Name: inventory.KindNotebook,
		Doc: "Amazon SageMaker AI notebook instances, by name. Their minimum version of the metadata service is 1 (both versions are " +
			"answered) or 2. It can be changed only while the notebook instance is stopped. Stopping ends what runs there, " +
			"and only what is stored under /home/ec2-user/SageMaker is there after the next start. AWS counts no calls of the " +
			"metadata service there.",
		Manner: assess.Manner{Role: assess.RoleHost},
		Reads: []kind.Action{
			{Name: actionList, Resource: "*"}, {Name: actionDescribe, Resource: notebooks}, {Name: actionTags, Resource: notebooks},
		},
		Writes: []kind.Action{
			{Name: actionStop, Resource: notebooks}, {Name: actionStart, Resource: notebooks}, {Name: actionUpdate, Resource: notebooks},
		},
		Verbs: []kind.Verb{
			{
				Name: VerbStop, Class: plan.ClassSet, Disruption: kind.DisruptsRestart, Undo: kind.UndoFull, Calls: reads(actionStop),
				Residue: "what ran, and what was stored outside /home/ec2-user/SageMaker, is gone after a stop",
			},
			{
				Name: VerbSetMinimum, Class: plan.ClassSet, Disruption: kind.DisruptsNothing, Undo: kind.UndoFull,
				Calls: reads(actionUpdate),
			},
			{
				Name: VerbStart, Class: plan.ClassSet, Disruption: kind.DisruptsRestart, Undo: kind.UndoFull, Calls: reads(actionStart),
				Residue: "what ran, and what was stored outside /home/ec2-user/SageMaker, is gone after a stop",
			},
		},
		Propose:  propose,
		Commands: commands,
	}
}

// propose sets a stopped notebook instance, and stops one in service before and starts it after.
func propose(c kind.Case) ([]plan.Need, []plan.Manual) {
	r, v := c.Resource, c.Verdict
	if r.Status == inventory.StatusTerminated || v.Status != assess.Ready || v.Want.Tokens != fleet.TokensRequired ||
		r.State[FieldMinimum] == minimumV2 {
		return nil, nil
	}
	if m, ok := byHand(r); ok {
		return nil, []plan.Manual{m}
	}
	set := need(r, VerbSetMinimum, fleet.State{FieldMinimum: minimumV2}, "the notebook instance still answers IMDSv1")
	if r.State[FieldStatus] == statusStopped {
		return []plan.Need{set}, nil
	}
	stop := need(r, VerbStop, fleet.State{FieldStatus: statusStopped},
		"its minimum version can be set only while it is stopped")
	start := need(r, VerbStart, fleet.State{FieldStatus: statusInService}, "it was in service before")
	set.After = []plan.Key{stop.Key()}
	start.After = []plan.Key{set.Key()}
	return []plan.Need{stop, set, start}, nil
}

func need(r *inventory.Resource, verb string, patch fleet.State, why string) plan.Need {
	return plan.Need{
		Ref: r.Ref, Action: verb, Class: plan.ClassSet, Stage: plan.StageFleet, Patch: patch, For: []fleet.Ref{r.Ref}, Why: why,
	}
}

// byHand tells of what cannot be put back as it was: a minimum version that the API does not say, and a status that nothing
// but a start leaves.
func byHand(r *inventory.Resource) (plan.Manual, bool) {
	m := plan.Manual{Ref: r.Ref, Name: r.Name}
	_, said := r.State[FieldMinimum]
	switch status := r.State[FieldStatus]; {
	case status != statusInService && status != statusStopped:
		m.Reason = "the notebook instance is " + status + ", and its minimum version can be set only while it is stopped"
		m.Remedy = "Start it and see why it failed, then plan again; or delete it."
		m.Commands = lines(r.Ref.Place, r.Ref.ID, step{statusInService, ""})
		return m, true
	case !said && status == statusInService:
		m.Commands = lines(r.Ref.Place, r.Ref.ID, step{statusStopped, ""}, step{"", minimumV2}, step{statusInService, ""})
	case !said:
		m.Commands = lines(r.Ref.Place, r.Ref.ID, step{"", minimumV2})
	default:
		return plan.Manual{}, false
	}
	m.Reason = "SageMaker does not say the minimum version of this notebook instance, so that the change could not be put back exactly"
	m.Remedy = "Set its minimum version to 2 by the commands; stopping it ends what runs there, and 1 takes it back."
	return m, true
}

// name is the API's pattern of a notebook instance's name.
var name = regexp.MustCompile(`^[a-zA-Z0-9](-*[a-zA-Z0-9])*$`)

// step is one thing to do by hand: to bring it into a status, or to set a minimum version.
type step struct{ status, minimum string }

func commands(w kind.Write) []string {
	switch w.Verb {
	case VerbStop, VerbStart:
		return lines(w.Place, w.ID, step{status: w.After[FieldStatus]})
	case VerbSetMinimum:
		if w.After[FieldMinimum] == "" {
			return nil
		}
		return lines(w.Place, w.ID, step{minimum: w.After[FieldMinimum]})
	}
	return nil
}

// lines are the commands of steps, each with the wait for its end.
func lines(place fleet.Place, id string, steps ...step) []string {
	if !name.MatchString(id) {
		return nil
	}
	var out []string
	for _, s := range steps {
		do := func(operation string, more ...string) {
			out = append(out, kind.Command(place, "sagemaker", operation, append([]string{"--notebook-instance-name", id}, more...)...))
		}
		wait := func(end string) {
			out = append(out, kind.Command(place, "sagemaker", "wait", end, "--notebook-instance-name", id))
		}
		switch {
		case s.minimum == minimumV1 || s.minimum == minimumV2:
			do("update-notebook-instance", "--instance-metadata-service-configuration", FieldMinimum+"="+s.minimum)
			wait("notebook-instance-stopped")
		case s.status == statusStopped:
			do("stop-notebook-instance")
			wait("notebook-instance-stopped")
		case s.status == statusInService:
			do("start-notebook-instance")
			wait("notebook-instance-in-service")
		default:
			return nil
		}
	}
	return out
}
