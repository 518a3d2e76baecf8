package elasticbeanstalk

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/autoscaling"
	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// updateEnvironment accepts new settings, which are a draft until the environment's instances have them.
func updateEnvironment(c *core.Call) error {
	e, err := environmentFor(c)
	if err != nil {
		return err
	}
	now := e.state.Newest()
	if now.status != statusReady {
		return invalid("Environment named %s is in an invalid state for this operation. Must be Ready.", e.name)
	}
	draft, err := e.drafted(c.In, now.options)
	if err != nil {
		return err
	}
	next := &state{status: statusUpdating, updated: c.Now, options: now.options, draft: draft}
	e.state.Set(c.Now, c.World.Consistency(), next)
	c.Place.After(c.Now, c.World.Settle(), func(at time.Time) { e.deploy(c.Place, at) })
	c.Mutated(e.id)
	writeEnvironment(c, e, next)
	return nil
}

// drafted are the settings that a request asks for.
func (e *environment) drafted(in wire.Value, now map[string]string) (map[string]string, error) {
	draft := maps.Clone(now)
	if draft == nil {
		draft = map[string]string{}
	}
	for _, o := range in.Items("OptionsToRemove") {
		key, err := known(o, now)
		if err != nil {
			return nil, err
		}
		delete(draft, key)
	}
	for _, o := range in.Items("OptionSettings") {
		key, err := known(o, now)
		if err != nil {
			return nil, err
		}
		value := o.Str("Value")
		if key == OptionDisableV1 && value != "true" && value != "false" {
			return nil, misconfigured(o, "Value is not one of the allowed values: [true, false]")
		}
		draft[key] = value
	}
	return draft, nil
}

// known gives the key of an option that the simulator understands: the one of IMDS, variables, and what is set already.
func known(o wire.Value, now map[string]string) (string, error) {
	key := o.Str("Namespace") + "/" + o.Str("OptionName")
	if _, ok := now[key]; ok || key == OptionDisableV1 || o.Str("Namespace") == variables && o.Str("OptionName") != "" {
		return key, nil
	}
	return "", misconfigured(o, "Unknown configuration setting.")
}

func misconfigured(o wire.Value, why string) error {
	return wire.Errorf("ConfigurationValidationException", "Configuration validation exception: Invalid option specification "+
		"(Namespace: '%s', OptionName: '%s'): %s", o.Str("Namespace"), o.Str("OptionName"), why)
}

// deploy brings the draft to the groups that exist, where it changes their launches, and then makes it the deployed one.
func (e *environment) deploy(p *core.Place, now time.Time) {
	st := e.state.Newest()
	tokens := e.tokens(st.draft)
	if tokens == e.tokens(st.options) {
		e.finish(p, now, nil)
		return
	}
	groups := slices.DeleteFunc(slices.Clone(e.groups), func(name string) bool {
		_, ok := autoscaling.StoreOf(p).SourceOf(name)
		return !ok
	})
	e.replace(p, groups, tokens, now)
}

// replace gives one group after the other its new launches and instances.
func (e *environment) replace(p *core.Place, groups []string, tokens string, now time.Time) {
	if len(groups) == 0 {
		e.finish(p, now, nil)
		return
	}
	src, err := e.source(p, groups[0], tokens, now)
	if err == nil {
		err = autoscaling.StoreOf(p).Replace(groups[0], now, src, func(at time.Time, err error) {
			if err != nil {
				e.finish(p, at, err)
				return
			}
			e.replace(p, groups[1:], tokens, at)
		})
	}
	if err != nil {
		e.finish(p, now, err)
	}
}

// finish ends an update: with the draft deployed, or with one that failed and the settings of before.
func (e *environment) finish(p *core.Place, now time.Time, err error) {
	st := e.state.Newest()
	next := &state{status: statusReady, updated: now, options: st.draft}
	if err != nil {
		next.options, next.draft, next.failed = st.options, st.draft, true
	}
	e.state.Set(now, p.World().Consistency(), next)
}

// tokens is what an environment's launches say. Where the option has no value the platform's default holds, which is true
// on Amazon Linux 2023 and false before (developer guide, "General options for all environments").
func (e *environment) tokens(options map[string]string) string {
	value, ok := options[OptionDisableV1]
	if value == "true" || !ok && strings.Contains(e.stack, "Amazon Linux 2023") {
		return fleet.TokensRequired
	}
	return fleet.TokensOptional
}

// source is what a group launches from with other tokens: a new version of its template, or, where it has a launch
// configuration, a template in its place.
func (e *environment) source(p *core.Place, group, tokens string, now time.Time) (autoscaling.Source, error) {
	src, _ := autoscaling.StoreOf(p).SourceOf(group)
	ref := src.Template
	if src.Mixed != nil {
		mixed := *src.Mixed
		src.Mixed, ref = &mixed, &mixed.Template
	}
	if ref == nil {
		return e.migrate(p, group, tokens, now)
	}
	own := *ref
	n, err := ec2.StoreOf(p).Revise(now, own.ID, fleet.Options{Tokens: tokens})
	if err != nil {
		return src, err
	}
	if !strings.HasPrefix(own.Version, "$") {
		own.Version = strconv.FormatInt(n, 10)
	}
	if src.Mixed != nil {
		src.Mixed.Template = own
	} else {
		src.Template = &own
	}
	return src, nil
}

// migrate makes a launch template of a group's launch configuration, which has no place for the option (developer guide,
// "Migrating your Elastic Beanstalk environment to launch templates").
func (e *environment) migrate(p *core.Place, group, tokens string, now time.Time) (autoscaling.Source, error) {
	launches, err := autoscaling.StoreOf(p).Launches(group)
	if err != nil {
		return autoscaling.Source{}, err
	}
	launch := launches[0]
	data := map[string]any{
		"ImageId": launch.ImageID, "InstanceType": launch.InstanceType, "MetadataOptions": map[string]any{"HttpTokens": tokens},
	}
	if launch.ProfileARN != "" {
		data["IamInstanceProfile"] = map[string]any{"Arn": launch.ProfileARN}
	}
	doc, err := json.Marshal(data)
	if err != nil {
		return autoscaling.Source{}, err
	}
	t, err := ec2.StoreOf(p).AddTemplate(now, ec2.TemplateSeed{
		Name: "awseb-" + e.id + "-" + group, Created: now, Versions: []ec2.VersionSeed{{Data: doc}},
	}, "environment "+e.id)
	if err != nil {
		return autoscaling.Source{}, err
	}
	return autoscaling.Source{Template: &autoscaling.TemplateRef{ID: t.ID(), Name: t.Name(), Version: "1"}}, nil
}

// instances are the members of the environment's groups.
func (e *environment) instances(p *core.Place) []string {
	var out []string
	for _, name := range e.groups {
		out = append(out, autoscaling.StoreOf(p).Members(name)...)
	}
	return out
}
