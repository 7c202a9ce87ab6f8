// Package kills ends the built functions with kill -9 at named requests, and looks whether anything is lost or done twice.
//
// Router, deliverer, slow lane and waker run as the programs that Lambda gets, one process for each environment, without any hook. The endpoint that they
// call knows each process by the access key that it signs with. A test plants a fault at one kind of request of one delivery; the first process that
// makes it dies at that moment: when the request has arrived and nothing has been done about it, or when it was performed and the answer is not sent.
// Others die while they call a receiver.
//
// All of it is in tests. README.md lists the requests and the laws, and tells how to run it with other programs.
package kills
