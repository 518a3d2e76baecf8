package ec2

import (
	"encoding/base64"
	"encoding/binary"
	"hash/crc32"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// page is where a describe call begins and how much it may give. Positions are serial numbers, which stay when other
// resources come and go.
type page struct {
	after uint64 // the last position of the page before
	limit int
	print uint32 // of the request, so that a token fits its query only
}

// pageOf reads MaxResults and NextToken. Without MaxResults everything is one page.
func pageOf(c *core.Call, least, most int) (page, error) {
	p := page{limit: 1 << 30}
	n, set, err := c.In.Int("MaxResults")
	if err != nil {
		return p, err
	}
	if set {
		if n < int64(least) || n > int64(most) {
			return p, wire.Errorf("InvalidParameterValue",
				"Value ( %d ) for parameter maxResults is invalid. "+
					"Expecting a value greater than or equal to %d and less than or equal to %d.",
				n, least, most)
		}
		p.limit = int(n)
	}
	p.print = printOf(c)
	if token := c.In.Str("NextToken"); token != "" {
		raw, err := base64.RawURLEncoding.DecodeString(token)
		if err != nil || len(raw) != 12 || binary.BigEndian.Uint32(raw) != p.print {
			return p, wire.Errorf("InvalidNextToken", "The specified nextToken '%s' is not valid.", token)
		}
		p.after = binary.BigEndian.Uint64(raw[4:])
	}
	return p, nil
}

func printOf(c *core.Call) uint32 {
	h := crc32.NewIEEE()
	_, _ = h.Write([]byte(c.Action + "|" + string(c.Place.Account) + "|" + string(c.Place.Region)))
	for _, p := range c.In.Flat() {
		if !strings.HasPrefix(p, "NextToken=") && !strings.HasPrefix(p, "MaxResults=") {
			_, _ = h.Write([]byte("|" + p))
		}
	}
	return h.Sum32()
}

func (p page) token(last uint64) string {
	raw := binary.BigEndian.AppendUint32(nil, p.print)
	return base64.RawURLEncoding.EncodeToString(binary.BigEndian.AppendUint64(raw, last))
}

// filter is one Filter.N: any of its values must match.
type filter[T any] struct {
	match  func(T, func(value string) bool) bool
	values []string
}

func (f filter[T]) holds(v T) bool {
	return f.match(v, func(value string) bool {
		return slices.ContainsFunc(f.values, func(pattern string) bool { return like(pattern, value) })
	})
}

// by makes a filter of a single value.
func by[T any](get func(T) string) func(T, func(string) bool) bool {
	return func(v T, is func(string) bool) bool { return is(get(v)) }
}

// mostFilterValues is how many values all filters of a call may have together, by EC2's own message.
const mostFilterValues = 200

// filters reads the Filter parameters: all must hold. table names the filters; tags makes those of tags.
func filters[T any](c *core.Call, table map[string]func(T, func(string) bool) bool, tags func(T) []Tag) (func(T) bool,
	error) {
	var all []filter[T]
	values := 0
	for _, item := range c.In.Items("Filter") {
		name := item.Str("Name")
		f := filter[T]{match: table[name], values: item.Strings("Value")}
		if values += len(f.values); values > mostFilterValues {
			return nil, wire.Errorf("FilterLimitExceeded", "The maximum number of filter values specified on a single call is %d",
				mostFilterValues)
		}
		if key, ok := strings.CutPrefix(name, "tag:"); ok && tags != nil {
			f.match = func(v T, is func(string) bool) bool {
				value, ok := TagValue(tags(v), key)
				return ok && is(value)
			}
		} else if name == "tag-key" && tags != nil {
			f.match = func(v T, is func(string) bool) bool {
				return slices.ContainsFunc(tags(v), func(t Tag) bool { return is(t.Key) })
			}
		}
		if f.match == nil {
			return nil, wire.Errorf("InvalidParameterValue", "The filter '%s' is invalid", name)
		}
		if len(f.values) == 0 {
			return nil, wire.Errorf("InvalidParameterValue", "The filter '%s' has no values", name)
		}
		all = append(all, f)
	}
	return func(v T) bool {
		for _, f := range all {
			if !f.holds(v) {
				return false
			}
		}
		return true
	}, nil
}

// view is an instance as one describe call sees it.
type view struct {
	*Instance
	*InstanceState
	owner  string
	checks func() Status
}

// instanceFilters are those of DescribeInstances by name. They are made once, for there are many calls.
var instanceFilters = sync.OnceValue(func() map[string]func(view, func(string) bool) bool {
	return map[string]func(view, func(string) bool) bool{
		"instance-id":         by(func(v view) string { return v.id }),
		"instance-state-name": by(func(v view) string { return v.InstanceState.State }),
		"instance-state-code": by(func(v view) string {
			return strconv.FormatInt(stateCodes[v.InstanceState.State], 10)
		}),
		"image-id":                       by(func(v view) string { return v.ImageID }),
		"instance-type":                  by(func(v view) string { return v.InstanceType }),
		"vpc-id":                         by(func(v view) string { return v.VPCID }),
		"subnet-id":                      by(func(v view) string { return v.SubnetID }),
		"availability-zone":              by(func(v view) string { return v.AZ }),
		"key-name":                       by(func(v view) string { return v.KeyName }),
		"private-ip-address":             by(func(v view) string { return v.PrivateIP }),
		"reservation-id":                 by(func(v view) string { return v.Reservation }),
		"client-token":                   by(func(v view) string { return v.ClientToken }),
		"owner-id":                       by(func(v view) string { return v.owner }),
		"iam-instance-profile.arn":       by(func(v view) string { return v.ProfileARN }),
		"launch-time":                    by(func(v view) string { return v.LaunchTime.UTC().Format(iso8601) }),
		"metadata-options.state":         by(func(v view) string { return optionsState(v.InstanceState) }),
		"metadata-options.http-tokens":   by(func(v view) string { return v.Options.Tokens }),
		"metadata-options.http-endpoint": by(func(v view) string { return v.Options.Endpoint }),
		"metadata-options.http-put-response-hop-limit": by(func(v view) string { return strconv.Itoa(v.Options.HopLimit) }),
		"metadata-options.http-protocol-ipv6":          by(func(v view) string { return v.Options.IPv6 }),
		"metadata-options.instance-metadata-tags":      by(func(v view) string { return v.Options.Tags }),
		"operator.managed": by(func(v view) string {
			return strconv.FormatBool(v.Operator != nil && v.Operator.Managed)
		}),
		"operator.principal": by(func(v view) string {
			if v.Operator == nil {
				return ""
			}
			return v.Operator.Principal
		}),
		"instance-status.status": by(func(v view) string { return string(v.checks()) }),
		"system-status.status":   by(func(v view) string { return string(v.checks()) }),
	}
})

func viewTags(v view) []Tag { return v.InstanceState.Tags }

// selectInstances is the common part of DescribeInstances and DescribeInstanceStatus: what is asked for, one page.
func selectInstances(c *core.Call, also func(view) bool) (found []view, next string, err error) {
	s := storeOf(c)
	ids := c.In.Strings("InstanceId")
	if len(ids) > 0 && c.In.Has("MaxResults") {
		return nil, "", wire.Errorf("InvalidParameterCombination",
			"The parameter instancesSet cannot be used with the parameter maxResults")
	}
	p, err := pageOf(c, 5, 1000)
	if err != nil {
		return nil, "", err
	}
	matches, err := filters(c, instanceFilters(), viewTags)
	if err != nil {
		return nil, "", err
	}
	managed, _, err := c.In.Bool("IncludeManagedResources")
	if err != nil {
		return nil, "", err
	}
	if err := c.DryRun(); err != nil {
		return nil, "", err
	}
	look := func(i *Instance) *InstanceState {
		st := i.state.Seen(c.Now)
		if st == nil || i.gone || !managed && st.Operator != nil && st.Operator.Hidden {
			return nil
		}
		return st
	}
	from := s.candidates(c)
	if len(ids) > 0 {
		c.Touch(ids...)
		if from, err = s.find(ids, func(i *Instance) bool { return look(i) != nil }); err != nil {
			return nil, "", err
		}
	} else if p.after > 0 {
		at, ok := slices.BinarySearchFunc(from, uint32(p.after), bySerial)
		if ok {
			at++
		}
		from = from[at:]
	}
	owner := string(c.Place.Account)
	for _, i := range from {
		st := look(i)
		if st == nil {
			continue
		}
		v := view{Instance: i, InstanceState: st, owner: owner, checks: func() Status { return s.StatusAt(i, c.Now) }}
		if !also(v) || !matches(v) {
			continue
		}
		if len(found) == p.limit {
			return found, p.token(uint64(found[len(found)-1].serial)), nil
		}
		found = append(found, v)
	}
	return found, "", nil
}

func describeInstances(c *core.Call) error {
	found, next, err := selectInstances(c, func(view) bool { return true })
	if err != nil {
		return err
	}
	c.Out.List("reservationSet", func() {
		for len(found) > 0 {
			n := 1
			for n < len(found) && found[n].Reservation == found[0].Reservation {
				n++
			}
			writeReservation(c, found[:n], "")
			found = found[n:]
		}
	})
	c.Out.Opt("nextToken", next)
	return nil
}

func describeInstanceStatus(c *core.Call) error {
	all, _, err := c.In.Bool("IncludeAllInstances")
	if err != nil {
		return err
	}
	found, next, err := selectInstances(c, func(v view) bool { return all || v.InstanceState.State == StateRunning })
	if err != nil {
		return err
	}
	c.Out.List("instanceStatusSet", func() {
		for _, v := range found {
			c.Out.Struct("", func() { writeStatus(c.Out, v) })
		}
	})
	c.Out.Opt("nextToken", next)
	return nil
}

func writeStatus(w *wire.Writer, v view) {
	w.Str("availabilityZone", v.AZ)
	writeOperator(w, v.Operator)
	w.Str("instanceId", v.id)
	writeState(w, "instanceState", v.InstanceState.State)
	status := string(v.checks())
	switch {
	case v.InstanceState.State != StateRunning:
		status = "not-applicable"
	case status == "":
		status = string(StatusOK)
	}
	detail := map[string]string{"ok": "passed", "impaired": "failed", "initializing": "initializing"}[status]
	// A workload that breaks the instance shows in the instance's check; the host beneath it stays well.
	for _, name := range []string{"instanceStatus", "systemStatus"} {
		s, d := status, detail
		if name == "systemStatus" && s == string(StatusImpaired) {
			s, d = "ok", "passed"
		}
		w.Struct(name, func() {
			w.Str("status", s)
			if d != "" {
				w.List("details", func() {
					w.Struct("", func() {
						w.Str("name", "reachability")
						w.Str("status", d)
					})
				})
			}
		})
	}
}

func writeReservation(c *core.Call, vs []view, element string) {
	body := func() {
		w := c.Out
		w.Str("reservationId", vs[0].Reservation)
		w.Str("ownerId", vs[0].owner)
		w.List("groupSet", func() {})
		w.List("instancesSet", func() {
			for _, v := range vs {
				w.Struct("", func() { writeInstance(w, v) })
			}
		})
	}
	if element == "-" { // RunInstances is the reservation itself
		body()
		return
	}
	c.Out.Struct(element, body)
}

func writeInstance(w *wire.Writer, v view) {
	w.Str("instanceId", v.id)
	w.Str("imageId", v.ImageID)
	writeState(w, "instanceState", v.InstanceState.State)
	host := ""
	if v.PrivateIP != "" {
		host = "ip-" + strings.ReplaceAll(v.PrivateIP, ".", "-") + ".ec2.internal"
	}
	w.Str("privateDnsName", host)
	w.Str("dnsName", "")
	w.Str("reason", v.Reason)
	w.Opt("keyName", v.KeyName)
	w.Int("amiLaunchIndex", int64(v.index))
	writeProductCodes(w, v.ProductCodes)
	w.Str("instanceType", v.InstanceType)
	w.Time("launchTime", v.LaunchTime)
	w.Struct("placement", func() {
		w.Str("availabilityZone", v.AZ)
		w.Str("groupName", "")
		w.Str("tenancy", "default")
	})
	w.Struct("monitoring", func() { w.Str("state", "disabled") })
	w.Opt("subnetId", v.SubnetID)
	w.Opt("vpcId", v.VPCID)
	w.Opt("privateIpAddress", v.PrivateIP)
	writeNetwork(w, v)
	if v.Reason != "" {
		w.Struct("stateReason", func() {
			w.Str("code", "Client.UserInitiatedShutdown")
			w.Str("message", "Client.UserInitiatedShutdown: User initiated shutdown")
		})
	}
	w.Str("architecture", architecture(v.InstanceType))
	w.Str("rootDeviceType", "ebs")
	w.Str("rootDeviceName", "/dev/xvda")
	w.Str("virtualizationType", "hvm")
	w.Str("clientToken", v.ClientToken)
	writeTags(w, v.InstanceState.Tags)
	w.Str("hypervisor", "xen")
	if v.ProfileARN != "" {
		w.Struct("iamInstanceProfile", func() { w.Str("arn", v.ProfileARN) })
	}
	w.Bool("enaSupport", true)
	w.Bool("ebsOptimized", false)
	writeOptions(w, "metadataOptions", v.InstanceState)
	writeOperator(w, v.Operator)
}

// architecture follows the naming of instance types: a "g" after the generation means Graviton.
func architecture(instanceType string) string {
	family, _, _ := strings.Cut(instanceType, ".")
	digit := strings.IndexAny(family, "0123456789")
	if family == "a1" || digit >= 0 && strings.Contains(family[digit:], "g") {
		return "arm64"
	}
	return "x86_64"
}

func optionsState(st *InstanceState) string {
	if st.Pending {
		return "pending"
	}
	return "applied"
}

func writeOptions(w *wire.Writer, name string, st *InstanceState) {
	w.Struct(name, func() {
		w.Str("state", optionsState(st))
		w.Str("httpTokens", st.Options.Tokens)
		w.Int("httpPutResponseHopLimit", int64(st.Options.HopLimit))
		w.Str("httpEndpoint", st.Options.Endpoint)
		w.Str("httpProtocolIpv6", st.Options.IPv6)
		w.Str("instanceMetadataTags", st.Options.Tags)
	})
}

func writeState(w *wire.Writer, name, state string) {
	w.Struct(name, func() {
		w.Int("code", stateCodes[state])
		w.Str("name", state)
	})
}

func writeTags(w *wire.Writer, tags []Tag) {
	w.List("tagSet", func() {
		for _, t := range tags {
			w.Struct("", func() {
				w.Str("key", t.Key)
				w.Str("value", t.Value)
			})
		}
	})
}

func writeOperator(w *wire.Writer, o *Operator) {
	w.Struct("operator", func() {
		w.Bool("managed", o != nil && o.Managed)
		if o != nil {
			w.Opt("principal", o.Principal)
			w.Bool("hiddenByDefault", o.Hidden)
		}
	})
}
