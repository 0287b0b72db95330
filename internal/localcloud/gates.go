package localcloud

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/s3ferry/s3ferry/internal/localcloud/gate"
)

// Gates stand between the functions and what they call. They are nil unless the
// cloud is gated. Only what functions send comes through them.
type Gates struct {
	API         *gate.Gate // sender and courier to the mailbox API: the border
	Border      *gate.Gate // receivers to the source bucket, over signed URLs: the border the other way
	Source      *gate.Gate // sender to the source bucket
	Destination *gate.Gate // receivers to the destination and the journal
	Services    *gate.Gate // all functions to SQS, Systems Manager, Secrets Manager and STS
}

// endpoints are where functions call.
type endpoints struct{ api, border, source, destination, services string }

func (c *Cloud) startGates(context.Context) error {
	c.endpoints = endpoints{
		api: c.API.URL, source: c.Source.Endpoint, destination: c.Destination.Endpoint, services: c.SQS.Endpoint,
		border: strings.TrimSuffix(cmp.Or(c.options.PresignEndpoint, c.Source.Endpoint), "/"),
	}
	if !c.options.Gated {
		return nil
	}
	for _, g := range []struct {
		gate     **gate.Gate
		endpoint *string
		name     func(*http.Request) string
	}{
		{&c.Gates.API, &c.endpoints.api, gate.ByPath},
		{&c.Gates.Border, &c.endpoints.border, gate.ByS3},
		{&c.Gates.Source, &c.endpoints.source, gate.ByS3},
		{&c.Gates.Destination, &c.endpoints.destination, gate.ByS3},
		{&c.Gates.Services, &c.endpoints.services, gate.ByTarget},
	} {
		server, err := url.Parse(*g.endpoint)
		if err != nil {
			return fmt.Errorf("put a gate before %s: %w", *g.endpoint, err)
		}
		listener, err := listen(0)
		if err != nil {
			return fmt.Errorf("listen for a gate: %w", err)
		}
		*g.gate = gate.New(gate.Proxy(server.Host), g.name)
		*g.endpoint = "http://" + listener.Addr().String() + server.Path
		c.serve(listener, *g.gate)
	}
	return nil
}

// secrets are strings that no log may hold. The zero value is ready.
type secrets struct {
	mu  sync.Mutex
	all []string
}

func (s *secrets) add(more ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, more...)
}

func (s *secrets) list() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.all)
}
