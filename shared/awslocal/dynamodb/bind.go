package dynamodb

import (
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/waybillhq/waybill/shared/awslocal/wire"
)

// The kinds of expressions, in the order in which DynamoDB looks at them.
const (
	updateExpression = iota
	conditionExpression
	keyConditionExpression
	filterExpression
	projectionExpression
	expressionKinds
)

var expressionNames = [expressionKinds]string{"UpdateExpression", "ConditionExpression", "KeyConditionExpression",
	"FilterExpression", "ProjectionExpression"}

var expressionParsers = [expressionKinds]func(string) (*expression, error){parseUpdate, parseCondition, parseCondition,
	parseCondition, parseProjection}

// bound are the parsed expressions of a request, with what their placeholders stand for. Absent ones are nil.
type bound struct {
	bindings
	update                          *update
	condition, keyCondition, filter *condition
	projection                      []path
}

// bind parses the request's expressions and refuses what can be refused without knowing the table.
func (s *Service) bind(r *request) (*bound, error) {
	b := &bound{bindings: bindings{names: r.names, values: r.values}}
	if err := r.checkPlaceholders(); err != nil {
		return nil, err
	}
	var aliases, values []string
	for kind, text := range r.expressions {
		if text == nil {
			continue
		}
		e, err := s.expressions[kind].get(*text, expressionParsers[kind])
		if err == nil {
			err = b.use(kind, e)
		}
		if err != nil {
			return nil, prefixed("Invalid "+expressionNames[kind], err)
		}
		aliases, values = append(aliases, e.aliases...), append(values, e.values...)
	}
	if unused := unusedKeys(r.names, aliases); unused != "" {
		return nil, invalid("Value provided in ExpressionAttributeNames unused in expressions: keys: {%s}", unused)
	}
	if unused := unusedKeys(r.values, values); unused != "" {
		return nil, invalid("Value provided in ExpressionAttributeValues unused in expressions: keys: {%s}", unused)
	}
	return b, nil
}

// prefixed puts words before the message of a refusal.
func prefixed(words string, err error) error {
	return invalid("%s: %s", words, asRefusal(err).Message)
}

// asRefusal gives the refusal that every error of this package is.
func asRefusal(err error) *wire.Error {
	var refusal *wire.Error
	if !errors.As(err, &refusal) {
		return wire.Errorf("InternalServerError", "%v", err)
	}
	return refusal
}

// use takes in one parsed expression, if everything that it refers to is defined and fits.
func (b *bound) use(kind int, e *expression) error {
	for _, alias := range e.aliases {
		if _, ok := b.names[alias]; !ok {
			return invalid("An expression attribute name used in the document path is not defined; attribute name: %s", alias)
		}
	}
	for _, value := range e.values {
		if _, ok := b.values[value]; !ok {
			return invalid("An expression attribute value used in expression is not defined; attribute value: %s", value)
		}
	}
	switch kind {
	case updateExpression:
		b.update = e.update
		return e.update.check(&b.bindings)
	case conditionExpression:
		b.condition = e.condition
	case keyConditionExpression:
		b.keyCondition = e.condition
	case filterExpression:
		b.filter = e.condition
	case projectionExpression:
		b.projection = e.paths
		return checkOverlap(&b.bindings, e.paths)
	}
	return e.condition.checkOperands(&b.bindings)
}

// checkPlaceholders refuses names and values that are malformed or have no expression to stand in.
func (r *request) checkPlaceholders() error {
	allowed := members[r.op]
	var forValues []string
	any, anyForValues := false, false
	for kind, name := range expressionNames {
		any = any || r.expressions[kind] != nil
		if allowed[name] && kind != projectionExpression {
			forValues = append(forValues, name)
			anyForValues = anyForValues || r.expressions[kind] != nil
		}
	}
	switch {
	case r.names != nil && !any:
		return invalid("ExpressionAttributeNames can only be specified when using expressions")
	case r.values != nil && !anyForValues && len(forValues) == 1:
		return invalid("ExpressionAttributeValues can only be specified when using expressions: %s is null", forValues[0])
	case r.values != nil && !anyForValues:
		return invalid("ExpressionAttributeValues can only be specified when using expressions: %s are null", strings.Join(forValues, " and "))
	case r.names != nil && len(r.names) == 0:
		return invalid("ExpressionAttributeNames must not be empty")
	case r.values != nil && len(r.values) == 0:
		return invalid("ExpressionAttributeValues must not be empty")
	}
	for key, name := range r.names {
		if !isPlaceholder(key, '#') {
			return invalid("ExpressionAttributeNames contains invalid key: Syntax error; key: %q", key)
		}
		if name == "" || len(name) > maxNameBytes {
			return invalid("ExpressionAttributeNames contains invalid value: attribute names must have 1 to %d bytes; key: %q", maxNameBytes, key)
		}
	}
	for key := range r.values {
		if !isPlaceholder(key, ':') {
			return invalid("ExpressionAttributeValues contains invalid key: Syntax error; key: %q", key)
		}
	}
	return nil
}

func isPlaceholder(key string, mark byte) bool {
	return len(key) > 1 && key[0] == mark && wordLength(key[1:]) == len(key)-1
}

func unusedKeys[V any](given map[string]V, used []string) string {
	if len(given) == 0 {
		return ""
	}
	unused := slices.DeleteFunc(slices.Sorted(maps.Keys(given)), func(key string) bool { return slices.Contains(used, key) })
	return strings.Join(unused, ", ")
}
