package policy

import (
	"fmt"
	"time"
)

// longestFreeze is what a person may mean by a freeze; what is longer is a slip of the year.
const longestFreeze = 400 * day

func (c *Config) checkWindows(d *decoder) {
	names := map[string]string{}
	for i, r := range c.Windows {
		path := fmt.Sprintf("windows[%d]", i)
		once(d, names, r.Window.Name, path+".name", r.Where, "the window name %q is already used at %s",
			"Give each window its own name.")
		if r.Window.From == r.Window.To && !d.broken(path) {
			d.problemAt(path+".to", fmt.Sprintf("window %q ends when it begins, at %s", r.Window.Name, r.Window.To),
				"Correct the times. For whole days, write from 00:00 to 24:00.")
		}
	}
}

func (c *Config) checkFreezes(d *decoder) {
	names := map[string]string{}
	for i, r := range c.Freezes {
		path := fmt.Sprintf("freezes[%d]", i)
		f := r.Freeze
		once(d, names, f.Name, path+".name", r.Where, "the freeze name %q is already used at %s",
			"Give each freeze its own name.")
		switch length := f.To.End().Sub(f.From.start); {
		case d.broken(path):
		case length <= 0:
			d.problemAt(path+".to", fmt.Sprintf("freeze %q ends on %s, before it begins on %s", f.Name, f.To, f.From),
				"Correct the dates.")
		case length > longestFreeze:
			d.problemAt(path+".to", fmt.Sprintf("freeze %q lasts for %d days, in which nothing would be changed", f.Name,
				length/day), "Correct the dates; to leave accounts out for good, use `skip` or `exceptions`.")
		}
	}
}

func (c *Config) checkGates(d *decoder) {
	names := map[string]string{}
	unique := func(list string, i int, name, where string) {
		once(d, names, name, fmt.Sprintf("gates.%s[%d].name", list, i), where, "the gate name %q is already used at %s",
			"Give each gate its own name.")
	}
	for i, g := range c.Gates.Alarms {
		unique("alarms", i, g.Name, g.Where)
	}
	for i, g := range c.Gates.Commands {
		unique("commands", i, g.Name, g.Where)
		checkProgram(d, fmt.Sprintf("gates.commands[%d].run", i), g.Run)
	}
	for i, g := range c.Gates.Webhooks {
		unique("webhooks", i, g.Name, g.Where)
	}
}

// checkProgram refuses a program without a name.
func checkProgram(d *decoder, path string, run []string) {
	if len(run) > 0 && run[0] == "" && !d.broken(path) {
		d.problemAt(path+"[0]", path+" begins with an empty text, where the program's name should be",
			"Write the program first, then its arguments.")
	}
}

func (c *Config) checkFollowUps(d *decoder) {
	names := map[string]string{}
	for i, f := range c.FollowUps {
		path := fmt.Sprintf("follow_ups[%d]", i)
		once(d, names, f.Name, path+".name", f.Where, "the follow-up name %q is already used at %s",
			"Give each follow-up its own name.")
		checkProgram(d, path+".command", f.Command)
		if d.broken(path) {
			continue
		}
		ways := 0
		for _, set := range []bool{f.Manual != "", f.SSM.Document != "", len(f.Command) > 0} {
			if set {
				ways++
			}
		}
		switch {
		case ways != 1:
			d.problemAt(path, fmt.Sprintf("follow-up %q is %d of `manual`, `ssm` and `command`", f.Name, ways),
				"Write exactly one of them; for more, add follow-ups.")
		case f.Manual != "" && f.Timeout != 0:
			d.problemAt(path+".timeout", fmt.Sprintf("follow-up %q waits for a person, which has no timeout", f.Name),
				"Remove `timeout`.")
		case f.SSM.Document != "" && (len(f.Kinds) != 1 || f.Kinds[0] != kindInstance):
			d.problemAt(path+".kinds", fmt.Sprintf("follow-up %q runs a document of Systems Manager on what is no instance", f.Name),
				"Leave `kinds` out, and write another follow-up for the others.")
		}
	}
}

// kindInstance is the kind of EC2 instances.
const kindInstance = "ec2-instance"

// LifeOfCredentials is how long an instance's credentials are good for at most: software that cannot fetch new ones breaks
// when those it has end. https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-metadata-security-credentials.html
const LifeOfCredentials = 6 * time.Hour
