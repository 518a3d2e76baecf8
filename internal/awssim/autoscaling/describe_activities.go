package autoscaling

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/awssim/core"
)

// describeActivities lists activities of the last six weeks, newest first: of one group or of all, those of deleted
// groups only when asked.
func describeActivities(c *core.Call) error {
	size, after, err := page(c, activityPage)
	if err != nil {
		return err
	}
	if !c.In.Has("MaxRecords") {
		size = activityPage
	}
	deleted, _, err := c.In.Bool("IncludeDeletedGroups")
	if err != nil {
		return err
	}
	keep, err := activityFilter(c)
	if err != nil {
		return err
	}
	s, name, ids := StoreOf(c.Place), c.In.Str("AutoScalingGroupName"), c.In.Strings("ActivityIds")
	if name != "" && s.groups[name] == nil && !deleted {
		return groupNotFound(name)
	}
	begin := len(s.activities) // an activity's position from the end changes as new ones come; its id does not
	if after != "" {
		if last := s.byID[after]; last != nil {
			begin = slices.Index(s.activities, last)
		} else {
			begin = 0
		}
	}
	var shown []*Activity
	more := false
	for i := begin - 1; i >= 0 && !more; i-- {
		a := s.activities[i]
		switch {
		case name != "" && a.Group != name,
			len(ids) > 0 && !slices.Contains(ids, a.ID),
			!deleted && !s.exists(a),
			c.Now.Sub(a.Start) > keepActivities, a.Start.After(c.Now), !keep(a):
		case len(shown) == size:
			more = true
		default:
			shown = append(shown, a)
		}
	}
	c.Out.List("Activities", func() {
		for _, a := range shown {
			c.Out.Struct("", func() { writeActivity(c, a, !s.exists(a)) })
		}
	})
	if more {
		nextToken(c, shown[len(shown)-1].ID)
	}
	return nil
}

// exists tells whether the group of the activity is there, and not another of the same name.
func (s *Store) exists(a *Activity) bool {
	g := s.groups[a.Group]
	return g != nil && g.arn == a.GroupARN
}

// activityFilter reads the filters StartTimeLowerBound, StartTimeUpperBound and Status.
func activityFilter(c *core.Call) (func(*Activity) bool, error) {
	filters, err := filtersOf(c, func(name string) bool {
		return name == "StartTimeLowerBound" || name == "StartTimeUpperBound" || name == "Status"
	})
	if err != nil {
		return nil, err
	}
	var from, to time.Time
	var status []string
	for _, f := range filters {
		if f.name == "Status" {
			status = f.values
			continue
		}
		if len(f.values) != 1 {
			return nil, invalid("Filter %s takes one value", f.name)
		}
		at, err := time.Parse(time.RFC3339, f.values[0])
		if err != nil {
			return nil, invalid("Filter %s takes a UTC timestamp such as 2026-01-02T15:04:05Z", f.name)
		}
		if f.name == "StartTimeLowerBound" {
			from = at
		} else {
			to = at
		}
	}
	return func(a *Activity) bool {
		return !a.Start.Before(from) && (to.IsZero() || !a.Start.After(to)) &&
			(len(status) == 0 || slices.ContainsFunc(status, func(s string) bool { return strings.EqualFold(s, a.Status) }))
	}, nil
}

func writeActivity(c *core.Call, a *Activity, deleted bool) {
	w := c.Out
	w.Str("ActivityId", a.ID)
	w.Str("AutoScalingGroupName", a.Group)
	w.Opt("Description", a.Description)
	w.Str("Cause", a.Cause)
	w.Time("StartTime", a.Start)
	status, progress := a.Status, a.Progress
	switch {
	case a.End.After(c.Now) && strings.HasPrefix(a.Description, "Launching"):
		status, progress = "PreInService", 30
	case a.End.After(c.Now):
		status, progress = "InProgress", 50
	default:
		w.Time("EndTime", a.End)
	}
	w.Str("StatusCode", status)
	w.Opt("StatusMessage", a.StatusMessage)
	w.Str("Progress", strconv.Itoa(progress))
	w.Opt("Details", a.Details)
	if deleted {
		w.Str("AutoScalingGroupState", "Deleted")
	}
	w.Str("AutoScalingGroupARN", a.GroupARN)
}
