package sqs

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal/wire"
)

// redrivePolicy says after how many receives a message goes to which dead-letter queue.
type redrivePolicy struct {
	target      string // ARN
	maxReceives int
	text        string
}

// redriveAllowPolicy says whose dead-letter queue a queue may be.
type redriveAllowPolicy struct {
	Permission string   `json:"redrivePermission"`
	Sources    []string `json:"sourceQueueArns"`
}

// maxReceiveCounts is the largest maxReceiveCount.
const maxReceiveCounts = 1000

func (s *settings) applyRedrive(value string) string {
	s.redrive = nil
	if value == "" {
		return ""
	}
	var document struct {
		Target string          `json:"deadLetterTargetArn"`
		Max    json.RawMessage `json:"maxReceiveCount"` // a number or its text
	}
	if err := json.Unmarshal([]byte(value), &document); err != nil {
		return "Redrive policy is not valid JSON."
	}
	if document.Target == "" || document.Max == nil {
		return "Redrive policy does not contain both attributes: deadLetterTargetArn and maxReceiveCount."
	}
	most, err := strconv.Atoi(strings.Trim(string(document.Max), `"`))
	if err != nil || most < 1 || most > maxReceiveCounts {
		return "Invalid value for maxReceiveCount. It must be a whole number between 1 and " + strconv.Itoa(maxReceiveCounts) + "."
	}
	s.redrive = &redrivePolicy{target: document.Target, maxReceives: most, text: value}
	return ""
}

func (s *settings) applyRedriveAllow(value string) string {
	s.allow = nil
	if value == "" {
		return ""
	}
	var policy redriveAllowPolicy
	if err := json.Unmarshal([]byte(value), &policy); err != nil {
		return "Amazon SQS can't create the redrive allow policy, as it's in an unsupported format."
	}
	const mostSources = 10
	switch {
	case !slices.Contains([]string{"allowAll", "denyAll", "byQueue"}, policy.Permission):
		return "redrivePermission must be one of allowAll, denyAll, byQueue."
	case (policy.Permission == "byQueue") != (len(policy.Sources) > 0):
		return "sourceQueueArns must be given with redrivePermission byQueue, and only then."
	case len(policy.Sources) > mostSources:
		return "sourceQueueArns can have at most " + strconv.Itoa(mostSources) + " elements."
	}
	s.allow = &policy
	return ""
}

// checkRedrive holds a redrive policy against the queue it names.
func (s *Service) checkRedrive(q *Queue, policy *redrivePolicy) *wire.Error {
	if policy == nil {
		return nil
	}
	refuse := func(reason string) *wire.Error {
		return invalidParameter("Value %s for parameter RedrivePolicy is invalid. Reason: %s", shorten(policy.text), reason)
	}
	target := s.byARN(policy.target)
	switch {
	case target == nil:
		return refuse("Dead letter target does not exist.")
	case target.fifo != q.fifo:
		return refuse("Dead-letter queue must be same type of queue as the source.")
	case !target.settings.allow.admits(q.arn):
		return refuse("The redrive allow policy of the dead-letter queue does not allow this queue.")
	}
	return nil
}

func (p *redriveAllowPolicy) admits(source string) bool {
	return p == nil || p.Permission == "allowAll" || p.Permission == "byQueue" && slices.Contains(p.Sources, source)
}

// exhausted moves the message to the dead-letter queue if it has been received as often as it may be. It keeps its id, its age and its
// count; on a FIFO queue its retention starts anew. If the dead-letter queue is gone the message stays.
func (q *Queue) exhausted(m *item, now time.Time) bool {
	policy := q.settings.redrive
	if policy == nil || m.receivesHere < policy.maxReceives {
		return false
	}
	target := q.service.byARN(policy.target)
	if target == nil || target == q {
		return false
	}
	q.remove(m)
	m.source, m.receivesHere = q.arn, 0
	if q.fifo {
		m.enqueued = now
	}
	target.insert(m, now, now)
	return true
}

// sources gives the queues whose dead-letter queue this one is.
func (q *Queue) sources() []*Queue {
	return slices.DeleteFunc(q.service.sorted(), func(other *Queue) bool {
		return other.settings.redrive == nil || other.settings.redrive.target != q.arn
	})
}
