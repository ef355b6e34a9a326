package admission

import (
	"context"
	"errors"
	"slices"
	"testing"

	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
	"phoenix/lab"
)

// master is a master and its key store. Between the decision and the call, what is
// pending changes.
type master struct {
	pending, accepted map[string]string
	unreadable        string
	refuses, keeps    error
	calls             int
}

func (m *master) Accept(_ context.Context, ids []string) error {
	m.calls++
	for _, id := range ids {
		if key, there := m.pending[id]; there {
			m.accepted[id] = key
		}
	}
	return m.refuses
}

func (m *master) Delete(_ context.Context, keys map[salt.State][]string) error {
	if m.keeps == nil {
		for _, id := range keys[salt.Accepted] {
			delete(m.accepted, id)
		}
	}
	return m.keeps
}

func (m *master) Read(id string, _ salt.State) ([]byte, error) {
	if id == m.unreadable {
		return nil, errors.New("input/output error")
	}
	if key, there := m.accepted[id]; there {
		return []byte(key), nil
	}
	return nil, salt.ErrNoKey
}

// TestG3_Accept: only the key that was decided on stays accepted, however the call
// ended.
func TestG3_Accept(t *testing.T) {
	right, wrong := lab.UnknownKey(), lab.UnknownKey()
	digest, err := fleet.KeyDigest([]byte(right))
	if err != nil {
		t.Fatal(err)
	}
	refused, kept := errors.New("refused"), errors.New("kept")
	for _, refuses := range []error{nil, refused} {
		for _, keeps := range []error{nil, kept} {
			m := &master{pending: map[string]string{"right": right, "wrong": wrong, "none": "no key",
				"unreadable": right},
				accepted: map[string]string{}, unreadable: "unreadable", refuses: refuses, keeps: keeps}
			ids := []string{"right", "wrong", "none", "gone", "unreadable"}
			var pending []Pending
			for _, id := range ids {
				pending = append(pending, Pending{id, digest})
			}
			outcomes, err := Accept(t.Context(), m, m, pending)
			if !errors.Is(err, refuses) || m.calls != 1 {
				t.Errorf("%d calls: %v", m.calls, err)
			}
			if o := outcomes[0]; o.Err != nil || o.Digest != digest {
				t.Errorf("right: %+v", o)
			}
			for i, id := range []string{"wrong", "none"} {
				if o := outcomes[1+i]; !errors.Is(o.Err, ErrWrongKey) || o.Delete != keeps {
					t.Errorf("%s: %+v", id, o)
				}
				if _, there := m.accepted[id]; there != (keeps != nil) {
					t.Errorf("%s: accepted %v", id, there)
				}
			}
			if o := outcomes[3]; !errors.Is(o.Err, ErrNotAccepted) {
				t.Errorf("gone: %+v", o)
			}
			if o := outcomes[4]; o.Err == nil ||
				slices.ContainsFunc([]error{ErrNotAccepted, ErrWrongKey},
					func(e error) bool { return errors.Is(o.Err, e) }) {
				t.Errorf("unreadable: %+v", o)
			}
		}
	}
}

// TestG3_AcceptWithoutDigest: a decision without a digest accepts nothing.
func TestG3_AcceptWithoutDigest(t *testing.T) {
	m := &master{pending: map[string]string{"web1": "no key"}, accepted: map[string]string{}}
	outcomes, err := Accept(t.Context(), m, m, []Pending{{ID: "web1"}})
	if err != nil || !errors.Is(outcomes[0].Err, ErrWrongKey) || len(m.accepted) > 0 {
		t.Errorf("%+v, %v; accepted %v", outcomes, err, m.accepted)
	}
}
