package appstream

import (
	"context"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/appstream"
	"github.com/aws/smithy-go/middleware"

	"github.com/imdsctl/imdsctl/internal/awsx"
	"github.com/imdsctl/imdsctl/internal/clock"
	"github.com/imdsctl/imdsctl/internal/fleet"
	"github.com/imdsctl/imdsctl/internal/inventory"
	"github.com/imdsctl/imdsctl/internal/kind"
)

// mostResults is the page size of the lists that take one.
const mostResults = 25

// Open makes the driver for one place. cfg decides endpoint, credentials, limits and retries.
func Open(cfg aws.Config, place fleet.Place, _ clock.Clock) kind.Driver {
	return &driver{client: appstream.NewFromConfig(cfg), place: place}
}

type driver struct {
	client *appstream.Client
	place  fleet.Place
}

// page is one page of machines as AppStream describes them, and the token of the next.
type page struct {
	machines []machine
	next     *string
}

// read reads a page of one sort of machines: all, or those with the given names.
type read func(ctx context.Context, names []string, token *string) (page, error)

// sorts are the sorts of machines in the order in which they are listed.
func (d *driver) sorts() []struct {
	prefix, what, action string
	read                 read
} {
	return []struct {
		prefix, what, action string
		read                 read
	}{
		{fleetPrefix, "fleets", actionFleets, d.fleets},
		{imageBuilderPrefix, "image builders", actionImageBuilders, d.imageBuilders},
		{appBuilderPrefix, "app block builders", actionAppBuilders, d.appBuilders},
	}
}

func (d *driver) List(ctx context.Context, emit func(inventory.Resource) error) error {
	images := map[string]string{}
	for _, s := range d.sorts() {
		for token := (*string)(nil); ; {
			p, err := s.read(ctx, nil, token)
			if err != nil {
				return fmt.Errorf("list AppStream %s: %w", s.what, awsx.Plain(err))
			}
			for _, m := range p.machines {
				r, err := d.resource(ctx, s.prefix, m, images)
				if fleet.ClassOf(err) == fleet.ErrGone {
					continue // it ended since the page was made
				}
				if err != nil {
					return err
				}
				if err := emit(r); err != nil {
					return err
				}
			}
			if token = p.next; aws.ToString(token) == "" {
				break
			}
		}
	}
	return nil
}

func (d *driver) Read(ctx context.Context, id string) (inventory.Resource, error) {
	for _, s := range d.sorts() {
		name, ok := strings.CutPrefix(id, s.prefix)
		if !ok {
			continue
		}
		p, err := s.read(ctx, []string{name}, nil)
		if err != nil {
			return inventory.Resource{}, fmt.Errorf("read AppStream %s: %w", id, awsx.Plain(err))
		}
		for _, m := range p.machines {
			if m.name == name {
				return d.resource(ctx, s.prefix, m, map[string]string{})
			}
		}
		return inventory.Resource{}, kind.Errorf(fleet.ErrGone, d.place, s.action, "AppStream %s does not exist", id)
	}
	return inventory.Resource{}, kind.Errorf(fleet.ErrGone, d.place, actionFleets,
		"%s names no sort of AppStream resource that is known", id)
}

// Write makes the one call that the verb and the target say. AppStream keeps what an update leaves out.
func (d *driver) Write(ctx context.Context, w kind.Write) (kind.Result, error) {
	c, ok := callOf(w)
	if !ok {
		return kind.Result{}, kind.Errorf(fleet.ErrInvalid, d.place, w.Verb, "AppStream %s: %s cannot write %s", w.ID, w.Verb,
			fleet.DescribeDiff(w.Before, w.After))
	}
	answer, err := d.send(ctx, c)
	if err != nil {
		return kind.Result{}, fmt.Errorf("%s %s: %w", c.what, c, awsx.Plain(err))
	}
	id, _ := awsmiddleware.GetRequestIDMetadata(answer)
	return kind.Result{RequestID: id}, nil
}

// send makes the call, and gives what its answer carries besides its content.
func (d *driver) send(ctx context.Context, c call) (middleware.Metadata, error) {
	name := aws.String(c.name)
	switch {
	case c.what == starts && c.builder:
		out, err := d.client.StartAppBlockBuilder(ctx, &appstream.StartAppBlockBuilderInput{Name: name})
		if err != nil {
			return middleware.Metadata{}, err
		}
		return out.ResultMetadata, nil
	case c.what == starts:
		out, err := d.client.StartFleet(ctx, &appstream.StartFleetInput{Name: name})
		if err != nil {
			return middleware.Metadata{}, err
		}
		return out.ResultMetadata, nil
	case c.what == stops && c.builder:
		out, err := d.client.StopAppBlockBuilder(ctx, &appstream.StopAppBlockBuilderInput{Name: name})
		if err != nil {
			return middleware.Metadata{}, err
		}
		return out.ResultMetadata, nil
	case c.what == stops:
		out, err := d.client.StopFleet(ctx, &appstream.StopFleetInput{Name: name})
		if err != nil {
			return middleware.Metadata{}, err
		}
		return out.ResultMetadata, nil
	case c.builder:
		out, err := d.client.UpdateAppBlockBuilder(ctx, &appstream.UpdateAppBlockBuilderInput{
			Name: name, DisableIMDSV1: aws.Bool(c.disable),
		})
		if err != nil {
			return middleware.Metadata{}, err
		}
		return out.ResultMetadata, nil
	default:
		out, err := d.client.UpdateFleet(ctx, &appstream.UpdateFleetInput{Name: name, DisableIMDSV1: aws.Bool(c.disable)})
		if err != nil {
			return middleware.Metadata{}, err
		}
		return out.ResultMetadata, nil
	}
}

// Find has nothing to look for: no verb creates.
func (d *driver) Find(context.Context, kind.Write) (kind.Result, error) {
	return kind.Result{}, kind.ErrNotFound
}
