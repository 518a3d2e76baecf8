package capture

// generations is a map of bounded size: when the young are too many, the old are forgotten and the young become old.
type generations[K comparable, V any] struct {
	size       int
	young, old map[K]V
}

func newGenerations[K comparable, V any](size int) generations[K, V] {
	return generations[K, V]{size: size, young: map[K]V{}}
}

func (g *generations[K, V]) put(k K, v V) {
	if len(g.young) >= g.size {
		g.old, g.young = g.young, map[K]V{}
	}
	g.young[k] = v
}

// get finds what was put; what is asked for stays.
func (g *generations[K, V]) get(k K) (V, bool) {
	v, ok := g.young[k]
	if !ok {
		if v, ok = g.old[k]; ok {
			g.put(k, v)
		}
	}
	return v, ok
}
