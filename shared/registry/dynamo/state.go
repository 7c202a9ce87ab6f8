package dynamo

import (
	"context"
	"crypto/rand"
	"errors"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/waybillhq/waybill/shared/registry"
)

// Pause implements registry.Store.
func (s *Store) Pause(ctx context.Context, destination string, mark registry.Mark) (bool, error) {
	return s.set(ctx, "pause", destination, attrPaused, mark)
}

// Resume implements registry.Store.
func (s *Store) Resume(ctx context.Context, destination string) (bool, error) {
	return s.clear(ctx, "resume", destination, attrPaused, attrDisabled)
}

// Disable implements registry.Store.
func (s *Store) Disable(ctx context.Context, destination string, mark registry.Mark) (bool, error) {
	return s.set(ctx, "disable", destination, attrDisabled, mark)
}

// Enable implements registry.Store.
func (s *Store) Enable(ctx context.Context, destination string) (bool, error) {
	return s.clear(ctx, "enable", destination, attrDisabled, attrPaused)
}

// set writes a mark where there is none.
func (s *Store) set(ctx context.Context, operation, destination, name string, mark registry.Mark) (first bool, err error) {
	mark, err = mark.Normal(destination)
	if err != nil {
		return false, err
	}
	row, token := statePrefix+destination, rand.Text()
	_, err = s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
		TableName: &s.table, Key: key(partLive, row),
		UpdateExpression:         aws.String("SET #since = :since, #note = :note, #by = :by, #token = :token"),
		ConditionExpression:      aws.String("attribute_not_exists(#since)"),
		ExpressionAttributeNames: map[string]string{"#since": name, "#note": name + suffixNote, "#by": name + suffixBy, "#token": name + suffixToken},
		ExpressionAttributeValues: attributes{
			":since": num(mark.Since.UnixMilli()), ":note": str(mark.Note), ":by": str(mark.By), ":token": str(token),
		},
		ReturnValuesOnConditionCheckFailure: types.ReturnValuesOnConditionCheckFailureAllOld,
	})
	if err == nil {
		return true, nil
	}
	if old, is := refused(err); is {
		return text(old, name+suffixToken) == token, nil // then the answer of the try before was lost
	}
	return false, s.failed(operation, partLive, row, err)
}

// clear takes a mark away: with the whole row, or out of it where the other mark is there too.
func (s *Store) clear(ctx context.Context, operation, destination, name, other string) (was bool, err error) {
	const tries = 5 // each finds that the other mark has changed since the one before
	row := statePrefix + destination
	if !registry.ValidID(destination) {
		return false, nil // nothing can be marked under it
	}
	for range tries {
		gone, err := s.client.DeleteItem(ctx, &dynamodb.DeleteItemInput{
			TableName: &s.table, Key: key(partLive, row),
			ConditionExpression: aws.String("attribute_not_exists(#other)"), ExpressionAttributeNames: map[string]string{"#other": other},
			ReturnValues: types.ReturnValueAllOld,
		})
		if err == nil {
			return has(gone.Attributes, name), nil
		}
		if _, is := refused(err); !is {
			return false, s.failed(operation, partLive, row, err)
		}
		left, err := s.client.UpdateItem(ctx, &dynamodb.UpdateItemInput{
			TableName: &s.table, Key: key(partLive, row),
			UpdateExpression:    aws.String("REMOVE #since, #note, #by, #token"),
			ConditionExpression: aws.String("attribute_exists(#other)"),
			ExpressionAttributeNames: map[string]string{
				"#other": other, "#since": name, "#note": name + suffixNote, "#by": name + suffixBy, "#token": name + suffixToken,
			},
			ReturnValues: types.ReturnValueUpdatedOld,
		})
		if err == nil {
			return has(left.Attributes, name), nil
		}
		if _, is := refused(err); !is {
			return false, s.failed(operation, partLive, row, err)
		}
	}
	return false, &Error{Operation: operation, Table: s.table, Part: partLive, Row: row, Kind: registry.ErrThrottled, Cause: errors.New("others keep changing it")}
}

// Record implements registry.Store with a row of its own: a state's row ends with its last mark, and functions read all of those again and again.
func (s *Store) Record(ctx context.Context, destination string, r registry.Release) error {
	r, err := r.Normal(destination)
	if err != nil {
		return err
	}
	item := key(partReleases, destination)
	item[attrAt], item[attrBy] = num(r.At.UnixMilli()), str(r.By)
	item[attrEnabled] = &types.AttributeValueMemberBOOL{Value: r.Enabled}
	item[attrExpires] = num(r.At.Add(registry.KeptRelease).Unix())
	if _, err := s.client.PutItem(ctx, &dynamodb.PutItemInput{TableName: &s.table, Item: item}); err != nil {
		return s.failed("record", partReleases, destination, err)
	}
	return nil
}

// Releases implements registry.Store with one Query.
func (s *Store) Releases(ctx context.Context) (map[string]registry.Release, error) {
	items, err := s.query(ctx, "releases", partReleases, "", false)
	if err != nil {
		return nil, err
	}
	releases := map[string]registry.Release{}
	for _, item := range items {
		enabled, _ := item[attrEnabled].(*types.AttributeValueMemberBOOL)
		releases[text(item, attrRow)] = registry.Release{At: instant(item, attrAt), By: text(item, attrBy), Enabled: enabled != nil && enabled.Value}
	}
	return releases, nil
}
