package service

import (
	"context"
	"slices"
	"time"
)

const (
	// perilFor: for so long things go wrong, or until all has come to an end and
	// lateFor has passed: what was stopped wakes up and does what it was about to.
	perilFor = 6 * time.Minute
	lateFor  = 2 * time.Minute
	// settleFor: so long after it all must have come to an end: three attempts of
	// a minute or more, with a minute and ten between them, and each step of the
	// way found by a comparison or a ping, two minutes apart, and asked for in
	// steps that grow to two minutes.
	settleFor = 4 * time.Hour
	// calmFor: so long after that nothing more may happen.
	calmFor = 3 * time.Minute
)

// live runs the world to its end.
func (w *world) live() {
	w.after(w.about(w.perils.calm), w.disaster)
	w.runToEnd(perilFor)
	w.run(w.now + lateFor)
	w.heal()
	w.runToEnd(w.now + settleFor)
	w.log("settled")
	w.run(w.now + calmFor)
	w.verdict()
}

// runToEnd lets the world turn until all has come to an end, but no longer.
func (w *world) runToEnd(limit time.Duration) {
	going := func(m *minion) bool { return !w.settled(m) }
	for w.now < limit && slices.ContainsFunc(w.minions, going) {
		w.run(w.now + 10*time.Second)
	}
}

// disaster befalls some machine or minion, then others.
func (w *world) disaster() {
	if !w.faulty {
		return
	}
	w.after(w.about(w.perils.calm), w.disaster)
	m := w.machines[w.rng.IntN(len(w.machines))]
	minion := w.minions[w.rng.IntN(len(w.minions))]
	switch w.rng.IntN(12) {
	case 0, 1:
		if m.bridge != nil {
			m.crashed()
		}
	case 2:
		w.lose(m, w.chance(0.5))
	case 3: // salt-master restarts
		if m.up && !m.gone {
			m.down()
			away := 40 * time.Second
			if w.chance(0.2) { // it is dead, beside a bridge that lives
				away = 10 * time.Minute
				w.saw("salt-master dead beside its bridge")
			}
			w.after(w.about(away), m.back)
		}
	case 4, 5:
		w.log("%s: cut from the store", m.id)
		if !m.cut {
			m.cut, m.cutAt = true, w.now
			w.after(w.about(time.Minute), func() { m.cut = false })
		}
	case 6:
		if w.perils.skewed {
			w.log("%s: clock jumps", m.id)
			m.clock.jump()
		}
	case 7:
		minion.restart()
	case 8:
		if minion.failover {
			minion.move()
		}
	case 9:
		minion.byHand()
	case 10:
		if w.chance(0.5) {
			minion.terminate()
		}
	case 11:
		if w.perils.byHand {
			m.deleteByHand(minion)
		}
	}
}

// crashed ends the bridge; systemd starts it again, at once or much later.
func (m *machine) crashed() {
	m.stop("killed")
	late := m.world.about(3 * time.Second)
	if m.world.chance(0.3) {
		late = m.world.about(3 * time.Minute)
	}
	m.world.after(late, m.start)
}

// lose takes a whole machine away, if another one stays: by termination, before
// or after which its row says so, or without anybody ever saying so.
func (w *world) lose(m *machine, told bool) {
	left := 0
	for _, other := range w.machines {
		if !other.gone && !other.ending {
			left++
		}
	}
	if left < 2 || m.gone || m.ending {
		return
	}
	w.log("%s: machine is lost (told: %v)", m.id, told)
	m.ending = true
	ends := func() {
		m.gone = true
		m.stop("machine is lost")
		m.down()
	}
	retire := func() {
		w.log("%s: row says TERMINATE", m.id)
		_ = w.store.RetireMaster(context.Background(), m.id)
	}
	switch {
	case !told:
		ends()
	case w.chance(0.5):
		retire()
		w.after(w.about(time.Minute), ends)
	default:
		ends()
		w.after(w.about(time.Minute), retire)
	}
}

// heal ends all that goes wrong, and brings back what is not lost for good.
func (w *world) heal() {
	w.log("from here on nothing goes wrong")
	w.faulty, w.healed = false, w.now
	for _, m := range w.machines {
		m.cut = false
		if m.ending && !m.gone {
			m.gone = true
			m.stop("machine is lost")
			m.down()
		}
		m.back()
		m.start()
	}
}
