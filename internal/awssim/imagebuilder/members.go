package imagebuilder

import (
	"maps"
	"slices"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// memberNames are the members of a configuration that an update sets, or resets.
func memberNames() []string {
	return []string{
		"description", "instanceTypes", "instanceProfileName", "securityGroupIds", "subnetId", "logging", "keyPair",
		"terminateInstanceOnFailure", "terminateInstanceOnCompletion", "snsTopicArn", "resourceTags", "instanceMetadataOptions",
		"placement", "parentInstance",
	}
}

// parse reads an update.
func parse(in wire.Value) (Config, error) {
	c := Config{
		Description: in.Str("description"), InstanceTypes: in.Strings("instanceTypes"),
		InstanceProfile: in.Str("instanceProfileName"), SecurityGroups: in.Strings("securityGroupIds"),
		Subnet: in.Str("subnetId"), KeyPair: in.Str("keyPair"), SNSTopic: in.Str("snsTopicArn"),
		ResourceTags: texts(in.Get("resourceTags")), Placement: texts(in.Get("placement")),
	}
	for name, known := range map[string][]string{
		"instanceMetadataOptions": {"httpTokens", "httpPutResponseHopLimit"}, "logging": {"s3Logs"},
		"placement":      {"availabilityZone", "tenancy", "hostId", "hostResourceGroupArn"},
		"parentInstance": {"autoScalingGroup"},
	} {
		for _, member := range in.Get(name).Names() {
			if !slices.Contains(known, member) {
				return c, invalid("%s.%s is not known", name, member)
			}
		}
	}
	options := in.Get("instanceMetadataOptions")
	hops, _, err := options.Int("httpPutResponseHopLimit")
	if err != nil {
		return c, err
	}
	c.HTTPTokens, c.HopLimit = options.Str("httpTokens"), int(hops)
	logs := in.Get("logging").Get("s3Logs")
	c.LogBucket, c.LogPrefix = logs.Str("s3BucketName"), logs.Str("s3KeyPrefix")
	group := in.Get("parentInstance").Get("autoScalingGroup")
	c.ParentGroup = group.Str("name")
	if wait, set, err := group.Int("capacityWaitTimeoutSeconds"); err != nil {
		return c, err
	} else if set {
		c.ParentWait = &wait
	}
	if c.EndOnFailure, err = truth(in, "terminateInstanceOnFailure"); err != nil {
		return c, err
	}
	c.EndOnCompletion, err = truth(in, "terminateInstanceOnCompletion")
	return c, err
}

func truth(in wire.Value, name string) (*bool, error) {
	b, set, err := in.Bool(name)
	if err != nil || !set {
		return nil, err
	}
	return &b, nil
}

func texts(v wire.Value) map[string]string {
	if !v.IsSet() {
		return nil
	}
	out := map[string]string{}
	for _, name := range v.Names() {
		out[name] = v.Str(name)
	}
	return out
}

func (c *configuration) writeSummary(w *wire.Writer) {
	w.Str("arn", c.arn)
	w.Str("name", c.Name)
	w.Opt("description", c.Description)
	w.Str("dateCreated", c.created.UTC().Format(time.RFC3339))
	if !c.updated.IsZero() {
		w.Str("dateUpdated", c.updated.UTC().Format(time.RFC3339))
	}
	writeTexts(w, "resourceTags", c.ResourceTags)
	writeTexts(w, "tags", c.Tags)
	if len(c.InstanceTypes) > 0 {
		w.Strings("instanceTypes", c.InstanceTypes)
	}
	w.Str("instanceProfileName", c.InstanceProfile)
	writeTexts(w, "placement", c.Placement)
}

func (c *configuration) write(w *wire.Writer) {
	c.writeSummary(w)
	if len(c.SecurityGroups) > 0 {
		w.Strings("securityGroupIds", c.SecurityGroups)
	}
	w.Opt("subnetId", c.Subnet)
	if c.LogBucket != "" {
		w.Struct("logging", func() {
			w.Struct("s3Logs", func() {
				w.Str("s3BucketName", c.LogBucket)
				w.Opt("s3KeyPrefix", c.LogPrefix)
			})
		})
	}
	w.Opt("keyPair", c.KeyPair)
	w.Opt("snsTopicArn", c.SNSTopic)
	for name, b := range map[string]*bool{
		"terminateInstanceOnFailure": c.EndOnFailure, "terminateInstanceOnCompletion": c.EndOnCompletion,
	} {
		if b != nil {
			w.Bool(name, *b)
		}
	}
	if c.HTTPTokens != "" || c.HopLimit != 0 {
		w.Struct("instanceMetadataOptions", func() {
			w.Opt("httpTokens", c.HTTPTokens)
			if c.HopLimit != 0 {
				w.Int("httpPutResponseHopLimit", int64(c.HopLimit))
			}
		})
	}
	if c.ParentGroup != "" {
		w.Struct("parentInstance", func() {
			w.Struct("autoScalingGroup", func() {
				w.Str("name", c.ParentGroup)
				if c.ParentWait != nil {
					w.Int("capacityWaitTimeoutSeconds", *c.ParentWait)
				}
			})
		})
	}
}

func writeTexts(w *wire.Writer, name string, m map[string]string) {
	if len(m) == 0 {
		return
	}
	w.Struct(name, func() {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			w.Str(k, m[k])
		}
	})
}
