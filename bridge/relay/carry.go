package relay

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"phoenix/bridge/event"
	"phoenix/bridge/salt"
)

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// maxLoad bounds a job that is carried. A list of 200,000 instance ids fits.
const maxLoad = 8 << 20

// carry takes in a job that the master has published, and offers it to each peer,
// unless it was published for a peer, or by Phoenix.
// It came at read.
func (r *Relay) carry(published map[string][]byte, read time.Time) {
	load, jid, err := salt.CutLoad(published)
	m := message{Kind: kindJob, JID: jid, Load: load}
	if err == nil && m.size() > maxLoad {
		err = fmt.Errorf("job %s has %d bytes", jid, m.size())
	}
	if err != nil {
		if jid != "" {
			r.expects(jid, ofMaster)
		}
		r.count(func(c *Counts) { c.Skipped++ })
		r.o.Log.Warn("relay: a job stays on this master", "err", err)
		return
	}
	switch r.memory.take(jid, ofMaster, digestOfLoad(load)) {
	case known:
		return
	case crowded:
		r.expects(jid, ofMaster)
		r.count(func(c *Counts) { c.Skipped++ })
		return
	}
	r.expects(jid, ofMaster)
	r.mu.Lock()
	peers := maps.Clone(r.peers)
	r.counts.Carried++
	r.mu.Unlock()
	if len(peers) == 0 {
		return
	}
	function, target, user := functionOf(load), targetOf(load), load.Text("user")
	r.records.add(jid, function, target, user, sorted(peers))
	if function != findJob {
		r.o.Decisions.Info("job carried to other masters", "jid", jid, "fun", function, "target", target, "user", user,
			"to", strings.Join(sorted(peers), " "))
	}
	for name, p := range peers {
		if t := p.offer(m, read); t.State != stateSent {
			r.records.ack(jid, name, t)
		}
	}
	time.AfterFunc(reportSoon, func() { r.reportMissing(jid, true) })
	time.AfterFunc(reportAfter, func() { r.reportMissing(jid, false) })
}

func (r *Relay) count(change func(*Counts)) {
	r.mu.Lock()
	change(&r.counts)
	r.mu.Unlock()
}

func functionOf(load salt.Load) string {
	v, _ := event.Any(load["fun"])
	if list, ok := v.([]any); ok {
		names := make([]string, len(list))
		for i, name := range list {
			names[i] = fmt.Sprint(name)
		}
		return clip(strings.Join(names, ","))
	}
	return clip(fmt.Sprint(v))
}

func targetOf(load salt.Load) string {
	v, _ := event.Any(load["tgt"])
	if list, ok := v.([]any); ok {
		if len(list) > 3 {
			return clip(fmt.Sprintf("%v … (%d)", list[:3], len(list)))
		}
		return clip(fmt.Sprint(list))
	}
	text := clip(fmt.Sprint(v))
	if kind := load.Text("tgt_type"); kind != "" && kind != "glob" {
		text = kind + ":" + text
	}
	return text
}

// clip bounds what is kept of a text for people.
func clip(text string) string {
	const most = 200
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "…"
	}
	return text
}

// reportSoon is when the minions of peers that are not reached are called missing: the
// event bus, which says which minions the master expects, is read by then.
const reportSoon = 200 * time.Millisecond

// reportAfter is how long a peer is given to say what became of a job before its
// minions are called missing: a publish takes 12 to 70 ms.
const reportAfter = 2 * time.Second

// findJob is the question after a running job, which the salt command asks by itself
// every few seconds.
const findJob = "saltutil.find_job"

// maxNamed bounds the minions that one event names.
const maxNamed = 100

// reportMissing puts an event on the master's bus for each peer that did not publish a
// job, with the minions that were seen there last. soon: for those that are not
// reached; else for the others.
func (r *Relay) reportMissing(jid string, soon bool) {
	job, ok := r.records.show(jid, r.o.Instance, false)
	if !ok || job.Function == findJob {
		return
	}
	for _, p := range job.Peers {
		if p.State == statePublished || p.State == stateNobody || soon != (p.State == stateUnreachable) {
			continue
		}
		ids := []string{}
		for _, m := range job.Missing {
			if m.Master == p.Master || m.Master == "" {
				ids = append(ids, m.Minion)
			}
		}
		why := cmp.Or(p.Why, "it has not said that it published the job")
		r.o.Log.Warn("relay: a job did not reach a master", "jid", jid, "fun", job.Function, "peer", p.Master,
			"state", p.State,
			"why", why, "minions", len(ids))
		r.mu.Lock()
		r.lastLost = &Lost{JID: jid, Function: job.Function, At: r.o.Now(), Master: p.Master, State: p.State, Why: why,
			Minions: ids[:min(len(ids), maxNamed)], Count: len(ids)}
		r.mu.Unlock()
		ctx, cancel := context.WithTimeout(context.Background(), reportWithin)
		data := map[string]any{"jid": jid, "fun": job.Function, "master": p.Master, "state": p.State, "why": why,
			"minions": ids[:min(len(ids), maxNamed)], "count": len(ids)}
		if err := r.o.Member.Fire(ctx, "phoenix/relay/"+jid+"/missing", data); err != nil {
			r.o.Log.Debug("relay: event not fired", "jid", jid, "err", err)
		}
		cancel()
	}
}

// tellWithin bounds the event about a job: after it, nobody waits for that any more.
const reportWithin = 10 * time.Second
