// Package appstream is the kind appstream: whether the fleets, image builders and app block builders of Amazon AppStream
// 2.0 (WorkSpaces Applications) have IMDSv1 disabled.
//
// It owns how they are read, and how fleets and app block builders are stopped, set and started again: AppStream takes the
// setting of a stopped one only, and of an image builder at its creation only. Their instances are in AWS's own account,
// so that no metric counts v1 calls. What AppStream does not say reads as "false", because it cannot be told to be silent.
package appstream

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// Verbs of fleets, and of app block builders, which have calls of their own.
const (
	VerbStop           = "stop"
	VerbSet            = "set-imds"
	VerbStart          = "start"
	VerbStopBuilder    = "stop-builder"
	VerbSetBuilder     = "set-builder-imds"
	VerbStartBuilder   = "start-builder"
	fleetPrefix        = "fleet/"
	imageBuilderPrefix = "image-builder/"
	appBuilderPrefix   = "app-block-builder/"
)

// Fields of the state, in AppStream's words. State is the one in which it stays: while it is starting or stopping, the one
// that it is going to, and the resource is settling.
const (
	FieldDisableV1 = "DisableIMDSV1"
	FieldState     = "State"

	stateRunning = "RUNNING"
	stateStopped = "STOPPED"
)

// Attributes.
const (
	// AttrImage is the ARN of the image; absent where AppStream provides it (elastic fleets, app block builders).
	AttrImage = "appstream-image"
	// AttrAgent is the date of the image's AppStream agent or, where that cannot be read, of its base image ("2024-06-17");
	// "latest" where it follows the newest. Absent where neither is known.
	AttrAgent = "appstream-agent"
	// AttrFleetType is ALWAYS_ON, ON_DEMAND or ELASTIC.
	AttrFleetType = "fleet-type"
)

const (
	actionFleets        = "appstream:DescribeFleets"
	actionImageBuilders = "appstream:DescribeImageBuilders"
	actionAppBuilders   = "appstream:DescribeAppBlockBuilders"
	actionImages        = "appstream:DescribeImages"
	actionTags          = "appstream:ListTagsForResource"
	actionStop          = "appstream:StopFleet"
	actionStart         = "appstream:StartFleet"
	actionUpdate        = "appstream:UpdateFleet"
	actionStopBuilder   = "appstream:StopAppBlockBuilder"
	actionStartBuilder  = "appstream:StartAppBlockBuilder"
	actionUpdateBuilder = "appstream:UpdateAppBlockBuilder"
)

// Kind describes AppStream's machines.
func Kind() kind.Kind {
	const (
		ofFleets   = "arn:{partition}:appstream:{region}:{account}:fleet/*"
		ofBuilders = "arn:{partition}:appstream:{region}:{account}:app-block-builder/*"
	)
	return kind.Kind{
		Name: inventory.KindAppStream,
		Doc: "Fleets, image builders and app block builders of Amazon AppStream 2.0: whether IMDSv1 is disabled on their " +
			"instances, which AWS runs in an account of its own. A fleet or an app block builder must be stopped to be set, " +
			"which ends the sessions of its users; an image builder can only be made anew. The image's agent must be of " +
			"January 16, 2024 or later. AWS counts no v1 calls, so that only a person can call one ready.",
		Manner: assess.Manner{Role: assess.RoleHost},
		Reads: []kind.Action{
			{Name: actionFleets, Resource: "*"},
			{Name: actionImageBuilders, Resource: "*"},
			{Name: actionAppBuilders, Resource: "*"},
			{Name: actionImages, Resource: "*"},
			{Name: actionTags, Resource: "*"},
		},
		Writes: []kind.Action{
			{Name: actionStop, Resource: ofFleets},
			{Name: actionStart, Resource: ofFleets},
			{Name: actionUpdate, Resource: ofFleets},
			{Name: actionStopBuilder, Resource: ofBuilders},
			{Name: actionStartBuilder, Resource: ofBuilders},
			{Name: actionUpdateBuilder, Resource: ofBuilders},
		},
		Verbs: []kind.Verb{
			verb(VerbStop, kind.DisruptsRestart, actionFleets, actionStop),
			verb(VerbSet, kind.DisruptsNothing, actionFleets, actionUpdate),
			verb(VerbStart, kind.DisruptsRestart, actionFleets, actionStart),
			verb(VerbStopBuilder, kind.DisruptsRestart, actionAppBuilders, actionStopBuilder),
			verb(VerbSetBuilder, kind.DisruptsNothing, actionAppBuilders, actionUpdateBuilder),
			verb(VerbStartBuilder, kind.DisruptsRestart, actionAppBuilders, actionStartBuilder),
		},
		Propose:  propose,
		Commands: commands,
	}
}

func verb(name string, disrupts kind.Disruption, reads, writes string) kind.Verb {
	calls := map[string]int{reads: 2, actionTags: 2, writes: 1}
	if reads == actionFleets {
		calls[actionImages] = 2
	}
	return kind.Verb{Name: name, Class: plan.ClassSet, Disruption: disrupts, Undo: kind.UndoFull, Calls: calls}
}

func propose(c kind.Case) ([]plan.Need, []plan.Manual) {
	r, v := c.Resource, c.Verdict
	if v.Status == assess.Done || v.Status == assess.Exempt || r.State[FieldDisableV1] == "true" {
		return nil, nil
	}
	if name, ok := strings.CutPrefix(r.Ref.ID, imageBuilderPrefix); ok {
		return nil, []plan.Manual{anew(r, name)}
	}
	if v.Status != assess.Ready {
		return nil, nil
	}
	why, old := agent(r)
	if old {
		return nil, []plan.Manual{newerImage(r, why)}
	}
	stop, set, start := VerbStop, VerbSet, VerbStart
	if strings.HasPrefix(r.Ref.ID, appBuilderPrefix) {
		stop, set, start = VerbStopBuilder, VerbSetBuilder, VerbStartBuilder
	}
	need := func(action string, patch fleet.State, why string, after ...plan.Key) plan.Need {
		return plan.Need{
			Ref: r.Ref, Action: action, Class: plan.ClassSet, Stage: plan.StageFleet, Patch: patch, After: after, Why: why,
		}
	}
	disable := need(set, fleet.State{FieldDisableV1: "true"}, "its instances allow IMDSv1; "+why)
	if r.State[FieldState] != stateRunning {
		return []plan.Need{disable}, nil
	}
	before := need(stop, fleet.State{FieldState: stateStopped}, "AppStream takes the setting of a stopped one only")
	disable.After = []plan.Key{before.Key()}
	return []plan.Need{
		before, disable, need(start, fleet.State{FieldState: stateRunning}, "it was running before", disable.Key()),
	}, nil
}

// firstAgent is the first date of an agent or managed image update that does without IMDSv1 (API reference, UpdateFleet,
// DisableIMDSV1).
const firstAgent = "2024-01-16"

// agent says what is known of the image's agent, and whether it is too old or unknown.
func agent(r *inventory.Resource) (why string, old bool) {
	image, date := r.Attrs[AttrImage], r.Attrs[AttrAgent]
	_, name, _ := strings.Cut(image, ":image/")
	switch {
	case image == "":
		return "AppStream provides its image", false
	case date == agentLatest:
		return "its image " + name + " follows the newest agent", false
	case date == "":
		return "the date of the agent in its image " + name + " could not be read", true
	default:
		return "the agent of its image " + name + " is of " + date, date < firstAgent
	}
}

func newerImage(r *inventory.Resource, why string) plan.Manual {
	_, name, _ := strings.Cut(r.Attrs[AttrImage], ":image/")
	machine := strings.TrimPrefix(r.Ref.ID, fleetPrefix)
	return plan.Manual{
		Ref: r.Ref, Name: r.Name,
		Reason: why + ", and IMDSv1 can only be disabled with an agent of " + firstAgent + " or later",
		Remedy: "Make an image with a newer agent, give it to the fleet, and plan again.",
		Commands: []string{
			kind.Command(r.Ref.Place, "appstream", "create-updated-image", "--existing-image-name", name,
				"--new-image-name", name+"-imdsv2"),
			kind.Command(r.Ref.Place, "appstream", "update-fleet", "--name", machine, "--image-name", name+"-imdsv2"),
		},
	}
}

// anew is how an image builder gets the setting.
func anew(r *inventory.Resource, name string) plan.Manual {
	return plan.Manual{
		Ref: r.Ref, Name: r.Name,
		Reason: "an image builder can be told to disable IMDSv1 only when it is created",
		Remedy: "Make an image of what is on it, create a new image builder from an image with an agent of " + firstAgent +
			" or later, with all else as it was, and delete the old one.",
		Commands: []string{
			"# " + kind.Command(r.Ref.Place, "appstream", "create-image-builder", "--name", name+"-imdsv2",
				"--disable-imdsv1") + " and all else as it was",
			kind.Command(r.Ref.Place, "appstream", "delete-image-builder", "--name", name),
		},
	}
}

// machineName is the rule for the names of fleets and builders.
var machineName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,100}$`)

func commands(w kind.Write) []string {
	call, ok := callOf(w)
	if !ok || !machineName.MatchString(call.name) {
		return nil
	}
	operation, args := "fleet", []string{"--name", call.name}
	if call.builder {
		operation = "app-block-builder"
	}
	switch {
	case call.what == updates && call.disable:
		args = append(args, "--disable-imdsv1")
	case call.what == updates:
		args = append(args, "--no-disable-imdsv1")
	}
	return []string{kind.Command(w.Place, "appstream", string(call.what)+"-"+operation, args...)}
}

// call is the one call that a write makes.
type call struct {
	name    string
	builder bool // an app block builder, else a fleet
	what    operation
	disable bool // for updates
}

type operation string

const (
	starts  operation = "start"
	stops   operation = "stop"
	updates operation = "update"
)

// callOf finds the call that takes the write from Before to After; not ok where the write changes nothing, or more than
// its verb may.
func callOf(w kind.Write) (call, bool) {
	var c call
	var isFleet bool
	if c.name, isFleet = strings.CutPrefix(w.ID, fleetPrefix); !isFleet {
		if c.name, c.builder = strings.CutPrefix(w.ID, appBuilderPrefix); !c.builder {
			return c, false
		}
	}
	changes := fleet.Diff(w.Before, w.After)
	if len(changes) != 1 || !changes[0].HasAfter {
		return c, false
	}
	field, value := changes[0].Field, changes[0].After
	switch w.Verb {
	case VerbStop, VerbStart, VerbStopBuilder, VerbStartBuilder:
		c.what = starts
		if value == stateStopped {
			c.what = stops
		}
		return c, field == FieldState && (value == stateRunning || value == stateStopped) &&
			c.builder == (w.Verb == VerbStopBuilder || w.Verb == VerbStartBuilder)
	case VerbSet, VerbSetBuilder:
		c.what, c.disable = updates, value == "true"
		return c, field == FieldDisableV1 && (value == "true" || value == "false") && c.builder == (w.Verb == VerbSetBuilder)
	}
	return c, false
}

// String names the machine for a message.
func (c call) String() string {
	if c.builder {
		return fmt.Sprintf("AppStream app block builder %s", c.name)
	}
	return fmt.Sprintf("AppStream fleet %s", c.name)
}
