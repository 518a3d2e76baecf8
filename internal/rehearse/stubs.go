package rehearse

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/imdsctl/imdsctl/internal/awssim/autoscaling"
	"github.com/imdsctl/imdsctl/internal/awssim/ec2"
)

// stubs are what seeded resources refer to, and what the scan may not have found: without it the simulator would refuse them.
type stubs struct {
	templates      map[string]*stubTemplate
	configurations map[string]bool
	images         map[string]bool
}

type stubTemplate struct {
	name     string // made up when empty
	versions map[int64]bool
	tags     map[string]string
}

// stubImage is what stubs launch.
const stubImage = "ami-0000000000000000f"

// needTemplate notes that a launch template is referred to, by "$Default", "$Latest" or a number, or not by version ("").
func (s *Sections) needTemplate(id, selector string, tags map[string]string) {
	if s.stubs.templates == nil {
		s.stubs.templates = map[string]*stubTemplate{}
	}
	t := s.stubs.templates[id]
	if t == nil {
		t = &stubTemplate{versions: map[int64]bool{1: true}, tags: map[string]string{}}
		s.stubs.templates[id] = t
	}
	if n, err := strconv.ParseInt(selector, 10, 64); err == nil && n > 0 {
		t.versions[n] = true
	}
	maps.Copy(t.tags, tags)
}

func (s *Sections) needConfiguration(name string) {
	if s.stubs.configurations == nil {
		s.stubs.configurations = map[string]bool{}
	}
	s.stubs.configurations[name] = true
}

func (s *Sections) needImage(id string) {
	if s.stubs.images == nil {
		s.stubs.images = map[string]bool{}
	}
	s.stubs.images[id] = true
}

// complete makes what is referred to and was not seeded.
func (s *Sections) complete() error {
	for _, name := range slices.Sorted(maps.Keys(s.stubs.configurations)) {
		seed := Section[autoscaling.Seed](s, autoscalingSection)
		if !slices.ContainsFunc(seed.LaunchConfigurations, func(c autoscaling.ConfigSeed) bool { return c.Name == name }) {
			s.needImage(stubImage)
			seed.LaunchConfigurations = append(seed.LaunchConfigurations,
				autoscaling.ConfigSeed{Name: name, ImageID: stubImage, InstanceType: stubType})
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.stubs.templates)) {
		if err := s.completeTemplate(id, s.stubs.templates[id]); err != nil {
			return err
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.stubs.images)) {
		seed := Section[ec2.Seed](s, ec2Section)
		if !slices.ContainsFunc(seed.Images, func(i ec2.ImageSeed) bool { return i.ID == id }) {
			seed.Images = append(seed.Images, ec2.ImageSeed{ID: id})
		}
	}
	return nil
}

const stubType = "t3.micro"

func (s *Sections) completeTemplate(id string, t *stubTemplate) error {
	seed := Section[ec2.Seed](s, ec2Section)
	if slices.ContainsFunc(seed.Templates, func(have ec2.TemplateSeed) bool { return have.ID == id }) {
		return nil
	}
	s.needImage(stubImage)
	data, err := json.Marshal(map[string]string{"ImageId": stubImage, "InstanceType": stubType})
	if err != nil {
		return fmt.Errorf("stub of launch template %s: %w", id, err)
	}
	made := ec2.TemplateSeed{ID: id, Name: cmp.Or(t.name, "stub-of-"+id), Tags: t.tags}
	for _, n := range slices.Sorted(maps.Keys(t.versions)) {
		made.Versions = append(made.Versions, ec2.VersionSeed{Number: n, Data: data})
	}
	seed.Templates = append(seed.Templates, made)
	return nil
}
