package dynamodb

import (
	"cmp"
	"slices"
)

// project gives what the paths lead to in an item, in the shape of the item. Elements of lists are packed in the order
// of their indices. Paths that lead nowhere give nothing.
func project(b *bindings, paths []path, item Item) Item {
	projected, _ := projectInto(b, paths, Map(item)).(Map)
	return Item(projected)
}

// projectInto gives the part of v that the paths lead to; nil if there is none.
func projectInto(b *bindings, paths []path, v Value) Value {
	if len(paths) == 1 && len(paths[0]) == 0 {
		return v
	}
	switch parent := v.(type) {
	case Map:
		result := Map{}
		for name, below := range groupPaths(paths, func(s step) (string, bool) { return b.nameOf(s), s.name != "" }) {
			if child := parent[name]; child != nil {
				if part := projectInto(b, below, child); part != nil {
					result[name] = part
				}
			}
		}
		if len(result) > 0 {
			return result
		}
	case List:
		groups := groupPaths(paths, func(s step) (int, bool) { return s.index, s.name == "" })
		var result List
		for _, index := range sortedKeys(groups) {
			if index < len(parent) {
				if part := projectInto(b, groups[index], parent[index]); part != nil {
					result = append(result, part)
				}
			}
		}
		if len(result) > 0 {
			return result
		}
	}
	return nil
}

// groupPaths sorts paths by their first step, which it cuts off.
func groupPaths[K comparable](paths []path, key func(step) (K, bool)) map[K][]path {
	groups := map[K][]path{}
	for _, p := range paths {
		if k, ok := key(p[0]); ok {
			groups[k] = append(groups[k], p[1:])
		}
	}
	return groups
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	keys := make([]K, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
