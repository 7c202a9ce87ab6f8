// Package layout holds the tests about the repository as a whole: who may import whom, and that the README says what is so.
package layout
