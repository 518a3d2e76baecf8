package imds

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// versions are the builds of the metadata, as instances list them: the user guide's list, and the later ones that were seen.
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html
func versions() []string {
	return strings.Fields(`1.0 2007-01-19 2007-03-01 2007-08-29 2007-10-10 2007-12-15 2008-02-01 2008-09-01 2009-04-04 2011-01-01
		2011-05-01 2012-01-12 2014-02-25 2014-11-05 2015-10-20 2016-04-19 2016-06-30 2016-09-02 2018-03-28 2018-08-17 2018-09-24
		2019-10-01 2020-10-27 2021-01-03 2021-03-23 2021-07-15 2022-09-24 2024-04-11 latest`)
}

// request is what a value of the tree may depend on.
type request struct {
	ctx      context.Context
	delivery Delivery
}

// node is a directory or a value of the tree.
type node struct {
	since    string // the first build that has it; a directory has the first of what is in it
	label    string // in its directory's list, where that is not its name
	children map[string]*node
	value    func(request) (string, error) // nil for a directory
}

// put adds a value at a path, with the build that brought it.
func (n *node) put(since, path string, value func(request) (string, error)) {
	for name := range strings.SplitSeq(path, "/") {
		if n.since == "" || since < n.since {
			n.since = since
		}
		if n.children == nil {
			n.children = map[string]*node{}
		}
		if n.children[name] == nil {
			n.children[name] = new(node)
		}
		n = n.children[name]
	}
	n.since, n.value = since, value
}

// text adds a fixed value, unless it is empty.
func (n *node) text(since, path, value string) {
	if value != "" {
		n.put(since, path, func(request) (string, error) { return value, nil })
	}
}

// list is the content of a directory: a name a line, directories with a slash, in order, and no end of line after the last.
func (n *node) list(build string) string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(n.children)) {
		c := n.children[name]
		switch {
		case c.since > build:
		case c.label != "":
			lines = append(lines, c.label)
		case c.value == nil:
			lines = append(lines, name+"/")
		default:
			lines = append(lines, name)
		}
	}
	return strings.Join(lines, "\n")
}

// segments are the parts of a path; slashes that follow each other count as one, as they were seen to:
// https://github.com/ex-aws/ex_aws/pull/496
func segments(path string) []string {
	return slices.DeleteFunc(strings.Split(path, "/"), func(s string) bool { return s == "" })
}

// find answers a GET for a path. A slash at its end makes no difference: the guide lists tags/instance without one, and botocore reads
// placement/availability-zone/ with one (InstanceMetadataRegionFetcher).
func (at *served) find(path string, r request) answer {
	parts := segments(path)
	if len(parts) == 0 {
		return at.ok(strings.Join(versions(), "\n"))
	}
	build := parts[0]
	switch {
	case !slices.Contains(versions(), build):
		return notFound()
	case len(parts) == 1:
		return at.ok(at.top(build))
	case parts[1] == "user-data":
		if len(parts) > 2 || len(at.state.UserData) == 0 {
			return notFound()
		}
		a := at.ok(string(at.state.UserData))
		a.contentType = "application/octet-stream"
		return a
	}
	n := at.root
	for _, part := range parts[1:] {
		if n = n.children[part]; n == nil || n.since > build {
			return notFound()
		}
	}
	if n.value == nil {
		return at.ok(n.list(build))
	}
	value, err := n.value(r)
	if err != nil {
		return page(http.StatusInternalServerError, err.Error())
	}
	return at.ok(value)
}

// top is the list of a build: what there is beside the metadata.
func (at *served) top(build string) string {
	var lines []string
	for _, name := range slices.Sorted(maps.Keys(at.root.children)) {
		if at.root.children[name].since <= build {
			lines = append(lines, name)
		}
	}
	if len(at.state.UserData) > 0 {
		lines = append(lines, "user-data")
	}
	return strings.Join(lines, "\n")
}

func (at *served) ok(body string) answer {
	return answer{status: http.StatusOK, body: body, modified: at.since}
}

func notFound() answer { return page(http.StatusNotFound, "there is nothing at this path") }

// tree makes the metadata of a state. The builds are those of the user guide's table of categories:
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-metadata.html#instancedata-data-categories
func (s *Service) tree(st State) *node {
	root := new(node)
	meta, dynamic := new(node), new(node)
	general(meta, st)
	placement(meta, st)
	network(meta, st)
	happenings(meta, st)
	s.roles(meta, st)
	dynamic.text("2009-04-04", "fws/instance-monitoring", st.Monitoring)
	s.identify(dynamic, st)
	root.children = map[string]*node{"meta-data": meta, "dynamic": dynamic}
	return root
}

// general are the values at the top and the small folders.
func general(m *node, st State) {
	m.text("1.0", "ami-id", st.ImageID)
	m.text("1.0", "ami-launch-index", "0")
	m.text("1.0", "ami-manifest-path", "(unknown)")
	m.text("2007-12-15", "block-device-mapping/ami", "/dev/xvda")
	m.text("2007-12-15", "block-device-mapping/root", "/dev/xvda")
	m.text("1.0", "hostname", st.Hostname)
	m.text("2008-09-01", "instance-action", "none")
	m.text("1.0", "instance-id", st.InstanceID)
	m.text("2019-10-01", "instance-life-cycle", st.LifeCycle)
	m.text("2007-08-29", "instance-type", st.InstanceType)
	m.text("2007-01-19", "local-hostname", st.Hostname)
	m.text("1.0", "local-ipv4", st.LocalIPv4)
	m.text("2011-01-01", "mac", st.MAC)
	m.text("2007-03-01", "product-codes", strings.Join(st.ProductCodes, "\n"))
	m.text("2011-05-01", "metrics/vhostmd", `<?xml version="1.0" encoding="UTF-8"?>`)
	m.text("2008-02-01", "profile", "default-hvm")
	m.text("2007-01-19", "public-hostname", st.PublicHostname)
	m.text("2007-01-19", "public-ipv4", st.PublicIPv4)
	m.text("2021-01-03", "ipv6", st.IPv6)
	m.text("1.0", "reservation-id", st.Reservation)
	m.text("1.0", "security-groups", strings.Join(st.SecurityGroups, "\n"))
	m.text("2014-02-25", "services/domain", domain(st.Region))
	m.text("2015-10-20", "services/partition", string(fleet.PartitionOf(st.Region)))
	m.text("2022-09-24", "system", "nitro")
	if st.PublicKey != "" {
		m.text("1.0", "public-keys/0/openssh-key", st.PublicKey)
		m.children["public-keys"].children["0"].label = "0=" + st.KeyName
	}
	if st.Options.Tags == fleet.Enabled {
		for key, value := range st.Tags {
			m.put("2021-03-23", "tags/instance/"+key, func(request) (string, error) { return value, nil })
		}
	}
}

func domain(r fleet.Region) string {
	if fleet.PartitionOf(r) == fleet.PartitionChina {
		return "amazonaws.com.cn"
	}
	return "amazonaws.com"
}

func placement(m *node, st State) {
	m.text("2008-02-01", "placement/availability-zone", st.Zone)
	m.text("2019-10-01", "placement/availability-zone-id", st.ZoneID)
	m.text("2020-10-27", "placement/region", string(st.Region))
}

// network is the one interface that is played.
func network(m *node, st State) {
	const old = "2011-01-01"
	at := "network/interfaces/macs/" + st.MAC + "/"
	m.text(old, at+"device-number", "0")
	m.text(old, at+"interface-id", st.InterfaceID)
	if st.PublicIPv4 != "" {
		m.text(old, at+"ipv4-associations/"+st.PublicIPv4, st.LocalIPv4)
	}
	m.text("2016-06-30", at+"ipv6s", st.IPv6)
	m.text(old, at+"local-hostname", st.Hostname)
	m.text(old, at+"local-ipv4s", st.LocalIPv4)
	m.text(old, at+"mac", st.MAC)
	m.text("2021-01-03", at+"network-card", "0")
	m.text(old, at+"owner-id", string(st.Account))
	m.text(old, at+"public-hostname", st.PublicHostname)
	m.text(old, at+"public-ipv4s", st.PublicIPv4)
	m.text(old, at+"security-group-ids", strings.Join(st.GroupIDs, "\n"))
	m.text(old, at+"security-groups", strings.Join(st.SecurityGroups, "\n"))
	m.text(old, at+"subnet-id", st.SubnetID)
	m.text(old, at+"vpc-id", st.VPC)
	// The sizes of a default VPC and its subnets, and those that a subnet and a VPC have for IPv6.
	// https://docs.aws.amazon.com/vpc/latest/userguide/default-vpc-components.html
	// https://docs.aws.amazon.com/vpc/latest/userguide/vpc-cidr-blocks.html
	m.text(old, at+"subnet-ipv4-cidr-block", block(st.LocalIPv4, 20))
	m.text(old, at+"vpc-ipv4-cidr-block", block(st.LocalIPv4, 16))
	m.text("2016-06-30", at+"vpc-ipv4-cidr-blocks", block(st.LocalIPv4, 16))
	m.text("2016-06-30", at+"subnet-ipv6-cidr-blocks", block(st.IPv6, 64))
	m.text("2016-06-30", at+"vpc-ipv6-cidr-blocks", block(st.IPv6, 56))
}

// block is the network of a size that an address is in, or empty where there is no address.
func block(address string, bits int) string {
	a, err := netip.ParseAddr(address)
	if err != nil {
		return ""
	}
	return netip.PrefixFrom(a, bits).Masked().String()
}

// happenings are what comes to pass while an instance runs.
func happenings(m *node, st State) {
	m.text("2018-08-17", "events/maintenance/history", st.History)
	m.text("2018-08-17", "events/maintenance/scheduled", st.Scheduled)
	if !st.Rebalance.IsZero() {
		m.text("2020-10-27", "events/recommendations/rebalance", fmt.Sprintf(`{"noticeTime":%q}`, stamp(st.Rebalance)))
	}
	m.text("2021-07-15", "autoscaling/target-lifecycle-state", st.Target)
	if st.SpotAction == "" {
		return
	}
	m.text("2016-11-15", "spot/instance-action", fmt.Sprintf(`{"action": %q, "time": %q}`, st.SpotAction, stamp(st.SpotTime)))
	if st.SpotAction == "terminate" {
		m.text("2014-11-05", "spot/termination-time", stamp(st.SpotTime))
	}
}

// roles are the credentials: those of the instance's role, if it has one, and those by which EC2 knows the instance.
func (s *Service) roles(m *node, st State) {
	give := func(role string) func(request) (string, error) {
		return func(r request) (string, error) {
			c, err := s.credentials.Credentials(r.ctx, role, r.delivery)
			if err != nil {
				return "", fmt.Errorf("credentials of %s: %w", role, err)
			}
			return c.document()
		}
	}
	updated := s.now().UTC().Truncate(time.Second)
	if st.Role != "" {
		m.put("2012-01-12", "iam/info", func(request) (string, error) {
			return spaced([]field{
				{"Code", "Success"}, {"LastUpdated", stamp(updated)}, {"InstanceProfileArn", st.Profile},
				{"InstanceProfileId", "AIPAIMDSCTLFAKE" + digest(st.Profile, 6)},
			})
		})
		m.put("2012-01-12", "iam/security-credentials/"+st.Role, give(st.Role))
	}
	m.put("2018-05-23", "identity-credentials/ec2/info", func(request) (string, error) {
		return spaced([]field{{"Code", "Success"}, {"LastUpdated", stamp(updated)}, {"AccountId", string(st.Account)}})
	})
	m.put("2018-05-23", "identity-credentials/ec2/security-credentials/ec2-instance", give("ec2-instance"))
}
