package cli

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"phoenix/bridge/admin"
	"phoenix/bridge/api"
	"phoenix/bridge/autoscaling"
	"phoenix/bridge/fleet"
	"phoenix/bridge/service"
	"phoenix/lab"
)

// TestAcceptedKeyIsNotTheBoundOne: after the restore of an older copy of the store, status,
// its check and explain name the id whose accepted key is not the bound one.
func TestAcceptedKeyIsNotTheBoundOne(t *testing.T) {
	a := newAsker(t)
	known, accepted := lab.UnknownKey(), lab.UnknownKey()
	digest, err := fleet.KeyDigest([]byte(known))
	if err != nil {
		t.Fatal(err)
	}
	a.apply(fleet.Add{InstanceID: "web-1"}, fleet.Bind{InstanceID: "web-1", KeySHA256: digest, PublicKey: known})
	putKey(t, filepath.Join(a.dir, "pki"), "minions", "web-1", accepted)
	a.beat("salt-1", true, 1)
	report := service.Report{InstanceID: "salt-1", Ready: true, StoreReached: true}
	report.Engine.Problem = map[service.ProblemKind]int{service.OtherKey: 1}
	report.Engine.Problems = []service.Problem{{Minion: "web-1", Kind: service.OtherKey,
		What: "the accepted key is not the bound one"}}
	serveReport(t, filepath.Join(a.dir, "s"), report)
	out := a.says(exitOK, "status", "ANOTHER KEY: web-1: another key is accepted since",
		"phoenix keys delete web-1 --state accepted")
	if strings.Contains(out, "NOT SERVED") {
		t.Errorf("named twice: %s", out)
	}
	a.says(exitFailed, "status --check", "1 id with another key")
	if out := a.says(exitOK, "minions explain web-1"); !strings.HasPrefix(out,
		"ATTENTION  another key is accepted since") {
		t.Errorf("what needs attention is not the first: %s", out)
	}
}

// TestLockedOutMinion: a machine that was rebuilt is kept out by the key of the former one.
// explain begins with that, though the highstate of the former machine is done.
func TestLockedOutMinion(t *testing.T) {
	r := newRebuilt(t)
	putKey(t, r.pki, "minions", "web-1", r.known)
	out := r.says(exitOK, "minions explain web-1", "decision   leave; the denied key is left to an operator")
	if !strings.HasPrefix(out, "ATTENTION  another key is denied since") ||
		!strings.Contains(out, "phoenix keys accept --rebind web-1") {
		t.Errorf("what needs attention is not the first: %s", out)
	}
	w := &whereabouts{places: map[string]place{"web-1": {ID: "web-1", Why: "it has not answered"},
		"web-2": {ID: "web-2", Why: "it has not answered"}}}
	w.explainSilence(t.Context(), admin.Admin{Config: r.cfg, Store: r.store})
	if why := w.places["web-1"].Why; !strings.Contains(why, "it has not answered; another key is denied since") ||
		!strings.Contains(why, "explain web-1") {
		t.Errorf("where: %s", why)
	}
	if why := w.places["web-2"].Why; why != "it has not answered" {
		t.Errorf("where, of a minion without another key: %s", why)
	}
}

// TestAddMinionWhoseKeyWasDeleted: to add a minion whose key was deleted by hand lets
// nobody in.
func TestAddMinionWhoseKeyWasDeleted(t *testing.T) {
	a := newAsker(t)
	known := lab.UnknownKey()
	digest, err := fleet.KeyDigest([]byte(known))
	if err != nil {
		t.Fatal(err)
	}
	a.apply(fleet.Add{InstanceID: "web-1"}, fleet.Bind{InstanceID: "web-1", KeySHA256: digest, PublicKey: known})
	a.says(exitOK, "minions add web-1 web-2",
		"web-1  listed: the key that is bound to it is accepted when it comes, and no other",
		"web-2  listed: its key is accepted once the minion sends it")
	report := service.Report{InstanceID: "salt-1"}
	report.Engine.Problems = []service.Problem{{Minion: "web-1", Kind: service.KeyRemoved, What: "deleted by hand"}}
	serveReport(t, filepath.Join(a.dir, "s"), report)
	a.says(exitOK, "minions add web-1 web-2", "web-1  listed, and NOT accepted", "phoenix keys restore web-1",
		"web-2  listed: its key is accepted once the minion sends it")
}

// TestMoreProblemsThanStatusNames: status names the first of very many problems, says how
// many more there are, and how to get all: there all are. What is said of one minion does
// not depend on whether it is among the first.
func TestMoreProblemsThanStatusNames(t *testing.T) {
	a := newAsker(t)
	const many = 25 // more than a brief report names of a kind
	report := service.Report{InstanceID: "salt-1", Ready: true, StoreReached: true, Queue: &autoscaling.Status{}}
	report.Engine.Problem = map[service.ProblemKind]int{service.KeyRemoved: many, service.BadKey: 2}
	pki := filepath.Join(a.dir, "pki")
	for i := range many {
		id, known := fmt.Sprintf("web-%02d", i), lab.UnknownKey()
		digest, err := fleet.KeyDigest([]byte(known))
		if err != nil {
			t.Fatal(err)
		}
		a.apply(fleet.Add{InstanceID: id}, fleet.Bind{InstanceID: id, KeySHA256: digest, PublicKey: known})
		report.Engine.Problems = append(report.Engine.Problems,
			service.Problem{Minion: id, Kind: service.KeyRemoved, What: "deleted by hand"})
		report.Queue.Held = append(report.Queue.Held, id)
		other := fmt.Sprintf("db-%02d", i)
		putKey(t, pki, "minions", other, known)
		putKey(t, pki, "minions_denied", other, lab.UnknownKey())
	}
	for i := range 2 {
		report.Engine.Problems = append(report.Engine.Problems,
			service.Problem{Minion: fmt.Sprintf("odd-%d", i), Kind: service.BadKey, What: "cannot be read"})
	}
	for i := range many * 4 { // with those above more than are examined at a time
		putKey(t, pki, "minions_denied", fmt.Sprintf("zz-%03d", i), lab.UnknownKey())
	}
	serveReport(t, filepath.Join(a.dir, "s"), report)
	out := a.says(exitOK, "status", "NOT SERVED: web-09: deleted by hand\n",
		"not served, or odd: 17 more (phoenix status --json names all)\n",
		"ANOTHER KEY: 15 more (phoenix status --json names all)\n",
		"ANOTHER KEY: 25 keys not examined, since there are so many (phoenix keys list --state denied)\n",
		": 25: web-00 ", " web-09 and 15 more (phoenix status --json names all)\n")
	if strings.Contains(out, "web-10") {
		t.Errorf("more than fit a screen: %s", out)
	}
	all := a.says(exitOK, "status --json", `"other_keys_unread": 25`)
	denied := a.says(exitOK, "keys list --state denied")
	for i := range many {
		for of, text := range map[string]string{fmt.Sprintf(`"minion": "web-%02d"`, i): all,
			fmt.Sprintf(`"id": "db-%02d"`, i): all, fmt.Sprintf("zz-%03d", i*4): denied} {
			if !strings.Contains(text, of) {
				t.Errorf("%s is not there: %s", of, text)
			}
		}
	}
	a.says(exitOK, fmt.Sprintf("minions explain web-%d", many-1),
		"its key was accepted on this master and then deleted by hand")
	a.says(exitOK, fmt.Sprintf("minions add web-%d", many-1), "NOT accepted")
}

// statusOf answers as a bridge does that has this report.
func statusOf(report service.Report) func(all bool) any {
	return func(all bool) any {
		if all {
			return report
		}
		return report.Brief()
	}
}

// serveReport answers on a socket as a bridge does that has this report.
func serveReport(t *testing.T, socket string, report service.Report) {
	t.Helper()
	l, err := api.Listen(socket, -1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- api.Serve(ctx, l, api.Bridge{Invalidate: func([]string) {}, Restore: func([]string) {},
			Status:  statusOf(report),
			Release: func(context.Context) ([]string, error) { return nil, nil }})
	}()
	t.Cleanup(func() {
		stop()
		<-done
	})
}
