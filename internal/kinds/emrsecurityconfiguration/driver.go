package emrsecurityconfiguration

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/emr"
	"github.com/aws/aws-sdk-go-v2/service/emr/types"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// Open makes the driver for one place. cfg decides endpoint, credentials, limits and retries.
func Open(cfg aws.Config, place fleet.Place, _ clock.Clock) kind.Driver {
	return &driver{client: emr.NewFromConfig(cfg), place: place}
}

type driver struct {
	client *emr.Client
	place  fleet.Place
}

// The id of a cluster has a prefix, and so has that of a configuration whose name would look like one.
const (
	clusterPrefix       = "cluster/"
	configurationPrefix = "configuration/"
)

// configurationID is the id of a configuration, which has no other than its name.
func configurationID(name string) string {
	if strings.HasPrefix(name, clusterPrefix) || strings.HasPrefix(name, configurationPrefix) {
		return configurationPrefix + name
	}
	return name
}

// List gives the configurations, and after them the clusters without one. EMR's lists take no page size.
func (d *driver) List(ctx context.Context, emit func(inventory.Resource) error) error {
	clusters, err := d.clusters(ctx)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	in := &emr.ListSecurityConfigurationsInput{}
	for {
		out, err := d.client.ListSecurityConfigurations(ctx, in)
		if err != nil {
			return fmt.Errorf("list EMR security configurations: %w", awsx.Plain(err))
		}
		for _, summary := range out.SecurityConfigurations {
			name := aws.ToString(summary.Name)
			r, err := d.configuration(ctx, name, clusters)
			if fleet.ClassOf(err) == fleet.ErrGone {
				continue // it was deleted since the page was made
			}
			if err != nil {
				return err
			}
			there[name] = true
			if err := emit(r); err != nil {
				return err
			}
		}
		if aws.ToString(out.Marker) == "" {
			break
		}
		in.Marker = out.Marker
	}
	for _, c := range clusters {
		if there[aws.ToString(c.SecurityConfiguration)] {
			continue
		}
		if err := emit(d.bare(c)); err != nil {
			return err
		}
	}
	return nil
}

// Read gives a configuration or a cluster without one. A cluster with one is none of this kind.
func (d *driver) Read(ctx context.Context, id string) (inventory.Resource, error) {
	if cluster, ok := strings.CutPrefix(id, clusterPrefix); ok {
		return d.readBare(ctx, cluster)
	}
	clusters, err := d.clusters(ctx)
	if err != nil {
		return inventory.Resource{}, err
	}
	return d.configuration(ctx, strings.TrimPrefix(id, configurationPrefix), clusters)
}

func (d *driver) readBare(ctx context.Context, id string) (inventory.Resource, error) {
	c, err := d.cluster(ctx, id)
	if err != nil {
		return inventory.Resource{}, err
	}
	name := aws.ToString(c.SecurityConfiguration)
	if name == "" {
		return d.bare(c), nil
	}
	_, err = d.document(ctx, name)
	switch {
	case fleet.ClassOf(err) == fleet.ErrGone:
		return d.bare(c), nil
	case err != nil:
		return inventory.Resource{}, err
	}
	return inventory.Resource{}, kind.Errorf(fleet.ErrGone, d.place, actionCluster,
		"EMR cluster %s has the security configuration %s, which stands for it", id, name)
}

// running are the states of clusters that have or will have instances for some time.
func running() []types.ClusterState {
	return []types.ClusterState{
		types.ClusterStateStarting, types.ClusterStateBootstrapping, types.ClusterStateRunning, types.ClusterStateWaiting,
	}
}

// clusters reads all clusters that run, the newest first.
func (d *driver) clusters(ctx context.Context) ([]*types.Cluster, error) {
	var found []*types.Cluster
	in := &emr.ListClustersInput{ClusterStates: running()}
	for {
		out, err := d.client.ListClusters(ctx, in)
		if err != nil {
			return nil, fmt.Errorf("list EMR clusters: %w", awsx.Plain(err))
		}
		for _, summary := range out.Clusters {
			c, err := d.cluster(ctx, aws.ToString(summary.Id))
			if fleet.ClassOf(err) == fleet.ErrGone {
				continue // it ended since the page was made
			}
			if err != nil {
				return nil, err
			}
			found = append(found, c)
		}
		if aws.ToString(out.Marker) == "" {
			return found, nil
		}
		in.Marker = out.Marker
	}
}

func (d *driver) cluster(ctx context.Context, id string) (*types.Cluster, error) {
	out, err := d.client.DescribeCluster(ctx, &emr.DescribeClusterInput{ClusterId: aws.String(id)})
	if err != nil {
		return nil, fmt.Errorf("read EMR cluster %s: %w", id, classed(err, "is not valid"))
	}
	c := out.Cluster
	if c == nil || c.Status == nil || !slices.Contains(running(), c.Status.State) {
		return nil, kind.Errorf(fleet.ErrGone, d.place, actionCluster, "EMR cluster %s does not run", id)
	}
	return c, nil
}

func (d *driver) document(ctx context.Context, name string) (string, error) {
	out, err := d.client.DescribeSecurityConfiguration(ctx, &emr.DescribeSecurityConfigurationInput{Name: aws.String(name)})
	if err != nil {
		return "", fmt.Errorf("read EMR security configuration %s: %w", name, classed(err, "does not exist"))
	}
	return aws.ToString(out.SecurityConfiguration), nil
}

// classed makes EMR's InvalidRequestException an error of class gone where its message says so: it has no code for that.
func classed(err error, gone string) error {
	err = awsx.Plain(err)
	call, ok := errors.AsType[*fleet.CallError](err)
	if !ok || call.Code != "InvalidRequestException" || !strings.Contains(call.Err.Error(), gone) {
		return err
	}
	told := *call
	told.Class = fleet.ErrGone
	return &told
}

// configuration reads one configuration and says who uses it.
func (d *driver) configuration(ctx context.Context, name string, clusters []*types.Cluster) (inventory.Resource, error) {
	document, err := d.document(ctx, name)
	if err != nil {
		return inventory.Resource{}, err
	}
	said, err := parse(document)
	if err != nil {
		return inventory.Resource{}, kind.Errorf(fleet.ErrOther, d.place, actionDescribe,
			"EMR security configuration %s: %w", name, err)
	}
	sum := sha256.Sum256([]byte(document))
	r := inventory.Resource{
		Ref:   fleet.Ref{Place: d.place, Kind: inventory.KindEMR, ID: configurationID(name)},
		Name:  name,
		State: said.state(), Says: new(said.options()),
		Attrs: map[string]string{AttrDocument: hex.EncodeToString(sum[:])},
	}
	var users []string
	for _, c := range clusters {
		if aws.ToString(c.SecurityConfiguration) == name {
			users = append(users, strings.TrimSpace(aws.ToString(c.Name)+" "+aws.ToString(c.Id)))
		}
	}
	if len(users) > 0 {
		r.Attrs[AttrClusters] = strings.Join(users, ", ")
	}
	return r, nil
}

func (s setting) state() fleet.State {
	out := fleet.State{}
	if s.version != "" {
		out[FieldVersion] = s.version
	}
	if s.hops != "" {
		out[FieldHopLimit] = s.hops
	}
	return out
}

// options are what a cluster's instances get: without a version EMR allows IMDSv1.
func (s setting) options() fleet.Options {
	o := fleet.Options{Tokens: fleet.TokensOptional}
	if s.version != "" && s.version != "1" {
		o.Tokens = fleet.TokensRequired
	}
	o.HopLimit, _ = strconv.Atoi(s.hops) // a number, or nothing
	return o
}

// bare is a cluster that no configuration of this place stands for. Where its configuration was deleted, what it says
// cannot be known.
func (d *driver) bare(c *types.Cluster) inventory.Resource {
	id := aws.ToString(c.Id)
	r := inventory.Resource{
		Ref:  fleet.Ref{Place: d.place, Kind: inventory.KindEMR, ID: clusterPrefix + id},
		Name: aws.ToString(c.Name), State: fleet.State{},
		Attrs: map[string]string{AttrRelease: aws.ToString(c.ReleaseLabel)},
	}
	for _, t := range c.Tags {
		if r.Tags == nil {
			r.Tags = map[string]string{}
		}
		r.Tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	r.Owner = kind.OwnerByTags(r.Tags)
	if name := aws.ToString(c.SecurityConfiguration); name != "" {
		r.State[FieldConfiguration] = name
		return r
	}
	r.Says = new(setting{}.options())
	return r
}

// Write has nothing to write: no verb is offered.
func (d *driver) Write(_ context.Context, w kind.Write) (kind.Result, error) {
	return kind.Result{}, kind.Errorf(fleet.ErrInvalid, d.place, w.Verb,
		"%s: EMR security configurations and clusters cannot be changed; replace them", w.ID)
}

// Find has nothing to look for: no verb creates.
func (d *driver) Find(context.Context, kind.Write) (kind.Result, error) {
	return kind.Result{}, kind.ErrNotFound
}
