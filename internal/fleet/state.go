package fleet

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// State is the canonical document of one resource: named fields in the words of its own API. A field that is absent
// differs from every value, the empty string included. A kind reads, compares and restores a state whole.
//
// The JSON encoding is canonical, because encoding/json sorts the keys of a map.
type State map[string]string

// Clone copies the state; the copy of nil is empty, not nil.
func (s State) Clone() State {
	c := make(State, len(s))
	maps.Copy(c, s)
	return c
}

// Equal tells whether both states have the same fields with the same values.
func (s State) Equal(o State) bool { return maps.Equal(s, o) }

// With gives a copy in which the fields of patch are set. The value Absent removes a field.
func (s State) With(patch State) State {
	c := s.Clone()
	for k, v := range patch {
		if v == Absent {
			delete(c, k)
		} else {
			c[k] = v
		}
	}
	return c
}

// Absent, as a value in a patch, removes the field. No AWS value contains a NUL byte.
const Absent = "\x00absent"

// FieldChange is one field that two states do not share.
type FieldChange struct {
	Field     string `json:"field"`
	Before    string `json:"before"`
	HadBefore bool   `json:"had_before"`
	After     string `json:"after"`
	HasAfter  bool   `json:"has_after"`
}

// String gives "HttpTokens: optional → required".
func (c FieldChange) String() string {
	show := func(v string, has bool) string {
		if !has {
			return "(unset)"
		}
		return v
	}
	return c.Field + ": " + show(c.Before, c.HadBefore) + " → " + show(c.After, c.HasAfter)
}

// Diff lists the fields in which after differs from before, by name.
func Diff(before, after State) []FieldChange {
	keys := map[string]bool{}
	for k := range before {
		keys[k] = true
	}
	for k := range after {
		keys[k] = true
	}
	var out []FieldChange
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		b, hb := before[k]
		a, ha := after[k]
		if hb != ha || b != a {
			out = append(out, FieldChange{Field: k, Before: b, HadBefore: hb, After: a, HasAfter: ha})
		}
	}
	return out
}

// DescribeDiff is Diff for people, joined by "; ".
func DescribeDiff(before, after State) string {
	changes := Diff(before, after)
	out := make([]string, len(changes))
	for i, c := range changes {
		out[i] = c.String()
	}
	return strings.Join(out, "; ")
}

// Hash is the hexadecimal SHA-256 of the canonical JSON.
func (s State) Hash() string {
	b, err := json.Marshal(map[string]string(s))
	if err != nil { // a map of strings always marshals
		panic(err)
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
