package sqs

import (
	"fmt"

	"github.com/waybillhq/waybill/shared/awslocal/wire"
)

// legacy is what SQS's query protocol puts before most of its error codes; the AWS SDKs see the
// prefixed code over JSON too, in a header.
const legacy = "AWS.SimpleQueueService."

func invalidParameter(format string, args ...any) *wire.Error {
	e := wire.Errorf("InvalidParameterValueException", format, args...)
	e.QueryCode = "InvalidParameterValue"
	return e
}

// outOfRange refuses a number as SQS words it.
func outOfRange(value int, parameter, reason string) *wire.Error {
	return invalidParameter("Value %d for parameter %s is invalid. Reason: %s", value, parameter, reason)
}

func missingParameter(name string) *wire.Error {
	e := wire.Errorf("MissingRequiredParameterException", "The request must contain the parameter %s.", name)
	e.QueryCode = "MissingParameter"
	return e
}

func invalidAttributeName(name string) *wire.Error {
	return wire.Errorf("InvalidAttributeName", "Unknown Attribute %s.", name)
}

func invalidAttributeValue(name, reason string) *wire.Error {
	return wire.Errorf("InvalidAttributeValue", "Invalid value for the parameter %s. Reason: %s", name, reason)
}

func invalidHandle(handle string) *wire.Error {
	return wire.Errorf("ReceiptHandleIsInvalid", "The input receipt handle %q is not a valid receipt handle.", shorten(handle))
}

func staleHandle(handle, reason string) *wire.Error {
	return invalidParameter("Value %s for parameter ReceiptHandle is invalid. Reason: %s", shorten(handle), reason)
}

func noResource(format string, args ...any) *wire.Error {
	return wire.Errorf("ResourceNotFoundException", format, args...)
}

// simple builds an error whose legacy code is the prefixed name.
func simple(code, format string, args ...any) *wire.Error {
	e := wire.Errorf(code, format, args...)
	e.QueryCode = legacy + code
	return e
}

func noQueue() *wire.Error {
	e := wire.Errorf("QueueDoesNotExist", "The specified queue does not exist.")
	e.QueryCode = legacy + "NonExistentQueue"
	return e
}

func queueExists(attribute string) *wire.Error {
	e := wire.Errorf("QueueNameExists", "A queue already exists with the same name and a different value for attribute %s", attribute)
	e.QueryCode = "QueueAlreadyExists"
	return e
}

// shorten keeps what a caller sent from filling an error message.
func shorten(s string) string {
	const most = 120
	if len(s) <= most {
		return s
	}
	return fmt.Sprintf("%s… (%d bytes)", s[:most], len(s))
}
