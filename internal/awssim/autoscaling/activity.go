package autoscaling

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// Activity is a scaling activity, in DescribeScalingActivities' words.
type Activity struct {
	ID            string
	Group         string
	GroupARN      string
	Description   string
	Cause         string
	Start, End    time.Time // End is zero while it is in progress
	Status        string    // Successful, InProgress or Failed
	StatusMessage string
	Progress      int
	Details       string
}

// keepActivities is how long activities are described.
// https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_DescribeScalingActivities.html
const keepActivities = 6 * 7 * 24 * time.Hour

// stamp is the form of times within Cause.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// record keeps an activity, in order of its start, and forgets those that nobody can see any more.
func (s *Store) record(g *group, a Activity) *Activity {
	a.ID, a.Group, a.GroupARN = s.uuid(), g.name, g.arn
	kept := &a
	s.byID[a.ID] = kept
	at, _ := slices.BinarySearchFunc(s.activities, a.Start, func(x *Activity, t time.Time) int {
		if x.Start.After(t) {
			return 1
		}
		return -1
	})
	s.activities = slices.Insert(s.activities, at, kept)
	old := 0
	for old < len(s.activities) && a.Start.Sub(s.activities[old].Start) > keepActivities {
		delete(s.byID, s.activities[old].ID)
		old++
	}
	s.activities = s.activities[old:]
	return kept
}

// launchActivity is the record of a launch; took is how long the instance needed to be in service.
func (s *Store) launchActivity(g *group, id, zone, subnet, cause string, at time.Time, took time.Duration) *Activity {
	return s.record(g, Activity{
		Description: "Launching a new EC2 instance: " + id, Cause: cause, Start: at, End: at.Add(took),
		Status: "Successful", Progress: 100, Details: placement(zone, subnet),
	})
}

func (s *Store) failedLaunch(g *group, message, cause string, at time.Time) *Activity {
	return s.record(g, Activity{
		Description: "Launching a new EC2 instance.  Status Reason: " + message + " Launching EC2 instance failed.",
		Cause:       cause, Start: at, End: at, Status: "Failed", Progress: 100,
		StatusMessage: message + " Launching EC2 instance failed.", Details: placement("", ""),
	})
}

func (s *Store) terminateActivity(g *group, id, zone, subnet, cause string, at time.Time, took time.Duration) *Activity {
	return s.record(g, Activity{
		Description: "Terminating EC2 instance: " + id, Cause: cause, Start: at, End: at.Add(took),
		Status: "Successful", Progress: 100, Details: placement(zone, subnet),
	})
}

// placement is the Details of an activity, as AWS writes it: JSON with spaces in its names.
func placement(zone, subnet string) string {
	details := struct {
		Subnet string `json:"Subnet ID,omitempty"`
		Zone   string `json:"Availability Zone,omitempty"`
	}{subnet, zone}
	b, err := json.Marshal(details)
	if err != nil { // two strings always marshal
		panic(err)
	}
	return string(b)
}

func growCause(why string, at time.Time, from, to int) string {
	return why + fmt.Sprintf("At %s an instance was started in response to a difference between desired and actual "+
		"capacity, increasing the capacity from %d to %d.", stamp(at), from, to)
}

func shrinkCause(why string, at time.Time, from, to int, id string) string {
	return why + fmt.Sprintf("At %s an instance was taken out of service in response to a difference between desired and "+
		"actual capacity, shrinking the capacity from %d to %d.  At %s instance %s was selected for termination.",
		stamp(at), from, to, stamp(at), id)
}
