package rehearse

import (
	"strings"

	"github.com/imdsctl/imdsctl/internal/awssim/elasticbeanstalk"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// seedBeanstalkEnvironments takes what was settling for settled: nothing would end it in the copy.
func seedBeanstalkEnvironments(s *Sections, resources []inventory.Resource) error {
	section := Section[elasticbeanstalk.Seed](s, elasticbeanstalk.Name)
	for i := range resources {
		r := &resources[i]
		e := elasticbeanstalk.EnvironmentSeed{
			ID: r.Ref.ID, Name: r.Name, Application: r.Attrs["application"],
			PlatformARN: r.Attrs["platform-arn"], Tags: r.Tags,
		}
		if platform := r.Attrs[inventory.AttrPlatform]; !strings.HasPrefix(platform, "arn:") {
			e.SolutionStack = platform
		}
		if value, ok := r.State["DisableIMDSv1"]; ok {
			e.Options = map[string]string{elasticbeanstalk.OptionDisableV1: value}
		}
		for _, l := range r.Links {
			if l.Relation == inventory.Operates {
				e.Groups = append(e.Groups, l.To.ID)
			}
		}
		section.Environments = append(section.Environments, e)
	}
	return nil
}
