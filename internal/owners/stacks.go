package owners

import (
	"slices"
	"strings"

	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// Stack is a CloudFormation stack, as ListStacks tells of it.
type Stack struct {
	// ID is its ARN; Root that of the outermost stack it is nested in, empty for one that is not nested.
	ID, Name, Root string
}

// StackResource is one resource of a stack, as ListStackResources tells of it.
type StackResource struct{ Logical, Physical, Type string }

// Stacks gives the claims of the stacks of one place. The owner is the root of nested stacks, because whoever changes those
// begins there; the stack in which the resource stands is named beside it.
type Stacks struct {
	place fleet.Place
	names map[string]string
}

// NewStacks begins with all stacks of a place.
func NewStacks(place fleet.Place, stacks []Stack) *Stacks {
	s := &Stacks{place: place, names: map[string]string{}}
	for _, st := range stacks {
		s.names[st.ID] = st.Name
	}
	return s
}

// Claim gives the claim of a stack on one of its resources; ok is false for what imdsctl does not know.
func (s *Stacks) Claim(of Stack, r StackResource) (Claim, bool) {
	t, known := stackTypes()[r.Type]
	if !known || r.Physical == "" {
		return Claim{}, false
	}
	id := r.Physical
	if t.tail && strings.HasPrefix(id, "arn:") {
		id = id[strings.LastIndex(id, "/")+1:]
	}
	name := r.Logical + " of stack " + of.Name
	if of.Root != "" && of.Root != of.ID {
		name = r.Logical + " of stack " + s.rootName(of.Root) + " (nested: " + of.Name + ")"
	}
	place := s.place
	if t.global {
		place.Region = ""
	}
	return Claim{Kind: t.kind, ID: t.prefix + id, Place: place, Owner: fleet.Owner{Type: fleet.OwnerCloudFormation, Name: name}}, true
}

// rootName is the name of the root; where the list does not have it, what its ARN says.
func (s *Stacks) rootName(arn string) string {
	if name, ok := s.names[arn]; ok {
		return name
	}
	parts := strings.Split(arn, "/") // arn:…:stack/NAME/UUID
	if i := slices.IndexFunc(parts, func(p string) bool { return strings.HasSuffix(p, ":stack") }); i >= 0 && i+1 < len(parts) {
		return parts[i+1]
	}
	return arn
}

// stackType says which kind a type of resource is, and what Ref gives for it (the physical id; CloudFormation's resource
// reference, "Return values" of each type).
type stackType struct {
	kind   string
	prefix string
	tail   bool // the physical id is an ARN, whose last part is the name
	global bool
}

func stackTypes() map[string]stackType {
	return map[string]stackType{
		"AWS::EC2::Instance":                             {kind: inventory.KindInstance},
		"AWS::EC2::LaunchTemplate":                       {kind: inventory.KindLaunchTemplate},
		"AWS::AutoScaling::LaunchConfiguration":          {kind: inventory.KindLaunchConfiguration},
		"AWS::AutoScaling::AutoScalingGroup":             {kind: inventory.KindAutoScaling},
		"AWS::EC2::EC2Fleet":                             {kind: inventory.KindFleet},
		"AWS::EC2::SpotFleet":                            {kind: inventory.KindSpotFleet},
		"AWS::EKS::Nodegroup":                            {kind: inventory.KindNodegroup}, // cluster/name
		"AWS::Batch::ComputeEnvironment":                 {kind: inventory.KindBatch, tail: true},
		"AWS::ElasticBeanstalk::Environment":             {kind: inventory.KindBeanstalk}, // its name
		"AWS::EMR::SecurityConfiguration":                {kind: inventory.KindEMR},
		"AWS::ImageBuilder::InfrastructureConfiguration": {kind: inventory.KindImageBuilder},
		"AWS::SageMaker::NotebookInstance":               {kind: inventory.KindNotebook, tail: true},
		"AWS::Lightsail::Instance":                       {kind: inventory.KindLightsail},
		"AWS::AppStream::Fleet":                          {kind: inventory.KindAppStream, prefix: "fleet/"},
		"AWS::AppStream::ImageBuilder":                   {kind: inventory.KindAppStream, prefix: "image-builder/"},
		"AWS::Organizations::Policy":                     {kind: inventory.KindOrganizationPolicy, global: true},
	}
}
