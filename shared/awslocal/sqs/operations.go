package sqs

import (
	"context"

	"github.com/waybillhq/waybill/shared/awslocal/wire"
)

// Do implements wire.Service.
func (s *Service) Do(_ context.Context, op string, _ []byte) (wire.Response, error) {
	return wire.Response{}, wire.UnknownOperation(s.Name(), op)
}
