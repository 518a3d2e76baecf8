package ec2

import (
	"maps"
	"time"
)

// KeepVersion is for services that keep a launch template of their own, as EKS does for a node group. It adds a version with
// the data of a version of another template, and what that leaves open of the names in fill: as fill has it, else as the
// template's own newest version. Where from is empty there is no other template: the newest version is copied, and fill wins.
// The template is made where own names none that is there: it is own then, with the data laid over its only version. The place
// must be locked for writing.
func (s *Store) KeepVersion(now time.Time, own TemplateSeed, from, version string, fill map[string]string,
) (id string, number int64, err error) {
	var data Data
	if from != "" {
		n, err := s.ResolveVersion(from, version)
		if err != nil {
			return "", 0, err
		}
		source, _ := s.Template(from)
		st := source.state.Newest()
		at, _ := st.find(n)
		data = maps.Clone(st.Versions[at].Data)
	}
	name := own.ID
	if name == "" {
		name = own.Name
	}
	t, there := s.Template(name)
	var last Data
	if there {
		st := t.state.Newest()
		last = st.Versions[len(st.Versions)-1].Data
	}
	if from == "" {
		data = maps.Clone(last)
	}
	if data == nil {
		data = Data{}
	}
	for field, text := range fill {
		switch {
		case from != "" && data[field] != nil:
		case text != "":
			data[field] = text
		case last[field] != nil:
			data[field] = last[field]
		}
	}
	if !there {
		return s.keepFirst(now, own, data)
	}
	v := &TemplateVersion{Number: t.state.Newest().Last + 1, Created: now, CreatedBy: t.by, Data: data}
	s.updateTemplate(now, t, func(st *templateState) {
		st.Versions = append(st.Versions[:len(st.Versions):len(st.Versions)], v)
		st.Latest, st.Last = v.Number, v.Number
	})
	return t.id, v.Number, nil
}

// keepFirst makes the template, with the data as its first version.
func (s *Store) keepFirst(now time.Time, own TemplateSeed, data Data) (id string, number int64, err error) {
	own.Created = now
	if len(own.Versions) == 0 {
		own.Versions = []VersionSeed{{Data: []byte("{}")}}
	}
	t, err := s.AddTemplate(now, own, "template "+own.Name)
	if err != nil {
		return "", 0, err
	}
	first := *t.state.Newest()
	version := *first.Versions[0]
	version.Data = maps.Clone(version.Data)
	maps.Copy(version.Data, data)
	first.Versions = []*TemplateVersion{&version}
	s.updateTemplate(now, t, func(st *templateState) { *st = first })
	return t.id, 1, nil
}

// VersionText is a plain field of a version of a template, such as "ImageId"; empty where it says nothing, and where there is
// no such version.
func (s *Store) VersionText(idOrName, version, field string) string {
	n, err := s.ResolveVersion(idOrName, version)
	if err != nil {
		return ""
	}
	t, _ := s.Template(idOrName)
	st := t.state.Newest()
	at, _ := st.find(n)
	return st.Versions[at].Data.text(field)
}
