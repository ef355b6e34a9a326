package service

import (
	"time"

	"phoenix/bridge/relay"
)

// ofRelay returns values of the relay; none where there is none.
func ofRelay(values func(s relay.Status) map[string]float64) func(Report, time.Time) map[string]float64 {
	return func(r Report, _ time.Time) map[string]float64 {
		if r.Relay == nil {
			return nil
		}
		return values(*r.Relay)
	}
}

var relayMetrics = []Metric{
	{"phoenix_relay_listens", "gauge", "", "1 if the relay reads what the master publishes.",
		ofRelay(func(s relay.Status) map[string]float64 {
			return truth(s.Hears)
		})},
	{"phoenix_relay_peer_connected", "gauge", "peer",
		"1 for each other master that the relay is connected to, 0 for each that it does not reach.",
		ofRelay(func(s relay.Status) map[string]float64 {
			out := map[string]float64{}
			for _, p := range s.Peers {
				out[p.Master] = 0
				if p.Connected {
					out[p.Master] = 1
				}
			}
			return out
		})},
	{"phoenix_relay_peer_minions", "gauge", "peer", "Minions that were last seen on each other master.",
		ofRelay(func(s relay.Status) map[string]float64 {
			out := map[string]float64{}
			for _, p := range s.Peers {
				out[p.Master] = float64(p.Minions)
			}
			return out
		})},
	{"phoenix_relay_jobs_total", "counter", "outcome",
		"Jobs: carried (of this master, offered to others), skipped (of this master, not carried), published (of others, here), declined (of others, not published).",
		ofRelay(func(s relay.Status) map[string]float64 {
			return map[string]float64{"carried": float64(s.Carried), "skipped": float64(s.Skipped),
				"published": float64(s.Published), "declined": float64(s.Declined)}
		})},
	{"phoenix_relay_returns_total", "counter", "outcome",
		"Returns: received (from other masters), sent (to them), dropped (no room, or not taken by the master), malformed.",
		ofRelay(func(s relay.Status) map[string]float64 {
			return map[string]float64{"received": float64(s.Returns), "sent": float64(s.Sent),
				"dropped": float64(s.Dropped), "malformed": float64(s.Malformed)}
		})},
	{"phoenix_relay_data_total", "counter", "outcome",
		"Minions' cached grains, pillar and mine: sent to other masters, received from them.",
		ofRelay(func(s relay.Status) map[string]float64 {
			return map[string]float64{"sent": float64(s.DataSent), "received": float64(s.DataTaken)}
		})},
	{"phoenix_relay_bytes_total", "counter", "direction",
		"Bytes sent to other masters' relays, and received from them.",
		ofRelay(func(s relay.Status) map[string]float64 {
			return map[string]float64{"sent": float64(s.BytesSent), "received": float64(s.BytesReceived)}
		})},
	{"phoenix_relay_refused_total", "counter", "", "Connections to the relay that were refused.",
		ofRelay(func(s relay.Status) map[string]float64 {
			return number(s.Refused)
		})},
}
