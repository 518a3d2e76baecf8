package cli

import (
	"strconv"
	"strings"
)

// thresholds reads the values of --fail-on, each a name or NAME=N: by name, how many are borne. check refuses a name that
// the command does not count; example is told to whoever writes a number that is none.
func thresholds(given []string, example string, check func(name string) error) (map[string]int, error) {
	out := map[string]int{}
	for _, g := range given {
		name, number, has := strings.Cut(g, "=")
		n := 0
		if has {
			var err error
			if n, err = strconv.Atoi(number); err != nil || n < 0 {
				return nil, misuse("--fail-on", "Give a number that is not negative, such as "+example+".", "%q is no number", number)
			}
		}
		if err := check(name); err != nil {
			return nil, err
		}
		out[name] = n
	}
	return out, nil
}
