package secretsmanager

import (
	"bytes"
	"crypto/rand"
	"maps"
	"regexp"
	"slices"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal/wire"
)

// The limits of AWS.
const (
	maxValueBytes      = 65536
	maxDescription     = 2048
	maxVersions        = 100
	maxStages          = 20
	maxStageLength     = 256
	minToken, maxToken = 32, 64
	minDays, maxDays   = 7, 30
	maxPage            = 100
	suffixLength       = 6
)

// The staging labels that AWS moves by itself.
const (
	current  = "AWSCURRENT"
	previous = "AWSPREVIOUS"
)

var (
	nameForm   = regexp.MustCompile(`^[A-Za-z0-9/_+=.@-]{1,512}$`)
	suffixForm = regexp.MustCompile(`^.+-[A-Za-z0-9]{6}$`)
)

func invalidName() *wire.Error {
	return wire.Errorf("ValidationException", "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@!")
}

type secret struct {
	serial                        uint64
	name, arn, description, keyID string
	created, changed              time.Time
	deleted                       time.Time  // when it was scheduled for deletion; zero: it was not
	gone                          time.Time  // when it will be deleted
	versions                      []*version // oldest first
}

type version struct {
	id      string
	value   value
	created time.Time
	stages  []string
}

// value is what a version holds: text or bytes.
type value struct {
	text   string
	binary []byte
}

func (v value) equal(other value) bool {
	return v.text == other.text && bytes.Equal(v.binary, other.binary)
}

func (v value) empty() bool { return v.text == "" && len(v.binary) == 0 }

// add makes a secret without versions.
func (s *Service) add(name string, now time.Time) *secret {
	s.serial++
	added := &secret{serial: s.serial, name: name, arn: s.prefix + name + "-" + rand.Text()[:suffixLength], created: now, changed: now}
	s.secrets[name] = added
	return added
}

// forgetDeleted deletes the secrets whose recovery window is over.
func (s *Service) forgetDeleted(now time.Time) {
	maps.DeleteFunc(s.secrets, func(_ string, x *secret) bool { return !x.deleted.IsZero() && !now.Before(x.gone) })
}

// version gives the version of that id, nil if there is none.
func (x *secret) version(id string) *version {
	return x.first(func(v *version) bool { return v.id == id })
}

// holder gives the version that has the label, nil if none has.
func (x *secret) holder(stage string) *version {
	return x.first(func(v *version) bool { return slices.Contains(v.stages, stage) })
}

func (x *secret) first(is func(*version) bool) *version {
	if i := slices.IndexFunc(x.versions, is); i >= 0 {
		return x.versions[i]
	}
	return nil
}

// store adds a version with these labels, or finds that it has been added before: a call whose answer was lost is repeated.
func (x *secret) store(id string, what value, stages []string, now time.Time) (*version, *wire.Error) {
	if known := x.version(id); known != nil {
		if known.value.equal(what) {
			return known, nil
		}
		return nil, wire.Errorf("ResourceExistsException", "You can't use ClientRequestToken %s because that value is already in use for a version of secret %s.", id, x.arn)
	}
	if len(x.versions) == 0 && !slices.Contains(stages, current) {
		stages = append(slices.Clone(stages), current)
	}
	added := &version{id: id, value: what, created: now}
	x.versions = append(x.versions, added)
	for _, stage := range stages {
		if old := x.holder(stage); stage == current && old != nil {
			x.move(previous, old)
		}
		x.move(stage, added)
	}
	x.changed = now
	x.dropOldest()
	return added, nil
}

// move gives a label to a version and takes it from the one that has it.
func (x *secret) move(stage string, to *version) {
	for _, v := range x.versions {
		v.stages = slices.DeleteFunc(v.stages, func(s string) bool { return s == stage })
	}
	to.stages = append(to.stages, stage)
}

// dropOldest keeps the versions within their limit; those with a label stay.
func (x *secret) dropOldest() {
	excess := len(x.versions) - maxVersions
	x.versions = slices.DeleteFunc(x.versions, func(v *version) bool {
		drop := excess > 0 && len(v.stages) == 0
		if drop {
			excess--
		}
		return drop
	})
}

// stages gives the labels by version id.
func (x *secret) stages() map[string][]string {
	byID := map[string][]string{}
	for _, v := range x.versions {
		if len(v.stages) > 0 {
			byID[v.id] = v.stages
		}
	}
	return byID
}
