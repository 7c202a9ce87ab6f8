#!/bin/sh
# Sends an event to Waybill: sh send.sh QUEUE_URL
set -eu # what SQS refuses ends the script with an exit status that is not 0

# The id comes from what happened: sent again, it is the same event and is delivered once. The data's bytes reach receivers as they are.
event='{"specversion":"1.0","id":"order-501-paid","source":"/shop/orders","type":"order.paid","tenant":"acme","data":{"order":501,"total":19.90}}'

# An AWS CLI before 2.13 does not look at AWS_ENDPOINT_URL itself.
aws ${AWS_ENDPOINT_URL:+--endpoint-url "$AWS_ENDPOINT_URL"} sqs send-message --queue-url "$1" --message-group-id acme --message-body "$event"
