// Package chaos plays the whole system under disasters that a seed decides: the same seed plays the same story, line by line.
//
// Router, deliverers, waker, queues, tables and receivers run in one testing/synctest bubble, in virtual time. Whatever meets the outside
// waits for its turn: every request to AWS, every request at a receiver, every batch and every deletion of an event-source mapping. When all is at
// rest, the conductor picks one of them by the seed, decides what becomes of it, and waits for rest again, or lets time pass to the next timer.
//
// All of it is in tests, because a bubble needs one. README.md tells how to play seeds, which disasters there are and which laws are held.
package chaos
