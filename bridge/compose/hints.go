package compose

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/vmihailenco/msgpack/v5"

	"phoenix/bridge/event"
	"phoenix/bridge/service"
)

// hint takes in an event that the reactor read off the master's bus. The rules are
// those of an event that the bridge reads itself: hint makes of it what the bus
// would have sent.
func hint(inbox *service.Inbox) func(tag string, data map[string]any) error {
	return func(tag string, data map[string]any) error {
		payload, err := msgpack.Marshal(withNumbers(data))
		var e event.Event
		if err == nil {
			e, err = event.SplitBody(append([]byte(tag+"\n\n"), payload...))
		}
		if err == nil {
			err = checkEvent(e)
		}
		if err != nil {
			return fmt.Errorf("take event %q: %w", tag, err)
		}
		inbox.Event(e)
		return nil
	}
}

// checkEvent returns what is wrong with an event, for those who type one by hand.
func checkEvent(e event.Event) (err error) {
	switch e.Kind {
	case event.KindAuth:
		_, err = e.Auth()
	case event.KindKey:
		_, err = e.Key()
	case event.KindStart:
		_, err = e.Start()
	case event.KindReturn:
		_, err = e.Return()
	default:
		err = errors.New("its tag is none of salt/auth, salt/key, salt/minion/ID/start and salt/job/JID/ret/ID")
	}
	return err
}

// withNumbers replaces each json.Number by an integer where it is one, else by a float.
func withNumbers(value any) any {
	switch v := value.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, _ := v.Float64()
		return f
	case map[string]any:
		for key := range v {
			v[key] = withNumbers(v[key])
		}
	case []any:
		for i := range v {
			v[i] = withNumbers(v[i])
		}
	}
	return value
}
