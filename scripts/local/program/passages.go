package program

import (
	"strings"
	"sync"

	"github.com/waybillhq/waybill/scripts/local/system"
	"github.com/waybillhq/waybill/shared/awslocal/dynamodb"
	"github.com/waybillhq/waybill/shared/topology"
	"github.com/waybillhq/waybill/shared/waiting"
)

// passages remembers which deliveries were seen in the waiting room, and how many dead letters were moved back. It is safe for concurrent use.
type passages struct {
	mu     sync.Mutex
	due    map[string]bool            // rows that waited for their time
	parked map[string]map[string]bool // attempts that waited for their destination, by destination
	moved  int
}

func newPassages() *passages {
	return &passages{due: map[string]bool{}, parked: map[string]map[string]bool{}}
}

// look sees what lies in the waiting room now.
func (p *passages) look(s *system.System) {
	items, err := s.Tables.Items(string(topology.Waiting))
	if err != nil {
		return // nothing waits in a table that is not there
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, item := range items {
		name, _ := item["bucket"].(dynamodb.String)
		key, _ := item["row"].(dynamodb.String)
		switch bucket := waiting.ParseBucket(string(name)); bucket.Kind {
		case waiting.Due:
			p.due[string(name+key)] = true
		case waiting.Parked:
			if p.parked[bucket.Destination] == nil {
				p.parked[bucket.Destination] = map[string]bool{}
			}
			_, attempt, _ := strings.Cut(string(key), "#") // without the time of acceptance, which differs between copies of an event
			p.parked[bucket.Destination][attempt] = true
		}
	}
}

// waited is how many deliveries have waited there for their time.
func (p *passages) waited() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.due)
}

// parkedFor is how many have waited for a destination.
func (p *passages) parkedFor(destination string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.parked[destination])
}

// parkedAll is how many have waited for any destination.
func (p *passages) parkedAll() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, rows := range p.parked {
		n += len(rows)
	}
	return n
}

func (p *passages) redriven(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.moved += n
}

func (p *passages) redrivenAll() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.moved
}
