package dynamodb

import (
	"maps"
	"slices"
	"strconv"

	"github.com/waybillhq/waybill/shared/awslocal/wire"
)

const (
	writeUnitBytes = 1 << 10
	readUnitBytes  = 4 << 10
)

// writeUnits is the price of a write: one unit for each begun KB of the larger of the item before and after it. A
// refused conditional write costs what it would have cost.
func writeUnits(before, after int) float64 {
	return float64(max(1, (max(before, after)+writeUnitBytes-1)/writeUnitBytes))
}

// readUnits is the price of a read: one unit for each begun 4 KB, half of that if it need not be consistent. Reading
// nothing costs as much as reading a little.
func readUnits(bytes int, consistent bool) float64 {
	units := float64(max(1, (bytes+readUnitBytes-1)/readUnitBytes))
	if !consistent {
		units /= 2
	}
	return units
}

// consumption adds up units by table.
type consumption map[string]wire.Units

func (c consumption) add(table string, u wire.Units) { c[table] = c[table].Add(u) }

func (c consumption) total() wire.Units {
	var sum wire.Units
	for _, u := range c {
		sum = sum.Add(u)
	}
	return sum
}

// appendCapacity writes the ConsumedCapacity of one table; detail is TOTAL or INDEXES.
func appendCapacity(b []byte, detail, table string, u wire.Units) []byte {
	units := func(b []byte) []byte {
		return strconv.AppendFloat(append(b, `"CapacityUnits":`...), u.Read+u.Write, 'f', -1, 64)
	}
	b = appendText(append(b, `{"TableName":`...), table)
	b = units(append(b, ','))
	if detail == "INDEXES" {
		b = append(units(append(b, `,"Table":{`...)), '}')
	}
	return append(b, '}')
}

// capacity adds the ConsumedCapacity of an operation on one table to its answer, if it was asked for.
func (a *answer) capacity(detail, table string, u wire.Units) {
	if detail == "TOTAL" || detail == "INDEXES" {
		a.member("ConsumedCapacity")
		*a = appendCapacity(*a, detail, table, u)
	}
}

// capacities adds the ConsumedCapacity of a batch.
func (a *answer) capacities(detail string, c consumption) {
	if detail != "TOTAL" && detail != "INDEXES" {
		return
	}
	a.member("ConsumedCapacity").raw([]byte("["))
	for i, table := range slices.Sorted(maps.Keys(c)) {
		if i > 0 {
			a.raw([]byte(","))
		}
		*a = appendCapacity(*a, detail, table, c[table])
	}
	a.raw([]byte("]"))
}
