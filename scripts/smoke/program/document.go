package program

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/waybillhq/waybill/shared/pattern/jsontree"
)

// deepest is more than any valid document has; deeper ones are refused when they are applied.
const deepest = 64

// noDestinations is the document where nothing was ever applied.
const noDestinations = `{"destinations": []}`

// withDestinations puts destinations in front of those of a document and leaves every other byte of it as it is.
func withDestinations(document []byte, added ...map[string]any) ([]byte, error) {
	list, err := destinationsOf(document)
	if err != nil {
		return nil, err
	}
	var text []byte
	for i, d := range added {
		one, err := json.Marshal(d)
		if err != nil {
			return nil, err
		}
		text = append(text, one...)
		if i < len(added)-1 || len(list.Items) > 0 {
			text = append(text, ',')
		}
	}
	return slices.Concat(document[:list.Offset+1], text, document[list.Offset+1:]), nil
}

// withoutDestinations takes destinations of our tenant out of a document again, those that gone names, and leaves every other byte as it is: after
// withDestinations the document is what it was.
func withoutDestinations(document []byte, gone func(id string) bool) ([]byte, error) {
	list, err := destinationsOf(document)
	if err != nil {
		return nil, err
	}
	goes := func(item *jsontree.Node) bool {
		return textMember(item, "tenant") == Tenant && gone(textMember(item, "id"))
	}
	stays := slices.IndexFunc(list.Items, func(item *jsontree.Node) bool { return !goes(item) })
	if stays < 0 {
		if n := len(list.Items); n > 0 {
			document = slices.Concat(document[:list.Items[0].Offset], document[list.Items[n-1].End:])
		}
		return document, nil
	}
	rest, followed := slices.Clone(document), false
	for _, item := range slices.Backward(list.Items) {
		from, to := item.Offset, item.End
		switch {
		case !goes(item):
			followed = true
			continue
		case followed: // by one that stays: with the comma behind it
			to += bytes.IndexByte(document[to:], ',') + 1
		default:
			from = bytes.LastIndexByte(document[:from], ',')
		}
		rest = slices.Delete(rest, from, to)
	}
	return rest, nil
}

func destinationsOf(document []byte) (*jsontree.Node, error) {
	root, err := jsontree.Parse(document, deepest)
	if err != nil {
		return nil, fmt.Errorf("the destinations in force cannot be read: %w", err)
	}
	list, ok := root.Get("destinations")
	if !ok || list.Kind != jsontree.Array {
		return nil, errors.New("the destinations in force cannot be read: there is no list of destinations")
	}
	return list, nil
}

func textMember(n *jsontree.Node, name string) string {
	if value, ok := n.Get(name); ok && value.Kind == jsontree.String {
		return value.Text
	}
	return ""
}
