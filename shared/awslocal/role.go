package awslocal

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/waybillhq/waybill/shared/awslocal/wire"
)

// Access is an IAM action on a resource, by its ARN.
type Access = wire.Access

// Role is a principal that may do what it is granted and nothing else, as the role of a function in Lambda. It remembers what its sessions did and what they were
// refused. Safe for concurrent use; the check of a call takes one look into a map.
type Role struct {
	principal string
	exact     map[Access]*atomic.Int64
	families  []Access // whose resource ends in *
	counts    []atomic.Int64

	mu     sync.Mutex
	denied map[Access]int
}

var _ wire.Policy = (*Role)(nil)

// NewRole gives a role with these grants. A resource that ends in * grants all whose ARN begins with what is before it.
func NewRole(name string, grants ...Access) *Role {
	r := &Role{
		principal: "arn:aws:sts::" + AccountID + ":assumed-role/" + name + "/local",
		exact:     map[Access]*atomic.Int64{}, denied: map[Access]int{},
	}
	for _, g := range grants {
		if strings.HasSuffix(g.Resource, "*") {
			r.families = append(r.families, g)
		} else {
			r.exact[g] = new(atomic.Int64)
		}
	}
	r.counts = make([]atomic.Int64, len(r.families))
	return r
}

// Principal implements wire.Policy.
func (r *Role) Principal() string { return r.principal }

// Allows implements wire.Policy.
func (r *Role) Allows(a Access) bool {
	if used, ok := r.exact[a]; ok {
		used.Add(1)
		return true
	}
	for i, family := range r.families {
		if family.Action == a.Action && strings.HasPrefix(a.Resource, strings.TrimSuffix(family.Resource, "*")) {
			r.counts[i].Add(1)
			return true
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.denied[a]++
	return false
}

// Used gives every grant with how often it was needed, 0 for those that never were.
func (r *Role) Used() map[Access]int {
	used := map[Access]int{}
	for grant, n := range r.exact {
		used[grant] = int(n.Load())
	}
	for i, family := range r.families {
		used[family] = int(r.counts[i].Load())
	}
	return used
}

// Denied gives what sessions of the role attempted without a grant, with how often.
func (r *Role) Denied() map[Access]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.denied)
}
