package cli

import (
	"bytes"
	"flag"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/admin"
	"phoenix/bridge/audit"
	"phoenix/bridge/doctor"
)

func TestBreakLines(t *testing.T) {
	for _, c := range []struct {
		text         string
		first, width int
		want         []string
	}{
		{"one two three", 0, 0, []string{"one two three"}},
		{"one two three", 3, 9, []string{"one", "two three"}},
		{"incomprehensibilities follow", 8, 8, []string{"incomprehensibilities", "follow"}},
		{"look first: phoenix --config phoenix.yaml minions explain web-1; if the machine was rebuilt: phoenix keys accept --rebind web-1", 30, 30,
			[]string{"look first:", "phoenix --config phoenix.yaml minions explain web-1;",
				"if the machine was rebuilt:", "phoenix keys accept --rebind web-1"}},
		{"for each: phoenix keys accept --rebind ID if the accepted key is right", 20, 20,
			[]string{"for each:", "phoenix keys accept --rebind ID", "if the accepted key", "is right"}},
		{"phoenix status on salt-1, at noon", 30, 30, []string{"phoenix status on salt-1, at", "noon"}},
		{"no crontab calls salt-key or runs states in less than an hour", 20, 20,
			[]string{"no crontab calls", "salt-key or runs", "states in less than", "an hour"}},
		{"remove it (ls -lb /etc/salt/pki) and systemctl restart salt-master", 12, 12,
			[]string{"remove it", "(ls -lb /etc/salt/pki)", "and", "systemctl restart salt-master"}},
	} {
		if got := breakLines(c.text, c.first, c.width); !slices.Equal(got, c.want) {
			t.Errorf("%q in %d:\n%q, want\n%q", c.text, c.width, got, c.want)
		}
	}
}

// onTerminal returns what print writes to a terminal that is 80 characters wide, by lines.
func onTerminal(t *testing.T, print func(c *cli.Context) error) []string {
	t.Helper()
	t.Setenv("TERM", "dumb") // no colours
	term := newTerminal(t, 80, 25)
	app := newApp(term.tty, term.tty)
	if err := print(cli.NewContext(app, flag.NewFlagSet("", flag.ContinueOnError), nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := term.tty.WriteString("the end\n"); err != nil {
		t.Fatal(err)
	}
	var lines []string
	term.await("all is written", func([]string) bool {
		term.mu.Lock()
		defer term.mu.Unlock()
		lines = strings.Split(strings.ReplaceAll(term.scrolled.String(), "\r", ""), "\n")
		return slices.Contains(lines, "the end")
	})
	return lines
}

// A finding of doctor fits a terminal, and its commands can be copied: none is broken, and
// several have a line each.
func TestDoctorOnATerminal(t *testing.T) {
	findings := []doctor.Finding{
		{Severity: doctor.Error, Check: "salt-master",
			What:     "Salt 3008.3, user salt, configuration /etc/salt/master: it does not run, and nobody listens",
			Why:      "without a running master no minion is served, and there are no keys to decide on",
			Mend:     "systemctl start salt-master # journalctl -u salt-master says why it ended",
			Commands: []string{"systemctl start salt-master"}},
		{Severity: doctor.Warning, Check: "denied-keys", What: "web-1",
			Mend: "look first: phoenix --config /srv/phoenix/phoenix.yaml minions explain web-1; if the machine was rebuilt: phoenix --config /srv/phoenix/phoenix.yaml keys accept --rebind web-1"},
		{Severity: doctor.Note, Check: "shared-key", What: "one key",
			Mend: "phoenix keys delete web-1 --state pending; phoenix keys delete web-2 --state denied",
			Commands: []string{"phoenix keys delete web-1 --state pending",
				"phoenix keys delete web-2 --state denied"}},
	}
	lines := onTerminal(t, func(c *cli.Context) error { return printFindings(c, findings) })
	text := strings.Join(lines, "\n")
	for _, line := range lines {
		if len(line) > 80 && !strings.Contains(line, "keys accept") { // that alone is longer
			t.Errorf("%d characters: %s", len(line), line)
		}
	}
	for _, want := range []string{
		"error    salt-master            Salt 3008.3, user salt, configuration\n         /etc/salt/master: it does not run",
		"\n         fix: systemctl start salt-master\n           # journalctl -u salt-master says why it ended\n",
		"\n         phoenix --config /srv/phoenix/phoenix.yaml minions explain web-1;\n",
		"phoenix --config /srv/phoenix/phoenix.yaml keys accept --rebind web-1\n",
		"\n         fix:\n           phoenix keys delete web-1 --state pending\n           phoenix keys delete web-2 --state denied\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestMastersCheckOnATerminal(t *testing.T) {
	n := 4
	check := &admin.MasterCheck{InstanceID: "salt-1",
		Verdict: "safe only for minions that have an agent or several masters", Connected: &n,
		Ready: []string{"salt-2"}, Drain: "draining",
		Why: []string{"4 minions connected: those that have an agent or several masters can move to salt-2, the others wait until it is back",
			"which have is not known here: after phoenix masters drain salt-1 these leave within 2m, and the others stay connected"}}
	lines := onTerminal(t, func(c *cli.Context) error { return facts(c.App.Writer, factsOf(check)) })
	for _, line := range lines {
		if len(line) > 80 {
			t.Errorf("%d characters: %s", len(line), line)
		}
	}
	text := strings.Join(lines, "\n")
	for _, want := range []string{
		"because                   4 minions connected: those that have an agent or\n                          several masters can move",
		"phoenix masters drain salt-1", "draining                  yes\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	// The name is never coloured, what is bad is.
	check.Verdict = "NOT SAFE"
	var painted strings.Builder
	for _, f := range factsOf(check) {
		painted.WriteString(f[0] + ": ")
		painted.Write(colour([]byte(f[1])))
	}
	if got := painted.String(); !strings.Contains(got, ": "+red+"NOT SAFE"+normal) || strings.Contains(got, yellow) {
		t.Errorf("%q", got)
	}
}

// History fits a terminal: what happened is wrapped below itself.
func TestHistoryOnATerminal(t *testing.T) {
	a := newAsker(t)
	var trail bytes.Buffer
	slog.New(slog.NewJSONHandler(&trail, nil)).Warn("store lost", "err",
		"the heartbeat does not reach the store: database or disk is full (13) (make room in /var/lib/phoenix)")
	if err := audit.Append(filepath.Join(a.dir, "audit.log"), trail.Bytes(), audit.MaxFile); err != nil {
		t.Fatal(err)
	}
	lines := onTerminal(t, func(c *cli.Context) error {
		if code := run(t.Context(), append(slices.Clone(a.args), "history"), c.App.Writer,
			c.App.Writer); code != exitOK {
			t.Errorf("exit %d", code)
		}
		return nil
	})
	text := strings.Join(lines, "\n")
	for _, line := range lines {
		if len(line) > 80 && !strings.Contains(line, "note: ") {
			t.Errorf("%d characters: %s", len(line), line)
		}
	}
	if !strings.Contains(text, "  store lost err=\"the heartbeat does not\n                                     reach the store: ") {
		t.Errorf("not wrapped below itself:\n%s", text)
	}
}
