package compose

import (
	"context"
	"fmt"
	"log/slog"

	"phoenix/bridge/bus"
	"phoenix/bridge/config"
	"phoenix/bridge/event"
	"phoenix/bridge/salt"
	"phoenix/bridge/service"
)

// eventBus is the master's event bus, read or not.
type eventBus interface {
	service.EventBus
	Run(ctx context.Context, h bus.Handler) error
	report() service.BusReport
}

// openBus returns the event bus of a master, and where it is.
func openBus(cfg config.Config, master salt.Config, log *slog.Logger) (eventBus, string, error) {
	if cfg.Bus == config.BusOff {
		return busOff{}, config.BusOff, nil
	}
	where := bus.Config{Logger: log}
	switch network, address := master.EventSocket(); network {
	case "unix":
		where.Path = address
	default:
		where.Address = address
	}
	b, err := bus.New(where)
	return busOn{b}, where.Path + where.Address, err
}

// busOn is a bus that is read.
type busOn struct{ *bus.Bus }

func (b busOn) report() service.BusReport {
	s := b.State()
	r := service.BusReport{Connected: b.Connected(), Framing: fmt.Sprint(s.Framing), Events: s.Events,
		Malformed: s.Malformed, Gaps: s.Gaps}
	if s.LastErr != nil {
		r.Error = s.LastErr.Error()
	}
	return r
}

// busOff stands for a bus that is not read (bus: off): comparisons and the reactor's
// hints replace its events, and no proof that the master serves needs it.
type busOff struct{}

func (busOff) Connected() bool { return true }

func (busOff) Run(context.Context, bus.Handler) error { return nil }

func (busOff) report() service.BusReport { return service.BusReport{Error: "bus: off"} }

// handlers hands each event to several handlers.
type handlers []bus.Handler

func (all handlers) Event(e event.Event) {
	for _, h := range all {
		h.Event(e)
	}
}

func (all handlers) Gap(reason string) {
	for _, h := range all {
		h.Gap(reason)
	}
}
