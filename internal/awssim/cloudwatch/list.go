package cloudwatch

import (
	"slices"

	"github.com/imdsctl/imdsctl/internal/awssim/wire"
	"github.com/imdsctl/imdsctl/internal/awssim/workload"
)

// listPage is the number of metrics ListMetrics returns at a time.
const listPage = 500

// listToken is where a page of ListMetrics begins: after the metrics that were put up to Put, then after instance Host.
type listToken struct {
	Put  string `json:"p,omitempty"`
	Host string `json:"h,omitempty"`
	// Skip is how many metrics of the instance after Host were listed already.
	Skip  int  `json:"s,omitempty"`
	Hosts bool `json:"i,omitempty"`
}

// listFilter is what ListMetrics asks for.
type listFilter struct {
	namespace, name string
	dims            []dimension
	anyValue        []bool
}

func (f *listFilter) match(id metricID) bool {
	namespace, name, dims := id.parts()
	if (f.namespace != "" && f.namespace != namespace) || (f.name != "" && f.name != name) {
		return false
	}
	for i, want := range f.dims {
		if !slices.ContainsFunc(dims, func(d dimension) bool {
			return d.name == want.name && (f.anyValue[i] || d.value == want.value)
		}) {
			return false
		}
	}
	return true
}

// listMetrics lists metrics that had data in the last two weeks, those of terminated instances included.
func (s *service) listMetrics(sc scope, w *wire.Writer) error {
	filter := listFilter{namespace: sc.params.Str("Namespace"), name: sc.params.Str("MetricName")}
	for _, d := range sc.params.Items("Dimensions") {
		filter.dims = append(filter.dims, dimension{d.Str("Name"), d.Str("Value")})
		filter.anyValue = append(filter.anyValue, !d.Has("Value"))
	}
	since := sc.now.Add(-listedFor).Unix()
	switch sc.params.Str("RecentlyActive") {
	case "":
	case "PT3H":
		since = sc.now.Unix() - 3*3600
	default:
		return parameterValue("The parameter RecentlyActive must be PT3H.")
	}
	var at listToken
	if token := sc.params.Str("NextToken"); token != "" {
		if err := readToken(token, &at); err != nil {
			return parameterValue("Invalid nextToken")
		}
	}
	found, next, more := s.listFrom(sc, &filter, at, since)
	w.List("Metrics", func() {
		for _, id := range found {
			writeMetric(w, id)
		}
	})
	if more {
		w.Str("NextToken", writeToken(next))
	}
	return nil
}

// listFrom collects a page; next is where the one after it begins.
func (s *service) listFrom(sc scope, filter *listFilter, at listToken, since int64) (
	found []metricID, next listToken, more bool,
) {
	if !at.Hosts {
		for _, id := range storeOf(sc.place).since(since) {
			if string(id) <= at.Put || !filter.match(id) {
				continue
			}
			if len(found) == listPage {
				return found, next, true
			}
			found = append(found, id)
			next = listToken{Put: string(id)}
		}
		at = listToken{Hosts: true}
	}
	if filter.namespace != "" && filter.namespace != "AWS/EC2" {
		return found, next, false
	}
	put := storeOf(sc.place)
	for host := range s.hostsMatching(sc, filter, at.Host) {
		skip := 0
		if at.Skip > 0 {
			skip, at.Skip = at.Skip, 0
		}
		for i, m := range workload.Metrics() {
			if filter.name != "" && filter.name != string(m) {
				continue
			}
			id := idOf("AWS/EC2", string(m), []dimension{{"InstanceId", host.Life.ID}})
			if i < skip || !filter.match(id) || put.recent(id, since) ||
				!host.Reported(m, since, s.published(sc.now.Unix(), host.Life.Resolution())) {
				continue
			}
			if len(found) == listPage {
				next.Hosts, next.Skip = true, i
				return found, next, true
			}
			found = append(found, id)
		}
		next = listToken{Hosts: true, Host: host.Life.ID}
	}
	return found, next, false
}

// hostsMatching walks the instances after the given id; a filter on InstanceId needs no walk.
func (s *service) hostsMatching(sc scope, filter *listFilter, after string) func(yield func(*workload.Host) bool) {
	for i, d := range filter.dims {
		if d.name != "InstanceId" {
			return func(func(*workload.Host) bool) {}
		}
		if !filter.anyValue[i] {
			return func(yield func(*workload.Host) bool) {
				if host, ok := s.hosts.Host(sc.place, d.value); ok && d.value > after {
					yield(host)
				}
			}
		}
	}
	return s.hosts.Hosts(sc.place, after)
}

func writeMetric(w *wire.Writer, id metricID) {
	namespace, name, dims := id.parts()
	w.Struct("", func() {
		w.Str("Namespace", namespace)
		w.Str("MetricName", name)
		w.List("Dimensions", func() {
			for _, d := range dims {
				w.Struct("", func() {
					w.Str("Name", d.name)
					w.Str("Value", d.value)
				})
			}
		})
	})
}
