package ec2

import (
	"cmp"
	"strings"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
)

// AccessToLaunch is what a caller must be allowed who lets another service launch from a template: the launch itself, the
// tags and the instance profile that the version has (EC2 Auto Scaling User Guide, "Control Amazon EC2 launch template usage
// in Auto Scaling groups"). A template or version that does not exist needs nothing here; the call fails anyway.
func AccessToLaunch(c *core.Call, idOrName, version string) []core.Access {
	s := StoreOf(c.Place)
	t, ok := s.Template(idOrName)
	if !ok {
		return nil
	}
	v, err := t.version(t.state.Newest(), cmp.Or(version, "$Default"))
	if err != nil {
		return nil
	}
	arn := c.ARN(Name, "launch-template/"+t.id)
	from := map[string][]string{"ec2:launchtemplate": {arn}, "ec2:region": {string(c.Place.Region)}}
	needs := []core.Access{
		{Action: "ec2:RunInstances", Resource: c.ARN(Name, "instance/*"), Condition: from},
		{Action: "ec2:RunInstances", Resource: arn, Condition: from},
	}
	if image := v.Data.text("ImageId"); strings.HasPrefix(image, "ami-") {
		needs = append(needs, core.Access{Action: "ec2:RunInstances", Resource: imageARN(c, image), Condition: from})
	}
	if len(v.Data.list("TagSpecifications")) > 0 {
		needs = append(needs, core.Access{
			Action: "ec2:CreateTags", Resource: c.ARN(Name, "instance/*"),
			Condition: map[string][]string{"ec2:createaction": {"RunInstances"}},
		})
	}
	profile := cmp.Or(v.Data.text("IamInstanceProfile", "Arn"), s.profileARN(v.Data.text("IamInstanceProfile", "Name")))
	if profile != "" {
		needs = append(needs, core.Access{
			Action: "iam:PassRole", Resource: strings.Replace(profile, ":instance-profile/", ":role/", 1),
			Condition: map[string][]string{"iam:passedtoservice": {"ec2.amazonaws.com"}},
		})
	}
	return needs
}
