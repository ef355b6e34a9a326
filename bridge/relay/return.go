package relay

import (
	"errors"

	"github.com/vmihailenco/msgpack/v5"

	"phoenix/bridge/event"
)

// checkReturn reports whether Salt can take in a return. Its _syndic_return goes over all
// returns of a request in one loop, and an exception about one ends it for the others
// (AESFuncs.run_func answers "" then). These raise one, in 3006.30, 3007.17 and 3008.5:
// _store_job looks for "fun" within the return if the minion named none; fire_ret_load
// indexes retcode by the functions of a list, and the return too if retcode is a map.
func checkReturn(m message) error {
	if !validJID(m.JID) || !validID(m.ID) {
		return errors.New("no job id, or no minion id")
	}
	if m.Values["return"] == nil {
		return errors.New("it has no return")
	}
	fun := m.Values["fun"]
	if fun == nil {
		return errors.New("it has no fun")
	}
	retcode := kindOf(m.Values["retcode"])
	if event.Bytes(fun) != nil {
		if retcode != kindNone && retcode != kindNumber {
			return errors.New("its retcode is no number")
		}
		return nil
	}
	texts := true
	if err := event.Elements(fun, func(name []byte) { texts = texts && event.Bytes(name) != nil }); err != nil ||
		!texts {
		return errors.New("its fun is neither a name nor a list of names")
	}
	switch {
	case retcode == kindList:
	case retcode == kindMap && kindOf(m.Values["return"]) == kindMap:
	default:
		return errors.New("its retcode, or return, does not fit its list of functions")
	}
	return nil
}

// Kinds of msgpack values, as far as they matter here.
const (
	kindNone   = iota // nil, or not there
	kindNumber        // an integer, or a bool, which Python takes for one
	kindList
	kindMap
	kindOther
)

func kindOf(raw msgpack.RawMessage) int {
	if len(raw) == 0 {
		return kindNone
	}
	switch c := raw[0]; {
	case c == 0xc0:
		return kindNone
	case c < 0x80, c >= 0xe0, c == 0xc2, c == 0xc3, c >= 0xcc && c <= 0xd3:
		return kindNumber
	case c < 0x90, c == 0xde, c == 0xdf:
		return kindMap
	case c < 0xa0, c == 0xdc, c == 0xdd:
		return kindList
	}
	return kindOther
}
