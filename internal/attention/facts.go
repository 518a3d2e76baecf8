package attention

import (
	"fmt"
	"strings"
	"time"

	"github.com/imdsctl/imdsctl/internal/assess"
	"github.com/imdsctl/imdsctl/internal/inventory"
)

// agentVersion is the version of the SSM agent on a host; empty where Systems Manager knows of none.
func agentVersion(ix *inventory.Index, host *inventory.Resource) string {
	for _, g := range ix.Guests(host.Ref) {
		if g.Ref.Kind == inventory.KindSSMAgent {
			return g.Attrs[inventory.AttrAgentVersion]
		}
	}
	return ""
}

// agentsRead tells whether Systems Manager was asked for its agents.
func (f *finder) agentsRead() bool {
	_, gap := f.Snapshot.Gap(inventory.KindSSMAgent)
	return !gap && f.Snapshot.Read(inventory.KindSSMAgent) && len(f.Snapshot.Scopes) > 0
}

// imageName is the name that an image's owner gave it, which a tag may hide.
func imageName(image *inventory.Resource) string {
	if name := image.Attrs[attrImageName]; name != "" {
		return name
	}
	return image.Name
}

// attrImageName is the attribute that holds it.
const attrImageName = "name"

// productCodes are the marketplace's codes of an image.
func productCodes(image *inventory.Resource) []string {
	if codes := image.Attrs[inventory.AttrProductCodes]; codes != "" {
		return strings.Split(codes, ",")
	}
	return nil
}

func hopsNow(h *assess.Hops) int {
	if h == nil {
		return 0
	}
	return h.Now
}

// scheduleWords says how often calls come.
func scheduleWords(s *assess.Schedule) string {
	return fmt.Sprintf("every %s, %s seen, the last on %s, due again on %s", s.Every, plural(s.Runs, "time"), s.Last.Format(time.DateOnly),
		s.Due.Format(time.DateOnly))
}

// scheduled is the item of a caller that nobody named and that comes at set times.
func (x *explanation) scheduled(s *assess.Schedule) Item {
	i := x.item(x.w, ScheduledCaller, "")
	i.Title = "something calls IMDSv1 at set times, every " + s.Every
	i.Because = append(i.Because, "its calls come by a schedule: "+scheduleWords(s))
	i.Fix = "Look at what runs at these times: cron, systemd timers, scheduled tasks, jobs of a scheduler."
	i.Steps = append([]string{"on an instance: systemctl list-timers --all; sudo ls /etc/cron.* /var/spool/cron; aws ssm list-associations"},
		x.next()...)
	i.Links = []string{linkRetrieve, linkTrace}
	return i
}
