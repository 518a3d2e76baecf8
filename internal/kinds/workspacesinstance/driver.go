package workspacesinstance

import (
	"context"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// mostResults is the largest page of ListWorkspaceInstances.
const mostResults = 25

// service is WorkSpaces Instances by its API model (2022-07-26), for which there is no Go client. In regions without the
// service its endpoint has no name, which awsx tells apart as fleet.ErrNotOffered.
func service() awsx.JSONService {
	return awsx.JSONService{
		ID: "Workspaces Instances", Signing: "workspaces-instances", Target: "EUCMIFrontendAPIService", Version: "1.0",
		Endpoint: func(region string) string {
			suffix := "api.aws"
			if fleet.PartitionOf(fleet.Region(region)) == fleet.PartitionChina {
				suffix = "api.amazonwebservices.com.cn"
			}
			return "https://workspaces-instances." + region + "." + suffix
		},
	}
}

// Open makes the driver for one place. cfg decides endpoint, credentials, limits and retries.
func Open(cfg aws.Config, place fleet.Place, _ clock.Clock) kind.Driver {
	return &driver{cfg: cfg, place: place}
}

type driver struct {
	cfg   aws.Config
	place fleet.Place
}

// machine is a WorkSpaces instance in an answer, of a listing or by itself.
type machine struct {
	ID    string `json:"WorkspaceInstanceId"`
	State string `json:"ProvisionState"`
	EC2   struct {
		InstanceID string `json:"InstanceId"`
	} `json:"EC2ManagedInstance"`
}

func (d *driver) List(ctx context.Context, emit func(inventory.Resource) error) error {
	type request struct {
		MaxResults int32
		NextToken  string `json:",omitempty"`
	}
	in := request{MaxResults: kind.PageSize(ctx, mostResults)}
	for {
		var out struct {
			WorkspaceInstances []machine
			NextToken          string
		}
		if _, err := service().Call(ctx, d.cfg, "ListWorkspaceInstances", in, &out); err != nil {
			return fmt.Errorf("list WorkSpaces instances: %w", err)
		}
		for i := range out.WorkspaceInstances {
			if err := emit(d.resource(&out.WorkspaceInstances[i])); err != nil {
				return err
			}
		}
		switch out.NextToken {
		case "":
			return nil
		case in.NextToken:
			return kind.Errorf(fleet.ErrOther, d.place, actionList, "list WorkSpaces instances: AWS gives the same page again")
		}
		in.NextToken = out.NextToken
	}
}

func (d *driver) Read(ctx context.Context, id string) (inventory.Resource, error) {
	if !instanceID.MatchString(id) {
		return inventory.Resource{}, kind.Errorf(fleet.ErrGone, d.place, actionGet, "%q is no id of a WorkSpaces instance", id)
	}
	var out machine
	in := map[string]string{"WorkspaceInstanceId": id}
	if _, err := service().Call(ctx, d.cfg, "GetWorkspaceInstance", in, &out); err != nil {
		return inventory.Resource{}, fmt.Errorf("read WorkSpaces instance %s: %w", id, err)
	}
	if out.ID != id {
		return inventory.Resource{}, kind.Errorf(fleet.ErrOther, d.place, actionGet, "the answer about %s is about %q", id, out.ID)
	}
	return d.resource(&out), nil
}

func (d *driver) resource(m *machine) inventory.Resource {
	r := inventory.Resource{
		Ref:      fleet.Ref{Place: d.place, Kind: inventory.KindWorkspace, ID: m.ID},
		State:    fleet.State{FieldState: m.State},
		Links:    links(d.place, m.EC2.InstanceID),
		Settling: m.State == "ALLOCATING" || m.State == "DEALLOCATING",
	}
	if m.EC2.InstanceID != "" {
		r.State[FieldInstance] = m.EC2.InstanceID
	}
	return r
}

// Write has nothing to write: the service has no call for it.
func (d *driver) Write(_ context.Context, w kind.Write) (kind.Result, error) {
	return kind.Result{}, kind.Errorf(fleet.ErrInvalid, d.place, actionGet, "WorkSpaces instances have no verb %q", w.Verb)
}

// Find has nothing to look for: no verb creates.
func (d *driver) Find(context.Context, kind.Write) (kind.Result, error) {
	return kind.Result{}, kind.ErrNotFound
}
