package awslocal_test

import (
	"encoding/xml"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/waybillhq/waybill/shared/awslocal"
	"github.com/waybillhq/waybill/shared/awslocal/sqs"
)

// form sends parameters "name=value" in the Query protocol.
func form(h http.Handler, path string, parameters ...string) *httptest.ResponseRecorder {
	values := url.Values{"Version": {"2012-11-05"}}
	for _, p := range parameters {
		name, value, _ := strings.Cut(p, "=")
		values.Set(name, value)
	}
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(values.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// TestQueryProtocol is a conversation in the Query protocol. Each row's answer has all the fragments; capture
// groups named in one are filled into the parameters of later rows.
func TestQueryProtocol(t *testing.T) {
	e := awslocal.New(awslocal.Options{}, sqs.New(sqs.Options{BaseURL: "http://host:4566"}))
	const q = "/000000000000/orders"
	captured := map[string]string{}
	for _, row := range []struct {
		name, path string
		parameters []string
		status     int
		contains   []string // regular expressions
	}{
		{"create", "/", []string{"Action=CreateQueue", "QueueName=orders", "Attribute.1.Name=VisibilityTimeout", "Attribute.1.Value=7", "Attribute.2.Name=DelaySeconds", "Attribute.2.Value=0"}, 200,
			[]string{`^<\?xml version="1.0"\?><CreateQueueResponse xmlns="http://queue.amazonaws.com/doc/2012-11-05/"><CreateQueueResult><QueueUrl>http://host:4566/000000000000/orders</QueueUrl></CreateQueueResult><ResponseMetadata><RequestId>.+</RequestId></ResponseMetadata></CreateQueueResponse>$`}},
		{"create differently", "/", []string{"Action=CreateQueue", "QueueName=orders", "Attribute.1.Name=VisibilityTimeout", "Attribute.1.Value=8"}, 400, []string{`<Code>QueueAlreadyExists</Code>`, `<Type>Sender</Type>`}},
		{"find", "/", []string{"Action=GetQueueUrl", "QueueName=orders"}, 200, []string{`<QueueUrl>http://host:4566/000000000000/orders</QueueUrl>`}},
		{"do not find", "/", []string{"Action=GetQueueUrl", "QueueName=nobody"}, 400, []string{`<Code>AWS.SimpleQueueService.NonExistentQueue</Code>`, `<ErrorResponse xmlns=`}},
		{"list", "/", []string{"Action=ListQueues"}, 200, []string{`<ListQueuesResult><QueueUrl>[^<]*orders</QueueUrl></ListQueuesResult>`}},
		{"attributes", q, []string{"Action=GetQueueAttributes", "AttributeName.1=VisibilityTimeout", "AttributeName.2=QueueArn"}, 200,
			[]string{`<Attribute><Name>VisibilityTimeout</Name><Value>7</Value></Attribute>`, `<Attribute><Name>QueueArn</Name><Value>arn:aws:sqs:us-east-1:000000000000:orders</Value></Attribute>`}},
		{"set an attribute", q, []string{"Action=SetQueueAttributes", "Attribute.1.Name=VisibilityTimeout", "Attribute.1.Value=9"}, 200, []string{`^<\?xml version="1.0"\?><SetQueueAttributesResponse xmlns="[^"]*"><ResponseMetadata>`}},
		{"send, the queue by path", q, []string{"Action=SendMessage", "MessageBody=a <b> & \"c\"\r\n", "MessageAttribute.1.Name=key", "MessageAttribute.1.Value.DataType=String", "MessageAttribute.1.Value.StringValue=value",
			"MessageAttribute.2.Name=bin", "MessageAttribute.2.Value.DataType=Binary", "MessageAttribute.2.Value.BinaryValue=AP8=",
			"MessageSystemAttribute.1.Name=AWSTraceHeader", "MessageSystemAttribute.1.Value.DataType=String", "MessageSystemAttribute.1.Value.StringValue=Root=1-a-b"}, 200,
			[]string{`<MD5OfMessageBody>[0-9a-f]{32}</MD5OfMessageBody>`, `<MD5OfMessageAttributes>[0-9a-f]{32}<`, `<MessageId>[0-9a-f-]{36}</MessageId>`}},
		{"receive, the queue by parameter", "/", []string{"Action=ReceiveMessage", "QueueUrl=http://elsewhere" + q, "MaxNumberOfMessages=10", "AttributeName.1=All", "MessageAttributeName.1=All"}, 200,
			[]string{`<Body>a &lt;b&gt; &amp; &#34;c&#34;&#xD;&#xA;</Body>`, `<MessageAttribute><Name>bin</Name><Value><BinaryValue>AP8=</BinaryValue><DataType>Binary</DataType></Value></MessageAttribute>`,
				`<Attribute><Name>AWSTraceHeader</Name><Value>Root=1-a-b</Value></Attribute>`, `<ReceiptHandle>(?P<handle>[^<]+)</ReceiptHandle>`}},
		{"receive nothing", q, []string{"Action=ReceiveMessage"}, 200, []string{`<ReceiveMessageResult></ReceiveMessageResult>`}},
		{"hide", q, []string{"Action=ChangeMessageVisibility", "ReceiptHandle={handle}", "VisibilityTimeout=60"}, 200, []string{`ChangeMessageVisibilityResponse`}},
		{"hide a batch", q, []string{"Action=ChangeMessageVisibilityBatch", "ChangeMessageVisibilityBatchRequestEntry.1.Id=a", "ChangeMessageVisibilityBatchRequestEntry.1.ReceiptHandle={handle}", "ChangeMessageVisibilityBatchRequestEntry.1.VisibilityTimeout=61"}, 200,
			[]string{`<ChangeMessageVisibilityBatchResult><ChangeMessageVisibilityBatchResultEntry><Id>a</Id></ChangeMessageVisibilityBatchResultEntry></ChangeMessageVisibilityBatchResult>`}},
		{"delete a batch", q, []string{"Action=DeleteMessageBatch", "DeleteMessageBatchRequestEntry.1.Id=a", "DeleteMessageBatchRequestEntry.1.ReceiptHandle={handle}", "DeleteMessageBatchRequestEntry.2.Id=b", "DeleteMessageBatchRequestEntry.2.ReceiptHandle=nonsense"}, 200,
			[]string{`<DeleteMessageBatchResultEntry><Id>a</Id></DeleteMessageBatchResultEntry>`, `<BatchResultErrorEntry><Code>ReceiptHandleIsInvalid</Code><Id>b</Id><Message>[^<]+</Message><SenderFault>true</SenderFault></BatchResultErrorEntry>`}},
		{"delete", q, []string{"Action=DeleteMessage", "ReceiptHandle={handle}"}, 200, []string{`DeleteMessageResponse`}},
		{"send a batch, entries in order of their numbers", q, []string{"Action=SendMessageBatch", "SendMessageBatchRequestEntry.10.Id=c", "SendMessageBatchRequestEntry.10.MessageBody=3", "SendMessageBatchRequestEntry.2.Id=b", "SendMessageBatchRequestEntry.2.MessageBody=2",
			"SendMessageBatchRequestEntry.2.DelaySeconds=900", "SendMessageBatchRequestEntry.2.MessageAttribute.1.Name=n", "SendMessageBatchRequestEntry.2.MessageAttribute.1.Value.DataType=Number", "SendMessageBatchRequestEntry.2.MessageAttribute.1.Value.StringValue=1"}, 200,
			[]string{`<SendMessageBatchResultEntry><Id>b</Id>.*<SendMessageBatchResultEntry><Id>c</Id>`}},
		{"purge", q, []string{"Action=PurgeQueue"}, 200, []string{`PurgeQueueResponse`}},
		{"purge again, with the status of old", q, []string{"Action=PurgeQueue"}, 403, []string{`<Code>AWS.SimpleQueueService.PurgeQueueInProgress</Code>`}},
		{"no number", q, []string{"Action=ReceiveMessage", "WaitTimeSeconds=soon"}, 400, []string{`<Code>InvalidParameterValue</Code>`, `WaitTimeSeconds`}},
		{"no name", q, []string{"Action=SetQueueAttributes", "Attribute.1.Value=9"}, 400, []string{`<Code>MissingParameter</Code>`}},
		{"no action", q, []string{"Verb=SendMessage"}, 400, []string{`<Code>MissingAction</Code>`}},
		{"an unknown action", q, []string{"Action=Dance"}, 400, []string{`<Code>InvalidAction</Code>`, "Dance"}},
		{"a body that is not UTF-8", q, []string{"Action=SendMessage", "MessageBody=\xff"}, 400, []string{`<Code>InvalidMessageContents</Code>`}},
		{"a body that XML cannot hold", q, []string{"Action=SendMessage", "MessageBody=\x00"}, 400, []string{`<Code>InvalidMessageContents</Code>`}},
		{"delete the queue", q, []string{"Action=DeleteQueue"}, 200, []string{`DeleteQueueResponse`}},
	} {
		for i, p := range row.parameters {
			for name, value := range captured {
				p = strings.ReplaceAll(p, "{"+name+"}", value)
			}
			row.parameters[i] = p
		}
		w := form(e, row.path, row.parameters...)
		if w.Code != row.status || w.Header().Get("Content-Type") != "text/xml" {
			t.Errorf("%s: status %d, %v", row.name, w.Code, w.Header())
		}
		for _, want := range row.contains {
			re := regexp.MustCompile(want)
			found := re.FindStringSubmatch(w.Body.String())
			if found == nil {
				t.Errorf("%s: %s lacks %s", row.name, w.Body, want)
				continue
			}
			for i, name := range re.SubexpNames() {
				if name != "" {
					captured[name] = found[i]
				}
			}
		}
		if err := xml.Unmarshal(w.Body.Bytes(), new(struct{})); err != nil {
			t.Errorf("%s: %v", row.name, err)
		}
	}
}

func TestQueryByGet(t *testing.T) {
	e := awslocal.New(awslocal.Options{}, sqs.New(sqs.Options{}))
	w := httptest.NewRecorder()
	e.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/?Action=CreateQueue&QueueName=orders", nil))
	if w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "/orders</QueueUrl>") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
