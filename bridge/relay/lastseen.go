package relay

// maxVia bounds how many minions are known to be on which master.
const maxVia = 100_000

// lastSeen knows on which master minions were seen last. Of those that were not seen for
// longest, half are forgotten when it is full: an accepted minion can name any number.
type lastSeen struct {
	young, old map[string]string
}

func (v *lastSeen) set(id, master string) {
	if _, ok := v.young[id]; !ok && len(v.young) >= maxVia/2 {
		v.old, v.young = v.young, nil
	}
	if v.young == nil {
		v.young = map[string]string{}
	}
	v.young[id] = master
}

func (v *lastSeen) get(id string) (master string, ok bool) {
	if master, ok = v.young[id]; !ok {
		master, ok = v.old[id]
	}
	return master, ok
}

// count is how many minions were seen on each master last.
func (v *lastSeen) count() map[string]int {
	n := map[string]int{}
	for _, master := range v.young {
		n[master]++
	}
	for id, master := range v.old {
		if _, ok := v.young[id]; !ok {
			n[master]++
		}
	}
	return n
}
