package ec2

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/imdsctl/imdsctl/internal/fleet"
)

// Revise adds a version to a template that says what its latest says, with the metadata options that o sets, and makes it
// the default, as the service that owns the template does. It gives the version's number.
func (s *Store) Revise(now time.Time, idOrName string, o fleet.Options) (int64, error) {
	t, ok := s.Template(idOrName)
	if !ok {
		_, err := s.ResolveVersion(idOrName, "$Latest") // which says so
		return 0, err
	}
	latest, err := t.version(t.state.Newest(), "$Latest")
	if err != nil {
		return 0, err
	}
	data := maps.Clone(latest.Data)
	had, _ := data["MetadataOptions"].(Data)
	said := maps.Clone(had)
	if said == nil {
		said = Data{}
	}
	if o.Tokens != "" {
		said["HttpTokens"] = o.Tokens
	}
	if o.HopLimit != 0 {
		said["HttpPutResponseHopLimit"] = strconv.Itoa(o.HopLimit)
	}
	if o.Endpoint != "" {
		said["HttpEndpoint"] = o.Endpoint
	}
	data["MetadataOptions"] = said
	v := &TemplateVersion{
		Number: t.state.Newest().Last + 1, Description: latest.Description, Created: now,
		CreatedBy: cmp.Or(latest.CreatedBy, t.by), Data: data,
	}
	s.updateTemplate(now, t, func(st *templateState) {
		st.Versions = append(slices.Clip(st.Versions), v)
		st.Default, st.Latest, st.Last = v.Number, v.Number, v.Number
	})
	return v.Number, nil
}
