package agent

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"phoenix/bridge/fleet"
)

// oneBad is a table of masters in which the first row cannot be decoded.
type oneBad struct{ of Masters }

func (o oneBad) Masters(ctx context.Context) ([]fleet.Master, error) {
	rows, err := o.of.Masters(ctx)
	if err != nil || len(rows) == 0 {
		return rows, err
	}
	id := rows[0].InstanceID
	return rows[1:], fleet.BadRows(map[string]error{id: fmt.Errorf("row %s: %w", id, fleet.ErrCorrupt)})
}

// TestG12BadRowOfAMaster: one bad row hides no other master from the agents, and is
// told once.
func TestG12BadRowOfAMaster(t *testing.T) {
	spoil := func(_ *world, s *simAgent) { s.options.Masters = oneBad{s.store} }
	with(t, 2, spoil, func(w *world, s *simAgent) {
		wait(10 * time.Minute)
		if s.minion.master() == "" {
			t.Errorf("nobody serves it\n%s", s.log)
		}
		if n := strings.Count(s.log.String(), "rows of masters passed over"); n != 1 {
			t.Errorf("told %d times", n)
		}
	})
}
