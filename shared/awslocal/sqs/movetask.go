package sqs

import (
	"encoding/base64"
	"fmt"
	"slices"
	"time"
)

const (
	maxMovesPerSecond = 500  // the fastest rate that can be asked for
	freeMovesPerStep  = 1000 // the pace of a task without a rate
	moveStep          = time.Second / 10
	maxListedTasks    = 10
)

// The states of a message move task.
const (
	taskRunning   = "RUNNING"
	taskCompleted = "COMPLETED"
	taskCancelled = "CANCELLED"
	taskFailed    = "FAILED"
)

// moveTask moves what is visible in a dead-letter queue to another queue, or back to where it came from. It runs on a timer,
// so that nothing waits for it at the end of a program or a test.
type moveTask struct {
	handle        string
	source        *Queue
	destination   *Queue // nil: where each message came from
	perSecond     int    // 0: as fast as it goes
	started       time.Time
	toMove, moved int
	status        string
	failure       string
}

// startMove checks the request as SQS does and starts the task.
func (s *Service) startMove(sourceARN, destinationARN string, perSecond *int) (*moveTask, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if perSecond != nil && (*perSecond < 1 || *perSecond > maxMovesPerSecond) {
		return nil, outOfRange(*perSecond, "MaxNumberOfMessagesPerSecond", "Must be between 1 and 500, if provided.")
	}
	source := s.byARN(sourceARN)
	if source == nil {
		return nil, noResource("The resource that you specified for the SourceArn parameter doesn't exist.")
	}
	if len(source.sources()) == 0 {
		return nil, invalidParameter("Source queue must be configured as a Dead Letter Queue.")
	}
	task := &moveTask{source: source, status: taskRunning, started: time.Now()}
	if destinationARN != "" {
		task.destination = s.byARN(destinationARN)
		switch {
		case task.destination == nil:
			return nil, noResource("The resource that you specified for the DestinationArn parameter doesn't exist.")
		case task.destination == source:
			return nil, invalidParameter("Source queue arn and destination queue arn cannot be the same.")
		case task.destination.fifo != source.fifo:
			return nil, invalidParameter("Source queue and destination queue must be of the same type.")
		}
	}
	if slices.ContainsFunc(s.tasks, func(t *moveTask) bool { return t.source == source && t.status == taskRunning }) {
		return nil, invalidParameter("There is already a task running. Only one active task is allowed for a source queue arn at a given time.")
	}
	if perSecond != nil {
		task.perSecond = *perSecond
	}
	source.advance(task.started)
	task.toMove = source.count[Visible]
	task.handle = base64.StdEncoding.EncodeToString(fmt.Appendf(nil, `{"taskId":%q,"sourceArn":%q}`, s.newID(), source.arn))
	s.tasks = append(s.tasks, task)
	s.trimTasks(source)
	time.AfterFunc(0, func() { s.step(task) })
	return task, nil
}

// trimTasks forgets a queue's oldest tasks beyond those that can be listed.
func (s *Service) trimTasks(source *Queue) {
	extra := -maxListedTasks
	for _, t := range s.tasks {
		if t.source == source {
			extra++
		}
	}
	s.tasks = slices.DeleteFunc(s.tasks, func(t *moveTask) bool {
		if t.source != source || extra <= 0 {
			return false
		}
		extra--
		return true
	})
}

// step moves what the rate allows by now and sets the timer for the next step.
func (s *Service) step(t *moveTask) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	t.source.advance(now)
	allowed := t.moved + freeMovesPerStep
	if t.perSecond > 0 {
		allowed = 1 + int(now.Sub(t.started).Seconds()*float64(t.perSecond))
	}
	for t.status == taskRunning && t.moved < allowed {
		t.moveOne(now)
	}
	if t.status == taskRunning {
		time.AfterFunc(moveStep, func() { s.step(t) })
	}
}

// moveOne moves the next message: a new message with a new id and a new age.
func (t *moveTask) moveOne(now time.Time) {
	s := t.source.service
	g, ok := t.source.ready.first()
	if !ok || t.source.gone {
		t.status = taskCompleted
		return
	}
	m, _ := g.waiting.first()
	destination := t.destination
	if destination == nil {
		if m.source == "" {
			t.status, t.failure = taskFailed, "CouldNotDetermineMessageSource"
			return
		}
		destination = s.byARN(m.source)
	}
	if destination == nil || destination.gone {
		t.status, t.failure = taskFailed, "AWS.SimpleQueueService.NonExistentQueue"
		return
	}
	t.source.remove(m)
	m.id, m.sent, m.enqueued, m.source = s.newID(), now, now, ""
	m.receives, m.receivesHere, m.firstReceive, m.receipt = 0, 0, time.Time{}, 0
	destination.insert(m, now.Add(destination.settings.delay), now)
	t.moved++
}

// moves gives the newest tasks of a queue, at most most.
func (s *Service) moves(sourceARN string, most int) ([]moveTask, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if most < 1 || most > maxListedTasks {
		return nil, outOfRange(most, "MaxResults", "Must be between 1 and 10, if provided.")
	}
	source := s.byARN(sourceARN)
	if source == nil {
		return nil, noResource("The resource that you specified for the SourceArn parameter doesn't exist.")
	}
	var found []moveTask
	for _, t := range slices.Backward(s.tasks) {
		if t.source == source && len(found) < most {
			found = append(found, *t)
		}
	}
	return found, nil
}

// cancelMove stops a running task and gives how many messages it has moved.
func (s *Service) cancelMove(handle string) (moved int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.tasks, func(t *moveTask) bool { return t.handle == handle })
	if i < 0 {
		return 0, noResource("Task does not exist.")
	}
	if s.tasks[i].status != taskRunning {
		return 0, simple("UnsupportedOperation", "Only active tasks can be cancelled.")
	}
	s.tasks[i].status = taskCancelled
	return s.tasks[i].moved, nil
}
