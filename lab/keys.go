package lab

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	// acceptedWithin bounds a few calls of salt-key on a busy machine.
	acceptedWithin = 2 * time.Minute
	// writtenAfter is what a worker that has read the key store needs to write to it.
	writtenAfter = time.Second
)

// Accepted lists the ids whose keys the master accepted.
func (m *Master) Accepted() []string { return m.keys("minions") }

// Pending lists the ids whose keys wait.
func (m *Master) Pending() []string { return m.keys("minions_pre") }

// Denied lists the ids that authenticated with another key than the known one.
func (m *Master) Denied() []string { return m.keys("minions_denied") }

// Rejected lists the ids that were turned away by hand.
func (m *Master) Rejected() []string { return m.keys("minions_rejected") }

// HasAccepted reports whether id is accepted.
func (m *Master) HasAccepted(id string) bool { return slices.Contains(m.Accepted(), id) }

// Accept accepts a pending key as an operator does. A worker of Salt's that read the
// key store before, for the minion's next auth request, writes the key as pending once
// more after (seen on 3008.5): on 3008 that hides the accepted one.
func (m *Master) Accept(id string) {
	m.lab.tb.Helper()
	m.lab.Eventually(acceptedWithin, "the key is accepted, and not pending too", func() (bool, string) {
		if slices.Contains(m.Pending(), id) {
			m.Run("salt-key", "--yes", "--accept", id)
			time.Sleep(writtenAfter)
		}
		pending := m.Pending()
		return m.HasAccepted(id) && !slices.Contains(pending, id), fmt.Sprint(pending)
	})
}

// keys lists a folder of the key store, as all three Salts lay it out. A key
// lies there under its minion's id; names with a dot in front are temporary.
func (m *Master) keys(state string) []string {
	m.lab.tb.Helper()
	entries, err := os.ReadDir(filepath.Join(m.PKIDir(), state))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		m.lab.tb.Fatalf("list keys of %s: %v", m.Name, err)
	}
	ids := []string{}
	for _, entry := range entries {
		if entry.Name()[0] != '.' {
			ids = append(ids, entry.Name())
		}
	}
	return ids
}
