package dynamo

import "strings"

// Mutate gives a copy of the store in which every condition, and every statement, says new where it said old.
func (s *ItemStore) Mutate(old, new string) *ItemStore {
	mutant := *s
	for _, e := range mutant.expressions.all() {
		condition := strings.ReplaceAll(e.condition, old, new)
		*e = compile(e.update, condition)
	}
	return &mutant
}

// Mutate is ItemStore.Mutate for the PartiQL statements.
func (s *BatchStore) Mutate(old, new string) *BatchStore {
	mutant := *s
	for _, statement := range mutant.statements.all() {
		*statement = strings.ReplaceAll(*statement, old, new)
	}
	return &mutant
}

func (e *expressions) all() []*expression {
	return []*expression{&e.claim, &e.claimReplay, &e.record, &e.recordReplay, &e.settle, &e.release}
}

func (s *statements) all() []*string { return []*string{&s.claim, &s.record, &s.settle, &s.release} }

// Conditions gives the conditions of the item form by operation, those of replays included.
func (s *ItemStore) Conditions() map[string][]string {
	e := s.expressions
	return map[string][]string{
		"claim":   {e.claim.condition, e.claimReplay.condition},
		"record":  {e.record.condition, e.recordReplay.condition},
		"settle":  {e.settle.condition},
		"release": {e.release.condition},
	}
}

// Statements gives the PartiQL statements that carry conditions.
func (s *BatchStore) Statements() map[string]string {
	return map[string]string{"settle": s.statements.settle, "release": s.statements.release}
}
