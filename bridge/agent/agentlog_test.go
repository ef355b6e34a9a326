package agent

import (
	"strings"
	"sync"
)

// agentLog is what an agent logs. Tests read it while the agent runs.
type agentLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *agentLog) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *agentLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *agentLog) Len() int { return len(l.String()) }
