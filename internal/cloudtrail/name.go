package cloudtrail

import (
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Name is what the name of a log file says (CloudTrail User Guide, "CloudTrail log file name format"):
// 111122223333_CloudTrail_us-east-2_20150801T0210Z_Mu0KsOhtH1ar15ZZ.json.gz.
type Name struct {
	Account fleet.AccountID
	Region  fleet.Region
	// Delivered is when the file was delivered, to the minute. Its records are of before.
	Delivered time.Time
}

var (
	logName = regexp.MustCompile(
		`^(\d{12})_CloudTrail_([a-z0-9-]+)_(\d{8}T\d{4}Z)_[A-Za-z0-9]+\.json(?:\.gz)?$`)
	// digestName and insightName are of what a trail delivers besides: no events of calls.
	besidesName = regexp.MustCompile(`^\d{12}_CloudTrail-(?:Digest|Insight|Aggregated|NetworkActivity)_`)
)

// ParseName reads the name of a log file, with or without folders before it.
func ParseName(name string) (Name, bool) {
	m := logName.FindStringSubmatch(path.Base(strings.ReplaceAll(name, `\`, "/")))
	if m == nil {
		return Name{}, false
	}
	at, err := time.Parse("20060102T1504Z", m[3])
	if err != nil {
		return Name{}, false
	}
	return Name{Account: fleet.AccountID(m[1]), Region: fleet.Region(m[2]), Delivered: at}, true
}

// besides tells the files of a trail that hold no events.
func besides(name string) bool { return besidesName.MatchString(path.Base(name)) }

// late is how long after an event its file may come: minutes mostly, and hours after a fault.
const late = 24 * time.Hour

// wanted tells whether a file may have records of the span.
func (n Name) wanted(s Span) bool {
	return (s.From.IsZero() || !n.Delivered.Before(s.From)) && (s.To.IsZero() || n.Delivered.Before(s.To.Add(late)))
}

// isLog tells the names that are looked at in a folder: log files, by their ending.
func isLog(name string) bool {
	lower := strings.ToLower(name)
	for _, end := range []string{".json", ".json.gz", ".jsonl", ".jsonl.gz", ".ndjson", ".ndjson.gz"} {
		if strings.HasSuffix(lower, end) {
			return true
		}
	}
	return false
}
