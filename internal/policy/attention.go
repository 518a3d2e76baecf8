package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Attention says who answers for the work that is found, and how they are told of it.
type Attention struct {
	// OwnerTags are the keys of tags that name who answers for a resource, the first that is there deciding; compared without
	// regard to case.
	OwnerTags []string
	// Repeat is how long an item that has not changed is not sent again.
	Repeat time.Duration
	// Routes are tried in order; the first that matches decides.
	Routes []Route
}

// DefaultOwnerTags are the keys that name owners where the file does not say.
func DefaultOwnerTags() []string { return []string{"owner", "team"} }

// Route tells the owner of the resources it matches, and where to. At most one of Slack and Webhook is set; with neither, nothing is
// sent.
type Route struct {
	// Match is zero for every resource.
	Match Match
	// Owner is who answers for them, whatever their tags say; empty leaves that to the tags.
	Owner   string
	Slack   SlackRoute
	Webhook WebhookRoute
	Where   string
}

// SlackRoute is an incoming webhook of Slack, whose address is a secret: it is in an environment variable or a file.
type SlackRoute struct{ URLEnv, URLFile string }

// WebhookRoute is an HTTP endpoint that is sent signed requests. The key is in an environment variable or a file.
type WebhookRoute struct {
	URL             string
	KeyEnv, KeyFile string
}

// IsZero tells whether there is none.
func (r SlackRoute) IsZero() bool { return r == SlackRoute{} }

// IsZero tells whether there is none.
func (r WebhookRoute) IsZero() bool { return r == WebhookRoute{} }

// Silent tells whether the route only names an owner.
func (r Route) Silent() bool { return r.Slack.IsZero() && r.Webhook.IsZero() }

// Target names where the route leads, without any secret: "Slack ($SLACK_PAYMENTS)", "https://hooks.example.com/imds".
func (r Route) Target() string {
	switch {
	case r.Slack.URLEnv != "":
		return "Slack ($" + r.Slack.URLEnv + ")"
	case r.Slack.URLFile != "":
		return "Slack (" + r.Slack.URLFile + ")"
	default:
		return r.Webhook.URL
	}
}

// RouteFor finds the first route that matches one of some resources.
func (a *Attention) RouteFor(resources ...ResourceFacts) (Route, bool) {
	i := slices.IndexFunc(a.Routes, func(r Route) bool {
		return r.Match.IsZero() || slices.ContainsFunc(resources, r.Match.Matches)
	})
	if i < 0 {
		return Route{}, false
	}
	return a.Routes[i], true
}

// OwnerOf is whom tags name, and the key that did.
func (a *Attention) OwnerOf(tags map[string]string) (owner, key string) {
	for _, want := range a.OwnerTags {
		best := ""
		for have, value := range tags {
			if strings.EqualFold(have, want) && strings.TrimSpace(value) != "" && (best == "" || have < best) {
				best = have // of keys that differ in case only, always the same one
			}
		}
		if best != "" {
			return strings.TrimSpace(tags[best]), best
		}
	}
	return "", ""
}

const environmentForm = `^[A-Za-z_][A-Za-z0-9_]*$`

func attentionFields(a *Attention) []field {
	return []field{
		{key: "owner_tags", value: many(&a.OwnerTags, tagKey()),
			doc: "Keys of tags that name who answers for a resource; the first that a workload's resources or its account have " +
				"decides. Upper and lower case are the same."},
		{key: "repeat", value: one(&a.Repeat, duration(0, 365*day)),
			doc: "How long an item that has not changed is not sent again to the same place."},
		{key: "routes", value: objects[Route]{&a.Routes, routeFields, func(r *Route) *string { return &r.Where }},
			doc: "Where owners are told, tried in order. A route with neither `slack` nor `webhook` only names an owner. What no route " +
				"matches is reported and not sent."},
	}
}

func routeFields(r *Route) []field {
	variable := func(like string) element[string] {
		e := pattern[string]("an environment variable's name", "names of variables", environmentForm, like)
		plain := e.parse
		e.parse = func(s string) (string, *fault) {
			v, bad := plain(s)
			if bad != nil { // people paste the secret itself here
				bad.what, bad.secret = "is not an environment variable's name", true
			}
			return v, bad
		}
		return e
	}
	file := text[string]("a path", "paths")
	return []field{
		{key: "match", value: object{fields: matchFields(&r.Match), ref: "match", nonempty: true},
			doc: "Which resources: one of the workload's has to match.", computed: "everything"},
		{key: "owner", value: one(&r.Owner, text[string]("a name", "names")),
			doc: "Who answers for them.", computed: "as `attention.owner_tags` say"},
		{key: "slack", value: object{fields: []field{
			{key: "url_env", value: one(&r.Slack.URLEnv, variable("IMDSCTL_SLACK_PAYMENTS")),
				doc: "Environment variable that holds the address."},
			{key: "url_file", value: one(&r.Slack.URLFile, file),
				doc: "File that holds the address, which only its owner may read or write (mode 0600)."},
		}}, doc: "An incoming webhook of Slack. Its address is a secret."},
		{key: "webhook", value: object{fields: []field{
			{key: "url", value: one(&r.Webhook.URL, webURL()),
				doc:      "Where the request is sent: `https`, or `http` on this machine. It may hold no secret.",
				required: true},
			{key: "key_env", value: one(&r.Webhook.KeyEnv, variable("IMDSCTL_ATTENTION_KEY")),
				doc: "Environment variable that holds the key with which requests are signed, as those of gates are."},
			{key: "key_file", value: one(&r.Webhook.KeyFile, file),
				doc: "File that holds the key, which only its owner may read or write (mode 0600)."},
		}}, doc: "An HTTP endpoint that is sent a signed JSON document."},
	}
}

// checkAttention sees to it that a route leads to one place, and that each place has one secret.
func (c *Config) checkAttention(d *decoder) {
	for i, r := range c.Attention.Routes {
		path := fmt.Sprintf("attention.routes[%d]", i)
		if d.broken(path) {
			continue
		}
		_, slack := d.at[path+".slack"]
		_, webhook := d.at[path+".webhook"]
		switch {
		case slack && webhook:
			d.problemAt(path, path+" has both `slack` and `webhook`", "Leave one of them; the first route that matches decides.")
		case !slack && !webhook && r.Owner == "":
			d.problemAt(path, path+" says neither who answers nor where to tell them", "Add `owner`, `slack` or `webhook`.")
		case slack && (r.Slack.URLEnv == "") == (r.Slack.URLFile == ""):
			d.problemAt(path+".slack", path+".slack needs one of `url_env` and `url_file`", "Write exactly one of them.")
		case webhook && (r.Webhook.KeyEnv == "") == (r.Webhook.KeyFile == ""):
			d.problemAt(path+".webhook", path+".webhook needs one of `key_env` and `key_file`", "Write exactly one of them.")
		case r.Match.IsZero() && i < len(c.Attention.Routes)-1:
			d.problemAt(path, path+" matches everything, so that the routes after it are never tried", "Move it to the end, or add `match`.")
		}
	}
}
