package fleet

// Following counts who is served by how many masters, as far as the masters know.
type Following struct {
	Masters     int `json:"masters"`     // that serve
	Minions     int `json:"minions"`     // whose keys they have accepted
	Connections int `json:"connections"` // of minions to masters
}

// CountFollowing adds up the rows of masters that serve.
func CountFollowing(serving []Master) Following {
	f := Following{Masters: len(serving)}
	for _, m := range serving {
		f.Minions = max(f.Minions, m.Minions)
		f.Connections += m.Connected
	}
	return f
}

// Missing returns how many connections there are fewer than if each minion were
// connected to as many masters as it is to follow, or to all where there are not so
// many. With follow 2 that is how many minions have only one master left; one that is
// connected to none counts twice.
func (f Following) Missing(follow int) int {
	return max(min(follow, f.Masters)*f.Minions-f.Connections, 0)
}
