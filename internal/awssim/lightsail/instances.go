package lightsail

import (
	"encoding/base64"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
	"github.com/imdsctl/imdsctl/internal/fleet"
)

func (s *service) getInstances(c *core.Call) error {
	health, _, err := c.In.Bool("includeHealthStatus")
	if err != nil {
		return invalid("Value at 'includeHealthStatus' is no boolean.")
	}
	after, err := base64.RawURLEncoding.DecodeString(c.In.Str("pageToken"))
	st := storeOf(c.Place)
	page, more, ok := st.after(string(after))
	if err != nil || !ok {
		return invalid("The page token is not valid.")
	}
	c.Out.List("instances", func() {
		for _, i := range page {
			c.Out.Struct("", func() { s.write(c, st, i, health) })
		}
	})
	if more {
		c.Out.Str("nextPageToken", base64.RawURLEncoding.EncodeToString([]byte(page[len(page)-1].Name)))
	}
	return nil
}

func (s *service) getInstance(c *core.Call) error {
	health, _, err := c.In.Bool("includeHealthStatus")
	if err != nil {
		return invalid("Value at 'includeHealthStatus' is no boolean.")
	}
	i, err := named(c)
	if err != nil {
		return err
	}
	c.Out.Struct("instance", func() { s.write(c, storeOf(c.Place), i, health) })
	return nil
}

// write writes an instance as a read sees it now.
func (s *service) write(c *core.Call, st *store, i *instance, health bool) {
	w, o := c.Out, i.options.Seen(c.Now)
	w.Str("name", i.Name)
	w.Str("arn", i.arn)
	w.Str("supportCode", string(c.Account())+"/"+i.Name)
	w.Time("createdAt", i.Created)
	writeLocation(w, st)
	w.Str("resourceType", "Instance")
	w.List("tags", func() {
		for _, t := range i.Tags {
			w.Struct("", func() {
				w.Str("key", t.Key)
				w.Str("value", t.Value)
			})
		}
	})
	w.Str("blueprintId", i.Blueprint)
	w.Str("blueprintName", title(i.Blueprint))
	w.Str("bundleId", i.Bundle)
	w.Bool("isStaticIp", false)
	w.Opt("publicIpAddress", i.PublicIP)
	w.Str("ipAddressType", "ipv4")
	w.Struct("state", func() {
		w.Int("code", stateCodes[i.State])
		w.Str("name", i.State)
	})
	w.Str("username", "ec2-user")
	w.Struct("metadataOptions", func() {
		w.Str("state", map[bool]string{true: "pending", false: "applied"}[o.pending])
		w.Str("httpTokens", o.Tokens)
		w.Str("httpEndpoint", o.Endpoint)
		w.Int("httpPutResponseHopLimit", int64(o.HopLimit))
		w.Str("httpProtocolIpv6", o.IPv6)
	})
	if health {
		s.writeHealth(c, i)
	}
}

func writeLocation(w *wire.Writer, st *store) {
	w.Struct("location", func() {
		w.Str("availabilityZone", st.zone())
		w.Str("regionName", string(st.place.Region))
	})
}

// writeHealth writes the two status checks. The system check never fails here.
func (s *service) writeHealth(c *core.Call, i *instance) {
	status, system := "not-applicable", "not-applicable"
	if i.State == running {
		status, system = "ok", "ok"
		if _, impaired := s.host(c.Place, i).Impaired(c.Now.Unix()); impaired {
			status = "impaired"
		}
	}
	writeCheck(c.Out, "instanceStatus", status)
	writeCheck(c.Out, "systemStatus", system)
}

func writeCheck(w *wire.Writer, name, status string) {
	w.Struct(name, func() {
		w.Str("status", status)
		w.List("details", func() {
			if status == "not-applicable" {
				return
			}
			w.Struct("", func() {
				w.Str("name", "reachability")
				w.Str("status", map[string]string{"ok": "passed", "impaired": "failed"}[status])
			})
		})
	})
}

// ipv6Region is the only region with an IPv6 metadata endpoint (API reference, UpdateInstanceMetadataOptions).
const ipv6Region = "eu-north-1"

// update keeps what is left out, but for the tokens, which then become optional (API reference,
// UpdateInstanceMetadataOptions).
func update(c *core.Call) error {
	i, err := named(c)
	if err != nil {
		return err
	}
	hop, set, err := c.In.Int("httpPutResponseHopLimit")
	o := i.options.Newest().Options
	switch {
	case err != nil || set && fleet.ValidHopLimit(int(hop)) != nil:
		return invalid("Value at 'httpPutResponseHopLimit' must be between 1 and 64.")
	case c.In.Has("httpProtocolIpv6") && c.Place.Region != ipv6Region:
		return invalid("The parameter httpProtocolIpv6 is available in %s only.", ipv6Region)
	case i.State != running && i.State != "stopped":
		return wire.Errorf("OperationFailureException", "The instance %s is %s, and its metadata options cannot be changed.",
			i.Name, i.State)
	}
	patch := fleet.Options{
		Tokens: c.In.Str("httpTokens"), Endpoint: c.In.Str("httpEndpoint"), HopLimit: int(hop), IPv6: c.In.Str("httpProtocolIpv6"),
	}
	if patch.Tokens == "" {
		patch.Tokens = fleet.TokensOptional
	}
	o = patch.Over(o)
	if err := check(o); err != nil {
		return invalid("%v.", err)
	}
	st := storeOf(c.Place)
	st.set(c.Now, i, o)
	c.Mutated(i.Name)
	c.Out.Struct("operation", func() {
		c.Out.Str("id", c.RequestID)
		c.Out.Str("resourceName", i.Name)
		c.Out.Str("resourceType", "Instance")
		c.Out.Time("createdAt", c.Now)
		writeLocation(c.Out, st)
		c.Out.Bool("isTerminal", true)
		c.Out.Str("operationType", "UpdateInstanceMetadataOptions")
		c.Out.Str("status", "Succeeded")
		c.Out.Time("statusChangedAt", c.Now)
	})
	return nil
}
