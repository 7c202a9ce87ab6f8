package dynamo

import (
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/waybillhq/waybill/shared/waiting"
)

// Attribute names. Several are reserved words: expressions use placeholders, PartiQL quotes.
const (
	attrBucket      = "bucket"
	attrRow         = "row"
	attrToken       = "token"
	attrAt          = "at"
	attrDestination = "destination"
	attrTrace       = "trace"
	attrForm        = "form"
	attrBody        = "body"

	attrHour        = "hour"
	attrBegan       = "began"
	attrAfterBucket = "afterBucket"
	attrAfterRow    = "afterRow"
	attrOldest      = "oldest"
	attrDone        = "done"
)

type attributes = map[string]types.AttributeValue

func str(s string) types.AttributeValue { return &types.AttributeValueMemberS{Value: s} }

func num(n int64) types.AttributeValue {
	return &types.AttributeValueMemberN{Value: strconv.FormatInt(n, 10)}
}

func key(bucket, row string) attributes {
	return attributes{attrBucket: str(bucket), attrRow: str(row)}
}

func encode(r waiting.Row) attributes {
	item := key(r.Bucket, r.Key)
	item[attrToken] = str(r.Token)
	item[attrAt] = num(millis(r.At))
	item[attrDestination] = str(r.Destination)
	if r.Trace != "" {
		item[attrTrace] = str(r.Trace)
	}
	if r.Form != 0 {
		item[attrForm] = num(int64(r.Form))
		item[attrBody] = &types.AttributeValueMemberB{Value: r.Body}
	}
	return item
}

// decode reads a row as far as it can. What is missing or of another type stays zero: waiting.Row.Message finds such a row unreadable.
func decode(item attributes) waiting.Row {
	r := waiting.Row{
		Bucket: text(item, attrBucket), Key: text(item, attrRow), Token: text(item, attrToken), At: instant(item[attrAt]),
		Destination: text(item, attrDestination), Trace: text(item, attrTrace), Form: int(number(item[attrForm])),
	}
	if b, ok := item[attrBody].(*types.AttributeValueMemberB); ok {
		r.Body = b.Value
	}
	return r
}

// encodeScan gives the values of the expression in SaveScan.
func encodeScan(s waiting.Scan) attributes {
	oldest := attributes{}
	for shard, h := range s.Oldest {
		oldest[strconv.Itoa(shard)] = num(int64(h))
	}
	return attributes{
		":token": str(s.Token), ":began": num(millis(s.Began)), ":afterBucket": str(s.After.Bucket), ":afterRow": str(s.After.Key),
		":oldest": &types.AttributeValueMemberM{Value: oldest}, ":done": &types.AttributeValueMemberBOOL{Value: s.Done},
	}
}

func decodeScan(item attributes) waiting.Scan {
	s := waiting.Scan{
		Token: text(item, attrToken), Began: instant(item[attrBegan]),
		After: waiting.Cursor{Bucket: text(item, attrAfterBucket), Key: text(item, attrAfterRow)},
	}
	if done, ok := item[attrDone].(*types.AttributeValueMemberBOOL); ok {
		s.Done = done.Value
	}
	if oldest, ok := item[attrOldest].(*types.AttributeValueMemberM); ok && len(oldest.Value) > 0 {
		s.Oldest = map[int]waiting.Hour{}
		for shard, h := range oldest.Value {
			if n, err := strconv.Atoi(shard); err == nil {
				s.Oldest[n] = waiting.Hour(number(h))
			}
		}
	}
	return s
}

func text(item attributes, name string) string {
	if s, ok := item[name].(*types.AttributeValueMemberS); ok {
		return s.Value
	}
	return ""
}

func number(v types.AttributeValue) int64 {
	if n, ok := v.(*types.AttributeValueMemberN); ok {
		if i, err := strconv.ParseInt(n.Value, 10, 64); err == nil {
			return i
		}
	}
	return 0
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func instant(v types.AttributeValue) time.Time {
	if ms := number(v); ms != 0 {
		return time.UnixMilli(ms)
	}
	return time.Time{}
}
