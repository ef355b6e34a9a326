package service

import (
	"context"
	"fmt"
	"os"
	"strings"

	"phoenix/bridge/health"
)

// drain marks this master as one that is about to end: minions are to move away. A
// recommendation, which need not come true, is followed if there is a master to go to,
// and once: an operator may have ended the draining.
func (s *Service) drain(ctx context.Context, n health.Notice) error {
	if n.Advice != "" {
		if s.adviceFollowed() == n.Advice {
			return nil
		}
		if another, err := s.beats.OtherServes(ctx); err != nil || !another {
			return health.ErrNotNow // the heartbeat reports a store that does not answer
		}
	}
	id := s.opts.Config.InstanceID
	if err := s.opts.Store.DrainMaster(ctx, id, true); err != nil {
		return fmt.Errorf("drain master %s: %w", id, err)
	}
	s.audit.Drained(id, n.Why)
	if n.Advice != "" {
		s.rememberAdvice(n.Advice)
	}
	return nil
}

// adviceFollowed names the recommendation that was followed last; empty: none is known.
func (s *Service) adviceFollowed() string {
	if s.opts.AdviceFile == "" {
		return ""
	}
	text, err := os.ReadFile(s.opts.AdviceFile)
	if err != nil {
		return ""
	}
	return strings.TrimSuffix(string(text), "\n")
}

func (s *Service) rememberAdvice(advice string) {
	if s.opts.AdviceFile == "" {
		return
	}
	if err := os.WriteFile(s.opts.AdviceFile, []byte(advice+"\n"), 0o600); err != nil {
		s.opts.Log.Warn("rebalance recommendation not recorded: a restarted bridge follows it again", "err", err)
	}
}
