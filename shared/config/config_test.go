package config_test

import (
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/waybillhq/waybill/shared/config"
	"github.com/waybillhq/waybill/shared/topology"
)

func lookup(variables map[string]string) config.Lookup {
	return func(name string) (string, bool) {
		value, ok := variables[name]
		return value, ok
	}
}

func complete() map[string]string {
	return map[string]string{
		"WAYBILL_PROFILE": "high-volume", "WAYBILL_DESTINATIONS_FILE": "destinations.json",
		"WAYBILL_QUEUE_DELIVERIES_URL":      "https://sqs.eu-west-1.amazonaws.com/1/deliveries",
		"WAYBILL_QUEUE_DELIVERIES_SLOW_URL": "https://sqs.eu-west-1.amazonaws.com/1/slow",
		"WAYBILL_QUEUE_DELIVERIES_DLQ_URL":  "https://sqs.eu-west-1.amazonaws.com/1/dead",
		"WAYBILL_QUEUE_INGRESS_URL":         "https://sqs.eu-west-1.amazonaws.com/1/ingress",
		"WAYBILL_TABLE_LEDGER":              "ledger-1",
		"WAYBILL_TABLE_WAITING":             "waiting-1",
		"WAYBILL_TABLE_REGISTRY":            "registry-1",
		"WAYBILL_TENANT":                    "acme",
		"WAYBILL_EGRESS_ALLOW":              "10.1.0.0/16", "WAYBILL_LOG_LEVEL": "warn",
	}
}

func TestLoad(t *testing.T) {
	cfg, err := config.Load(topology.Deliverer, lookup(complete()))
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Topology.Profile != topology.HighVolume || cfg.Function.Source.BatchSize != 100 || cfg.Tables[topology.Ledger] != "ledger-1" ||
		cfg.Queues[topology.DeliveriesDeadLetter] != "https://sqs.eu-west-1.amazonaws.com/1/dead" || cfg.DestinationsFile != "destinations.json" || cfg.Tenant != "acme" ||
		cfg.LogLevel != slog.LevelWarn || len(cfg.EgressAllow) != 1 || cfg.EgressAllow[0] != netip.MustParsePrefix("10.1.0.0/16") {
		t.Errorf("%+v", cfg)
	}
}

func TestLoadTakesWhatTheTopologyLists(t *testing.T) {
	for _, f := range slices.Concat(topology.New(topology.LowLatency).Functions, topology.New(topology.LowLatency).WithCanary().Functions) {
		variables := map[string]string{}
		for _, name := range f.Variables() {
			variables[name] = "https://example.com/x"
		}
		variables[topology.ProfileVariable] = "low-latency"
		if _, err := config.Load(f.Name, lookup(variables)); err != nil {
			t.Errorf("%s: %v", f.Name, err)
		}
	}
}

func TestLoadNamesEveryProblemAtOnce(t *testing.T) {
	_, err := config.Load(topology.Deliverer, lookup(map[string]string{
		"WAYBILL_PROFILE": "fast", "WAYBILL_QUEUE_DELIVERIES_URL": "deliveries", "WAYBILL_EGRESS_ALLOW": "10.0.0.0/99", "WAYBILL_LOG_LEVEL": "loud",
	}))
	if err == nil {
		t.Fatal("it started")
	}
	for _, word := range []string{
		"WAYBILL_PROFILE", `"fast"`, "WAYBILL_TABLE_REGISTRY is missing", "WAYBILL_QUEUE_DELIVERIES_URL is \"deliveries\"", "WAYBILL_QUEUE_DELIVERIES_DLQ_URL is missing",
		"WAYBILL_TABLE_LEDGER is missing", "WAYBILL_EGRESS_ALLOW", "10.0.0.0/99", "WAYBILL_LOG_LEVEL is \"loud\"",
	} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q is missing in:\n%v", word, err)
		}
	}
}

func TestLoadRefusesUnknownFunction(t *testing.T) {
	if _, err := config.Load("waiter", lookup(complete())); err == nil || !strings.Contains(err.Error(), "waiter") {
		t.Errorf("got %v", err)
	}
}

func TestLoadOfTheCanary(t *testing.T) {
	variables := complete()
	variables["WAYBILL_CANARY_URL"] = "https://abc.lambda-url.eu-west-1.on.aws/"
	if _, err := config.Load(topology.Deliverer, lookup(variables)); err == nil || !strings.Contains(err.Error(), "WAYBILL_CANARY_SECRET is missing") {
		t.Errorf("a URL without a secret: %v", err)
	}
	variables["WAYBILL_CANARY_SECRET"] = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:canary-AbCdEf"
	for _, name := range []topology.FunctionName{topology.Deliverer, topology.Canary} {
		cfg, err := config.Load(name, lookup(variables))
		if err != nil {
			t.Fatal(err)
		}
		if cfg.CanarySecret != variables["WAYBILL_CANARY_SECRET"] || (cfg.CanaryURL == "") != (name == topology.Canary) {
			t.Errorf("%s: URL %q, secret %q", name, cfg.CanaryURL, cfg.CanarySecret)
		}
	}
	if cfg, err := config.Load(topology.Deliverer, lookup(complete())); err != nil || cfg.CanaryURL != "" || cfg.Function.ServesCanary {
		t.Errorf("a canary where none is: %+v, %v", cfg, err)
	}
}
