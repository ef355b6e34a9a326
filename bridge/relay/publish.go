package relay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"phoenix/bridge/event"
	"phoenix/bridge/salt"
)

const (
	// publishers is how many jobs of one peer are published at a time. A publish takes
	// 12 to 70 ms, in one of the master's workers.
	publishers = 4
	// maxAsked bounds the jobs whose returns may go to another master; the oldest are
	// forgotten first.
	maxAsked = 40_000
)

// publish decides on a job that another master published, and says what became of it.
// It is published at most once, and not late.
func (r *Relay) publish(ctx context.Context, from string, l *link, m message) message {
	ack := message{Kind: kindAck, JID: m.JID, State: stateRefused}
	if !validJob(m) {
		ack.Why = "it is no job of Salt's"
		return r.declined(ack, from)
	}
	age := l.clock.age(m.At, r.o.Now())
	if age > lateAfter {
		ack.Why = fmt.Sprintf("it came %v late", age.Round(time.Millisecond))
		return r.declined(ack, from)
	}
	switch r.memory.take(m.JID, from, digestOfLoad(m.Load)) {
	case known:
		ack.Why = "it was published here before, or its job id is another master's"
		return r.declined(ack, from)
	case crowded:
		ack.Why = "more jobs than this bridge can remember"
		return r.declined(ack, from)
	}
	r.expects(m.JID, from) // before the first return can come
	// The master is asked no longer than the job may be late.
	timed, cancel := context.WithTimeout(ctx, lateAfter-max(age, 0))
	defer cancel()
	minions, err := r.o.Publisher.Republish(timed, m.JID, m.Load)
	if err != nil {
		ack.Why = err.Error()
		if inDoubt(err) {
			ack.State = stateUnknown
		}
		return r.declined(ack, from)
	}
	ack.State, ack.Count = stateNobody, len(minions)
	if len(minions) > 0 {
		ack.State = statePublished
	}
	r.count(func(c *Counts) { c.Published++ })
	if function := functionOf(m.Load); function != findJob {
		r.o.Decisions.Info("job published for another master", "jid", m.JID, "fun", function, "target",
			targetOf(m.Load),
			"user", m.Load.Text("user"), "from", from, "minions", len(minions))
	}
	return ack
}

// inDoubt: the request went out, perhaps, and the master may carry it out.
func inDoubt(err error) bool {
	if salt.NotSent(err) {
		return false
	}
	return errors.Is(err, salt.ErrUnreachable) || errors.Is(err, salt.ErrDoubt) ||
		errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// declined logs a job that was not published, as far as is known.
func (r *Relay) declined(ack message, from string) message {
	ack.JID, ack.Why = clip(ack.JID), clip(ack.Why)
	r.count(func(c *Counts) { c.Declined++ })
	r.o.Decisions.Warn("job of another master not published", "jid", ack.JID, "from", from, "state", ack.State,
		"why", ack.Why)
	return ack
}

func validJob(m message) bool {
	return validJID(m.JID) && m.Load["fun"] != nil && m.Load["arg"] != nil && m.Load["tgt"] != nil
}

func validJID(jid string) bool {
	if len(jid) != 20 {
		return false
	}
	for _, c := range jid {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// expects sends the returns of a job to the master that asked; ofMaster: to those alone
// that want all. Returns of jobs that nobody published go nowhere.
func (r *Relay) expects(jid, from string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if had, ok := r.asked[jid]; !ok {
		r.askedBy = append(r.askedBy, jid)
	} else if had != ofMaster {
		return
	}
	r.asked[jid] = from
	for len(r.askedBy) > maxAsked {
		delete(r.asked, r.askedBy[0])
		r.askedBy = r.askedBy[1:]
	}
}

// mark is the field of a return that came from another master: its name. It
// keeps returns from going round where every master gets all of them.
const mark = "phoenix_master"

// notSent are the fields of a return that belong to how it came.
var notSent = map[string]bool{"cmd": true, "_stamp": true, "id": true, "jid": true, "tok": true, "nonce": true,
	"ts": true, "sig": true}

// Event takes in an event of the master's bus; see bus.Handler. It never waits.
func (r *Relay) Event(e event.Event) {
	switch {
	case e.Kind == event.KindReturn:
		r.returned(e)
	case e.Kind == event.KindStart:
		if id := string(e.ID); validID(id) {
			r.records.seenOn(id, here)
		}
	case bytes.HasPrefix(e.Tag, []byte("minion/refresh/")): // minion_data_cache_events
		if r.share != nil {
			r.share.hint()
		}
	case e.Kind == event.Other && len(e.Tag) > len("salt/job//new") && string(e.Tag[:9]) == "salt/job/" &&
		string(e.Tag[len(e.Tag)-4:]) == "/new":
		r.announced(e)
	}
}

// Gap is of no matter: returns that were missed are in the master's own job cache.
func (r *Relay) Gap(string) {}

func (r *Relay) announced(e event.Event) {
	jid := string(e.Tag[9 : len(e.Tag)-4])
	if !validJID(jid) {
		return
	}
	fields, err := event.Fields(e.Data)
	if err != nil || string(event.Bytes(fields["jid"])) != jid {
		return
	}
	var ids []string
	err = event.Elements(fields["minions"], func(value []byte) {
		if id := string(event.Bytes(value)); validID(id) {
			ids = append(ids, id)
		}
	})
	if err != nil {
		return
	}
	r.records.announce(jid, ids)
	r.suspect(jid, len(ids))
}

// validID keeps what is no minion id from the master, which makes a folder of that
// name. Salt's own check is salt.utils.verify.valid_id.
func validID(id string) bool {
	if id == "" || len(id) > maxName || id[0] == '.' {
		return false
	}
	for _, c := range []byte(id) {
		if c <= ' ' || c == '/' || c == '\\' || c == 0x7f {
			return false
		}
	}
	return true
}

// returned takes in what a minion returned here.
func (r *Relay) returned(e event.Event) {
	jid, id := string(e.JID), string(e.ID)
	if !validJID(jid) || !validID(id) {
		return
	}
	r.mu.Lock()
	askingMaster, published := r.asked[jid]
	var to []*asker
	if published {
		for name, g := range r.askers {
			if name == askingMaster || g.all {
				to = append(to, g)
			}
		}
	}
	r.mu.Unlock()
	fields, err := event.Fields(e.Data)
	if err != nil || string(event.Bytes(fields["id"])) != id || string(event.Bytes(fields["jid"])) != jid {
		return
	}
	if fields[mark] != nil { // it came by the relay
		return
	}
	r.records.came(jid, id, here)
	if len(to) == 0 {
		return
	}
	m := message{Kind: kindReturn, JID: jid, ID: id, Values: asRaw(nil)}
	for name, value := range fields {
		if !notSent[name] {
			m.Values[name] = append([]byte(nil), value...) // the event's bytes are the bus's
		}
	}
	for _, g := range to {
		if g.outbox.put(m) {
			r.count(func(c *Counts) { c.Sent++ })
		} else {
			r.count(func(c *Counts) { c.Dropped++ })
		}
	}
}
