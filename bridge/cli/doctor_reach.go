package cli

import (
	"context"
	"net"
	"strconv"
	"sync"
	"time"

	"phoenix/bridge/doctor"
	"phoenix/bridge/salt"
)

const (
	// reachMost bounds how many masters of a list are asked for.
	reachMost = 16
	// reachWithin bounds the look-up of a name, and one connection.
	reachWithin = 3 * time.Second
)

// reachMasters looks the masters' names up, and connects to their ports as an agent
// does every few seconds: a connection without a greeting costs a master nothing.
func reachMasters(ctx context.Context, c salt.MinionConfig) map[string]doctor.Reach {
	out := map[string]doctor.Reach{}
	var mu sync.Mutex
	var asked sync.WaitGroup
	masters := c.Masters
	if len(masters) == 0 && (c.MasterType == "str" || c.MasterType == "failover") {
		masters = []string{"salt"} // Salt's default
	}
	for _, master := range masters[:min(len(masters), reachMost)] {
		asked.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, 2*reachWithin)
			defer cancel()
			host, port := salt.SplitMaster(master, c.MasterPort)
			var one doctor.Reach
			addresses, err := net.DefaultResolver.LookupHost(ctx, host)
			if one.NameErr = err; err == nil {
				for _, port := range []int{port, c.PublishPort} {
					dialer := net.Dialer{Timeout: reachWithin}
					conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(addresses[0], strconv.Itoa(port)))
					if err != nil {
						one.Closed = append(one.Closed, port)
						continue
					}
					conn.Close()
				}
			}
			mu.Lock()
			defer mu.Unlock()
			out[master] = one
		})
	}
	asked.Wait()
	return out
}
