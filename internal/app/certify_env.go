package app

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/imdsctl/imdsctl/internal/certify"
	"github.com/imdsctl/imdsctl/internal/lab"
)

// environmentPolicy says what is done to a command's environment.
type environmentPolicy struct {
	// keep leaves everything as it is, and reports it.
	keep bool
	// outside: the command has the host's network, and its proxies can be reached.
	outside bool
	// files: files of the user's home are looked at; those of an image are not there yet.
	files bool
	// endpoint is the service's address where it is not its own; empty in a lab.
	endpoint string
}

func (c *certification) environmentPolicy() environmentPolicy {
	return environmentPolicy{keep: c.KeepEnvironment, outside: c.Outside || c.Endpoint, files: c.Image.File == ""}
}

// What is done to a variable or a file.
const (
	envRemoved = "removed"
	envHidden  = "hidden"
	envSet     = "set"
	envKept    = "kept, though programs that have it may not ask the service"
)

// proxies are the variables by which programs are sent through a proxy, which the service refuses to give tokens to.
var proxies = []string{"http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"}

// exceptions are those of proxies, and what must stand there.
var exceptions = []string{"no_proxy", "NO_PROXY"}

// serviceHosts are the addresses that no proxy may stand before.
const serviceHosts = "169.254.169.254,fd00:ec2::254"

// credentialFiles are files in a home that hold credentials, with the variables by which SDKs are sent elsewhere.
var credentialFiles = []struct {
	name      string
	variables []string
}{
	{"credentials", []string{"AWS_SHARED_CREDENTIALS_FILE", "AWS_CREDENTIAL_PROFILES_FILE"}},
	{"config", []string{"AWS_CONFIG_FILE"}},
}

// certifyEnvironment takes from an environment what keeps programs from asking the service: credentials, profiles, other endpoints,
// proxies. It tells what it did, or would have.
func certifyEnvironment(env []string, p environmentPolicy) ([]string, []certify.Change) {
	var changes []certify.Change
	kept, removed := lab.Environment(env)
	if p.keep {
		kept = slices.Clone(env)
	}
	for _, name := range removed {
		changes = append(changes, certify.Change{Name: name, What: either(p.keep, envKept, envRemoved)})
	}
	if p.files {
		kept, changes = hideFiles(kept, changes, p.keep)
	}
	kept, changes = withoutProxies(kept, changes, p)
	if p.endpoint != "" {
		kept = append(slices.DeleteFunc(kept, func(e string) bool { return strings.HasPrefix(e, "AWS_EC2_METADATA_SERVICE_ENDPOINT") }),
			"AWS_EC2_METADATA_SERVICE_ENDPOINT="+p.endpoint)
		changes = append(changes, certify.Change{Name: "AWS_EC2_METADATA_SERVICE_ENDPOINT", What: envSet})
	}
	return kept, changes
}

func either(yes bool, a, b string) string {
	if yes {
		return a
	}
	return b
}

// hideFiles sends SDKs to an empty file where the user's own has credentials or profiles.
func hideFiles(env []string, changes []certify.Change, keep bool) ([]string, []certify.Change) {
	home := valueOf(env, either(os.PathSeparator == '\\', "USERPROFILE", "HOME"))
	for _, file := range credentialFiles {
		at := valueOf(env, file.variables[0])
		if at == "" && home != "" {
			at = filepath.Join(home, ".aws", file.name)
		}
		if info, err := os.Stat(at); at == "" || err != nil || info.Size() == 0 {
			continue
		}
		changes = append(changes, certify.Change{Name: at, What: either(keep, envKept, envHidden)})
		if keep {
			continue
		}
		for _, v := range file.variables {
			env = append(without(env, v), v+"="+os.DevNull)
		}
	}
	return env, changes
}

// withoutProxies removes proxies that cannot be reached, and excepts the service from those that can.
func withoutProxies(env []string, changes []certify.Change, p environmentPolicy) ([]string, []certify.Change) {
	found := slices.DeleteFunc(slices.Clone(proxies), func(name string) bool { return valueOf(env, name) == "" })
	if len(found) == 0 {
		return env, changes
	}
	if p.outside && !p.keep {
		for _, name := range exceptions {
			value := serviceHosts
			if have := valueOf(env, name); have != "" {
				value = have + "," + value
			}
			env = append(without(env, name), name+"="+value)
		}
		return env, append(changes, certify.Change{Name: "NO_PROXY", What: envSet})
	}
	for _, name := range found {
		changes = append(changes, certify.Change{Name: name, What: either(p.keep, envKept, envRemoved)})
		if !p.keep {
			env = without(env, name)
		}
	}
	return env, changes
}

func without(env []string, name string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(e string) bool { return strings.HasPrefix(e, name+"=") })
}

// valueOf is the value of a variable, the last one where there are several.
func valueOf(env []string, name string) string {
	for _, e := range slices.Backward(env) {
		if value, ok := strings.CutPrefix(e, name+"="); ok {
			return value
		}
	}
	return ""
}
