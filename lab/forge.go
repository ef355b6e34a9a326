package lab

import (
	_ "embed"
	"os/exec"
	"path/filepath"
	"strconv"
)

//go:embed forge.py
var forgeScript string

// Forge has an accepted minion send its master all that could make the master's
// bridge believe in a job that nobody published: COMMAND on all minions, under jid.
func (m *Minion) Forge(master *Master, jid, command string) {
	m.lab.tb.Helper()
	cmd := exec.Command(m.Salt.Python(), "-c", forgeScript, filepath.Join(m.configDir(), "minion"), master.Addr,
		strconv.Itoa(m.lab.RetPort), jid, command)
	if out, err := cmd.CombinedOutput(); err != nil {
		m.lab.tb.Fatalf("forge a job: %v\n%s", err, out)
	}
}
