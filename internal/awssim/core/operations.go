package core

import (
	"cmp"
	"net/http"
	"slices"
)

// Operation is one operation that the world answers.
type Operation struct {
	// Service is the name in credential scopes, which is what clients know a service by: "monitoring" for CloudWatch.
	Service string `json:"service"`
	Name    string `json:"operation"`
	// Mutating operations change state.
	Mutating bool `json:"mutating,omitempty"`
}

// Operations lists everything that the world answers, by service and name. A suite of client tests compares itself with
// the list, so that no operation goes without one.
func (w *World) Operations() []Operation {
	var out []Operation
	for _, s := range w.services {
		name := s.Name
		if len(s.Signing) > 0 {
			name = s.Signing[0]
		}
		for action, spec := range s.Actions {
			out = append(out, Operation{Service: name, Name: action, Mutating: spec.Mutating})
		}
	}
	slices.SortFunc(out, func(a, b Operation) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Name, b.Name))
	})
	return out
}

func (w *World) serveOperations(rw http.ResponseWriter, _ *http.Request) {
	writeJSON(rw, w.Operations())
}
