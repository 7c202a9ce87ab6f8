package ssm

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/waybillhq/waybill/shared/awslocal/wire"
)

// The limits of AWS for standard parameters.
const (
	maxValueBytes = 4096
	maxARN        = 1011
	maxLevels     = 15
	maxNames      = 10
	maxDescribe   = 1024
)

const (
	plain  = "String"
	secure = "SecureString"
)

// The request documents, with the protocol's member names.
type (
	putRequest struct {
		Name, Value, Type, Description, DataType, Tier string
		KeyID                                          string `json:"KeyId"`
		Overwrite                                      bool
	}
	getRequest struct {
		Name           string
		WithDecryption bool
	}
	getSeveralRequest struct {
		Names          []string
		WithDecryption bool
	}
	deleteRequest struct{ Name string }
)

// The response documents.
type (
	putResponse struct {
		Version int
		Tier    string
	}
	document struct {
		Name, Type, Value string
		Version           int
		LastModifiedDate  float64
		ARN, DataType     string
	}
	getResponse        struct{ Parameter document }
	getSeveralResponse struct {
		Parameters        []document
		InvalidParameters []string
	}
)

var nameForm = regexp.MustCompile(`^/?[a-zA-Z0-9_.-]+(/[a-zA-Z0-9_.-]+)*$`)

func (s *Service) put(in *putRequest) (any, *wire.Error) {
	if refused := s.checkName(in.Name); refused != nil {
		return nil, refused
	}
	if refused := in.check(); refused != nil {
		return nil, refused
	}
	p, exists := s.parameters[in.Name]
	switch {
	case exists && !in.Overwrite:
		return nil, wire.Errorf("ParameterAlreadyExists", "The parameter already exists. To overwrite this value, set the overwrite option in the request to true.")
	case exists && in.Type != "" && in.Type != p.kind:
		return nil, wire.Errorf("HierarchyTypeMismatchException", "Parameter Store doesn't support changing a parameter type in a hierarchy, from %s to %s.", p.kind, in.Type)
	case !exists && in.Type == "":
		return nil, invalid("A parameter type is required when you create a parameter.")
	case !exists:
		p = &parameter{name: in.Name, kind: in.Type}
	}
	if in.KeyID != "" && p.kind != secure {
		return nil, invalid("KeyId is required for SecureString type parameter only.")
	}
	p.value, p.modified = in.Value, time.Now()
	p.version++
	if p.kind == secure {
		p.ciphertext = ciphertext(p.value)
	}
	s.parameters[in.Name] = p
	return putResponse{p.version, "Standard"}, nil
}

// check refuses what is wrong whatever the name is.
func (in *putRequest) check() *wire.Error {
	switch {
	case in.Value == "":
		return constraint("value", "have length greater than or equal to 1")
	case len(in.Value) > maxValueBytes:
		return invalid("Standard tier parameters support a maximum parameter value of %d characters. To create a larger parameter value, upgrade the parameter to use the advanced-parameter tier.", maxValueBytes)
	case strings.Contains(in.Value, "{{"):
		return invalid("Parameter value can't nest another parameter. Do not use \"{{}}\" in the value.")
	case in.Type == "StringList":
		return invalid("the local endpoint does not implement parameters of type StringList")
	case in.Type != "" && in.Type != plain && in.Type != secure:
		return constraint("type", "satisfy enum value set: [SecureString, StringList, String]")
	case in.Tier != "" && in.Tier != "Standard":
		return invalid("the local endpoint does not implement the tier %.100s", in.Tier)
	case in.DataType != "" && in.DataType != "text":
		return invalid("the local endpoint does not implement the data type %.100s", in.DataType)
	case len(in.Description) > maxDescribe:
		return constraint("description", fmt.Sprintf("have length less than or equal to %d", maxDescribe))
	}
	return nil
}

// checkName refuses names that a parameter cannot be given.
func (s *Service) checkName(name string) *wire.Error {
	flat := strings.ToLower(strings.TrimPrefix(name, "/"))
	switch {
	case name == "":
		return constraint("name", "have length greater than or equal to 1")
	case strings.HasPrefix(flat, "aws"):
		return wire.Errorf("AccessDeniedException", "No access to reserved parameter name: %.200s.", name)
	case strings.HasPrefix(flat, "ssm"), !nameForm.MatchString(name):
		return invalidName()
	case strings.Contains(flat, "/") && name[0] != '/':
		return invalid("Parameter name must be a fully qualified name.")
	case strings.Count(flat, "/") >= maxLevels:
		return wire.Errorf("HierarchyLevelLimitExceededException", "A parameter name has at most %d levels, separated by slashes.", maxLevels)
	case len(s.arn(name)) > maxARN:
		return constraint("name", fmt.Sprintf("have length less than or equal to %d, counted with the ARN before it", maxARN))
	}
	return nil
}

func invalidName() *wire.Error {
	return invalid(`Parameter name: can't be prefixed with "ssm" (case-insensitive). If formed as a path, it can consist of sub-paths divided by slash symbol; each sub-path can be formed as a mix of letters, numbers and the following 3 symbols .-_`)
}

func (s *Service) arn(name string) string { return s.prefix + "/" + strings.TrimPrefix(name, "/") }

// find gives the parameter of that name or ARN, nil if there is none.
func (s *Service) find(id string) (*parameter, *wire.Error) {
	path, isARN := strings.CutPrefix(id, s.prefix+"/")
	switch {
	case id == "":
		return nil, constraint("name", "have length greater than or equal to 1")
	case isARN:
		if p, ok := s.parameters[path]; ok {
			return p, nil
		}
		return s.parameters["/"+path], nil
	case strings.HasPrefix(id, "arn:"):
		return nil, nil
	case strings.Contains(id, ":"):
		return nil, invalid("the local endpoint does not implement versions and labels in parameter names")
	case !nameForm.MatchString(id):
		return nil, invalidName()
	}
	return s.parameters[id], nil
}

func notFound(name string) *wire.Error {
	return wire.Errorf("ParameterNotFound", "Parameter %.200s not found.", name)
}

func (s *Service) get(in *getRequest) (any, *wire.Error) {
	p, refused := s.find(in.Name)
	if refused != nil {
		return nil, refused
	}
	if p == nil {
		return nil, notFound(in.Name)
	}
	return getResponse{s.document(p, in.WithDecryption)}, nil
}

func (s *Service) getSeveral(in *getSeveralRequest) (any, *wire.Error) {
	if len(in.Names) < 1 || len(in.Names) > maxNames {
		return nil, constraint("names", fmt.Sprintf("have length between 1 and %d", maxNames))
	}
	answer := getSeveralResponse{Parameters: []document{}, InvalidParameters: []string{}}
	for i, name := range in.Names {
		if slices.Contains(in.Names[:i], name) {
			continue
		}
		p, refused := s.find(name)
		switch {
		case refused != nil:
			return nil, refused
		case p == nil:
			answer.InvalidParameters = append(answer.InvalidParameters, name)
		default:
			answer.Parameters = append(answer.Parameters, s.document(p, in.WithDecryption))
		}
	}
	return answer, nil
}

func (s *Service) remove(in *deleteRequest) (any, *wire.Error) {
	if _, exists := s.parameters[in.Name]; !exists {
		return nil, notFound(in.Name)
	}
	delete(s.parameters, in.Name)
	return struct{}{}, nil
}

func (s *Service) document(p *parameter, decrypt bool) document {
	value := p.value
	if p.kind == secure && !decrypt {
		value = p.ciphertext
	}
	return document{p.name, p.kind, value, p.version, float64(p.modified.UnixMilli()) / 1000, s.arn(p.name), "text"}
}
