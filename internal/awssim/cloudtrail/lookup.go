package cloudtrail

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
	"github.com/imdsctl/imdsctl/internal/awssim/wire"
)

// mostEvents is the most that LookupEvents gives at a time, and kept how long it knows an event.
const (
	mostEvents = 50
	kept       = 90 * 24 * time.Hour
)

// looking is one look-up, and with its place in the list its token.
type looking struct {
	Start, End int64
	Key, Value string
	Skip       int
}

// lookupEvents gives management events of the place, newest first (CloudTrail API reference, LookupEvents).
func (s *service) lookupEvents(c *core.Call) error {
	q, err := parseLookup(c)
	if err != nil {
		return err
	}
	most := mostEvents
	if n, set, err := c.In.Int("MaxResults"); err != nil || set && (n < 1 || n > mostEvents) {
		return wire.Errorf("InvalidMaxResultsException", "MaxResults must be between 1 and %d.", mostEvents)
	} else if set {
		most = int(n)
	}
	found, more := s.look(c, q, most)
	c.Out.List("Events", func() {
		for _, e := range found {
			c.Out.Struct("", func() { write(c.Out, e) })
		}
	})
	if more {
		q.Skip += len(found)
		c.Out.Str("NextToken", q.token())
	}
	return nil
}

func parseLookup(c *core.Call) (looking, error) {
	q := looking{Start: c.Now.Add(-kept).Unix(), End: floor(c.Now.Unix() - delay)}
	if token := c.In.Str("NextToken"); token != "" {
		b, err := base64.RawURLEncoding.DecodeString(token)
		if err != nil || json.Unmarshal(b, &q) != nil || q.Skip < 1 {
			return q, wire.Errorf("InvalidNextTokenException", "The token is not valid, or is of another look-up.")
		}
		return q, nil
	}
	start, hasStart, err1 := c.In.Time("StartTime")
	end, hasEnd, err2 := c.In.Time("EndTime")
	if err1 != nil || err2 != nil || hasStart && hasEnd && end.Before(start) {
		return q, wire.Errorf("InvalidTimeRangeException", "The start time must not be after the end time.")
	}
	if hasStart {
		q.Start = max(q.Start, start.Unix())
	}
	if hasEnd {
		q.End = min(q.End, end.Unix()+1) // events of the last second are included
	}
	attributes := c.In.Items("LookupAttributes")
	if len(attributes) > 1 {
		return q, wire.Errorf("InvalidLookupAttributesException", "Only one lookup attribute can be given.")
	}
	for _, a := range attributes {
		q.Key, q.Value = a.Str("AttributeKey"), a.Str("AttributeValue")
		if q.Value == "" || !slices.Contains([]string{"EventId", "EventName", "ReadOnly", "Username", "EventSource", "AccessKeyId",
			"ResourceType", "ResourceName"}, q.Key) {
			return q, wire.Errorf("InvalidLookupAttributesException", "The lookup attribute %s is not valid.", q.Key)
		}
	}
	return q, nil
}

func (q looking) token() string {
	b, err := json.Marshal(q)
	if err != nil { // numbers and texts always marshal
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// look goes back in time, hour by hour, until there are enough.
func (s *service) look(c *core.Call, q looking, most int) (found []*Event, more bool) {
	const step = 6 * slotSeconds
	skip := q.Skip
	for to := q.End; to > q.Start; to -= step {
		for _, e := range slices.Backward(gather(s.hosts, c.Place, max(q.Start, to-step), to)) {
			switch {
			case !e.Management || !q.matches(e):
			case skip > 0:
				skip--
			case len(found) == most:
				return found, true
			default:
				found = append(found, e)
			}
		}
	}
	return found, false
}

func (q looking) matches(e *Event) bool {
	switch q.Key {
	case "":
		return true
	case "EventId":
		return e.ID == q.Value
	case "EventName":
		return e.Name == q.Value
	case "ReadOnly":
		return strconv.FormatBool(e.ReadOnly) == strings.ToLower(q.Value)
	case "Username":
		return e.Username == q.Value
	case "EventSource":
		return e.Source == q.Value
	case "AccessKeyId":
		return e.AccessKey == q.Value
	}
	return false // simulated events name no resources
}

func write(w *wire.Writer, e *Event) {
	w.Str("EventId", e.ID)
	w.Str("EventName", e.Name)
	w.Str("ReadOnly", strconv.FormatBool(e.ReadOnly))
	w.Opt("AccessKeyId", e.AccessKey)
	w.Time("EventTime", e.At)
	w.Str("EventSource", e.Source)
	w.Opt("Username", e.Username)
	w.List("Resources", func() {})
	w.Str("CloudTrailEvent", string(e.JSON()))
}
