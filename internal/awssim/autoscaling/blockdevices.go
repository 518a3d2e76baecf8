package autoscaling

import (
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// BlockDevice is an element of a launch configuration's BlockDeviceMappings, in the API's own names.
type BlockDevice struct {
	DeviceName  string     `json:"DeviceName"`
	VirtualName string     `json:"VirtualName,omitempty"`
	NoDevice    *bool      `json:"NoDevice,omitempty"`
	Ebs         *EbsDevice `json:"Ebs,omitempty"`
}

// EbsDevice is a volume; what was not sent is nil or empty.
type EbsDevice struct {
	SnapshotID          string `json:"SnapshotId,omitempty"`
	VolumeType          string `json:"VolumeType,omitempty"`
	VolumeSize          int64  `json:"VolumeSize,omitempty"`
	Iops                int64  `json:"Iops,omitempty"`
	Throughput          int64  `json:"Throughput,omitempty"`
	DeleteOnTermination *bool  `json:"DeleteOnTermination,omitempty"`
	Encrypted           *bool  `json:"Encrypted,omitempty"`
}

func parseBlockDevices(items []wire.Value) ([]BlockDevice, error) {
	var out []BlockDevice
	for _, v := range items {
		d := BlockDevice{DeviceName: v.Str("DeviceName"), VirtualName: v.Str("VirtualName")}
		if d.DeviceName == "" {
			return nil, invalid("1 validation error detected: Value null at 'blockDeviceMappings.member.deviceName' failed to " +
				"satisfy constraint: Member must not be null")
		}
		var err error
		if d.NoDevice, err = optionalBool(v, "NoDevice"); err != nil {
			return nil, err
		}
		if v.Has("Ebs") {
			if d.Ebs, err = parseEbs(v.Get("Ebs")); err != nil {
				return nil, err
			}
		}
		out = append(out, d)
	}
	return out, nil
}

func parseEbs(v wire.Value) (*EbsDevice, error) {
	e := &EbsDevice{SnapshotID: v.Str("SnapshotId"), VolumeType: v.Str("VolumeType")}
	var err error
	for name, into := range map[string]*int64{"VolumeSize": &e.VolumeSize, "Iops": &e.Iops, "Throughput": &e.Throughput} {
		if *into, _, err = v.Int(name); err != nil {
			return nil, err
		}
	}
	if e.DeleteOnTermination, err = optionalBool(v, "DeleteOnTermination"); err != nil {
		return nil, err
	}
	e.Encrypted, err = optionalBool(v, "Encrypted")
	return e, err
}

func writeBlockDevice(w *wire.Writer, d BlockDevice) {
	w.Str("DeviceName", d.DeviceName)
	w.Opt("VirtualName", d.VirtualName)
	if d.NoDevice != nil {
		w.Bool("NoDevice", *d.NoDevice)
	}
	if d.Ebs == nil {
		return
	}
	w.Struct("Ebs", func() {
		w.Opt("SnapshotId", d.Ebs.SnapshotID)
		w.Opt("VolumeType", d.Ebs.VolumeType)
		for _, n := range [...]struct {
			name  string
			value int64
		}{{"VolumeSize", d.Ebs.VolumeSize}, {"Iops", d.Ebs.Iops}, {"Throughput", d.Ebs.Throughput}} {
			if n.value != 0 {
				w.Int(n.name, n.value)
			}
		}
		if d.Ebs.DeleteOnTermination != nil {
			w.Bool("DeleteOnTermination", *d.Ebs.DeleteOnTermination)
		}
		if d.Ebs.Encrypted != nil {
			w.Bool("Encrypted", *d.Ebs.Encrypted)
		}
	})
}
