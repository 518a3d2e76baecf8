// Package kind is the contract between imdsctl and one kind of AWS resource that carries instance metadata settings.
//
// A kind is a value (Kind) that can be read, compared and printed without AWS, and a Driver, which is the kind at work
// in one place. From the two, core derives plan, apply, verify and rollback once for all kinds; a kind never loops,
// retries, throttles or journals. The package imports the pure packages only; the suite that every kind must pass is
// kindtest.
package kind

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/plan"
)

// Kind describes one kind of resource.
type Kind struct {
	// Name is the kind's part of every reference: "ec2-instance". Its folder has the same name without the hyphens,
	// because a Go package cannot have them: see Folder.
	Name string
	// Doc says in a paragraph what the kind is, where its setting lives and what is peculiar about it.
	Doc string
	// Manner is how resources of the kind are judged.
	Manner assess.Manner
	// Lives is in which places the kind is found.
	Lives Home
	// Reads and Writes are the AWS calls the driver makes, with what they depend on. The roles that imdsctl prints are
	// made of them, and the suite compares them with the calls it observes.
	Reads, Writes []Action
	// Verbs are the changes the driver can write.
	Verbs []Verb
	// Propose says what must change for a resource that was judged. It is pure. Nil where AWS offers no write.
	Propose func(Case) ([]plan.Need, []plan.Manual)
	// Commands gives the AWS CLI commands that do the write, one per line, for the plan and the rollback file. It is pure.
	Commands func(Write) []string
}

// Home is in which places a kind is found, and in no others.
type Home int

// Homes.
const (
	// Region: in every region of an account.
	Region Home = iota
	// Account: once in an account, in its global place, whose region is empty.
	Account
	// Organization: once in an organization, in the global place of the account that manages it.
	Organization
)

// In tells whether a kind of this home may be found in a place; of the global places of an organization, which of them is the
// management account's is not known here.
func (h Home) In(place fleet.Place) bool { return (h == Region) == (place.Region != "") }

// Action is one AWS API call in IAM's words.
type Action struct {
	// Name is IAM's: "ec2:ModifyInstanceMetadataOptions".
	Name string
	// With lists permissions that AWS checks in the same call ("ec2:CreateTags", "iam:PassRole"), each in IAM's words.
	With []string
	// Resource is the ARN pattern it can be limited to, with {partition}, {region} and {account}; "*" where AWS offers
	// none.
	Resource string
	// ToWrite: a read that is only made around a write, so that who looks need not be allowed it.
	ToWrite bool
}

// Verb is one change a driver can write.
type Verb struct {
	Name       string // "set-options"
	Class      plan.Class
	Disruption Disruption
	Undo       Undo
	// Residue says what stays behind after an undo; empty where nothing does.
	Residue string
	// Outputs names what the write produces: "Version".
	Outputs []string
	// Calls counts the AWS calls of one write by action, the reads before and after included.
	Calls map[string]int
	// Checks counts, by action and at most, the AWS calls of one UndoChecker.CheckUndo, which are made once for a stack
	// and not for each change. Nil where AWS offers no way to ask.
	Checks map[string]int
	// DryRun counts, by action and at most, the AWS calls of one DryRunner.DryRun. Nil where AWS offers no dry run of this
	// write.
	DryRun map[string]int
}

// Disruption is what a change does to what runs.
type Disruption string

// Disruptions.
const (
	DisruptsNothing Disruption = "none"
	DisruptsRestart Disruption = "restart"
	DisruptsReplace Disruption = "replace"
)

// Undo is how far a change can be taken back.
type Undo string

// Undos.
const (
	UndoFull Undo = "full"
	UndoNone Undo = "none"
)

// Folder is the name of the kind's folder and Go package: "ec2instance".
func (k *Kind) Folder() string { return strings.ReplaceAll(k.Name, "-", "") }

// Verb finds a verb by name.
func (k *Kind) Verb(name string) (Verb, bool) {
	for _, v := range k.Verbs {
		if v.Name == name {
			return v, true
		}
	}
	return Verb{}, false
}

// Case is one judged resource with what surrounds it, as Propose sees it.
type Case struct {
	Resource *inventory.Resource
	// Verdict is nil for what is no more than a fact (assess.RoleFact), of which only manual steps are taken.
	Verdict *assess.Verdict
	Index   *inventory.Index
	// Judge gives the verdict on another resource of the place; nil where there is none.
	Judge func(fleet.Ref) *assess.Verdict
}

// Driver is a kind at work in one place, as one caller. It is safe for several goroutines. All errors of AWS calls are
// *fleet.CallError.
type Driver interface {
	// List emits every resource of the kind in the place, page by page, in AWS's order, and stops at the first error, its
	// own or emit's. What was emitted before an error is true but incomplete; a nil error means that all was emitted.
	List(ctx context.Context, emit func(inventory.Resource) error) error

	// Read gives the resource as it is now. A resource that is no more is an error of class fleet.ErrGone.
	Read(ctx context.Context, id string) (inventory.Resource, error)

	// Write makes the one AWS change that takes the resource from w.Before to w.After, and returns what it produced. The
	// caller has just read the resource and found w.Before. For a create, w.Token is sent as the client token and w.Marker
	// is left on what is made; the driver compares what was made with its source, and if it differs in more than it
	// should, removes it again and fails with class fleet.ErrConflict. An error of class fleet.ErrTransient leaves the
	// effect unknown; any other error means that nothing was changed.
	Write(ctx context.Context, w Write) (Result, error)

	// Find looks for what an earlier Write of a create under w.Marker made, and finishes what that Write may not have come
	// to: it compares what was made with its source, and removes it with class fleet.ErrConflict where they differ in more
	// than they should. ErrNotFound where there is nothing, and for a start of which nothing can be found: it is sent again
	// under its token.
	Find(ctx context.Context, w Write) (Result, error)
}

// Write is one write as the engine asks for it. All references to outputs are resolved.
type Write struct {
	Place  fleet.Place
	ID     string // of the resource
	Verb   string
	Revert bool // the verb is to be undone: Before and After are exchanged already
	Before fleet.State
	After  fleet.State
	Params map[string]string
	// Made are the outputs of the write that is to be undone; nil otherwise.
	Made map[string]string
	// Token is unique to the attempt; at most 64 characters of [A-Za-z0-9-].
	Token string
	// Marker is unique to the attempt and made to be found again; at most 64 characters.
	Marker string
}

// Result is what a write produced.
type Result struct {
	Outputs   map[string]string
	RequestID string
}

// ErrNotFound: nothing was made under the marker.
var ErrNotFound = errors.New("nothing was made under this marker")

// TokenLife is how long a client token is taken to guard against a second creation. EC2 documents "at least 24 hours"
// for some calls and is silent on others, so a retry under the same token is only made well inside that.
const TokenLife = 6 * time.Hour
