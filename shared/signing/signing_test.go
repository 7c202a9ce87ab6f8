package signing_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	official "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/waybillhq/waybill/shared/signing"
)

// The vector that the official libraries carry in their own tests.
const (
	vectorSecret    = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	vectorID        = "msg_p5jXN8AQM9LWM0D4loKWxJek"
	vectorUnix      = 1614265330
	vectorBody      = `{"test": 2432232314}`
	vectorSignature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
)

func key(t testing.TB, text string) signing.Key {
	t.Helper()
	k, err := signing.ParseKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func secret(fill byte, size int) string {
	return "whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{fill}, size))
}

// pair returns the whsk_ and whpk_ texts of a fixed key pair.
func pair(fill byte) (private, public string) {
	k := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{fill}, ed25519.SeedSize))
	return "whsk_" + base64.StdEncoding.EncodeToString(k),
		"whpk_" + base64.StdEncoding.EncodeToString(k.Public().(ed25519.PublicKey))
}

func request(id string, at time.Time, signature string) http.Header {
	h := http.Header{}
	h.Set(signing.HeaderID, id)
	h.Set(signing.HeaderTimestamp, signing.Timestamp(at))
	h.Set(signing.HeaderSignature, signature)
	return h
}

func TestSignGivesTheVectorOfTheSpecification(t *testing.T) {
	got := signing.Sign([]signing.Key{key(t, vectorSecret)}, vectorID, time.Unix(vectorUnix, 999_999_999), []byte(vectorBody))
	if got != vectorSignature {
		t.Errorf("Sign = %q, want %q", got, vectorSignature)
	}
}

func TestOfficialLibraryAcceptsEverySecretOfARotation(t *testing.T) {
	now := time.Now()
	private, _ := pair(9)
	texts := []string{secret(1, 24), private, secret(2, 64)}
	var keys []signing.Key
	for _, text := range texts {
		keys = append(keys, key(t, text))
	}
	for _, body := range []string{"", "{}", "\x00\xff.…", strings.Repeat("x", 1<<20)} {
		header := request("msg_1", now, signing.Sign(keys, "msg_1", now, []byte(body)))
		if got := len(strings.Split(header.Get(signing.HeaderSignature), " ")); got != len(keys) {
			t.Fatalf("%d signatures for %d keys", got, len(keys))
		}
		for _, text := range []string{texts[0], texts[2]} {
			wh, err := official.NewWebhook(text)
			if err != nil {
				t.Fatal(err)
			}
			if err := wh.Verify([]byte(body), header); err != nil {
				t.Errorf("official library, %d byte body: %v", len(body), err)
			}
			want, _ := wh.Sign("msg_1", now, []byte(body))
			if !strings.Contains(header.Get(signing.HeaderSignature), want) {
				t.Errorf("official library signs %q, the header is %q", want, header.Get(signing.HeaderSignature))
			}
		}
	}
}

func TestVerifyAcceptsWhatTheOfficialLibrarySigns(t *testing.T) {
	now := time.Now()
	wh, err := official.NewWebhook(vectorSecret)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := wh.Sign("msg_1", now, []byte(vectorBody))
	if err != nil {
		t.Fatal(err)
	}
	if err := signing.Verify([]signing.Key{key(t, vectorSecret)}, request("msg_1", now, signature), []byte(vectorBody), now); err != nil {
		t.Error(err)
	}
}

func TestVerify(t *testing.T) {
	now := time.Unix(vectorUnix, 0)
	private, public := pair(1)
	_, strangerPublic := pair(2)
	v1 := vectorSignature
	v1a := signing.Sign([]signing.Key{key(t, private)}, vectorID, now, []byte(vectorBody))
	many := func(n int) string { return strings.Repeat("v1,"+strings.Repeat("A", 43)+"= ", n) }

	tests := []struct {
		name      string
		keys      []string
		signature string
		id        string
		body      string
		now       time.Time
		want      error
	}{
		{name: "shared secret", keys: []string{vectorSecret}, signature: v1},
		{name: "public key", keys: []string{public}, signature: v1a},
		{name: "private key verifies too", keys: []string{private}, signature: v1a},
		{name: "old secret among keys", keys: []string{secret(1, 24), vectorSecret}, signature: v1},
		{name: "any of several signatures", keys: []string{vectorSecret}, signature: "v1," + strings.Repeat("A", 43) + "= " + v1},
		{name: "a wrong one after the right one", keys: []string{vectorSecret, public}, signature: v1 + " v1a," + strings.Repeat("A", 86) + "=="},
		{name: "line break in the signature", keys: []string{vectorSecret}, signature: v1[:20] + "\n" + v1[20:], want: signing.ErrSignature},
		{name: "unknown versions skipped", keys: []string{vectorSecret}, signature: "v2,abc v1x " + v1a + " " + v1},
		{name: "last one looked at", keys: []string{vectorSecret}, signature: many(15) + v1},
		{name: "too many signatures", keys: []string{vectorSecret}, signature: many(16) + v1, want: signing.ErrSignature},
		{name: "other secret", keys: []string{secret(1, 24)}, signature: v1, want: signing.ErrSignature},
		{name: "other public key", keys: []string{strangerPublic}, signature: v1a, want: signing.ErrSignature},
		{name: "no keys", signature: v1, want: signing.ErrSignature},
		{name: "other body", keys: []string{vectorSecret}, signature: v1, body: "x", want: signing.ErrSignature},
		{name: "other id", keys: []string{vectorSecret}, signature: v1, id: "msg_2", want: signing.ErrSignature},
		{name: "id with a dot", keys: []string{vectorSecret}, signature: v1, id: "msg.2", want: signing.ErrHeaders},
		{name: "symmetric sum under the asymmetric name", keys: []string{vectorSecret, public}, signature: "v1a," + v1[3:], want: signing.ErrSignature},
		{name: "asymmetric signature under the symmetric name", keys: []string{vectorSecret, public}, signature: "v1," + v1a[4:], want: signing.ErrSignature},
		{name: "signature without version", keys: []string{vectorSecret}, signature: v1[3:], want: signing.ErrSignature},
		{name: "cut signature", keys: []string{vectorSecret}, signature: v1[:20], want: signing.ErrSignature},
		{name: "signature with a tail", keys: []string{vectorSecret}, signature: v1 + ",x", want: signing.ErrSignature},
		{name: "padding bits set", keys: []string{vectorSecret}, signature: strings.Replace(v1, "E=", "F=", 1), want: signing.ErrSignature},
		{name: "empty signature value", keys: []string{vectorSecret}, signature: "v1,", want: signing.ErrSignature},
		{name: "oldest allowed", keys: []string{vectorSecret}, signature: v1, now: now.Add(signing.Tolerance)},
		{name: "newest allowed", keys: []string{vectorSecret}, signature: v1, now: now.Add(-signing.Tolerance)},
		{name: "too old", keys: []string{vectorSecret}, signature: v1, now: now.Add(signing.Tolerance + 1), want: signing.ErrTimestamp},
		{name: "too new", keys: []string{vectorSecret}, signature: v1, now: now.Add(-signing.Tolerance - 1), want: signing.ErrTimestamp},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var keys []signing.Key
			for _, text := range tt.keys {
				keys = append(keys, key(t, text))
			}
			id, body, at := vectorID, vectorBody, now
			if tt.id != "" {
				id = tt.id
			}
			if tt.body != "" {
				body = tt.body
			}
			if !tt.now.IsZero() {
				at = tt.now
			}
			if err := signing.Verify(keys, request(id, now, tt.signature), []byte(body), at); !errors.Is(err, tt.want) {
				t.Errorf("Verify = %v, want %v", err, tt.want)
			}
		})
	}
}

func TestVerifyNeedsEachHeaderOnceAndWellFormed(t *testing.T) {
	now := time.Unix(vectorUnix, 0)
	keys := []signing.Key{key(t, vectorSecret)}
	change := map[string]func(http.Header){
		"no id":                   func(h http.Header) { h.Del(signing.HeaderID) },
		"no timestamp":            func(h http.Header) { h.Del(signing.HeaderTimestamp) },
		"no signature":            func(h http.Header) { h.Del(signing.HeaderSignature) },
		"two ids":                 func(h http.Header) { h.Add(signing.HeaderID, vectorID) },
		"two timestamps":          func(h http.Header) { h.Add(signing.HeaderTimestamp, "1") },
		"two signature headers":   func(h http.Header) { h.Add(signing.HeaderSignature, vectorSignature) },
		"timestamp with sign":     func(h http.Header) { h.Set(signing.HeaderTimestamp, "+1614265330") },
		"timestamp with zeros":    func(h http.Header) { h.Set(signing.HeaderTimestamp, "01614265330") },
		"timestamp with fraction": func(h http.Header) { h.Set(signing.HeaderTimestamp, "1614265330.0") },
		"timestamp not a number":  func(h http.Header) { h.Set(signing.HeaderTimestamp, "now") },
		"timestamp out of range":  func(h http.Header) { h.Set(signing.HeaderTimestamp, "99999999999999999999") },
		"timestamp before 1970":   func(h http.Header) { h.Set(signing.HeaderTimestamp, "-1614265330") },
	}
	for name, breakIt := range change {
		t.Run(name, func(t *testing.T) {
			header := request(vectorID, now, vectorSignature)
			breakIt(header)
			if err := signing.Verify(keys, header, []byte(vectorBody), now); !errors.Is(err, signing.ErrHeaders) {
				t.Errorf("Verify = %v, want ErrHeaders", err)
			}
		})
	}
}

func TestParseKey(t *testing.T) {
	private, public := pair(3)
	halves, _ := base64.StdEncoding.DecodeString(private[len("whsk_"):])
	halves[63] ^= 1

	tests := []struct {
		name, text string
		problem    string // empty: accepted
	}{
		{"shortest secret", secret(1, 24), ""},
		{"longest secret", secret(1, 64), ""},
		{"private key", private, ""},
		{"public key", public, ""},
		{"short secret", secret(1, 23), "24 to 64 bytes, this one has 23"},
		{"long secret", secret(1, 65), "24 to 64 bytes, this one has 65"},
		{"empty secret", "whsec_", "this one has 0"},
		{"no prefix", secret(1, 32)[6:], "must start with whsec_"},
		{"empty", "", "must start with whsec_"},
		{"prefix in capitals", strings.ToUpper(secret(1, 32)), "must start with whsec_"},
		{"hexadecimal", "whsec_" + strings.Repeat("zz-", 20), "base64"},
		{"URL alphabet", "whsec_" + strings.Repeat("-_", 16), "base64"},
		{"unpadded", strings.TrimRight(secret(1, 32), "="), "base64"},
		{"padding bits set", strings.TrimSuffix(secret(1, 32), "E=") + "F=", "base64"},
		{"line break", secret(1, 24)[:20] + "\n" + secret(1, 24)[20:], "line break"},
		{"whole key, then nonsense", secret(1, 24) + "A", "base64"},
		{"trailing space", secret(1, 24) + " ", "base64"},
		{"private key of one half", "whsk_" + base64.StdEncoding.EncodeToString(halves[:32]), "64 bytes (seed and public key), this one has 32"},
		{"halves of two keys", "whsk_" + base64.StdEncoding.EncodeToString(halves), "do not belong together"},
		{"short public key", "whpk_AAAA", "has 32 bytes, this one has 3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := signing.ParseKey(tt.text)
			if tt.problem == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errors.Is(err, signing.ErrKey) || !strings.Contains(err.Error(), tt.problem) {
				t.Fatalf("ParseKey = %v, want ErrKey with %q", err, tt.problem)
			}
			if len(tt.text) > 20 && strings.Contains(err.Error(), tt.text[6:]) {
				t.Errorf("the error repeats the key: %v", err)
			}
		})
	}
}

func TestParseSigningKeyRefusesPublicKeys(t *testing.T) {
	private, public := pair(3)
	if _, err := signing.ParseSigningKey(public); !errors.Is(err, signing.ErrKey) {
		t.Errorf("public key: %v", err)
	}
	if _, err := signing.ParseSigningKey("nonsense"); !errors.Is(err, signing.ErrKey) {
		t.Errorf("nonsense: %v", err)
	}
	k, err := signing.ParseSigningKey(private)
	if err != nil {
		t.Fatal(err)
	}
	if got, ok := k.Public(); !ok || got != public {
		t.Errorf("Public = %q, %t, want %q", got, ok, public)
	}
	if got, ok := key(t, vectorSecret).Public(); ok {
		t.Errorf("a shared secret has the public key %q", got)
	}
}

func TestKeysThatCannotSignAddNothing(t *testing.T) {
	_, public := pair(3)
	at := time.Unix(vectorUnix, 0)
	keys := []signing.Key{{}, key(t, public), key(t, vectorSecret), key(t, public)}
	if got := signing.Sign(keys, vectorID, at, []byte(vectorBody)); got != vectorSignature {
		t.Errorf("Sign = %q", got)
	}
	if got := signing.Sign(keys[:2], vectorID, at, nil); got != "" {
		t.Errorf("Sign without a signing key = %q", got)
	}
}

func TestKeysAreNeverPrinted(t *testing.T) {
	private, public := pair(4)
	for _, text := range []string{vectorSecret, private} {
		k := key(t, text)
		var out bytes.Buffer
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&out, verb+verb+verb+"\n", k, &k, struct{ Key signing.Key }{k})
		}
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "key", k, "keys", []signing.Key{k})
		encoded, err := json.Marshal(k)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(encoded)
		raw, _ := base64.StdEncoding.DecodeString(text[strings.Index(text, "_")+1:])
		for _, leak := range []string{text[6:], text[10:30], fmt.Sprintf("%x", raw[:8]), strings.Trim(fmt.Sprintf("%d", raw[:8]), "[]"), string(raw[:8])} {
			if strings.Contains(out.String(), leak) {
				t.Errorf("%v leaks %q in %s", k, leak, out.String())
			}
		}
	}
	if got := key(t, public).String(); got != public {
		t.Errorf("public key prints as %q", got)
	}
	if got := (signing.Key{}).String(); got != "no key" {
		t.Errorf("zero key prints as %q", got)
	}
}

func TestValidID(t *testing.T) {
	for id, want := range map[string]bool{
		"msg_2KWPBgLlAfxdpx2AI54pPJ85f4W": true,
		"a":                               true,
		strings.Repeat("a", 256):          true,
		strings.Repeat("a", 257):          false,
		"":                                false,
		"a.b":                             false,
		"a b":                             false,
		"a\r\nb":                          false,
		"a~!":                             true,
		"ä":                               false,
		"a\x7f":                           false,
	} {
		if got := signing.ValidID(id); got != want {
			t.Errorf("ValidID(%q) = %t", id, got)
		}
	}
}

func TestSignIsSafeForConcurrentUse(t *testing.T) {
	keys := []signing.Key{key(t, vectorSecret)}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				if got := signing.Sign(keys, vectorID, time.Unix(vectorUnix, 0), []byte(vectorBody)); got != vectorSignature {
					t.Errorf("Sign = %q", got)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestSignDoesNotCopyTheBody(t *testing.T) {
	keys := []signing.Key{key(t, vectorSecret), key(t, secret(1, 32))}
	body := make([]byte, 1<<20)
	at := time.Unix(vectorUnix, 0)
	bytesPerOp := testing.Benchmark(func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			signing.Sign(keys, vectorID, at, body)
		}
	}).AllocedBytesPerOp()
	if bytesPerOp > 4096 {
		t.Errorf("signing a body of 1 MiB allocates %d bytes", bytesPerOp)
	}
}

// FuzzVerify holds Verify against the official library: what Verify accepts,
// the library accepts, and what the library signs, Verify accepts.
func FuzzVerify(f *testing.F) {
	f.Add(vectorID, "1614265330", vectorSignature, []byte(vectorBody))
	f.Add("", "", "", []byte(nil))
	f.Add("a.b", "+1", "v1,", []byte("."))
	f.Add("a", "1614265330", vectorSignature+" v1a,AAAA v2,x", []byte(vectorBody))
	keys := []signing.Key{key(f, vectorSecret)}
	wh, err := official.NewWebhook(vectorSecret)
	if err != nil {
		f.Fatal(err)
	}
	now := time.Unix(vectorUnix, 0)
	f.Fuzz(func(t *testing.T, id, timestamp, signature string, body []byte) {
		header := http.Header{}
		header.Set(signing.HeaderID, id)
		header.Set(signing.HeaderTimestamp, timestamp)
		header.Set(signing.HeaderSignature, signature)
		if signing.Verify(keys, header, body, now) == nil {
			if err := wh.VerifyIgnoringTimestamp(body, header); err != nil {
				t.Errorf("accepted what the official library refuses: %v", err)
			}
		}
		theirs, err := wh.Sign(id, now, body)
		if err != nil {
			t.Fatal(err)
		}
		if ours := signing.Sign(keys, id, now, body); ours != theirs {
			t.Errorf("Sign = %q, the official library %q", ours, theirs)
		}
		if signing.ValidID(id) {
			if err := signing.Verify(keys, request(id, now, theirs), body, now); err != nil {
				t.Errorf("refused what the official library signed: %v", err)
			}
		}
	})
}

func FuzzParseKey(f *testing.F) {
	private, public := pair(1)
	for _, text := range []string{vectorSecret, private, public, "whsec_", "whsk_AAAA", "whpk_\n", ""} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		k, err := signing.ParseKey(text)
		if err != nil {
			if !errors.Is(err, signing.ErrKey) {
				t.Errorf("error without sentinel: %v", err)
			}
			return
		}
		now := time.Unix(vectorUnix, 0)
		if !k.CanSign() {
			return
		}
		signature := signing.Sign([]signing.Key{k}, "id", now, []byte(text))
		if err := signing.Verify([]signing.Key{k}, request("id", now, signature), []byte(text), now); err != nil {
			t.Errorf("a key does not verify its own signature: %v", err)
		}
	})
}

func BenchmarkSign(b *testing.B) {
	at := time.Unix(vectorUnix, 0)
	for _, size := range []int{256, 16 << 10} {
		body := make([]byte, size)
		b.Run(fmt.Sprintf("waybill/%dB", size), func(b *testing.B) {
			keys := []signing.Key{key(b, vectorSecret)}
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				signing.Sign(keys, vectorID, at, body)
			}
		})
		b.Run(fmt.Sprintf("official/%dB", size), func(b *testing.B) {
			wh, err := official.NewWebhook(vectorSecret)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				if _, err := wh.Sign(vectorID, at, body); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
