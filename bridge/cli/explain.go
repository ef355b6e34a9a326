package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/admin"
	"phoenix/bridge/audit"
	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/lastrun"
	"phoenix/bridge/plural"
)

func explainMinion(c *cli.Context, a admin.Admin) error {
	if c.NArg() != 1 {
		return usageError(errors.New("explain takes one minion id"))
	}
	lines := c.Int("lines")
	x, err := a.Explain(c.Context, admin.ExplainMinion{ID: c.Args().First(), Lines: &lines})
	if err != nil {
		return err
	}
	unknown := x.Row == nil && len(x.Keys) == 0
	switch {
	case c.Bool("json"):
		err = printJSON(c.App.Writer, x)
	case !unknown || len(x.Audit) > 0 || x.Rule == "id-pattern":
		_, err = io.WriteString(paint(c.App.Writer), foldLines(explanation(c, x), terminalWidth(c.App.Writer)))
	}
	if err == nil && unknown {
		err = fmt.Errorf("explain %s: %w%s", x.ID, fleet.ErrNotFound, isThere(nearID(x.ID, a.KnownIDs(c.Context))))
	}
	return err
}

// statesOf says in words which states of a run failed.
func statesOf(r *lastrun.Run) string {
	text := failedStates(r)
	switch _, names, _ := strings.Cut(text, ": "); {
	case text == "":
		return ""
	case r.Failed > 0 && !r.Test:
		return ", " + plural.Of(r.Failed, "state") + " failed: " + names
	case r.Failed > 0:
		return ", as a test, " + plural.Of(r.Failed, "state") + " failed: " + names
	}
	return ": " + text
}

// explanation is what is known of a minion, for people.
func explanation(c *cli.Context, x *admin.Explanation) string {
	w := &strings.Builder{}
	if needs := attention(x); needs != "" {
		fmt.Fprintf(w, "ATTENTION  %s\n\n", needs)
	}
	fmt.Fprintf(w, "%s: %s\n\n", plain(x.ID), x.Phase)
	if x.Row == nil {
		fmt.Fprintln(w, "fleet      no row")
	} else {
		standing := "in the fleet"
		if x.Row.Status == fleet.Terminate {
			standing = "terminated"
		}
		fmt.Fprintf(w, "fleet      %s, changed %s\n", standing, stamped(x.Row.Modified))
		if x.Row.KeySHA256 != "" {
			fmt.Fprintf(w, "bound key  %s\n", x.Row.KeySHA256)
		}
	}
	for _, state := range []string{"accepted", "pending", "rejected", "denied"} {
		if digest, there := x.Keys[state]; there {
			if digest == "" {
				digest = "(not readable as an RSA public key)"
			}
			fmt.Fprintf(w, "%-10s %s\n", state, digest)
		}
	}
	fmt.Fprintf(w, "highstate  %s\n", x.Highstate)
	if x.Phase == decide.PhaseFailed {
		fmt.Fprintf(w, "           phoenix highstate show %s names the states, phoenix highstate run %s runs it again\n", plain(x.ID), plain(x.ID))
	}
	if x.NoBridge != "" {
		fmt.Fprintf(w, "bridge     %s\n", plain(x.NoBridge))
	}
	if r := x.LastRun; r != nil {
		fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("last run   %s %s %s ago, job %s%s", r.Function, r.Outcome,
			age(time.Since(r.At)), plain(r.JID), plain(statesOf(r))), " "))
	}
	if x.Row != nil && x.Row.ClaimState != "" {
		fmt.Fprintf(w, "attempt    %d %s %s, job %s\n", x.Row.Attempt, attemptIs[x.Row.ClaimState],
			plain(x.Row.ClaimOwner), plain(x.Row.ClaimJID))
	}
	fmt.Fprintln(w)
	var before []string
	for _, r := range x.Rules {
		if !r.Decides {
			before = append(before, r.Rule)
			continue
		}
		if c.Bool("rules") && len(before) > 0 {
			fmt.Fprintf(w, "rules that do not apply:\n%s", paragraph(strings.Join(before, ", "), 3))
		}
		fmt.Fprintf(w, "rule       %s: %s\n", r.Rule, r.Reason)
	}
	fmt.Fprintf(w, "decision   %s", x.Decision)
	if x.Other != nil && x.Other.State != "accepted" {
		fmt.Fprintf(w, "; the %s key is left to an operator", x.Other.State)
	}
	fmt.Fprintln(w)
	switch {
	case x.NoAudit != "":
		fmt.Fprintf(w, "\nwhat was decided is not shown: %s\n", x.NoAudit)
	case len(x.Audit) > 0:
		zone := newClock(time.Now())
		fmt.Fprintf(w, "\n%s:\n", zone.title("decisions"))
		for _, line := range x.Audit {
			fmt.Fprintln(w, zone.decided(line))
		}
	}
	fmt.Fprintln(w, "\nphoenix minions explain --help explains phases, decisions and rules")
	return w.String()
}

// attemptIs says how far an attempt is, before the master that runs it.
var attemptIs = map[fleet.ClaimState]string{
	fleet.Claimed: "was started by", fleet.Done: "succeeded on", fleet.Failed: "failed on",
}

// attention is what an operator has to decide about a minion, and how; empty: nothing.
func attention(x *admin.Explanation) string {
	switch k := x.Other; {
	case k == nil && x.Decision == decide.ReportKey:
		return x.Reason
	case k == nil:
		return ""
	case k.State == "accepted":
		return fmt.Sprintf("%s\n           phoenix keys accept --rebind %s, or phoenix keys delete %s --state accepted",
			k, plain(x.ID), plain(x.ID))
	default:
		return fmt.Sprintf("%s\n           Its machine is not accepted. If it was rebuilt: phoenix keys accept --rebind %s; else: phoenix keys delete %s --state %s",
			k, plain(x.ID), plain(x.ID), k.State)
	}
}

// decided is one line of the audit trail, for people.
func (c clock) decided(line audit.Line) string {
	words := append([]string{c.at(line.Time), "", line.Text}, line.More...)
	return plain(strings.Join(words, " "))
}
