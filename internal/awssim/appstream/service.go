package appstream

import (
	"encoding/base64"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// pageSize is the largest page of all lists here, and what is given when nothing is said. AppStream documents it for images
// (DescribeImagesMaxResults); DescribeFleets takes no page size at all.
const pageSize = 25

// Service declares AppStream. It publishes no rates for its calls; the buckets are of the size that its accounts are known
// to get, so that a client without a limit of its own is throttled sooner or later.
func Service() *core.Service {
	read, write := core.Bucket{Burst: 50, Refill: 10}, core.Bucket{Burst: 10, Refill: 5}
	list := func(of sort, name string, params ...string) core.Action {
		return core.Action{
			Bucket: read, Params: append(params, "Names", "NextToken"),
			Handle: func(c *core.Call) error { return describe(c, of, name) },
		}
	}
	change := func(of sort, handle func(*core.Call, *machine) error, params ...string) core.Action {
		return core.Action{
			Mutating: true, Bucket: write, Params: append(params, "Name"),
			Access: func(c *core.Call) []core.Access { return access(c, of, c.In.Str("Name")) },
			Handle: func(c *core.Call) error {
				m := storeOf(c.Place).find(of, c.In.Str("Name"))
				if m == nil {
					return notFound(of, c.In.Str("Name"))
				}
				c.Touch(m.id())
				return handle(c, m)
			},
		}
	}
	return &core.Service{
		Name: Name, Protocols: []wire.Protocol{wire.JSON11, wire.CBOR}, Targets: []string{"PhotonAdminProxyService"},
		Actions: map[string]core.Action{
			"DescribeFleets":           list(fleets, "Fleets"),
			"DescribeImageBuilders":    list(imageBuilders, "ImageBuilders", "MaxResults"),
			"DescribeAppBlockBuilders": list(appBlockBuilders, "AppBlockBuilders", "MaxResults"),
			"DescribeImages":           {Bucket: read, Handle: describeImages, Params: []string{"Arns", "NextToken", "MaxResults"}},
			"ListTagsForResource":      {Bucket: read, Handle: listTags, Params: []string{"ResourceArn"}},
			"StartFleet":               change(fleets, start),
			"StopFleet":                change(fleets, stop),
			"UpdateFleet":              change(fleets, update("Fleet"), "DisableIMDSV1"),
			"StartAppBlockBuilder":     change(appBlockBuilders, shown("AppBlockBuilder", start)),
			"StopAppBlockBuilder":      change(appBlockBuilders, shown("AppBlockBuilder", stop)),
			"UpdateAppBlockBuilder":    change(appBlockBuilders, update("AppBlockBuilder"), "DisableIMDSV1"),
		},
		SeedPlace: seedPlace,
	}
}

func (m *machine) id() string { return string(m.sort) + "/" + m.Name }

func (m *machine) arn(c *core.Call) string { return c.ARN(Name, m.id()) }

func access(c *core.Call, of sort, name string) []core.Access {
	a := core.Access{Resource: c.ARN(Name, string(of)+"/"+name), Condition: map[string][]string{}}
	if m := storeOf(c.Place).find(of, name); m != nil {
		for key, value := range m.Tags {
			a.Condition["aws:resourcetag/"+key] = []string{value}
		}
	}
	return []core.Access{a}
}

func notFound(of sort, name string) error {
	return &wire.Error{
		Code: "ResourceNotFoundException", Status: http.StatusNotFound,
		Message: "Could not find the specified " + strings.ReplaceAll(string(of), "-", " ") + " " + name + ".",
	}
}

func invalid(format string, args ...any) error {
	return wire.Errorf("ValidationException", format, args...)
}

// span reads MaxResults and NextToken: the size of the page, and the name after which it begins.
func span(c *core.Call) (size int, after string, err error) {
	n, set, err := c.In.Int("MaxResults")
	if err != nil || set && (n < 0 || n > pageSize) {
		return 0, "", invalid("MaxResults must be a number up to %d.", pageSize)
	}
	size = pageSize
	if set && n > 0 {
		size = int(n)
	}
	if token := c.In.Str("NextToken"); token != "" {
		b, err := base64.RawURLEncoding.DecodeString(token)
		name, ok := strings.CutPrefix(string(b), c.Action+" ")
		if err != nil || !ok {
			return 0, "", invalid("NextToken is not valid.")
		}
		after = name
	}
	return size, after, nil
}

func writeToken(c *core.Call, after string) {
	c.Out.Str("NextToken", base64.RawURLEncoding.EncodeToString([]byte(c.Action+" "+after)))
}

// paged gives the page of all elements that follows the one with the name after, and the last element's name if there
// are more.
func paged[T any](all []T, name func(T) string, size int, after string) (page []T, more string) {
	if after != "" {
		all = all[slices.IndexFunc(all, func(e T) bool { return name(e) == after })+1:]
	}
	if len(all) <= size {
		return all, ""
	}
	return all[:size], name(all[size-1])
}

func describe(c *core.Call, of sort, list string) error {
	size, after, err := span(c)
	if err != nil {
		return err
	}
	st := storeOf(c.Place)
	all := st.machines[of]
	if names := c.In.Strings("Names"); len(names) > 0 {
		all = nil
		for _, name := range names {
			m := st.find(of, name)
			if m == nil {
				return notFound(of, name)
			}
			c.Touch(m.id())
			all = append(all, m)
		}
	}
	page, more := paged(all, func(m *machine) string { return m.Name }, size, after)
	c.Out.List(list, func() {
		for _, m := range page {
			c.Out.Struct("", func() { m.write(c, m.state.Seen(c.Now)) })
		}
	})
	if more != "" {
		writeToken(c, more)
	}
	return nil
}

func (m *machine) write(c *core.Call, s state) {
	w := c.Out
	w.Str("Arn", m.arn(c))
	w.Str("Name", m.Name)
	w.Str("InstanceType", "stream.standard.medium")
	w.Str("State", s.name)
	w.Time("CreatedTime", m.Created)
	w.Bool("EnableDefaultInternetAccess", false)
	w.Opt("ImageArn", m.ImageARN)
	if s.disableV1 != nil {
		w.Bool("DisableIMDSV1", *s.disableV1)
	}
	switch m.sort {
	case fleets:
		w.Str("FleetType", m.Type)
		w.Struct("ComputeCapacityStatus", func() { w.Int("Desired", 1) })
		w.Int("MaxUserDurationInSeconds", 57600)
		w.Int("DisconnectTimeoutInSeconds", 900)
	case appBlockBuilders:
		w.Str("Platform", "WINDOWS_SERVER_2019")
		w.Struct("VpcConfig", func() { w.Strings("SubnetIds", []string{"subnet-0123456789abcdef0"}) })
	case imageBuilders:
		w.Str("Platform", "WINDOWS_SERVER_2019")
	}
}

func describeImages(c *core.Call) error {
	size, after, err := span(c)
	if err != nil {
		return err
	}
	all := storeOf(c.Place).images
	if arns := c.In.Strings("Arns"); len(arns) > 0 {
		var some []ImageSeed
		for _, arn := range arns {
			i := slices.IndexFunc(all, func(image ImageSeed) bool { return image.ARN == arn })
			if i < 0 {
				return &wire.Error{
					Code: "ResourceNotFoundException", Status: http.StatusNotFound,
					Message: "Could not find the specified image " + arn + ".",
				}
			}
			some = append(some, all[i])
		}
		all = some
	}
	page, more := paged(all, func(image ImageSeed) string { return image.ARN }, size, after)
	c.Out.List("Images", func() {
		for _, image := range page {
			c.Out.Struct("", func() { writeImage(c.Out, image) })
		}
	})
	if more != "" {
		writeToken(c, more)
	}
	return nil
}

func writeImage(w *wire.Writer, image ImageSeed) {
	_, name, _ := strings.Cut(image.ARN, ":image/")
	w.Str("Name", name)
	w.Str("Arn", image.ARN)
	w.Str("State", "AVAILABLE")
	w.Str("Visibility", "PRIVATE")
	w.Str("Platform", "WINDOWS_SERVER_2019")
	w.Opt("AppstreamAgentVersion", image.Agent)
	w.Str("LatestAppstreamAgentVersion", map[bool]string{true: "TRUE", false: "FALSE"}[image.Latest])
	if !image.BaseReleased.IsZero() {
		w.Time("PublicBaseImageReleasedDate", image.BaseReleased)
	}
}

func listTags(c *core.Call) error {
	arn := c.In.Str("ResourceArn")
	for _, of := range []sort{fleets, imageBuilders, appBlockBuilders} {
		for _, m := range storeOf(c.Place).machines[of] {
			if m.arn(c) != arn {
				continue
			}
			c.Touch(m.id())
			c.Out.Struct("Tags", func() {
				for _, key := range slices.Sorted(maps.Keys(m.Tags)) {
					c.Out.Str(key, m.Tags[key])
				}
			})
			return nil
		}
	}
	return &wire.Error{
		Code: "ResourceNotFoundException", Status: http.StatusNotFound,
		Message: "Could not find the specified resource " + arn + ".",
	}
}
