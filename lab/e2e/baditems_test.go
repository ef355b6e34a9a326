package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"phoenix/lab"
)

const (
	// goodMinions come at once, with and without bad ones beside them.
	goodMinions = 20
	// slack is what may lie between two fleets of the same size on a busy machine:
	// half as much again, and two turns of a second.
	slackTimes, slackMore = 1.5, 2 * time.Second
	rounds                = 4
	// named bounds when a bad item is told of: a key that may be half written is
	// looked at again first.
	named = 45 * time.Second
)

// TestG12_BadItems: keys that are no files or cannot be read, and a row that cannot
// be decoded, cost nobody else anything: 20 minions are done as fast as 20 before.
func TestG12_BadItems(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	c := newCloud(t)
	master := l.StartMaster(lab.MasterOptions{Version: lab.Salt3007, Workers: 3})
	bridge := l.NewBridge(lab.BridgeOptions{Master: master, Store: "dynamodb:",
		Config: map[string]any{"dynamodb": map[string]any{"endpoint": c.tables.URL}}})
	master.Ready()
	bridge.Start()
	bridge.Ready()
	b := badItems{t, l, c, master, bridge}
	// The first of a master takes longer: Python imports what it needs.
	b.serve(numbered(0, 1))
	without := b.serve(numbered(0x1000, goodMinions))
	bad := b.spoil()
	b.asFast("beside bad items", 0x2000, without)
	// A start looks at all of them at once.
	bridge.Restart()
	bridge.Ready()
	b.asFast("beside bad items after a restart", 0x8000, without)
	for what, id := range bad {
		if master.HasAccepted(id) && what == "row" {
			t.Errorf("%s was accepted, whose row cannot be decoded", id)
		}
		l.Eventually(named, "the log or status names "+id+", the bad "+what, func() (bool, string) {
			status := bridge.Phoenix("status")
			return len(bridge.Grep(id)) > 0 || strings.Contains(status, id), status
		})
	}
}

type badItems struct {
	t      *testing.T
	lab    *lab.Lab
	cloud  *cloud
	master *lab.Master
	bridge *lab.Bridge
}

// asFast launches fleets until one is done about as fast as without bad items: what
// those hold up, they hold up each time; other tests take the machine's cores now and
// then.
func (b badItems) asFast(when string, from int, without time.Duration) {
	b.t.Helper()
	most := time.Duration(slackTimes*float64(without)) + slackMore
	for round := range rounds {
		with := b.serve(numbered(from+0x1000*round, goodMinions))
		b.t.Logf("%d minions: %v without bad items, %v %s", goodMinions, without, with, when)
		if with <= most {
			return
		}
	}
	b.t.Errorf("%s, %d minions took more than %v each of %d times, %v without", when, goodMinions, most,
		rounds, without)
}

// serve launches minions, and says after what time all highstates were on record.
func (b badItems) serve(ids []string) time.Duration {
	b.t.Helper()
	b.bridge.Phoenix(append([]string{"minions", "add"}, ids...)...)
	begun := time.Now()
	s := released(b.t, b.lab, b.master, 100*time.Millisecond, ids...)
	b.lab.Eventually(within, fmt.Sprintf("%s and %d more have their highstate on record", ids[0], len(ids)-1),
		func() (bool, string) {
			missing := 0
			for _, id := range ids {
				row, err := b.cloud.store.Minion(b.t.Context(), id)
				if err != nil || !row.HighstateRan {
					missing++
				}
			}
			return missing == 0, fmt.Sprintf("%d are not; %+v, %v\n%s", missing, s.Counts(), s.Faults(),
				b.bridge.Tail())
		})
	took := time.Since(begun)
	if none, once, again := s.Runs(); once != len(ids) {
		b.t.Errorf("%d minions ran none, %d several", none, again)
	}
	return took
}

// spoil makes the five that are bad, each launched like any other.
func (b badItems) spoil() map[string]string {
	b.t.Helper()
	bad := map[string]string{}
	for i, what := range []string{"directory", "symlink", "empty file", "unreadable file", "row"} {
		bad[what] = numbered(0xbad0+i, 1)[0]
		b.bridge.Phoenix("minions", "add", bad[what])
	}
	accepted := func(what string) string { return filepath.Join(b.master.PKIDir(), "minions", bad[what]) }
	pending := func(what string) string { return filepath.Join(b.master.PKIDir(), "minions_pre", bad[what]) }
	b.cloud.must(os.Mkdir(accepted("directory"), 0o755))
	b.cloud.must(os.Mkdir(pending("directory"), 0o755))
	b.cloud.must(os.Symlink(filepath.Join(b.lab.Dir(), "nowhere"), pending("symlink")))
	b.cloud.must(os.WriteFile(pending("empty file"), nil, 0o644))
	b.cloud.must(unreadable(pending("unreadable file")))

	key := filepath.Join(b.master.PKIDir(), "minions_pre", bad["row"])
	b.cloud.must(os.WriteFile(key, []byte(lab.UnknownKey()), 0o644))
	b.cloud.put("minions", map[string]types.AttributeValue{
		"instanceid":    &types.AttributeValueMemberS{Value: bad["row"]},
		"status":        &types.AttributeValueMemberS{Value: "LAUNCH"},
		"modified":      &types.AttributeValueMemberS{Value: "2026-11-26T00:00:00.000Z"},
		"claim_version": &types.AttributeValueMemberS{Value: "seven"},
	})
	return bad
}

// unreadable makes a file that this user cannot read. Root can read any: for it a
// symlink to itself stands for one, which fails in the same call.
func unreadable(path string) error {
	if os.Geteuid() == 0 {
		return os.Symlink(path, path)
	}
	return os.WriteFile(path, []byte(lab.UnknownKey()), 0)
}
