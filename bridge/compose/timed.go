package compose

import (
	"context"
	"time"

	"phoenix/bridge/metrics"
	"phoenix/bridge/salt"
	"phoenix/bridge/service"
)

// timedMaster observes how long the calls of a master take.
type timedMaster struct {
	service.Master
	durations *metrics.Durations
}

func (m timedMaster) Accept(ctx context.Context, ids []string) error {
	defer m.durations.Master("accept", time.Now())
	return m.Master.Accept(ctx, ids)
}

func (m timedMaster) Delete(ctx context.Context, keys map[salt.State][]string) error {
	defer m.durations.Master("delete", time.Now())
	return m.Master.Delete(ctx, keys)
}

func (m timedMaster) Publish(ctx context.Context, job salt.Job) ([]string, error) {
	defer m.durations.Master("publish", time.Now())
	return m.Master.Publish(ctx, job)
}

func (m timedMaster) Ping(ctx context.Context, jid string, ids []string) ([]string, error) {
	defer m.durations.Master("ping", time.Now())
	return m.Master.Ping(ctx, jid, ids)
}

func (m timedMaster) Ask(ctx context.Context, jid string, q salt.Question, ids []string) error {
	defer m.durations.Master("ask", time.Now())
	return m.Master.Ask(ctx, jid, q, ids)
}
