// Package fleet is the vocabulary of imdsctl: where a resource is (partition, account, region), which resource it is
// (kind and id), what its metadata options say, who owns it, and what went wrong while looking.
//
// It owns identity and comparison and nothing else: no clock, no network, no SQL, no SDK types. Every other package may
// import it; it imports the standard library only.
package fleet

import (
	"cmp"
	"fmt"
	"strings"
)

// Partition is an AWS partition: "aws", "aws-cn" or "aws-us-gov".
type Partition string

// The partitions imdsctl knows.
const (
	PartitionAWS   Partition = "aws"
	PartitionChina Partition = "aws-cn"
	PartitionGov   Partition = "aws-us-gov"
)

// HomeRegion is where the partition's global services (IAM, Organizations) sign their requests.
func (p Partition) HomeRegion() Region {
	switch p {
	case PartitionChina:
		return "cn-north-1"
	case PartitionGov:
		return "us-gov-west-1"
	default:
		return "us-east-1"
	}
}

// PartitionOf tells the partition a region belongs to, by its name's prefix.
func PartitionOf(r Region) Partition {
	switch {
	case strings.HasPrefix(string(r), "cn-"):
		return PartitionChina
	case strings.HasPrefix(string(r), "us-gov-"):
		return PartitionGov
	default:
		return PartitionAWS
	}
}

// AccountID is a twelve-digit AWS account number, leading zeros kept.
type AccountID string

// Valid tells whether the id is twelve decimal digits.
func (a AccountID) Valid() bool {
	if len(a) != 12 {
		return false
	}
	for _, r := range a {
		if r < '0' || r > '9' {
			return false
		}
	}
	return true
}

// Region is an AWS region such as "eu-west-1". The empty region means a global resource.
type Region string

// Place is where AWS calls are made and throttled: one account in one region of one partition. An execution lane, a
// scan scope and a set of token buckets all belong to a place.
type Place struct {
	Partition Partition `json:"partition"`
	Account   AccountID `json:"account"`
	Region    Region    `json:"region,omitempty"`
}

// String gives "aws/111122223333/eu-west-1"; a global place ends in "global".
func (p Place) String() string {
	region := p.Region
	if region == "" {
		region = "global"
	}
	return string(p.Partition) + "/" + string(p.Account) + "/" + string(region)
}

// ParsePlace reads what String wrote.
func ParsePlace(s string) (Place, error) {
	parts := strings.Split(s, "/")
	if len(parts) != 3 || parts[0] == "" || !AccountID(parts[1]).Valid() || parts[2] == "" {
		return Place{}, fmt.Errorf("place %q: want partition/account/region", s)
	}
	p := Place{Partition: Partition(parts[0]), Account: AccountID(parts[1]), Region: Region(parts[2])}
	if p.Region == "global" {
		p.Region = ""
	}
	return p, nil
}

// Compare orders places by partition, account and region.
func (p Place) Compare(q Place) int {
	return cmp.Or(cmp.Compare(p.Partition, q.Partition), cmp.Compare(p.Account, q.Account), cmp.Compare(p.Region, q.Region))
}

// MarshalText makes a place a JSON string or map key.
func (p Place) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText reads what MarshalText wrote.
func (p *Place) UnmarshalText(b []byte) (err error) {
	*p, err = ParsePlace(string(b))
	return err
}

// Ref identifies one resource in the world: its place, its kind ("ec2-instance") and the id AWS gives it within the two.
type Ref struct {
	Place
	Kind string
	ID   string
}

// String gives "aws/111122223333/eu-west-1/ec2-instance/i-0abc". An id may itself contain slashes.
func (r Ref) String() string { return r.Place.String() + "/" + r.Kind + "/" + r.ID }

// ParseRef reads what String wrote.
func ParseRef(s string) (Ref, error) {
	parts := strings.SplitN(s, "/", 5)
	if len(parts) != 5 || parts[3] == "" || parts[4] == "" {
		return Ref{}, fmt.Errorf("resource %q: want partition/account/region/kind/id", s)
	}
	place, err := ParsePlace(strings.Join(parts[:3], "/"))
	if err != nil {
		return Ref{}, fmt.Errorf("resource %q: %w", s, err)
	}
	return Ref{Place: place, Kind: parts[3], ID: parts[4]}, nil
}

// Compare orders references by place, kind and id.
func (r Ref) Compare(o Ref) int {
	return cmp.Or(r.Place.Compare(o.Place), cmp.Compare(r.Kind, o.Kind), cmp.Compare(r.ID, o.ID))
}

// Sibling names another resource in the same place.
func (r Ref) Sibling(kind, id string) Ref { return Ref{Place: r.Place, Kind: kind, ID: id} }

// IsZero tells whether the reference names nothing.
func (r Ref) IsZero() bool { return r == Ref{} }

// MarshalText makes a reference a JSON string or map key.
func (r Ref) MarshalText() ([]byte, error) {
	if r.IsZero() {
		return nil, nil
	}
	return []byte(r.String()), nil
}

// UnmarshalText reads what MarshalText wrote.
func (r *Ref) UnmarshalText(b []byte) (err error) {
	if len(b) == 0 {
		*r = Ref{}
		return nil
	}
	*r, err = ParseRef(string(b))
	return err
}

// Owner is what created a resource and would change it back: the thing that must be fixed for a fix to last.
type Owner struct {
	// Type is one of the Owner constants; empty means nobody is known.
	Type string `json:"type,omitempty"`
	// Name is the owner's own name: a stack, a node group, an environment.
	Name string `json:"name,omitempty"`
	// Managed means an AWS service operates the resource (Operator.Managed, Beanstalk, an EKS node group without a
	// template of its own): imdsctl never writes it directly.
	Managed bool `json:"managed,omitempty"`
}

// Owner types.
const (
	OwnerAutoScaling    = "auto-scaling-group"
	OwnerCloudFormation = "cloudformation"
	OwnerTerraform      = "terraform"
	OwnerEKS            = "eks-nodegroup"
	OwnerKarpenter      = "karpenter"
	OwnerBeanstalk      = "elastic-beanstalk"
	OwnerBatch          = "batch"
	OwnerECS            = "ecs-capacity"
	OwnerEMR            = "emr"
	OwnerParallel       = "parallelcluster"
	OwnerCloud9         = "cloud9"
	OwnerService        = "aws-service"
)

// IsCode tells whether the owner is infrastructure as code: a setting may be written, and must be changed in the code too, or
// the code changes it back.
func (o Owner) IsCode() bool {
	return !o.Managed && (o.Type == OwnerTerraform || o.Type == OwnerCloudFormation)
}

// String gives "type name", or "" where nobody is known.
func (o Owner) String() string { return strings.TrimSpace(o.Type + " " + o.Name) }
