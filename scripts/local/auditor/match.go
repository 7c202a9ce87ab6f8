package auditor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/big"
	"net"
	"slices"
	"strings"

	"github.com/waybillhq/waybill/events"
)

// everyTenant as a destination's tenant gives it the events of all of them.
const everyTenant = "*"

// canary is the id of the built-in destination, its tenant, which is none of those that everyTenant means, and the type of its events.
const canary = "waybill.canary"

// canarySource is the source of its events.
const canarySource = "/waybill/canary"

// claimCanary makes an event the canary's whose source and type say so, whatever tenant it names.
func claimCanary(e *events.Event) {
	if e.Source == canarySource && e.Type == canary {
		e.Extensions = map[string]string{events.TenantExtension: canary}
	}
}

// canaryDestination is the canary as a destination.
func canaryDestination() destination {
	return destination{ID: canary, Tenant: canary, ways: []map[string]any{{"source": []any{canarySource}, "type": []any{canary}}}}
}

// destination is what the auditor has to know of one: who it is and what it wants.
type destination struct {
	ID      string         `json:"id"`
	Tenant  string         `json:"tenant"`
	Pattern map[string]any `json:"pattern"` // nil: everything

	ways []map[string]any // the pattern without $or: it fits if one of these does
}

// readDestinations reads the destinations file, the same one that the functions read, with other code.
func readDestinations(file []byte) ([]destination, error) {
	var document struct {
		Destinations []destination `json:"destinations"`
	}
	decoder := json.NewDecoder(bytes.NewReader(file))
	decoder.UseNumber() // numbers in patterns compare by their text
	if err := decoder.Decode(&document); err != nil {
		return nil, fmt.Errorf("auditor: destinations file: %w", err)
	}
	var errs []error
	for i := range document.Destinations {
		d := &document.Destinations[i]
		err := checkPattern(d.Pattern)
		if err == nil {
			d.ways, err = multiplyOut(d.Pattern)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("auditor: destination %q: %w", d.ID, err))
		}
	}
	return document.Destinations, errors.Join(errs...)
}

// checkPattern refuses what the matcher below would not understand: a guess would make the books wrong.
func checkPattern(wanted any) error {
	switch wanted := wanted.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(wanted)) {
			check := checkPattern
			if name == "$or" {
				check = checkOr
			}
			if err := check(wanted[name]); err != nil {
				return fmt.Errorf("%q: %w", name, err)
			}
		}
		return nil
	case []any:
		for _, alternative := range wanted {
			if err := checkAlternative(alternative); err != nil {
				return err
			}
		}
		return nil
	}
	return errors.New("pattern: a field needs an array of alternatives, or an object of fields")
}

func checkOr(wanted any) error {
	objects, _ := wanted.([]any)
	if len(objects) < 2 {
		return errors.New("pattern: needs an array of at least two objects")
	}
	for _, object := range objects {
		if _, ok := object.(map[string]any); !ok {
			return errors.New("pattern: needs an array of objects")
		}
		if err := checkPattern(object); err != nil {
			return err
		}
	}
	return nil
}

func checkAlternative(alternative any) error {
	switch alternative := alternative.(type) {
	case map[string]any:
		return checkOperator(alternative)
	case []any:
		return errors.New("pattern: an alternative cannot be an array")
	}
	return nil
}

func checkOperator(operator map[string]any) error {
	if len(operator) == 0 {
		return errors.New("pattern: an alternative is an empty object")
	}
	for name, argument := range operator {
		if len(operator) != 1 || !understood(name, argument) {
			return fmt.Errorf("pattern: the alternative with %q is not known", name)
		}
	}
	return nil
}

func understood(name string, argument any) bool {
	_, isText := argument.(string)
	switch name {
	case "prefix", "suffix":
		return isText || understoodInside(argument, "equals-ignore-case")
	case "equals-ignore-case", "wildcard":
		return isText
	case "cidr":
		_, _, err := net.ParseCIDR(fmt.Sprint(argument))
		return isText && err == nil
	case "exists":
		_, ok := argument.(bool)
		return ok
	case "numeric":
		return understoodComparisons(argument)
	case "anything-but":
		if _, isObject := argument.(map[string]any); isObject {
			return understoodInside(argument, "equals-ignore-case", "prefix", "suffix", "wildcard")
		}
		return true
	}
	return false
}

// understoodInside accepts an object with one of the operators and texts: one, or a list.
func understoodInside(argument any, operators ...string) bool {
	object, _ := argument.(map[string]any)
	for name, texts := range object {
		for _, text := range listOf(texts) {
			if _, isText := text.(string); !isText || !slices.Contains(operators, name) {
				return false
			}
		}
	}
	return len(object) == 1
}

func understoodComparisons(argument any) bool {
	list, _ := argument.([]any)
	for i, item := range list {
		number, isNumber := item.(json.Number)
		if i%2 == 0 && !slices.Contains([]any{"=", "<", "<=", ">", ">="}, item) || i%2 == 1 && (!isNumber || millionths(number) == nil) {
			return false
		}
	}
	return len(list) == 2 || len(list) == 4
}

// mostWays is as many as a pattern may have.
const mostWays = 1000

// multiplyOut gives patterns without $or, one of which fits whenever the pattern does.
func multiplyOut(wanted map[string]any) ([]map[string]any, error) {
	ways := []map[string]any{{}}
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		choices, err := choicesOf(name, wanted[name])
		if err != nil {
			return nil, err
		}
		if len(ways)*len(choices) > mostWays {
			return nil, errors.New("pattern: too many combinations")
		}
		var both []map[string]any
		for _, way := range ways {
			for _, choice := range choices {
				merged, err := merge(way, choice)
				if err != nil {
					return nil, err
				}
				both = append(both, merged)
			}
		}
		ways = both
	}
	return ways, nil
}

// choicesOf gives the ways to satisfy one member of a pattern.
func choicesOf(name string, value any) ([]map[string]any, error) {
	if name == "$or" {
		var all []map[string]any
		objects, _ := value.([]any)
		for _, object := range objects {
			fields, _ := object.(map[string]any)
			ways, err := multiplyOut(fields)
			if err != nil {
				return nil, err
			}
			all = append(all, ways...)
		}
		return all, nil
	}
	fields, ok := value.(map[string]any)
	if !ok {
		return []map[string]any{{name: value}}, nil
	}
	ways, err := multiplyOut(fields)
	for i := range ways {
		ways[i] = map[string]any{name: ways[i]}
	}
	return ways, err
}

// merge joins two patterns both of which must fit. Two conditions on one field are one too many.
func merge(a, b map[string]any) (map[string]any, error) {
	merged := maps.Clone(a)
	for name, value := range b {
		other, taken := merged[name]
		if !taken {
			merged[name] = value
			continue
		}
		inA, okA := other.(map[string]any)
		inB, okB := value.(map[string]any)
		if !okA || !okB {
			return nil, fmt.Errorf("pattern: %q has two conditions", name)
		}
		inner, err := merge(inA, inB)
		if err != nil {
			return nil, err
		}
		merged[name] = inner
	}
	return merged, nil
}

// wanting gives the ids of the destinations that want an event, in the order of the file.
func wanting(destinations []destination, e *events.Event) []string {
	attributes := map[string]any{}
	for name, value := range e.Attributes() {
		attributes[name] = value
	}
	var payload any
	decoded := false
	var ids []string
	for _, d := range destinations {
		if d.Tenant != e.Tenant() && (d.Tenant != everyTenant || e.Tenant() == canary) {
			continue
		}
		if d.Pattern != nil && !decoded {
			payload, decoded = decodePayload(e.Data), true
		}
		if slices.ContainsFunc(d.ways, func(way map[string]any) bool { return wants(way, attributes, payload) }) {
			ids = append(ids, d.ID)
		}
	}
	return ids
}

// wants tells whether every field of the pattern fits: "data" the payload, any other the attribute of that name.
func wants(pattern, attributes map[string]any, payload any) bool {
	for name, wanted := range pattern {
		value := member(attributes, name)
		if name == "data" {
			value = payload
		}
		if look(wanted, value) == mismatch {
			return false
		}
	}
	return true
}

// nothing stands where a document has no value; nil is JSON's null.
type nothing struct{}

// decodePayload reads a payload that is exactly one JSON value; any other has no fields.
func decodePayload(data []byte) any {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nothing{}
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nothing{}
	}
	return value
}

// finding is what comes of holding a part of a pattern against a part of a document.
type finding int

const (
	mismatch finding = iota
	hit              // something that is there fits
	absent           // nothing is there, and that is what the pattern asks for
)

// look holds alternatives (an array) or fields (an object) against a value.
func look(wanted, value any) finding {
	if alternatives, ok := wanted.([]any); ok {
		return lookAt(alternatives, value)
	}
	fields, _ := wanted.(map[string]any)
	if elements, ok := value.([]any); ok && len(elements) > 0 {
		return lookInEach(fields, elements)
	}
	object, _ := value.(map[string]any) // of anything else no field is there
	found := absent
	for name, wanted := range fields {
		switch look(wanted, member(object, name)) {
		case mismatch:
			return mismatch
		case hit:
			found = hit
		}
	}
	return found
}

// lookInEach looks for one element in which all fields fit. What shall be absent must be absent in that element, or, if nothing is
// found anywhere, in all of them.
func lookInEach(fields map[string]any, elements []any) finding {
	all := absent
	for _, element := range elements {
		switch look(fields, element) {
		case hit:
			return hit
		case mismatch:
			all = mismatch
		}
	}
	return all
}

// lookAt looks for one scalar, in arrays however nested, that one alternative accepts.
func lookAt(alternatives []any, value any) finding {
	found := scalars(value, nil)
	for _, scalar := range found {
		for _, alternative := range alternatives {
			if accepts(alternative, scalar) {
				return hit
			}
		}
	}
	for _, alternative := range alternatives {
		if operator, ok := alternative.(map[string]any); ok && operator["exists"] == false && len(found) == 0 {
			return absent
		}
	}
	return mismatch
}

// scalars collects the strings, numbers, booleans and nulls of a value. Objects are not looked into.
func scalars(value any, found []any) []any {
	switch value := value.(type) {
	case []any:
		for _, element := range value {
			found = scalars(element, found)
		}
		return found
	case map[string]any, nothing:
		return found
	}
	return append(found, value)
}

// accepts compares one scalar with one alternative. Numbers are their text, and a number never equals a string: json.Number and string
// are different types.
func accepts(alternative, scalar any) bool {
	operator, ok := alternative.(map[string]any)
	if !ok {
		return alternative == scalar
	}
	for name, argument := range operator {
		return holds(name, argument, scalar)
	}
	return false
}

// holds applies one operator to one scalar.
func holds(name string, argument, scalar any) bool {
	switch name {
	case "exists":
		return argument == true // absence is not found in anything that is there
	case "numeric":
		number, isNumber := scalar.(json.Number)
		comparisons, _ := argument.([]any)
		return isNumber && compares(comparisons, millionths(number))
	case "anything-but":
		return !excluded(argument, scalar)
	}
	value, isText := scalar.(string)
	if !isText {
		return false
	}
	text, _ := argument.(string)
	if inner, ok := argument.(map[string]any); ok { // only prefix and suffix have one
		text, _ = inner["equals-ignore-case"].(string)
		name += " " + "equals-ignore-case"
	}
	switch name {
	case "prefix":
		return strings.HasPrefix(value, text)
	case "suffix":
		return strings.HasSuffix(value, text)
	case "equals-ignore-case":
		return strings.EqualFold(value, text)
	case "prefix equals-ignore-case":
		return slices.ContainsFunc(cuts(value), func(cut int) bool { return strings.EqualFold(value[:cut], text) })
	case "suffix equals-ignore-case":
		return slices.ContainsFunc(cuts(value), func(cut int) bool { return strings.EqualFold(value[cut:], text) })
	case "wildcard":
		return isLike(value, text)
	case "cidr":
		return isWithin(value, text)
	}
	return false
}

func excluded(argument, scalar any) bool {
	nested, ok := argument.(map[string]any)
	if !ok {
		return slices.Contains(listOf(argument), scalar)
	}
	for name, texts := range nested {
		if slices.ContainsFunc(listOf(texts), func(text any) bool { return holds(name, text, scalar) }) {
			return true
		}
	}
	return false
}

func listOf(argument any) []any {
	if list, ok := argument.([]any); ok {
		return list
	}
	return []any{argument}
}

// cuts gives the places between the characters of a text, its ends included.
func cuts(text string) []int {
	var all []int
	for at := range text {
		all = append(all, at)
	}
	return append(all, len(text))
}

// isLike compares a text with a wildcard by keeping every place in the wildcard where a reader of the text may stand.
func isLike(text, wildcard string) bool {
	places := map[int]bool{}
	var stand func(at int)
	stand = func(at int) {
		places[at] = true
		if at < len(wildcard) && wildcard[at] == '*' {
			stand(at + 1)
		}
	}
	stand(0)
	for i := range len(text) {
		before := places
		places = map[int]bool{}
		for at := range before {
			switch {
			case at == len(wildcard):
			case wildcard[at] == '*':
				stand(at)
			case wildcard[at] == '\\' && at+1 < len(wildcard) && wildcard[at+1] == text[i]:
				stand(at + 2)
			case wildcard[at] != '\\' && wildcard[at] == text[i]:
				stand(at + 1)
			}
		}
	}
	return places[len(wildcard)]
}

// isWithin looks for an address in a block. An IPv4 address written as an IPv6 address is both.
func isWithin(address, block string) bool {
	ip := net.ParseIP(address)
	_, network, err := net.ParseCIDR(block)
	switch {
	case ip == nil || err != nil:
		return false
	case len(network.IP) == net.IPv4len:
		return network.Contains(ip)
	}
	return strings.Contains(address, ":") && ip.Mask(network.Mask).Equal(network.IP)
}

// compares applies [">", 0, "<=", 5]. A number that cannot be compared fits nothing.
func compares(comparisons []any, number *big.Int) bool {
	for i := 0; i+1 < len(comparisons); i += 2 {
		limit, _ := comparisons[i+1].(json.Number)
		bound := millionths(limit)
		if number == nil || bound == nil {
			return false
		}
		sign, _ := comparisons[i].(string)
		order := number.Cmp(bound)
		if order < 0 && !strings.Contains(sign, "<") || order == 0 && !strings.Contains(sign, "=") || order > 0 && !strings.Contains(sign, ">") {
			return false
		}
	}
	return true
}

// millionths gives a number without what follows its sixth decimal, or nil beyond five billion, where numbers are not compared.
func millionths(number json.Number) *big.Int {
	estimate, err := number.Float64()
	switch {
	case err != nil || math.Abs(estimate) > 5.1e9:
		return nil
	case math.Abs(estimate) < 1e-7: // the exponent may be anything, and big.Rat would write it out
		return new(big.Int)
	}
	exact, ok := new(big.Rat).SetString(number.String())
	if !ok {
		return nil
	}
	exact.Mul(exact, big.NewRat(1_000_000, 1))
	whole := new(big.Int).Quo(exact.Num(), exact.Denom())
	if whole.CmpAbs(big.NewInt(5_000_000_000_000_000)) > 0 {
		return nil
	}
	return whole
}

func member(object map[string]any, name string) any {
	if value, ok := object[name]; ok {
		return value
	}
	return nothing{}
}
