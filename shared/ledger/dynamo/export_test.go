package dynamo

import "strings"

// Mutate gives a copy of the store with another condition for an operation, and what a replay makes of it.
func (s *ItemStore) Mutate(operation, condition string) *ItemStore {
	mutant := *s
	e := &mutant.expressions
	switch operation {
	case "claim":
		e.claim, e.claimReplay = compile(claimUpdate, condition), compile(claimUpdate, ofReplay(condition))
	case "record":
		e.record, e.recordReplay = compile(recordUpdate, condition), compile(recordUpdate, ofReplay(condition))
	case "settle":
		e.settle = compile(settleUpdate, condition)
	case "release":
		e.release = compile(releaseUpdate, condition)
	}
	return &mutant
}

// WithoutReplays gives a copy of the store that treats a replay like any other message.
func (s *ItemStore) WithoutReplays() *ItemStore {
	mutant := *s
	mutant.expressions.claimReplay, mutant.expressions.recordReplay = s.expressions.claim, s.expressions.record
	return &mutant
}

// WithoutOriginals gives a copy of the store that treats every message like a replay.
func (s *ItemStore) WithoutOriginals() *ItemStore {
	mutant := *s
	mutant.expressions.claim, mutant.expressions.record = s.expressions.claimReplay, s.expressions.recordReplay
	return &mutant
}

// Mutate gives a copy of the store in which the statement old reads new.
func (s *BatchStore) Mutate(old, new string) *BatchStore {
	mutant := *s
	for _, statement := range mutant.statements.all() {
		*statement = strings.ReplaceAll(*statement, old, new)
	}
	return &mutant
}

func (s *statements) all() []*string { return []*string{&s.claim, &s.record, &s.settle, &s.release} }

// Conditions gives the conditions of the item form by operation.
func (s *ItemStore) Conditions() map[string]string {
	e := s.expressions
	return map[string]string{
		"claim": e.claim.condition, "record": e.record.condition, "settle": e.settle.condition, "release": e.release.condition,
	}
}

// Statements gives the PartiQL statements that carry conditions.
func (s *BatchStore) Statements() map[string]string {
	return map[string]string{"settle": s.statements.settle, "release": s.statements.release}
}
