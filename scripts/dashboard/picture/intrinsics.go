package picture

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// resource is one of a CloudFormation template.
type resource struct {
	Type       string
	Properties map[string]any
	Metadata   map[string]any
}

// Template is a CloudFormation template as CDK writes it. It is safe for concurrent use.
type Template struct {
	Resources map[string]resource
}

// ParseTemplate reads a template. What it does not know it leaves out.
func ParseTemplate(text []byte) (Template, error) {
	var t Template
	if err := json.Unmarshal(text, &t); err != nil {
		return t, fmt.Errorf("the template is not JSON that CloudFormation takes: %w", err)
	}
	return t, nil
}

// Resolve gives a text of the template as CloudFormation would, with the names that the topology has for queues, tables and functions in place of those
// that only an account knows: Ref, Fn::GetAtt, Fn::Join and Fn::Sub. An error says what cannot be resolved.
func (t Template) Resolve(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case float64, bool:
		return fmt.Sprint(v), nil
	case map[string]any:
		if len(v) == 1 {
			for function, argument := range v {
				return t.call(function, argument)
			}
		}
	}
	return "", fmt.Errorf("%.80v is neither a text nor a function that gives one", v)
}

func (t Template) call(function string, argument any) (string, error) {
	switch function {
	case "Ref":
		if id, ok := argument.(string); ok {
			return t.name(id)
		}
	case "Fn::GetAtt":
		return t.attribute(argument)
	case "Fn::Join":
		return t.join(argument)
	case "Fn::Sub":
		return t.substitute(argument)
	}
	return "", fmt.Errorf("%s of %.80v is no function that is known here", function, argument)
}

// attribute gives the name of the resource: whatever it is, its name or its ARN, it stands for that one.
func (t Template) attribute(argument any) (string, error) {
	if text, ok := argument.(string); ok {
		id, _, _ := strings.Cut(text, ".")
		return t.name(id)
	}
	if parts, ok := argument.([]any); ok && len(parts) == 2 {
		if id, ok := parts[0].(string); ok {
			return t.name(id)
		}
	}
	return "", fmt.Errorf("Fn::GetAtt of %.80v: want a logical id and an attribute", argument)
}

func (t Template) join(argument any) (string, error) {
	if parts, ok := argument.([]any); ok && len(parts) == 2 {
		separator, ok1 := parts[0].(string)
		list, ok2 := parts[1].([]any)
		if ok1 && ok2 {
			var texts []string
			var errs []error
			for _, part := range list {
				text, err := t.Resolve(part)
				texts, errs = append(texts, text), append(errs, err)
			}
			return strings.Join(texts, separator), errors.Join(errs...)
		}
	}
	return "", fmt.Errorf("Fn::Join of %.80v: want a separator and a list", argument)
}

var variable = regexp.MustCompile(`\$\{([^}]*)\}`)

func (t Template) substitute(argument any) (string, error) {
	text, ok := argument.(string)
	var given map[string]any
	if parts, isList := argument.([]any); isList && len(parts) == 2 {
		text, ok = parts[0].(string)
		given, _ = parts[1].(map[string]any)
	}
	if !ok {
		return "", fmt.Errorf("Fn::Sub of %.80v: want a text, or a text and its variables", argument)
	}
	var errs []error
	text = variable.ReplaceAllStringFunc(text, func(match string) string {
		name := match[2 : len(match)-1]
		if literal, ok := strings.CutPrefix(name, "!"); ok {
			return "${" + literal + "}"
		}
		var value string
		var err error
		if v, ok := given[name]; ok {
			value, err = t.Resolve(v)
		} else {
			value, err = t.attribute(name)
		}
		errs = append(errs, err)
		return value
	})
	return text, errors.Join(errs...)
}

// name is what the topology calls a resource, which stands in its construct path: "ingress" for waybill/queue-ingress/Resource. A resource without a path
// keeps its logical id, and so does what belongs to the account: AWS::Region.
func (t Template) name(id string) (string, error) {
	r, ok := t.Resources[id]
	if !ok {
		if strings.HasPrefix(id, "AWS::") {
			return id, nil
		}
		return "", fmt.Errorf("the template has no resource %.80q", id)
	}
	path, ok := r.Metadata["aws:cdk:path"].(string)
	if !ok {
		return id, nil
	}
	parts := strings.Split(path, "/")[1:]
	parts = slices.DeleteFunc(parts, func(part string) bool { return part == "Resource" || part == "function" || part == "alarms" })
	if len(parts) == 0 {
		return id, nil
	}
	for _, kind := range []string{"queue-", "table-", "function-", "page-"} {
		parts[0] = strings.TrimPrefix(parts[0], kind)
	}
	return strings.Join(parts, "/"), nil
}
