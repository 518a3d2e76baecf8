// Package ami is the kind ami: whether an Amazon Machine Image says that what is launched from it requires tokens.
//
// It owns how images are read and how ImdsSupport is set. v2.0 makes every launch that does not say otherwise require
// tokens, with a hop limit of 2, and it can never be taken back: the only way out is another image from the same
// snapshots. Images of others are read where something names them, and never written.
package ami

import (
	"regexp"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// VerbRequireTokens sets ImdsSupport to v2.0.
const VerbRequireTokens = "require-tokens"

// FieldSupport is the one field of an image's state; it is absent where the image says nothing.
const FieldSupport = "ImdsSupport"

// supportV2 is the only value of FieldSupport.
const supportV2 = "v2.0"

// attrName is the image's name; Resource.Name is it as well, unless a tag gives another.
const attrName = "name"

const (
	actionDescribe = "ec2:DescribeImages"
	actionModify   = "ec2:ModifyImageAttribute"
)

// Kind describes images.
func Kind() kind.Kind {
	return kind.Kind{
		Name: inventory.KindImage,
		Doc: "Amazon Machine Images that the account owns, and images of others that its instances, templates, launch " +
			"configurations and fleets name. With ImdsSupport v2.0 a launch that neither its parameters, its template nor the " +
			"account's default decide requires tokens and gets a hop limit of 2. It cannot be undone. Only the owner of an " +
			"image can set it.",
		Manner: assess.Manner{Role: assess.RoleSource, Metric: true},
		Reads:  []kind.Action{{Name: actionDescribe, Resource: "*"}},
		Writes: []kind.Action{{Name: actionModify, Resource: "arn:{partition}:ec2:{region}::image/*"}},
		Verbs: []kind.Verb{{
			Name: VerbRequireTokens, Class: plan.ClassSet, Disruption: kind.DisruptsNothing, Undo: kind.UndoNone,
			Calls:  map[string]int{actionDescribe: 2, actionModify: 1},
			DryRun: map[string]int{actionModify: 1},
		}},
		Propose:  propose,
		Commands: commands,
	}
}

// propose asks for it where everything that would launch from the image is ready or done. An image that nothing is known
// to use is not ready.
func propose(c kind.Case) ([]plan.Need, []plan.Manual) {
	r := c.Resource
	if c.Verdict.Status != assess.Ready || r.State[FieldSupport] != "" || !own(r) {
		return nil, nil
	}
	return []plan.Need{{
		Ref: r.Ref, Action: VerbRequireTokens, Class: plan.ClassSet, Stage: plan.StageImages,
		Patch: fleet.State{FieldSupport: supportV2},
		Why:   "launches from it that nothing else decides would allow IMDSv1; this cannot be undone",
	}}, nil
}

// own tells whether the account owns the image.
func own(r *inventory.Resource) bool {
	return r.Attrs[inventory.AttrImageOwner] == string(r.Ref.Account)
}

var imageID = regexp.MustCompile(`^ami-[0-9a-f]{8,17}$`)

// commands has none for a revert: AWS offers none.
func commands(w kind.Write) []string {
	if !imageID.MatchString(w.ID) || !sets(w) {
		return nil
	}
	return []string{kind.Command(w.Place, "ec2", "modify-image-attribute", "--image-id", w.ID, "--imds-support", supportV2)}
}

// sets tells whether the write sets ImdsSupport, and changes nothing else.
func sets(w kind.Write) bool {
	_, before := w.Before[FieldSupport]
	return !w.Revert && !before && w.After.Equal(w.Before.With(fleet.State{FieldSupport: supportV2}))
}
