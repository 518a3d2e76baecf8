package cloudtrail

import (
	"bytes"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tidwall/gjson"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Delivery says by which version of the metadata service an instance got the credentials of a call:
// userIdentity.sessionContext.ec2RoleDelivery (CloudTrail User Guide, "CloudTrail userIdentity element").
type Delivery uint8

// The deliveries.
const (
	V1 Delivery = 1
	V2 Delivery = 2
)

// Record is what is kept of a call that was made with credentials which the metadata service delivered. The address that it came
// from is not.
type Record struct {
	// Account is the session's, which need not be that of the resource that was called.
	Account fleet.AccountID
	// Role is the role's name, and Instance the session's, "" where that is no instance's id.
	Role, Instance string
	Delivery       Delivery
	At             time.Time
	// Agent is the caller's user agent, without the brackets that S3 puts around it, and of at most LongestAgent bytes.
	Agent string
	// ID is the event's.
	ID string
}

// LongestAgent bounds the user agents that are kept, in bytes.
const LongestAgent = 256

// Why a record is left out.
const (
	problemForeign  = "no CloudTrail record"
	problemLookup   = "of LookupEvents, which gives samples (see --lookup)"
	problemMasked   = "neither a role nor an instance is named"
	problemTime     = "its time cannot be read"
	problemDelivery = "an unknown value of ec2RoleDelivery"
)

var (
	delivered  = []byte("ec2RoleDelivery")
	eventID    = []byte(`"eventID"`)
	identity   = []byte(`"userIdentity"`)
	serviceEnd = []byte(`.amazonaws.com`)
	digestMark = []byte(`"digestStartTime"`)

	instancePattern = regexp.MustCompile(`^i-(?:[0-9a-f]{8}|[0-9a-f]{17})$`)
)

// kindOf tells from the bytes alone what a value is, so that the many records without delivered credentials are not decoded.
type kindOf uint8

const (
	isForeign kindOf = iota
	isDigest
	isPlain // a record of a call with other credentials
	isCandidate
)

func look(raw []byte) kindOf {
	switch {
	case bytes.Contains(raw, delivered):
		return isCandidate
	case bytes.Contains(raw, eventID), bytes.Contains(raw, identity) && bytes.Contains(raw, serviceEnd):
		return isPlain
	case bytes.Contains(raw, digestMark):
		return isDigest
	}
	return isForeign
}

// decode reads a candidate. It is ok without a problem where the name of the field stands in it by chance, and it is a record of
// a call with other credentials.
func decode(raw []byte) (r Record, ok bool, problem string) {
	if !gjson.ValidBytes(raw) {
		return r, false, problemNotJSON
	}
	m := membersOf(gjson.ParseBytes(raw))
	if m.detail.IsObject() {
		m = membersOf(m.detail)
	}
	switch {
	case m.inner:
		return r, false, problemLookup
	case !m.who.IsObject():
		return r, false, problemForeign
	}
	switch m.who.Get("sessionContext.ec2RoleDelivery").String() {
	case "1.0":
		r.Delivery = V1
	case "2.0":
		r.Delivery = V2
	case "":
		return r, false, ""
	default:
		return r, false, problemDelivery
	}
	at, err := time.Parse(time.RFC3339, m.time)
	if err != nil || at.Year() < 2000 || at.Year() > 9000 {
		return r, false, problemTime
	}
	// What is kept must not keep the whole record in memory.
	r.At, r.ID, r.Agent = at.UTC(), strings.Clone(m.id), strings.Clone(cleanAgent(m.agent))
	if !r.identify(m.who.Get("accountId").String(), m.who.Get("arn").String(), m.who.Get("principalId").String(),
		m.who.Get("sessionContext.sessionIssuer.userName").String()) {
		return r, false, problemMasked
	}
	r.Account, r.Role, r.Instance = fleet.AccountID(strings.Clone(string(r.Account))), strings.Clone(r.Role), strings.Clone(r.Instance)
	return r, true, ""
}

// members are those of an event that are looked at.
type members struct {
	detail, who     gjson.Result
	time, agent, id string
	inner           bool // an event within, as LookupEvents gives it
}

// membersOf goes through an event once. Of members that stand twice the last counts, as for most readers of JSON.
func membersOf(event gjson.Result) (m members) {
	event.ForEach(func(name, value gjson.Result) bool {
		switch name.Str {
		case "detail":
			m.detail = value
		case "userIdentity":
			m.who = value
		case "eventTime":
			m.time = value.String()
		case "userAgent":
			m.agent = value.String()
		case "eventID":
			m.id = value.String()
		case "CloudTrailEvent":
			m.inner = value.Type == gjson.String
		}
		return true
	})
	return m
}

// identify reads who called: from arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION, and where that was shortened, from the principal
// (AROA…:SESSION) and the role that issued the session.
func (r *Record) identify(account, arn, principal, issuer string) bool {
	session := ""
	if parts := strings.SplitN(arn, ":", 6); len(parts) == 6 {
		if account == "" {
			account = parts[4]
		}
		if path := strings.Split(parts[5], "/"); len(path) > 1 && path[0] == "assumed-role" {
			r.Role = path[1]
			if len(path) > 2 {
				session = path[len(path)-1]
			}
		}
	}
	if issuer != "" {
		r.Role = issuer
	}
	if !instancePattern.MatchString(session) {
		session = principal[strings.LastIndexByte(principal, ':')+1:]
	}
	if instancePattern.MatchString(session) {
		r.Instance = session
	}
	if fleet.AccountID(account).Valid() {
		r.Account = fleet.AccountID(account)
	}
	if len(r.Role) > 128 || !utf8.ValidString(r.Role) || strings.ContainsFunc(r.Role, unprintable) {
		r.Role = "" // longer than a role's name can be, or none
	}
	return r.Instance != "" || r.Role != "" && r.Account != ""
}

// cleanAgent makes a user agent fit to be stored and shown.
func cleanAgent(agent string) string {
	agent = strings.TrimSpace(agent)
	if inner, ok := strings.CutPrefix(agent, "["); ok {
		agent = strings.TrimSpace(strings.TrimSuffix(inner, "]"))
	}
	agent = strings.ToValidUTF8(agent, "?")
	if strings.ContainsFunc(agent, unprintable) {
		agent = strings.Map(func(c rune) rune {
			if unprintable(c) {
				return ' '
			}
			return c
		}, agent)
	}
	if len(agent) <= LongestAgent {
		return agent
	}
	cut := LongestAgent - len("…")
	for cut > 0 && !utf8.RuneStart(agent[cut]) {
		cut--
	}
	return agent[:cut] + "…"
}

// unprintable are controls, which may do harm on a terminal.
func unprintable(c rune) bool {
	return c < ' ' || c >= 0x7f && c < 0xa0 || c == '\u202e' || c == '\u2028' || c == '\u2029'
}
