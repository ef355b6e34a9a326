package service

import (
	"context"
	"fmt"
	"os"
	"strings"

	"phoenix/bridge/health"
)

// InstanceWatch drains this master when the metadata of its instance announces that the
// instance is about to end, and gives the heartbeat its availability zone.
type InstanceWatch struct {
	service  *Service
	metadata health.Metadata
	// adviceFile remembers over a restart which recommendation of EC2 was followed.
	adviceFile string
}

// NewInstanceWatch returns the watch of the instance that s runs on.
func NewInstanceWatch(s *Service, metadata health.Metadata, adviceFile string) *InstanceWatch {
	return &InstanceWatch{service: s, metadata: metadata, adviceFile: adviceFile}
}

// Run watches until ctx ends.
func (w *InstanceWatch) Run(ctx context.Context) error {
	return health.WatchInstance(ctx, w.metadata, w.service.beats.SetZone, w.drain, w.service.parts.Log)
}

// drain marks this master as one that is about to end: minions are to move away. A
// recommendation, which need not come true, is followed if there is a master to go to,
// and once: an operator may have ended the draining.
func (w *InstanceWatch) drain(ctx context.Context, n health.Notice) error {
	s := w.service
	if n.Advice != "" {
		if w.adviceFollowed() == n.Advice {
			return nil
		}
		if another, err := s.beats.OtherServes(ctx); err != nil || !another {
			return health.ErrNotNow // the heartbeat reports a store that does not answer
		}
	}
	id := s.cfg.InstanceID
	if err := s.parts.Store.DrainMaster(ctx, id, true); err != nil {
		return fmt.Errorf("drain master %s: %w", id, err)
	}
	s.audit.Drained(id, n.Why)
	if n.Advice != "" {
		w.rememberAdvice(n.Advice)
	}
	return nil
}

// adviceFollowed names the recommendation that was followed last; empty: none is known.
func (w *InstanceWatch) adviceFollowed() string {
	text, err := os.ReadFile(w.adviceFile)
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(text), "\n")
}

func (w *InstanceWatch) rememberAdvice(advice string) {
	if err := os.WriteFile(w.adviceFile, []byte(advice+"\n"), 0o600); err != nil {
		w.service.parts.Log.Warn("rebalance recommendation not recorded: a restarted bridge follows it again", "err",
			err)
	}
}
