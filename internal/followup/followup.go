// Package followup carries out what follows a change: a document of AWS Systems Manager that is run on the changed
// instance, a program of this machine, or a task for a person; and it watches what is launched after a change of a launch
// template (proof.go). A follow-up is a change of a plan like others, of the kind "follow-up", and this package is its
// kind.Driver.
//
// It owns how a follow-up is named, started, found again and judged. It retries and journals nothing: that is core's. A
// follow-up is never put back.
//
// What an interruption leaves behind differs. A command sent to Systems Manager carries a mark in its comment, by which
// it is found again, so that it is not sent twice. A program leaves nothing: after a crash it is not known whether it
// ran, and it may be run again. It must therefore be repeatable, and is told a marker of its run by which it may know
// itself.
package followup

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// What the state of a follow-up says besides plan.StatusDone; the field is absent before it was started.
const (
	StatusRunning = "running"
	// StatusFailed begins a text that says how it failed.
	StatusFailed = "failed: "
)

// The outputs of a write.
const (
	// OutputCommand is Systems Manager's id of the command that was sent.
	OutputCommand = "CommandId"
	// OutputExit is what the program exited with: "0".
	OutputExit = "ExitCode"
)

const (
	actionSend        = "ssm:SendCommand"
	actionList        = "ssm:ListCommands"
	actionInvocations = "ssm:ListCommandInvocations" // for the exit code of what failed
)

// Kind describes follow-ups.
func Kind() kind.Kind {
	return kind.Kind{
		Name: plan.KindFollowUp,
		Doc: "What is done once a change has been made, such as restarting the programs that remember how they reached the " +
			"metadata service: a Systems Manager document run on the instance, a program of this machine, or a task for a " +
			"person; or, after a change of what is launched, seeing an instance that was launched from it. The step of the change " +
			"stays open until it is done.",
		Reads:  append(reads(), ProofActions()...),
		Writes: writes([]string{"arn:{partition}:ssm:{region}:*:document/*"}),
		Verbs: []kind.Verb{
			{
				Name: plan.ActionSSM, Class: plan.ClassStart, Disruption: kind.DisruptsRestart, Undo: kind.UndoNone,
				Outputs: []string{OutputCommand}, Calls: map[string]int{actionSend: 1, actionList: 2},
			},
			{
				Name: plan.ActionCommand, Class: plan.ClassStart, Disruption: kind.DisruptsRestart, Undo: kind.UndoNone,
				Outputs: []string{OutputExit},
			},
			{Name: plan.ActionManual, Class: plan.ClassManual, Disruption: kind.DisruptsRestart, Undo: kind.UndoNone},
			proofVerb(plan.ActionLaunched),
			proofVerb(plan.ActionReplaced),
		},
		Commands: commands,
	}
}

// Actions lists what the role that writes needs where a configuration has follow-ups that run these documents; nothing
// where it names none. A document is a name, or the ARN of one that another account shares.
func Actions(documents ...string) []kind.Action {
	if len(documents) == 0 {
		return nil
	}
	documents = slices.Clone(documents)
	for i, name := range documents {
		documents[i] = documentARN(name)
	}
	slices.Sort(documents)
	return append(reads(), writes(slices.Compact(documents))...)
}

func reads() []kind.Action {
	return []kind.Action{{Name: actionList, Resource: "*"}, {Name: actionInvocations, Resource: "*"}}
}

// ProofActions lists what the role that writes needs to watch what is launched.
func ProofActions() []kind.Action {
	return []kind.Action{{Name: actionInstances, Resource: "*"}, {Name: actionStatus, Resource: "*"}}
}

// writes allows the documents, and the instances that they are sent to: AWS checks both.
func writes(documents []string) []kind.Action {
	var out []kind.Action
	for _, arn := range documents {
		out = append(out, kind.Action{Name: actionSend, Resource: arn})
	}
	return append(out, kind.Action{Name: actionSend, Resource: "arn:{partition}:ec2:{region}:{account}:instance/*"})
}

// documentARN is where IAM looks for a document. Amazon's own are in no account; nobody else may use their prefixes
// (Systems Manager API reference, CreateDocument, Name).
func documentARN(name string) string {
	switch {
	case strings.HasPrefix(name, "arn:"):
		return name
	case strings.HasPrefix(name, "AWS") || strings.HasPrefix(name, "Amazon"):
		return "arn:{partition}:ssm:{region}::document/" + name
	default:
		return "arn:{partition}:ssm:{region}:{account}:document/" + name
	}
}

// commands shows what a follow-up runs. Sent by hand, its command carries the mark by which imdsctl knows it is done.
func commands(w kind.Write) []string {
	if proves(w.Verb) {
		return proofCommands(w)
	}
	t, err := Parse(w.Verb, w.ID, w.Params)
	if err != nil || w.Revert {
		return nil
	}
	switch w.Verb {
	case plan.ActionSSM:
		args := []string{
			"--document-name", t.Document, "--instance-ids", t.Instance,
			"--timeout-seconds", strconv.Itoa(int(deliveryTimeout(t.Timeout))), "--comment", comment(w.ID, w.Marker),
		}
		if len(t.Parameters) > 0 {
			b, err := json.Marshal(t.Parameters)
			if err != nil { // lists of text always marshal
				panic(err)
			}
			args = append(args, "--parameters", string(b))
		}
		return []string{kind.Command(w.Place, "ssm", "send-command", args...)}
	case plan.ActionCommand:
		words := slices.Clone(t.Run)
		for i, word := range words {
			words[i] = kind.Quote(word)
		}
		return []string{strings.Join(words, " ")}
	}
	return nil
}
