package product

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
)

// imageOf is an image rule made ready.
type imageOf struct {
	*Image
	product ID
	names   []*regexp.Regexp
}

// compile makes patterns of the names: "*" is anything, "{version}" a number with what is joined to it by dots.
func compile(id ID, i *Image) (imageOf, error) {
	out := imageOf{Image: i, product: id}
	for _, name := range i.Names {
		pattern := regexp.QuoteMeta(name)
		pattern = strings.ReplaceAll(pattern, `\*`, `.*`)
		pattern = strings.Replace(pattern, `\{version\}`, `v?(\d+(?:\.[0-9A-Za-z]+)*)`, 1)
		re, err := regexp.Compile(`(?is)^` + pattern + `$`)
		if err != nil {
			return imageOf{}, fmt.Errorf("image name %q of product %s is no pattern: %w", name, id, err)
		}
		out.names = append(out.names, re)
	}
	return out, nil
}

// imageOf finds whose image it is, by product code before name, and by the longest pattern that fits; and its version, where the
// pattern tells.
func (t *Table) imageOf(owner, name string, codes []string, created time.Time) (found imageOf, version string, ok bool) {
	best := 0
	for _, i := range t.images {
		if i.OnlyOlder && (created.IsZero() || !created.Before(i.OldBefore)) {
			continue
		}
		byCode := slices.ContainsFunc(codes, func(c string) bool { return slices.Contains(i.Codes, c) })
		byName, v := i.byName(owner, name)
		score := byName
		if byCode {
			score += 1 << 20
		}
		if score > best {
			best, found, version, ok = score, i, v, true
		}
	}
	return found, version, ok
}

// byName gives the length of the longest pattern that fits, one more than nothing where the owner alone decides, and the version.
func (i imageOf) byName(owner, name string) (score int, version string) {
	if len(i.Owners) > 0 && !slices.ContainsFunc(i.Owners, func(o string) bool { return strings.EqualFold(o, owner) }) {
		return 0, ""
	}
	if len(i.Names) == 0 {
		return min(len(i.Owners), 1), ""
	}
	for n, re := range i.names {
		m := re.FindStringSubmatch(name)
		if m == nil || len(i.Names[n])+1 <= score {
			continue
		}
		score, version = len(i.Names[n])+1, ""
		if len(m) > 1 {
			version = m[1]
		}
	}
	return score, version
}
