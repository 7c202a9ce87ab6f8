// Package requestbody keeps the AWS SDK for Go from losing answers that have arrived.
//
// The SDK closes the body of a request as soon as its answer begins. On HTTP/1.1, which SQS and DynamoDB speak, net/http may at that
// moment not yet have asked the body whether there is more of it than was announced. A closed body of the SDK says io.EOF: as the
// result of Read that is the end, as the result of WriteTo, which net/http prefers, it is a failure of the request, and net/http closes
// the connection while the answer is being read. The SDK then makes the call again. Messages that the first call received are hidden
// until their visibility timeout is over, messages that it sent are there twice. It takes a busy machine and large answers: about one
// call in a thousand then.
// Source: https://github.com/aws/aws-sdk-go-v2/issues/2737
package requestbody

import (
	"context"
	"io"

	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// ReadOnly is an API option of SDK clients, for aws.Config.APIOptions: requests are sent with bodies that can only be read. Bodies
// that cannot seek are sent as they are. It keeps no state and may be shared by clients.
func ReadOnly(stack *middleware.Stack) error {
	return stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("ReadOnlyRequestBody", readOnly), middleware.After)
}

func readOnly(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (
	middleware.DeserializeOutput, middleware.Metadata, error,
) {
	if r, ok := in.Request.(*smithyhttp.Request); ok {
		if body, ok := r.GetStream().(io.ReadSeeker); ok {
			sent, err := r.SetStream(struct{ io.ReadSeeker }{body})
			if err != nil {
				return middleware.DeserializeOutput{}, middleware.Metadata{}, err
			}
			in.Request = sent
		}
	}
	return next.HandleDeserialize(ctx, in)
}
