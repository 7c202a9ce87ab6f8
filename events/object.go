package events

// object reads single members of a JSON object that AWS writes. What is wrong with one goes to the findings under one
// code. Members that nobody asks for are not looked at; one that is asked for and there twice is refused.
type object struct {
	f       *findings
	code    string
	fix     string
	path    string // what stands before the names of its members: "s3.bucket."
	members []member
}

// value is the JSON text of a member, "" where there is none or null.
func (o object) value(name string) string {
	value, seen := "", false
	for i := range o.members {
		if o.members[i].name != name {
			continue
		}
		if seen {
			o.f.add(CodeDuplicateMember, o.path+name, "is there twice", "send each member once: two readers could take different ones")
			break
		}
		value, seen = o.members[i].value, true
	}
	if value == "null" {
		return ""
	}
	return value
}

// text is the content of a string, "" where there is none, null or one that was refused.
func (o object) text(name string) string {
	value := o.value(name)
	if value == "" {
		return ""
	}
	if value[0] == '"' {
		if s, ok := unquote(value); ok {
			return s
		}
	}
	o.f.add(o.code, o.path+name, "is not a string of unicode text", o.fix)
	return ""
}

// required is text for a member that must be there and not be empty.
func (o object) required(name string) string {
	before := len(o.f.found)
	s := o.text(name)
	if s == "" && len(o.f.found) == before {
		o.f.add(o.code, o.path+name, "is missing or empty", o.fix)
	}
	return s
}

// object is an object inside this one, without members where there is none or it was refused.
func (o object) object(name string) object {
	inner := object{f: o.f, code: o.code, fix: o.fix, path: o.path + name + "."}
	switch value := o.value(name); {
	case value == "":
	case value[0] != '{':
		o.f.add(o.code, o.path+name, "is not an object", o.fix)
	default:
		inner.members, _, _ = scanObject(value, 0) // already known to be JSON
	}
	return inner
}

// isText reports whether a JSON text is a string with this content.
func isText(value, content string) bool {
	if value[0] != '"' {
		return false
	}
	s, ok := unquote(value)
	return ok && s == content
}
