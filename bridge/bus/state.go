package bus

import (
	"errors"
	"time"
)

// connected notes a connection, and returns what to say of the gap before it.
func (b *Bus) connected() (reason string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state.Since, b.state.Framing = time.Now(), Unknown
	b.state.Gaps++
	b.config.Logger.Info("event bus connected", "socket", b.where)
	if b.state.LastErr == nil {
		return "connected"
	}
	return "connected again: " + b.state.LastErr.Error()
}

func (b *Bus) detected(f Framing) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.state.Framing = f
}

// disconnected notes the end of a connection, or that there is none. It is
// logged once, and not again until something changes. err is nil where that is
// as it should be.
func (b *Bus) disconnected(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	news := !b.state.Since.IsZero() || b.state.LastErr == nil || err != nil && b.state.LastErr.Error() != err.Error()
	b.state.Since, b.state.Framing = time.Time{}, Unknown
	if err == nil {
		return
	}
	b.state.LastErr = err
	if !news {
		return
	}
	args := []any{"err", err} // which says where
	if unreachable := (*UnreachableError)(nil); errors.As(err, &unreachable) && unreachable.Hint != "" {
		args = append(args, "hint", unreachable.Hint)
	}
	b.config.Logger.Warn("event bus not connected", args...)
}
