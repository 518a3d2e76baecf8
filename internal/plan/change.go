package plan

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Class says what may be done when a write's outcome is not known.
type Class string

// Classes of write.
const (
	// ClassSet is repeatable: reading tells whether it took effect.
	ClassSet Class = "set"
	// ClassCreate makes something new under a client token and a marker by which it can be found again.
	ClassCreate Class = "create"
	// ClassStart starts something that AWS accepts at once and completes later.
	ClassStart Class = "start"
	// ClassManual is done by a person, who says so. Nothing is written by imdsctl.
	ClassManual Class = "manual"
)

// KindFollowUp is the kind of the changes that are follow-ups of others: the restart of a resource's clients, say. They
// belong to the step of the change they follow, need it, and are never put back.
const KindFollowUp = "follow-up"

// Stage separates failure modes within a stack: all changes of a stage settle before the next stage begins.
type Stage string

// Stages, in the order in which a stack goes through them.
const (
	// StageHopLimit changes hop limits only, while v1 still works.
	StageHopLimit Stage = "hop-limit"
	// StageFleet requires tokens on what runs now; its first step is the canary.
	StageFleet Stage = "fleet"
	// StageLaunch changes what future launches are told: templates and the groups that use them.
	StageLaunch Stage = "launch"
	// StageDefaults changes the account's default in a region, after all stacks of the region.
	StageDefaults Stage = "defaults"
	// StageImages makes AMIs require tokens, which cannot be undone, after all else.
	StageImages Stage = "images"
	// StagePolicies changes the organization's policies, last.
	StagePolicies Stage = "organization-policies"
)

// lateStages are those that have waves of their own, after all others.
func lateStages() []Stage { return []Stage{StageImages, StagePolicies} }

// late tells the stages in which a resource is written that others inherit from, however ready it is itself.
func (s Stage) late() bool { return s == StageDefaults || slices.Contains(lateStages(), s) }

// UndoNone is the undo of a change that AWS does not let be taken back.
const UndoNone = "none"

// Stages lists all stages in order.
func Stages() []Stage {
	return append([]Stage{StageHopLimit, StageFleet, StageLaunch, StageDefaults}, lateStages()...)
}

// Key identifies a need: needs with equal keys are one change.
type Key string

// Need is what a kind proposes: the change of one resource, before core has merged it with equal needs of others, put it
// in order and given it a stack.
type Need struct {
	Ref    fleet.Ref
	Action string // one of the kind's verbs: "set-options"
	Class  Class
	Stage  Stage
	// Variant tells apart two needs of one action on one resource, such as copies of two source versions.
	Variant string
	// Patch is what it sets in the resource's state. A value may refer to an output of another need: see OutputOf.
	Patch fleet.State
	// Params are what the write needs besides the state, such as the source version. They may refer to outputs as well.
	Params map[string]string
	// Outputs names what the write will have produced: "Version".
	Outputs []string
	// After lists the needs that must be done before.
	After []Key
	// For lists the groups and instances whose launches or settings it changes; they share a stack.
	For []fleet.Ref
	// Why says in one sentence why it is needed.
	Why string
}

// Key is derived from what the need does, never from who asks for it.
func (n *Need) Key() Key { return NeedKey(n.Ref, n.Action, n.Variant) }

// NeedKey builds the key of a need that is proposed elsewhere.
func NeedKey(ref fleet.Ref, action, variant string) Key {
	return Key(ref.String() + "#" + action + "#" + variant)
}

// OutputOf refers, in a patch or parameter of another need, to an output that is not known yet.
func OutputOf(k Key, output string) string { return "${" + changeID(k) + "." + output + "}" }

func changeID(k Key) string {
	sum := sha256.Sum256([]byte(k))
	return "c-" + hex.EncodeToString(sum[:6])
}

var reference = regexp.MustCompile(`\$\{(c-[0-9a-f]{12})\.([A-Za-z]+)\}`)

// References lists the ids of the changes whose outputs the value names.
func References(value string) []string {
	var out []string
	for _, m := range reference.FindAllStringSubmatch(value, -1) {
		out = append(out, m[1])
	}
	return out
}

// Outputs are what writes have produced so far: by change id and output name.
type Outputs map[string]map[string]string

// Resolve replaces all references in the values of m by outputs. It fails on an output that is not there.
func Resolve[M ~map[string]string](m M, outputs Outputs) (M, error) {
	out := make(M, len(m))
	for k, v := range m {
		var missing string
		out[k] = reference.ReplaceAllStringFunc(v, func(ref string) string {
			parts := reference.FindStringSubmatch(ref)
			value, ok := outputs[parts[1]][parts[2]]
			if !ok {
				missing = ref
			}
			return value
		})
		if missing != "" {
			return nil, fmt.Errorf("%s: output %s is not known", k, missing)
		}
	}
	return out, nil
}

// Evidence is what a change rests on, in numbers that lead back to observations.
type Evidence struct {
	Verdict string    `json:"verdict"`
	Reason  string    `json:"reason"`
	Source  string    `json:"source,omitempty"`
	Lineage string    `json:"lineage,omitempty"` // whose observations were joined
	Start   time.Time `json:"start,omitzero"`
	End     time.Time `json:"end,omitzero"`
	Calls   int64     `json:"v1_calls"`
	Covered int       `json:"covered_periods"`
	Periods int       `json:"periods"`
	Boots   int       `json:"boots"`
	Members int       `json:"members"`
	// Sources are all sources of the verdict in words, each with its window, its coverage and when it observed last; empty where
	// there is the one above only.
	Sources string `json:"sources,omitempty"`
}

// Change is one write of an approved plan. It touches one resource.
type Change struct {
	ID     string    `json:"id"`
	Ref    fleet.Ref `json:"ref"`
	Name   string    `json:"name,omitempty"`
	Action string    `json:"action"`
	Class  Class     `json:"class"`
	Stack  string    `json:"stack"`
	Step   int       `json:"step"` // index into the stack's steps
	// Before is the whole state in which the resource must be found; After the whole state it will be left in. Both may
	// refer to outputs of earlier changes.
	Before fleet.State       `json:"before"`
	After  fleet.State       `json:"after"`
	Params map[string]string `json:"params,omitempty"`
	// Outputs names what the write will have produced.
	Outputs []string `json:"outputs,omitempty"`
	// Needs lists the changes that must have succeeded before.
	Needs []string `json:"needs,omitempty"`
	// Canary marks the change whose success opens the rest of its stack.
	Canary bool `json:"canary,omitempty"`
	// Undo is what a rollback can do: "full", "behaviour" (residue stays) or "none".
	Undo       string `json:"undo"`
	Disruption string `json:"disruption"`
	Residue    string `json:"residue,omitempty"`
	Why        string `json:"why"`
	// Owner is the infrastructure as code that says the setting too, and changes it back unless it is changed as well.
	Owner    fleet.Owner `json:"owner,omitzero"`
	Evidence Evidence    `json:"evidence"`
	// Override names the person and reason that accept v1 calls, where someone did.
	Override string `json:"override,omitempty"`
	// Calls are the AWS calls it will make, reads before and after included.
	Calls map[string]int `json:"calls"`
	// Inverse is what undoes it by hand, as AWS CLI commands.
	Inverse []string `json:"inverse,omitempty"`
}

// Manual is a step that only a person can take, or a resource that the plan leaves alone, with the reason.
type Manual struct {
	Ref    fleet.Ref `json:"ref"`
	Name   string    `json:"name,omitempty"`
	Reason string    `json:"reason"`
	Remedy string    `json:"remedy,omitempty"`
	// Commands are the AWS CLI commands that do it.
	Commands []string `json:"commands,omitempty"`
	// Owner is the infrastructure as code in which it has to be changed as well, or instead.
	Owner fleet.Owner `json:"owner,omitzero"`
}

// merge joins needs with equal keys and refuses two that disagree on what they do.
func merge(needs []Need) ([]*Need, error) {
	byKey := map[Key]*Need{}
	var order []Key
	for i := range needs {
		n := needs[i]
		k := n.Key()
		have, ok := byKey[k]
		if !ok {
			n.After, n.For = slices.Clone(n.After), slices.Clone(n.For)
			byKey[k] = &n
			order = append(order, k)
			continue
		}
		if !have.Patch.Equal(n.Patch) || !fleet.State(have.Params).Equal(n.Params) {
			return nil, fmt.Errorf("two proposals disagree on %s of %s: %s against %s", n.Action, n.Ref, show(have.Patch), show(n.Patch))
		}
		have.After = append(have.After, n.After...)
		have.For = append(have.For, n.For...)
	}
	slices.Sort(order)
	out := make([]*Need, len(order))
	for i, k := range order {
		n := byKey[k]
		slices.Sort(n.After)
		n.After = slices.Compact(n.After)
		slices.SortFunc(n.For, fleet.Ref.Compare)
		n.For = slices.Compact(n.For)
		out[i] = n
	}
	return out, nil
}

// sequence sorts needs so that each follows what it comes after, and where that leaves a choice, by stage and key. A cycle
// is an error that names it.
func sequence(needs []*Need) ([]*Need, error) {
	byKey := make(map[Key]*Need, len(needs))
	for _, n := range needs {
		byKey[n.Key()] = n
	}
	sorted := slices.Clone(needs)
	slices.SortStableFunc(sorted, func(a, b *Need) int {
		return cmp.Or(cmp.Compare(slices.Index(Stages(), a.Stage), slices.Index(Stages(), b.Stage)), cmp.Compare(a.Key(), b.Key()))
	})
	const (
		visiting = 1
		done     = 2
	)
	mark := map[Key]int{}
	out := make([]*Need, 0, len(needs))
	var visit func(n *Need) error
	visit = func(n *Need) error {
		k := n.Key()
		switch mark[k] {
		case done:
			return nil
		case visiting:
			return fmt.Errorf("changes wait for each other in a circle at %s of %s", n.Action, n.Ref)
		}
		mark[k] = visiting
		for _, a := range n.After {
			before, ok := byKey[a]
			if !ok {
				return fmt.Errorf("%s of %s waits for %s, which nobody proposed", n.Action, n.Ref, a)
			}
			if err := visit(before); err != nil {
				return err
			}
		}
		mark[k] = done
		out = append(out, n)
		return nil
	}
	for _, n := range sorted {
		if err := visit(n); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func show(s fleet.State) string {
	b, err := json.Marshal(map[string]string(s))
	if err != nil {
		return err.Error()
	}
	return strings.ReplaceAll(string(b), `"`, "")
}
