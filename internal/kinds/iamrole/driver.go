package iamrole

import (
	"context"
	"fmt"
	"net/url"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// mostItems is the page that is asked for. IAM gives up to 1000 entities, each with all versions of its documents, which could
// be many megabytes.
const mostItems = 200

// service is IAM by its API model (2010-05-08). It has one endpoint in a partition.
// https://docs.aws.amazon.com/general/latest/gr/iam-service.html
func service() awsx.QueryService {
	return awsx.QueryService{
		ID: "IAM", Signing: "iam", Version: "2010-05-08",
		Endpoint: func(region string) string {
			switch fleet.PartitionOf(fleet.Region(region)) {
			case fleet.PartitionChina:
				return "https://iam.cn-north-1.amazonaws.com.cn"
			case fleet.PartitionGov:
				return "https://iam.us-gov.amazonaws.com"
			default:
				return "https://iam.amazonaws.com"
			}
		},
	}
}

// Open makes the driver for the global place of an account. cfg decides endpoint, credentials, limits and retries.
func Open(cfg aws.Config, place fleet.Place, _ clock.Clock) kind.Driver {
	return &driver{cfg: cfg, place: place}
}

type driver struct {
	cfg   aws.Config
	place fleet.Place
}

// details is a page of the account's authorization details.
type details struct {
	Roles    []role   `xml:"RoleDetailList>member"`
	Policies []policy `xml:"Policies>member"`
	More     bool     `xml:"IsTruncated"`
	Marker   string   `xml:"Marker"`
}

type role struct {
	Name     string `xml:"RoleName"`
	ARN      string `xml:"Arn"`
	Trust    string `xml:"AssumeRolePolicyDocument"`
	Profiles []struct {
		Name string `xml:"InstanceProfileName"`
	} `xml:"InstanceProfileList>member"`
	Inline []struct {
		Name     string `xml:"PolicyName"`
		Document string `xml:"PolicyDocument"`
	} `xml:"RolePolicyList>member"`
	Attached []struct {
		Name string `xml:"PolicyName"`
		ARN  string `xml:"PolicyArn"`
	} `xml:"AttachedManagedPolicies>member"`
	Boundary string `xml:"PermissionsBoundary>PermissionsBoundaryArn"`
	Tags     []struct {
		Key   string `xml:"Key"`
		Value string `xml:"Value"`
	} `xml:"Tags>member"`
}

type policy struct {
	Name     string `xml:"PolicyName"`
	ARN      string `xml:"Arn"`
	Versions []struct {
		Document string `xml:"Document"`
		Default  bool   `xml:"IsDefaultVersion"`
	} `xml:"PolicyVersionList>member"`
}

// List reads all roles and managed policies of the account, and then emits the roles that are kept: a policy may be on a later
// page than the roles that it is attached to.
func (d *driver) List(ctx context.Context, emit func(inventory.Resource) error) error {
	var roles []role
	documents := map[string]document{}
	in := url.Values{"MaxItems": {strconv.Itoa(int(kind.PageSize(ctx, mostItems)))}}
	for i, entity := range []string{"Role", "LocalManagedPolicy", "AWSManagedPolicy"} {
		in.Set(fmt.Sprintf("Filter.member.%d", i+1), entity)
	}
	for {
		var page details
		if _, err := service().Call(ctx, d.cfg, "GetAccountAuthorizationDetails", in, &page); err != nil {
			return fmt.Errorf("list IAM roles with their policies: %w", err)
		}
		for i := range page.Roles {
			if hosts(&page.Roles[i]) {
				roles = append(roles, page.Roles[i])
			}
		}
		for i := range page.Policies {
			documents[page.Policies[i].ARN] = inForce(&page.Policies[i])
		}
		if !page.More {
			break
		}
		if page.Marker == "" || page.Marker == in.Get("Marker") {
			return kind.Errorf(fleet.ErrOther, d.place, actionDetails, "list IAM roles: AWS gives the same page again")
		}
		in.Set("Marker", page.Marker)
	}
	for i := range roles {
		if err := emit(d.resource(&roles[i], documents)); err != nil {
			return err
		}
	}
	return nil
}

// Read gives one role. IAM has no call that gives a role with all its policies, so that it takes a listing; a role that is not
// kept is as good as gone.
func (d *driver) Read(ctx context.Context, id string) (inventory.Resource, error) {
	var found *inventory.Resource
	err := d.List(ctx, func(r inventory.Resource) error {
		if r.Ref.ID == id {
			found = &r
		}
		return nil
	})
	if err != nil {
		return inventory.Resource{}, err
	}
	if found == nil {
		return inventory.Resource{}, kind.Errorf(fleet.ErrGone, d.place, actionDetails, "no host has a role of the name %s", id)
	}
	return *found, nil
}

// Write refuses: a role has no metadata options.
func (d *driver) Write(_ context.Context, w kind.Write) (kind.Result, error) {
	return kind.Result{}, kind.Errorf(fleet.ErrInvalid, d.place, w.Verb, "IAM roles have no verb %q", w.Verb)
}

// Find has nothing to look for: no verb creates.
func (d *driver) Find(context.Context, kind.Write) (kind.Result, error) {
	return kind.Result{}, kind.ErrNotFound
}
