package registry

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/waybillhq/waybill/shared/pattern"
	"github.com/waybillhq/waybill/shared/pattern/jsontree"
	"github.com/waybillhq/waybill/shared/retry"
)

// Bounds of a file.
const (
	MaxFileBytes    = 4 << 20
	MaxDestinations = 10_000
	MaxID           = 63
	MaxTenant       = 128 // as long as a message group id
	MaxSecrets      = 4
	MinTimeout      = time.Second
	MaxTimeout      = 30 * time.Second
	MaxRate         = 10_000 // of Rate.Limit and Rate.Burst
	MinPer          = time.Second
	MaxPer          = 24 * time.Hour
	MaxConcurrency  = 100 // as many as a batch can have deliveries

	maxDepth = 64 // of objects and arrays inside each other; patterns have a bound of their own
)

// Options say where a file comes from and where it is used.
type Options struct {
	// Name of the file, shown before line and column. Empty shows none.
	Name string
	// PlainHTTP allows http to hosts that are not loopback: payloads and signatures then travel in the open. For tests
	// and closed networks.
	PlainHTTP bool
	// InlineSecrets allows secrets in the file for every host, not for loopback ones alone: whoever reads the file can then sign. For tests
	// and closed networks.
	InlineSecrets bool
}

// Parse reads destinations from a JSON document:
//
//	{"destinations": [{"id": "orders-crm", "tenant": "acme", "type": "webhook",
//	  "webhook": {"url": "https://…", "secrets": ["arn:aws:secretsmanager:…"], "headers": {"x-team": "crm"}, "timeout": "15s"},
//	  "pattern": {"type": [{"prefix": "order."}]},
//	  "retry": {"schedule": ["1s", "5s", "1m"]},
//	  "rate": {"limit": 50, "per": "1s", "burst": 10},
//	  "concurrency": 4,
//	  "ledger": "strict",
//	  "reject": [400, 422]}]}
//
// id, tenant, type and webhook with url and secrets are required. Without a pattern a destination receives every event
// of its tenant. retry holds a schedule or {"exponential": {"initial": "5s", "factor": 2, "cap": "1h", "attempts": 10,
// "maxAge": "24h"}}, of which maxAge may be left out. rate needs limit alone: per is a second and burst a tenth of a second's calls, at least 1, where they are left
// out. reject replaces DefaultReject; 410 and 429 cannot be in it. A top-level "$schema" may
// name Schema for editors and is not looked at. Secrets are ARNs of Secrets Manager or SSM; see Options.InlineSecrets for others.
//
// The error is a *ProblemsError that lists every problem of the document; then there is no Set.
func Parse(document []byte, options Options) (*Set, error) {
	r := &reader{document: document, options: options}
	destinations := r.file()
	if err := r.err(); err != nil {
		return nil, err
	}
	return newSet(destinations), nil
}

// reader turns a document into destinations and collects what is wrong with it. Its methods take the path of a value
// and the value; what they return is of no use once a problem was found.
type reader struct {
	document []byte
	options  Options
	problems []located
	omitted  int // problems beyond MaxProblems
}

// member is one known field of an object.
type member struct {
	name     string
	required string // the remedy if it is missing; empty for an optional field
	read     func(path string, n *jsontree.Node)
}

// object reads the known members of an object and refuses unknown, repeated and missing ones.
func (r *reader) object(path string, n *jsontree.Node, members ...member) {
	if n.Kind != jsontree.Object {
		r.fail(n.Offset, path, "must be an object, is "+n.Kind.String(), "")
		return
	}
	for m := range n.Repeated() {
		r.fail(m.Offset, jsontree.Field(path, visible(m.Name)), "appears twice in the same object", "keep one of the two")
	}
	for _, m := range n.Members {
		if !slices.ContainsFunc(members, func(known member) bool { return known.name == m.Name }) {
			r.fail(m.Offset, jsontree.Field(path, visible(m.Name)), "is not a known field", suggest(m.Name, members))
		}
	}
	for _, known := range members {
		at := jsontree.Field(path, known.name)
		if value, ok := n.Get(known.name); ok {
			known.read(at, value)
		} else if known.required != "" {
			r.fail(n.Offset, at, "is missing", known.required)
		}
	}
}

// visible keeps a strange name out of messages, which may be a value in the wrong place.
func visible(name string) string {
	if isToken(name) && len(name) <= 40 {
		return name
	}
	return "…"
}

// text reads a string.
func (r *reader) text(path string, n *jsontree.Node) (string, bool) {
	if n.Kind != jsontree.String {
		r.fail(n.Offset, path, "must be a string, is "+n.Kind.String(), "write it in quotes")
		return "", false
	}
	return n.Text, true
}

// array reads the items of an array.
func (r *reader) array(path string, n *jsontree.Node) []*jsontree.Node {
	if n.Kind != jsontree.Array {
		r.fail(n.Offset, path, "must be an array, is "+n.Kind.String(), "write it in brackets: […]")
		return nil
	}
	return n.Items
}

// duration reads a string such as "1m30s".
func (r *reader) duration(path string, n *jsontree.Node) (time.Duration, bool) {
	fix := `write a number with its unit, as in "15s" or "1h30m"`
	if n.Kind != jsontree.String {
		r.fail(n.Offset, path, "must be a duration in quotes, is "+n.Kind.String(), fix)
		return 0, false
	}
	d, err := time.ParseDuration(n.Text)
	if err != nil {
		r.fail(n.Offset, path, "is not a duration", fix)
		return 0, false
	}
	return d, true
}

// integer reads a whole number.
func (r *reader) integer(path string, n *jsontree.Node) (int, bool) {
	number, err := strconv.Atoi(n.Text)
	if n.Kind != jsontree.Number || err != nil {
		r.fail(n.Offset, path, "must be a whole number", "write digits only, without quotes")
		return 0, false
	}
	return number, true
}

func (r *reader) file() []*Destination {
	if len(r.document) > MaxFileBytes {
		r.fail(0, "", fmt.Sprintf("the file has %d bytes", len(r.document)), fmt.Sprintf("use at most %d", MaxFileBytes))
		return nil
	}
	root, err := jsontree.Parse(r.document, maxDepth)
	if err != nil {
		var syntax *jsontree.SyntaxError
		if errors.As(err, &syntax) {
			r.fail(syntax.Offset, "", syntax.Message, syntax.Fix)
		}
		return nil
	}
	var destinations []*Destination
	r.object("", root,
		member{"$schema", "", func(path string, n *jsontree.Node) { r.text(path, n) }}, // for editors
		member{"destinations", `write {"destinations": […]}`, func(path string, n *jsontree.Node) { destinations = r.destinations(path, n) }},
	)
	return destinations
}

func (r *reader) destinations(path string, n *jsontree.Node) []*Destination {
	items := r.array(path, n)
	if len(items) > MaxDestinations {
		r.fail(n.Offset, path, fmt.Sprintf("has %d destinations", len(items)), fmt.Sprintf("use at most %d", MaxDestinations))
		return nil
	}
	destinations := make([]*Destination, 0, len(items))
	owner := make(map[string]string, len(items)) // path of the destination with that id
	for i, item := range items {
		at := jsontree.Index(path, i)
		d := r.destination(at, item)
		destinations = append(destinations, d)
		if first, taken := owner[d.ID]; taken {
			id, _ := item.Get("id")
			r.fail(id.Offset, jsontree.Field(at, "id"), "is already the id of "+first, "give every destination an id of its own")
		} else if d.ID != "" {
			owner[d.ID] = at
		}
	}
	return destinations
}

func (r *reader) destination(path string, n *jsontree.Node) *Destination {
	d := &Destination{Retry: retry.Default(), Reject: DefaultReject()}
	r.object(path, n,
		member{"id", `name it, as in "id": "orders-crm"`, func(path string, n *jsontree.Node) { d.ID = r.id(path, n) }},
		member{"tenant", `name the tenant, or write "*" for all of them`, func(path string, n *jsontree.Node) { d.Tenant = r.tenant(path, n) }},
		member{"type", `write "type": "webhook"`, func(path string, n *jsontree.Node) { d.Type = r.kind(path, n) }},
		member{"webhook", `say where to send: "webhook": {"url": …, "secrets": […]}`, func(path string, n *jsontree.Node) { d.Webhook = r.webhook(path, n) }},
		member{"pattern", "", func(path string, n *jsontree.Node) {
			d.Pattern, d.patternText = r.pattern(path, n), string(r.document[n.Offset:n.End])
		}},
		member{"retry", "", func(path string, n *jsontree.Node) { d.Retry = r.retry(path, n) }},
		member{"rate", "", func(path string, n *jsontree.Node) { d.Rate = r.rate(path, n) }},
		member{"concurrency", "", func(path string, n *jsontree.Node) { d.Concurrency = r.within(path, n, 1, MaxConcurrency) }},
		member{"ledger", "", func(path string, n *jsontree.Node) { d.Ledger = r.ledger(path, n) }},
		member{"reject", "", func(path string, n *jsontree.Node) { d.Reject = r.reject(path, n) }},
	)
	return d
}

func (r *reader) id(path string, n *jsontree.Node) string {
	id, ok := r.text(path, n)
	if !ok {
		return ""
	}
	if id == CanaryID {
		r.fail(n.Offset, path, "is the id of Waybill's own canary", "choose another; the canary is an option of the stack and stands in no file")
		return ""
	}
	if !ValidID(id) {
		r.fail(n.Offset, path, "is not a valid id", idForm)
		return ""
	}
	return id
}

// idForm says what ValidID asks for.
var idForm = fmt.Sprintf("use a-z, 0-9 and hyphens, a letter or digit first, at most %d", MaxID)

// ValidID reports whether a destination can have that id.
func ValidID(id string) bool {
	return id != "" && len(id) <= MaxID && id[0] != '-' && !strings.ContainsFunc(id, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-'
	})
}

func (r *reader) tenant(path string, n *jsontree.Node) string {
	tenant, ok := r.text(path, n)
	switch {
	case !ok || tenant == EveryTenant:
	case tenant == "":
		r.fail(n.Offset, path, "is empty", `name the tenant, or write "*" for all of them`)
	case len(tenant) > MaxTenant:
		r.fail(n.Offset, path, fmt.Sprintf("has %d bytes", len(tenant)), fmt.Sprintf("use at most %d", MaxTenant))
	case tenant == CanaryTenant:
		r.fail(n.Offset, path, "is the tenant of Waybill's own canary, whose events are nobody else's", "name another")
	case strings.Contains(tenant, EveryTenant):
		r.fail(n.Offset, path, "holds a * beside other characters, which is no wildcard here", `name one tenant, or write "*" for all of them`)
	case strings.ContainsFunc(tenant, func(c rune) bool { return unicode.IsSpace(c) || !unicode.IsPrint(c) }):
		r.fail(n.Offset, path, "holds a blank or an invisible character", "remove it")
	}
	return tenant
}

func (r *reader) kind(path string, n *jsontree.Node) string {
	kind, ok := r.text(path, n)
	if ok && kind != TypeWebhook {
		r.fail(n.Offset, path, "is not a known type of destination", `write "webhook"`)
	}
	return kind
}

func (r *reader) webhook(path string, n *jsontree.Node) *Webhook {
	w := &Webhook{Timeout: DefaultTimeout}
	r.object(path, n,
		member{"url", urlExample, func(path string, n *jsontree.Node) { w.URL = r.url(path, n) }},
		member{"secrets", howToStore, func(path string, n *jsontree.Node) { w.Secrets = r.secrets(path, n, w.URL) }},
		member{"headers", "", func(path string, n *jsontree.Node) { w.Headers = r.headers(path, n) }},
		member{"timeout", "", func(path string, n *jsontree.Node) { w.Timeout = r.timeout(path, n) }},
	)
	return w
}

// secrets reads the secrets of a webhook at that URL, or at none where the URL could not be read.
func (r *reader) secrets(path string, n *jsontree.Node, endpoint string) []Secret {
	items := r.array(path, n)
	if n.Kind == jsontree.Array && (len(items) == 0 || len(items) > MaxSecrets) {
		r.fail(n.Offset, path, fmt.Sprintf("has %d secrets", len(items)), fmt.Sprintf("use 1 to %d: one, and others while they are rotated", MaxSecrets))
		return nil
	}
	inline := r.options.InlineSecrets || mayHoldSecrets(endpoint)
	var secrets []Secret
	seen := make(map[string]bool, len(items))
	for i, item := range items {
		at := jsontree.Index(path, i)
		text, ok := r.text(at, item)
		if !ok {
			continue
		}
		secret, message, fix := readSecret(text, inline)
		id := secret.arn + string(secret.Key())
		switch {
		case message != "":
			r.fail(item.Offset, at, message, fix)
		case seen[id]:
			r.fail(item.Offset, at, "is the same as one before it", "remove it")
		default:
			seen[id] = true
			secrets = append(secrets, secret)
		}
	}
	return secrets
}

// mayHoldSecrets says that a secret for the endpoint may stand in the file: nobody else can be deceived with it. An endpoint that could not
// be read gets the benefit of the doubt, as it has a problem of its own.
func mayHoldSecrets(endpoint string) bool {
	u, err := url.Parse(endpoint)
	return err != nil || u.Hostname() == "" || isLoopback(u.Hostname())
}

func readSecret(text string, inline bool) (s Secret, message, fix string) {
	switch {
	case strings.HasPrefix(text, arnPrefix):
		message, fix = checkARN(text)
		return Secret{arn: text}, message, fix
	case !strings.HasPrefix(text, secretPrefix):
		return Secret{}, "is neither an ARN nor a secret that begins with whsec_", arnExample
	case !inline:
		return Secret{}, "stands in the file, where everyone who reads it can sign with it", howToStore
	}
	key, message, fix := decodeSecret(text)
	return newSecret(key), message, fix
}

func (r *reader) timeout(path string, n *jsontree.Node) time.Duration {
	timeout, ok := r.duration(path, n)
	if ok && (timeout < MinTimeout || timeout > MaxTimeout) {
		r.fail(n.Offset, path, fmt.Sprintf("is %v", timeout), fmt.Sprintf("use %v to %v", MinTimeout, MaxTimeout))
	}
	return timeout
}

func (r *reader) pattern(path string, n *jsontree.Node) *pattern.Pattern {
	p, err := pattern.Parse(r.document[n.Offset:n.End])
	var refusal *pattern.Error
	if errors.As(err, &refusal) {
		parent := strings.TrimSuffix(path, "pattern")
		for _, problem := range refusal.Problems {
			r.fail(n.Offset+problem.Offset, parent+problem.Path, problem.Message, problem.Fix)
		}
	}
	return p
}

// within reads a whole number of at least and at most so much.
func (r *reader) within(path string, n *jsontree.Node, least, most int) int {
	number, ok := r.integer(path, n)
	if ok && (number < least || number > most) {
		r.fail(n.Offset, path, fmt.Sprintf("is %d", number), fmt.Sprintf("use %d to %d", least, most))
		return least
	}
	return number
}

func (r *reader) rate(path string, n *jsontree.Node) *Rate {
	rate := &Rate{Per: time.Second}
	r.object(path, n,
		member{"limit", `say how many calls: "limit": 50`, func(path string, n *jsontree.Node) { rate.Limit = r.within(path, n, 1, MaxRate) }},
		member{"per", "", func(path string, n *jsontree.Node) {
			per, ok := r.duration(path, n)
			if ok && (per < MinPer || per > MaxPer) {
				r.fail(n.Offset, path, fmt.Sprintf("is %v", per), fmt.Sprintf("use %v to %v", MinPer, MaxPer))
			}
			rate.Per = per
		}},
		member{"burst", "", func(path string, n *jsontree.Node) { rate.Burst = r.within(path, n, 1, MaxRate) }},
	)
	if rate.Burst == 0 && rate.Per > 0 {
		const share = 10 // of a second
		rate.Burst = max(1, int(time.Duration(rate.Limit)*time.Second/rate.Per/share))
	}
	return rate
}

func (r *reader) ledger(path string, n *jsontree.Node) LedgerMode {
	text, ok := r.text(path, n)
	if !ok {
		return Strict
	}
	for _, mode := range []LedgerMode{Strict, Relaxed} {
		if text == mode.String() {
			return mode
		}
	}
	r.fail(n.Offset, path, "is not a known ledger mode", `write "strict" or "relaxed"`)
	return Strict
}

func (r *reader) reject(path string, n *jsontree.Node) []int {
	codes := []int{}
	for i, item := range r.array(path, n) {
		at := jsontree.Index(path, i)
		code, ok := r.integer(at, item)
		switch {
		case !ok:
		case code == 410:
			r.fail(item.Offset, at, "410 disables the destination and keeps its deliveries", "remove it")
		case code == 429:
			r.fail(item.Offset, at, "429 asks to come back later and is always tried again", "remove it")
		case code < 400 || code > 599:
			r.fail(item.Offset, at, "is not a status code of an error", "use codes from 400 to 599")
		case slices.Contains(codes, code):
			r.fail(item.Offset, at, "appears twice", "remove one of the two")
		default:
			codes = append(codes, code)
		}
	}
	slices.Sort(codes)
	return codes
}
