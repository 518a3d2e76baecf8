package autoscaling

import (
	"maps"
	"slices"
	"strconv"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

func createConfig(c *core.Call) error {
	cfg := Config{
		Name: c.In.Str("LaunchConfigurationName"), ImageID: c.In.Str("ImageId"), InstanceType: c.In.Str("InstanceType"),
		KeyName: c.In.Str("KeyName"), UserData: c.In.Str("UserData"), Profile: c.In.Str("IamInstanceProfile"),
		SpotPrice: c.In.Str("SpotPrice"), Tenancy: c.In.Str("PlacementTenancy"), SecurityGroups: c.In.Strings("SecurityGroups"),
		Kernel: c.In.Str("KernelId"), RAMDisk: c.In.Str("RamdiskId"), Created: c.Now,
	}
	var err error
	if cfg.BlockDevices, err = parseBlockDevices(c.In.Items("BlockDeviceMappings")); err != nil {
		return err
	}
	if cfg.EBSOptimized, _, err = c.In.Bool("EbsOptimized"); err != nil {
		return err
	}
	if cfg.PublicIP, err = optionalBool(c.In, "AssociatePublicIpAddress"); err != nil {
		return err
	}
	if cfg.Monitoring, err = optionalBool(c.In.Get("InstanceMonitoring"), "Enabled"); err != nil {
		return err
	}
	if cfg.Options, err = parseOptions(c.In.Get("MetadataOptions")); err != nil {
		return err
	}
	if err := StoreOf(c.Place).PutConfig(cfg); err != nil {
		return err
	}
	c.Mutated(cfg.Name)
	return nil
}

// PutConfig creates a launch configuration; they cannot be changed.
func (s *Store) PutConfig(cfg Config) error {
	switch {
	case cfg.Name == "" || len(cfg.Name) > maxNameLength:
		return invalid("LaunchConfigurationName must have between 1 and 255 characters")
	case cfg.ImageID == "" || cfg.InstanceType == "":
		return invalid("Valid requests must contain either the InstanceID parameter or both the ImageId and InstanceType " +
			"parameters.")
	case s.configs[cfg.Name] != nil:
		return wire.Errorf("AlreadyExists", "Launch Configuration by this name already exists - A launch configuration "+
			"already exists with the name %s", cfg.Name)
	}
	cfg.arn = s.arn("launchConfiguration", cfg.Name)
	s.configs[cfg.Name] = &cfg
	return nil
}

func optionalBool(v wire.Value, name string) (*bool, error) {
	b, set, err := v.Bool(name)
	if err != nil || !set {
		return nil, err
	}
	return &b, nil
}

func parseOptions(v wire.Value) (fleet.Options, error) {
	o := fleet.Options{Tokens: v.Str("HttpTokens"), Endpoint: v.Str("HttpEndpoint")}
	if o.Tokens != "" && o.Tokens != fleet.TokensOptional && o.Tokens != fleet.TokensRequired {
		return o, invalid("HttpTokens must be optional or required")
	}
	if o.Endpoint != "" && o.Endpoint != fleet.Enabled && o.Endpoint != fleet.Disabled {
		return o, invalid("HttpEndpoint must be enabled or disabled")
	}
	hop, set, err := v.Int("HttpPutResponseHopLimit")
	if err != nil || (set && fleet.ValidHopLimit(int(hop)) != nil) {
		return o, invalid("HttpPutResponseHopLimit must be between 1 and 64")
	}
	o.HopLimit = int(hop)
	return o, nil
}

func deleteConfig(c *core.Call) error {
	name := c.In.Str("LaunchConfigurationName")
	s := StoreOf(c.Place)
	if s.configs[name] == nil {
		return invalid("Launch configuration name not found - Launch configuration %s not found", name)
	}
	for _, g := range s.groups {
		if g.spec.Newest().Source.Config == name {
			return wire.Errorf("ResourceInUse", "Cannot delete launch configuration %s because it is attached to "+
				"AutoScalingGroup %s", name, g.name)
		}
	}
	delete(s.configs, name)
	c.Mutated(name)
	return nil
}

func describeConfigs(c *core.Call) error {
	size, after, err := page(c, configPage)
	if err != nil {
		return err
	}
	s, names := StoreOf(c.Place), c.In.Strings("LaunchConfigurationNames")
	var found []*Config
	for _, name := range slices.Sorted(maps.Keys(s.configs)) {
		if name > after && (len(names) == 0 || slices.Contains(names, name)) {
			found = append(found, s.configs[name])
		}
	}
	shown := found[:min(size, len(found))]
	c.Out.List("LaunchConfigurations", func() {
		for _, cfg := range shown {
			c.Out.Struct("", func() { writeConfig(c.Out, cfg) })
		}
	})
	if len(shown) < len(found) {
		nextToken(c, shown[len(shown)-1].Name)
	}
	return nil
}

func writeConfig(w *wire.Writer, cfg *Config) {
	w.Str("LaunchConfigurationName", cfg.Name)
	w.Str("LaunchConfigurationARN", cfg.arn)
	w.Str("ImageId", cfg.ImageID)
	w.Str("KeyName", cfg.KeyName)
	w.Strings("SecurityGroups", cfg.SecurityGroups)
	w.Opt("ClassicLinkVPCId", cfg.ClassicLinkVPC)
	w.Strings("ClassicLinkVPCSecurityGroups", cfg.ClassicLinkGroups)
	w.Str("UserData", cfg.UserData)
	w.Str("InstanceType", cfg.InstanceType)
	w.Str("KernelId", cfg.Kernel)
	w.Str("RamdiskId", cfg.RAMDisk)
	w.List("BlockDeviceMappings", func() {
		for _, d := range cfg.BlockDevices {
			w.Struct("", func() { writeBlockDevice(w, d) })
		}
	})
	w.Struct("InstanceMonitoring", func() { w.Bool("Enabled", cfg.Monitoring == nil || *cfg.Monitoring) })
	w.Opt("SpotPrice", cfg.SpotPrice)
	w.Opt("IamInstanceProfile", cfg.Profile)
	w.Time("CreatedTime", cfg.Created)
	w.Bool("EbsOptimized", cfg.EBSOptimized)
	if cfg.PublicIP != nil {
		w.Bool("AssociatePublicIpAddress", *cfg.PublicIP)
	}
	w.Opt("PlacementTenancy", cfg.Tenancy)
	if o := cfg.Options; o != (fleet.Options{}) {
		w.Struct("MetadataOptions", func() {
			w.Opt("HttpTokens", o.Tokens)
			if o.HopLimit > 0 {
				w.Str("HttpPutResponseHopLimit", strconv.Itoa(o.HopLimit))
			}
			w.Opt("HttpEndpoint", o.Endpoint)
		})
	}
}
