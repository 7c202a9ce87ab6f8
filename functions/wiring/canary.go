package wiring

import (
	"context"
	"fmt"

	"github.com/aws/aws-lambda-go/lambda"

	"github.com/waybillhq/waybill/functions/canary"
	"github.com/waybillhq/waybill/shared/config"
	"github.com/waybillhq/waybill/shared/registry"
	"github.com/waybillhq/waybill/shared/signing"
	"github.com/waybillhq/waybill/shared/topology"
)

// Canary puts the canary together.
func Canary(cfg config.Function, p Parts) (lambda.Handler, error) {
	keys, err := canaryKeys(cfg, p)
	if err != nil {
		return nil, err
	}
	c, err := canary.New(canary.Config{Ingress: open(cfg, p)[topology.Ingress], Keys: keys, Now: p.Now, Logger: p.Logger})
	if err != nil {
		return nil, err
	}
	emitter, err := metrics(cfg, p)
	if err != nil {
		return nil, err
	}
	return lambda.NewHandler(traced(cfg, p, measured(emitter, c.Handle))), nil
}

// canaryKeys finds the keys that sign for the canary as the deliverer finds them, with the same tolerance for outages and rotations.
func canaryKeys(cfg config.Function, p Parts) (func(context.Context) ([]signing.Key, error), error) {
	// It does not know its own URL, and only the secret counts here. A loopback address lets local mode name the secret itself.
	self, err := registry.NewCanary("http://localhost/", cfg.CanarySecret)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", topology.CanarySecretVariable, err)
	}
	found, err := resolver(p)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) ([]signing.Key, error) {
		destination, err := found.Resolve(ctx, self)
		if err != nil {
			return nil, err
		}
		var keys []signing.Key
		for _, secret := range destination.Webhook.Secrets {
			key, err := signing.SharedKey(secret.Key())
			if err != nil {
				return nil, err
			}
			keys = append(keys, key)
		}
		return keys, nil
	}, nil
}

// canaryDestination is the canary as router and deliverer know it; nil without one.
func canaryDestination(cfg config.Function) (*registry.Destination, error) {
	if cfg.CanaryURL == "" {
		return nil, nil //nolint:nilnil // nil means that there is none
	}
	d, err := registry.NewCanary(cfg.CanaryURL, cfg.CanarySecret)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", topology.CanaryURLVariable, topology.CanarySecretVariable, err)
	}
	return d, nil
}
