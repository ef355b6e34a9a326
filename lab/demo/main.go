// Command demo shows on real Salt masters and minions what Phoenix does, in two
// acts: which minions are accepted, and what becomes of minions whose master dies. It
// prints only what it sees, and leaves nothing behind.
//
//	make demo                   the fleet is remembered in an SQLite file
//	make demo STORE=dynamodb    the same on AWS's DynamoDB Local
package main

import (
	"fmt"
	"os"
	"time"

	"phoenix/lab"
)

const (
	version = lab.Salt3007
	// within bounds each step; the whole takes less than a minute.
	within = 2 * time.Minute
)

func main() {
	if len(os.Args) > 2 || len(os.Args) == 2 && os.Args[1] != "sqlite" && os.Args[1] != "dynamodb" {
		fmt.Fprintln(os.Stderr, "usage: make demo [STORE=sqlite|dynamodb]")
		os.Exit(2)
	}
	failed := run(func(s *runner) {
		store := embedded()
		if len(os.Args) == 2 && os.Args[1] == "dynamodb" {
			store = onDynamoDB(s)
		}
		p := &scenario{runner: s, lab: lab.New(s), store: store}
		p.whoIsLetIn()
		p.aMasterDies()
	})
	if failed {
		os.Exit(1)
	}
}

// scenario is what its parts share.
type scenario struct {
	*runner
	lab     *lab.Lab
	store   store
	masters []*lab.Master
	bridges []*lab.Bridge
}

// master starts one more master; all share the first one's key pair.
func (p *scenario) master() (*lab.Master, *lab.Bridge) {
	o := lab.MasterOptions{Version: version}
	if len(p.masters) > 0 {
		o.KeyFrom = p.masters[0]
	}
	m := p.lab.StartMaster(o)
	b := p.lab.NewBridge(lab.BridgeOptions{Master: m, Store: p.store.address, Config: p.store.config})
	p.masters, p.bridges = append(p.masters, m), append(p.bridges, b)
	return m, b
}

// store is where the fleet is remembered.
type store struct {
	address string
	config  map[string]any
}

// embedded is the lab's SQLite file.
func embedded() store { return store{} }
