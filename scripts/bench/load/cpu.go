package load

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime/pprof"
	"strings"
	"syscall"
	"time"
)

// CPU is the processor time of a stretch of load, by who spent it.
type CPU struct {
	Total     time.Duration // of the process, as the operating system says
	Functions float64       // shares of Total, which add up to 1: Waybill itself with the AWS SDK,
	Emulator  float64       // queues, tables and Lambda,
	Receiver  float64       // the receiver,
	Producer  float64       // whoever sends,
	Runtime   float64       // garbage collection and scheduling, for all of them
}

// meter measures the processor time between start and stop. Only one can run in a process.
type meter struct {
	profile bytes.Buffer
	began   time.Duration
}

func startMeter() (*meter, error) {
	m := &meter{began: processTime()}
	if err := pprof.StartCPUProfile(&m.profile); err != nil {
		return nil, fmt.Errorf("processor time cannot be measured: %w", err)
	}
	return m, nil
}

func (m *meter) stop() (CPU, []byte, error) {
	total := processTime() - m.began
	pprof.StopCPUProfile()
	raw := m.profile.Bytes()
	samples, err := readProfile(bytes.NewReader(raw))
	if err != nil {
		return CPU{}, nil, err
	}
	return divide(total, samples), raw, nil
}

// processTime is the processor time of this process so far, user and system.
func processTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// divide shares total out by samples.
func divide(total time.Duration, samples []sample) CPU {
	parts := map[string]int64{}
	var sum int64
	for _, s := range samples {
		parts[s.part()] += s.value
		sum += s.value
	}
	if sum == 0 {
		return CPU{Total: total}
	}
	share := func(part string) float64 { return float64(parts[part]) / float64(sum) }
	return CPU{
		Total: total, Functions: share(partFunctions), Emulator: share(partEmulator), Receiver: share(partReceiver),
		Producer: share(partProducer), Runtime: share(""),
	}
}

// sample is one line of a profile.
type sample struct {
	value int64 // nanoseconds
	label string
	stack []string // names of functions, the innermost first
}

// part tells whose the time is. Goroutines inherit the label of whoever started them, so what the mappings start carries the
// functions' label; of that, what lies outside a handler is Lambda, and so the emulator.
func (s sample) part() string {
	if s.label != partFunctions {
		return s.label
	}
	mapping := false
	for _, name := range s.stack {
		if strings.HasPrefix(name, "github.com/aws/aws-lambda-go/lambda.") || strings.HasPrefix(name, "github.com/waybillhq/waybill/functions/") {
			return partFunctions
		}
		mapping = mapping || strings.HasPrefix(name, "github.com/waybillhq/waybill/shared/awslocal/mapping.")
	}
	if mapping {
		return partEmulator
	}
	return partFunctions
}

var errProfile = errors.New("the profile cannot be read: has its format changed?")

// readProfile reads what runtime/pprof writes: a gzipped protocol buffer, of which we need little.
// Source: https://github.com/google/pprof/blob/main/proto/profile.proto
func readProfile(r io.Reader) ([]sample, error) {
	zipped, err := gzip.NewReader(r)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errProfile, err)
	}
	raw, err := io.ReadAll(zipped)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errProfile, err)
	}
	var texts []string
	functions := map[uint64]uint64{}   // id → name
	locations := map[uint64][]uint64{} // id → functions
	var found []fields
	err = each(raw, func(field int, f fields) {
		switch field {
		case 2:
			found = append(found, f)
		case 4:
			id := f.number(1)
			for _, line := range f.messages(4) {
				locations[id] = append(locations[id], line.number(1))
			}
		case 5:
			functions[f.number(1)] = f.number(2)
		case 6:
			texts = append(texts, string(f.raw))
		}
	})
	if err != nil {
		return nil, err
	}
	text := func(i uint64) string {
		if i < uint64(len(texts)) {
			return texts[i]
		}
		return ""
	}
	samples := make([]sample, 0, len(found))
	for _, f := range found {
		s := sample{}
		if values := f.numbers(2); len(values) > 1 {
			s.value = int64(values[1])
		}
		for _, l := range f.messages(3) {
			if text(l.number(1)) == label {
				s.label = text(l.number(2))
			}
		}
		for _, location := range f.numbers(1) {
			for _, function := range locations[location] {
				s.stack = append(s.stack, text(functions[function]))
			}
		}
		samples = append(samples, s)
	}
	return samples, nil
}

// fields is one message of a protocol buffer.
type fields struct{ raw []byte }

// each calls do for every length-delimited field of raw.
func each(raw []byte, do func(field int, f fields)) error {
	return walk(raw, func(field int, _ uint64, content []byte) {
		if content != nil {
			do(field, fields{content})
		}
	})
}

// walk calls do for every field of raw, with its number or its content.
func walk(raw []byte, do func(field int, number uint64, content []byte)) error {
	for len(raw) > 0 {
		key, n := binary.Uvarint(raw)
		if n <= 0 {
			return errProfile
		}
		raw = raw[n:]
		number, n := binary.Uvarint(raw)
		if n <= 0 {
			return errProfile
		}
		raw = raw[n:]
		switch key & 7 {
		case 0:
			do(int(key>>3), number, nil)
		case 2:
			if number > uint64(len(raw)) {
				return errProfile
			}
			do(int(key>>3), 0, raw[:number:number])
			raw = raw[number:]
		default:
			return errProfile
		}
	}
	return nil
}

func (f fields) number(field int) uint64 {
	if all := f.numbers(field); len(all) > 0 {
		return all[0]
	}
	return 0
}

// numbers gives all numbers of a field, packed or not. What is broken gives fewer.
func (f fields) numbers(field int) []uint64 {
	var all []uint64
	_ = walk(f.raw, func(have int, number uint64, content []byte) {
		switch {
		case have != field:
		case content == nil:
			all = append(all, number)
		default:
			for len(content) > 0 {
				v, n := binary.Uvarint(content)
				if n <= 0 {
					return
				}
				all, content = append(all, v), content[n:]
			}
		}
	})
	return all
}

func (f fields) messages(field int) []fields {
	var all []fields
	_ = each(f.raw, func(have int, m fields) {
		if have == field {
			all = append(all, m)
		}
	})
	return all
}
