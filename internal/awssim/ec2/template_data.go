package ec2

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/imdsctl/imdsctl/internal/awssim/wire"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

// kind is the type of a field of launch template data.
type kind int

const (
	text kind = iota + 1
	number
	truth
	structure
	texts
	structures
)

// field is one field of launch template data: its name in the model, in requests and in responses.
type field struct {
	name, query, xml string
	kind             kind
	item             string // the element of a response's list, "item" by default
	hidden           bool   // accepted, but not in responses
	fields           []field
}

func (f field) queryName() string {
	if f.query != "" {
		return f.query
	}
	return f.name
}

func (f field) xmlName() string {
	if f.xml != "" {
		return f.xml
	}
	return strings.ToLower(f.name[:1]) + f.name[1:]
}

// Data is launch template data by the model's names: a scalar is its text, a structure a Data, a list []Data or
// []string. It is never changed once it is part of a version.
type Data map[string]any

// text is a scalar, found along the names of structures; "" when unset.
func (d Data) text(path ...string) string {
	for _, name := range path[:len(path)-1] {
		d, _ = d[name].(Data)
	}
	s, _ := d[path[len(path)-1]].(string)
	return s
}

func (d Data) list(name string) []Data {
	l, _ := d[name].([]Data)
	return l
}

// options are the metadata options that the data sets.
func (d Data) options() fleet.Options {
	m, _ := d["MetadataOptions"].(Data)
	hop, _ := strconv.Atoi(m.text("HttpPutResponseHopLimit")) // checked when the data came in
	return fleet.Options{
		Tokens: m.text("HttpTokens"), Endpoint: m.text("HttpEndpoint"), HopLimit: hop,
		IPv6: m.text("HttpProtocolIpv6"), Tags: m.text("InstanceMetadataTags"),
	}
}

// dataIn reads a request's launch template data. An unknown field is refused.
func dataIn(v wire.Value) (Data, error) {
	d, err := structIn("LaunchTemplateData", templateFields, v)
	if err != nil {
		return nil, err
	}
	o, err := optionsIn(v.Get("MetadataOptions"))
	if err != nil {
		return nil, err
	}
	return d, checkOptions(o)
}

// structIn reads a structure, but for the members to be skipped.
func structIn(path string, fields []field, v wire.Value, skip ...string) (Data, error) {
	d := Data{}
	byQuery := map[string]field{}
	for _, f := range fields {
		byQuery[f.queryName()] = f
	}
	for _, name := range v.Names() {
		if slices.Contains(skip, name) {
			continue
		}
		f, ok := byQuery[name]
		if !ok {
			return nil, wire.Errorf("UnknownParameter", "The parameter %s.%s is not recognized", path, name)
		}
		value, err := fieldIn(path+"."+name, f, v.Get(name))
		if err != nil {
			return nil, err
		}
		d[f.name] = value
	}
	return d, nil
}

func fieldIn(path string, f field, v wire.Value) (any, error) {
	switch f.kind {
	case structure:
		return structIn(path, f.fields, v)
	case texts:
		out := []string{}
		for _, e := range v.Elements() {
			out = append(out, e.Text())
		}
		return out, nil
	case structures:
		out := []Data{}
		for i, e := range v.Elements() {
			d, err := structIn(fmt.Sprintf("%s.%d", path, i+1), f.fields, e)
			if err != nil {
				return nil, err
			}
			out = append(out, d)
		}
		return out, nil
	}
	return v.Text(), checkScalar(path, f.kind, v.Text())
}

func checkScalar(path string, k kind, s string) error {
	var err error
	switch k {
	case number:
		_, err = strconv.ParseFloat(s, 64)
	case truth:
		_, err = strconv.ParseBool(s)
	}
	if err != nil {
		return wire.Errorf("InvalidParameterValue", "Value (%s) for parameter %s is invalid.", s, path)
	}
	return nil
}

// dataFromSeed reads launch template data from JSON in the model's names.
func dataFromSeed(path string, raw json.RawMessage) (Data, error) {
	v, err := wire.ParseJSON(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	d, err := structFromSeed(path, templateFields, v)
	if err != nil {
		return nil, err
	}
	m, _ := d["MetadataOptions"].(Data)
	if hop := m.text("HttpPutResponseHopLimit"); hop != "" {
		n, err := strconv.Atoi(hop)
		if err != nil || fleet.ValidHopLimit(n) != nil {
			return nil, fmt.Errorf("%s.MetadataOptions.HttpPutResponseHopLimit: %q is not 1 to 64", path, hop)
		}
	}
	if err := checkOptions(d.options()); err != nil {
		return nil, fmt.Errorf("%s.MetadataOptions: %w", path, err)
	}
	return d, nil
}

func structFromSeed(path string, fields []field, v wire.Value) (Data, error) {
	d := Data{}
	for _, name := range v.Names() {
		at := slices.IndexFunc(fields, func(f field) bool { return f.name == name })
		here := path + "." + name
		if at < 0 {
			return nil, fmt.Errorf("%s: there is no such field", here)
		}
		f, value := fields[at], v.Get(name)
		switch f.kind {
		case structure:
			sub, err := structFromSeed(here, f.fields, value)
			if err != nil {
				return nil, err
			}
			d[name] = sub
		case structures:
			list := []Data{}
			for i, e := range value.Elements() {
				sub, err := structFromSeed(fmt.Sprintf("%s[%d]", here, i), f.fields, e)
				if err != nil {
					return nil, err
				}
				list = append(list, sub)
			}
			d[name] = list
		case texts:
			list := []string{}
			for _, e := range value.Elements() {
				list = append(list, e.Text())
			}
			d[name] = list
		default:
			if !value.IsScalar() {
				return nil, fmt.Errorf("%s: want a plain value", here)
			}
			if err := checkScalar(here, f.kind, value.Text()); err != nil {
				return nil, err
			}
			d[name] = value.Text()
		}
	}
	return d, nil
}

// over lays new data over a source version's: a top-level field that is sent replaces the source's. Snapshots of the
// source's block devices are not taken over (CreateLaunchTemplateVersion, SourceVersion).
func (d Data) over(source Data) Data {
	out := maps.Clone(source)
	if devices := source.list("BlockDeviceMappings"); devices != nil {
		kept := make([]Data, len(devices))
		for i, dev := range devices {
			kept[i] = maps.Clone(dev)
			if ebs, ok := dev["Ebs"].(Data); ok {
				ebs = maps.Clone(ebs)
				delete(ebs, "SnapshotId")
				kept[i]["Ebs"] = ebs
			}
		}
		out["BlockDeviceMappings"] = kept
	}
	maps.Copy(out, d)
	return out
}

func writeData(w *wire.Writer, fields []field, d Data) {
	for _, f := range fields {
		value, ok := d[f.name]
		if !ok || f.hidden {
			continue
		}
		switch v := value.(type) {
		case string:
			w.Str(f.xmlName(), v)
		case Data:
			w.Struct(f.xmlName(), func() {
				writeData(w, f.fields, v)
				if f.name == "MetadataOptions" {
					w.Str("state", "pending") // what AWS shows in a template
				}
			})
		case []string:
			w.List(f.xmlName(), func() {
				for _, s := range v {
					w.Str(f.item, s)
				}
			})
		case []Data:
			w.List(f.xmlName(), func() {
				for _, e := range v {
					w.Struct("", func() { writeData(w, f.fields, e) })
				}
			})
		}
	}
}
