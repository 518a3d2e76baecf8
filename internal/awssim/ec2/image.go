package ec2

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// Image is an AMI.
type Image struct {
	id     string
	serial uint32
	state  core.Versioned[*ImageState]
}

// ImageState is an image as of one moment. It is never changed, only replaced.
type ImageState struct {
	Name, Description, Owner, OwnerAlias, Architecture string
	ImdsV2                                             bool // ImdsSupport v2.0; it cannot be unset
	Public                                             bool
	Created                                            time.Time
	Deprecated                                         time.Time // from when on; zero: never
	Platform, State                                    string
	ProductCodes                                       string // of AWS Marketplace, joined by commas
	Tags                                               []Tag
}

// Newest is the image as the last writer left it.
func (i *Image) Newest() ImageState { return *i.state.Newest() }

// Image finds an image; ok tells whether it is there.
func (s *Store) Image(id string) (image *Image, ok bool) {
	image, ok = s.images[id]
	return image, ok
}

func (s *Store) addImage(now time.Time, delay time.Duration, id string, st *ImageState) {
	s.serial++
	i := &Image{id: id, serial: s.serial}
	i.state.Set(now, delay, st)
	s.images[id] = i
	s.imageIDs = append(s.imageIDs, id)
}

func imageActions() map[string]core.Action {
	return map[string]core.Action{
		"DescribeImages": describe(describeImages,
			"ImageId", "Owner", "ExecutableBy", "Filter", "IncludeDeprecated", "IncludeDisabled", "MaxResults", "NextToken"),
		"ModifyImageAttribute": change(core.BucketModify, modifyImage, accessImage,
			"ImageId", "ImdsSupport", "Description", "Attribute", "Value"),
		"RegisterImage": change(core.BucketMutating, registerImage, nil,
			"Name", "Description", "Architecture", "ImdsSupport", "RootDeviceName", "BlockDeviceMapping", "VirtualizationType",
			"EnaSupport", "TagSpecification"),
	}
}

// imageARN is an image's; it names no account.
func imageARN(c *core.Call, id string) string {
	return "arn:" + string(c.Place.Partition) + ":ec2:" + string(c.Place.Region) + "::image/" + cmp.Or(id, "*")
}

func accessImage(c *core.Call) []core.Access {
	a := core.Access{Resource: imageARN(c, c.In.Str("ImageId"))}
	if i := storeOf(c).images[c.In.Str("ImageId")]; i != nil {
		a.Condition = tagConditions(c, i.Newest().Tags)
		a.Condition["ec2:owner"] = []string{i.Newest().Owner}
	}
	return []core.Access{a}
}

type imageView struct {
	*Image
	*ImageState
}

func imageFilters() map[string]func(imageView, func(string) bool) bool {
	return map[string]func(imageView, func(string) bool) bool{
		"image-id":     by(func(v imageView) string { return v.id }),
		"name":         by(func(v imageView) string { return v.Name }),
		"description":  by(func(v imageView) string { return v.Description }),
		"owner-id":     by(func(v imageView) string { return v.Owner }),
		"owner-alias":  by(func(v imageView) string { return v.OwnerAlias }),
		"architecture": by(func(v imageView) string { return v.Architecture }),
		"state":        by(func(v imageView) string { return v.State }),
		"image-type":   by(func(imageView) string { return "machine" }),
		"product-code": func(v imageView, wanted func(string) bool) bool {
			return slices.ContainsFunc(productCodes(v.ProductCodes), wanted)
		},
		"is-public": by(func(v imageView) string {
			if v.Public {
				return "true"
			}
			return "false"
		}),
		"imds-support": by(func(v imageView) string {
			if v.ImdsV2 {
				return "v2.0"
			}
			return ""
		}),
	}
}

var imageID = regexp.MustCompile(`^ami-([0-9a-f]{8}|[0-9a-f]{17})$`)

func describeImages(c *core.Call) error {
	s := storeOf(c)
	ids, owners := c.In.Strings("ImageId"), c.In.Strings("Owner")
	p, err := pageOf(c, 1, 1000)
	if err != nil {
		return err
	}
	deprecated, _, err := c.In.Bool("IncludeDeprecated")
	if err != nil {
		return err
	}
	disabled, _, err := c.In.Bool("IncludeDisabled")
	if err != nil {
		return err
	}
	matches, err := filters(c, imageFilters(), func(v imageView) []Tag { return v.Tags })
	if err != nil {
		return err
	}
	if err := c.DryRun(); err != nil {
		return err
	}
	c.Touch(ids...)
	for _, id := range ids {
		if !imageID.MatchString(id) {
			return wire.Errorf("InvalidAMIID.Malformed", `Invalid id: "%s" (expecting "ami-...")`, id)
		}
		if i := s.images[id]; i == nil || i.state.Seen(c.Now) == nil {
			return wire.Errorf("InvalidAMIID.NotFound", "The image id '[%s]' does not exist", id)
		}
	}
	var found []imageView
	next := ""
	for _, id := range s.imageIDs {
		i := s.images[id]
		st := i.state.Seen(c.Now)
		if st == nil || uint64(i.serial) <= p.after || len(ids) > 0 && !slices.Contains(ids, id) || !owned(c, st, owners) {
			continue
		}
		// Deprecated images are shown to their owner, and disabled ones to nobody, unless they are asked for.
		if !deprecated && st.deprecated(c.Now) && st.Owner != string(c.Place.Account) || !disabled && st.State == "disabled" {
			continue
		}
		if v := (imageView{i, st}); matches(v) {
			if len(found) == p.limit {
				next = p.token(uint64(found[len(found)-1].serial))
				break
			}
			found = append(found, v)
		}
	}
	c.Out.List("imagesSet", func() {
		for _, v := range found {
			c.Out.Struct("", func() { writeImage(c.Out, v) })
		}
	})
	c.Out.Opt("nextToken", next)
	return nil
}

func owned(c *core.Call, st *ImageState, owners []string) bool {
	return len(owners) == 0 || slices.ContainsFunc(owners, func(o string) bool {
		return o == st.Owner || o == "self" && st.Owner == string(c.Place.Account) || o != "" && o == st.OwnerAlias
	})
}

func writeImage(w *wire.Writer, v imageView) {
	w.Str("imageId", v.id)
	w.Str("imageLocation", v.Owner+"/"+v.Name)
	w.Str("imageState", v.State)
	w.Str("imageOwnerId", v.Owner)
	w.Opt("imageOwnerAlias", v.OwnerAlias)
	w.Bool("isPublic", v.Public)
	w.Str("architecture", v.Architecture)
	w.Str("imageType", "machine")
	w.Str("name", v.Name)
	w.Opt("description", v.Description)
	w.Str("creationDate", v.Created.UTC().Format(iso8601))
	w.Str("rootDeviceType", "ebs")
	w.Str("rootDeviceName", "/dev/xvda")
	w.Str("virtualizationType", "hvm")
	w.Str("hypervisor", "xen")
	w.Bool("enaSupport", true)
	if v.ProductCodes != "" {
		writeProductCodes(w, v.ProductCodes)
	}
	w.Str("platformDetails", v.Platform)
	if strings.HasPrefix(v.Platform, "Windows") {
		w.Str("platform", "Windows") // so in the model
	}
	if !v.Deprecated.IsZero() {
		w.Str("deprecationTime", v.Deprecated.UTC().Format(iso8601))
	}
	if v.ImdsV2 {
		w.Str("imdsSupport", "v2.0")
	}
	writeTags(w, v.Tags)
}

// productCodesOf are those of an image; what is launched from it keeps them.
func (s *Store) productCodesOf(image string) string {
	if i := s.images[image]; i != nil {
		return i.Newest().ProductCodes
	}
	return ""
}

// productCodes takes the list of an image or instance apart.
func productCodes(joined string) []string {
	if joined == "" {
		return nil
	}
	return strings.Split(joined, ",")
}

func writeProductCodes(w *wire.Writer, joined string) {
	w.List("productCodes", func() {
		for _, code := range productCodes(joined) {
			w.Struct("", func() {
				w.Str("productCode", code)
				w.Str("type", "marketplace")
			})
		}
	})
}

// deprecated tells whether the image is deprecated at an instant.
func (st *ImageState) deprecated(now time.Time) bool {
	return !st.Deprecated.IsZero() && !now.Before(st.Deprecated)
}

// modifyImage sets ImdsSupport, which AWS offers no way to take back, or the description.
func modifyImage(c *core.Call) error {
	s := storeOf(c)
	id, err := required(c, "ImageId")
	if err != nil {
		return err
	}
	c.Touch(id)
	support := c.In.Get("ImdsSupport").Str("Value")
	description := c.In.Get("Description")
	switch c.In.Str("Attribute") {
	case "imdsSupport":
		support = cmp.Or(support, c.In.Str("Value"))
	case "description", "":
	default:
		return wire.Errorf("InvalidParameterValue", "Value (%s) for parameter attribute is invalid.", c.In.Str("Attribute"))
	}
	i := s.images[id]
	switch {
	case !imageID.MatchString(id):
		return wire.Errorf("InvalidAMIID.Malformed", `Invalid id: "%s" (expecting "ami-...")`, id)
	case i == nil:
		return wire.Errorf("InvalidAMIID.NotFound", "The image id '[%s]' does not exist", id)
	case i.Newest().Owner != string(c.Place.Account):
		return &wire.Error{Code: "AuthFailure", Message: "Not authorized for image:" + id, Status: 403}
	case support != "" && support != "v2.0":
		return wire.Errorf("InvalidParameterValue",
			"A value of '%s' is not valid for ImdsSupport. Specify 'v2.0' and try again.", support)
	case support == "" && !description.IsSet():
		return wire.Errorf("InvalidParameterCombination", "No attributes specified.")
	}
	if err := c.DryRun(); err != nil {
		return err
	}
	next := i.Newest()
	next.ImdsV2 = next.ImdsV2 || support == "v2.0"
	if description.IsSet() {
		next.Description = description.Str("Value")
	}
	i.state.Set(c.Now, s.delay(), &next)
	c.Mutated(id)
	c.Out.Bool("return", true)
	return nil
}

func registerImage(c *core.Call) error {
	s := storeOf(c)
	name, err := required(c, "Name")
	if err != nil {
		return err
	}
	support := c.In.Str("ImdsSupport")
	if err := oneOf("ImdsSupport", support, "v2.0"); err != nil {
		return err
	}
	tags, err := tagSpecification(c, "image")
	if err != nil {
		return err
	}
	if err := c.DryRun(); err != nil {
		return err
	}
	id := c.World.NewID("ami-")
	s.addImage(c.Now, s.delay(), id, &ImageState{
		Name: name, Description: c.In.Str("Description"), Owner: string(c.Place.Account), Created: c.Now,
		Architecture: cmp.Or(c.In.Str("Architecture"), "x86_64"), ImdsV2: support == "v2.0", Tags: tagsOf(tags),
		State: "available", Platform: "Linux/UNIX",
	})
	c.Mutated(id)
	c.Out.Str("imageId", id)
	return nil
}
