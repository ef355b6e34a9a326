package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/api"
	"phoenix/bridge/audit"
	"phoenix/bridge/config"
	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
	"phoenix/bridge/service"
)

// explanation is what is known of one minion, and what follows.
type explanation struct {
	ID        string            `json:"id"`
	Standing  decide.Standing   `json:"standing"`
	Row       *fleet.Minion     `json:"row"`
	Keys      map[string]string `json:"keys"` // state -> digest
	Decision  decide.KeyAct     `json:"decision"`
	Rule      string            `json:"rule"`
	Reason    string            `json:"reason"`
	Rules     []decide.Verdict  `json:"rules"`
	Highstate string            `json:"highstate"`
	Audit     []audit.Line      `json:"audit"` // of this machine, the newest at the end
	NoAudit   string            `json:"audit_error,omitempty"`
}

func explainMinion(c *cli.Context, cfg config.Config, store fleet.Store) error {
	if c.NArg() != 1 {
		return usageError(errors.New("explain takes one minion id"))
	}
	if c.Int("lines") < 0 {
		return usageError(fmt.Errorf("--lines %d is negative", c.Int("lines")))
	}
	id := c.Args().First()
	_, keys, _, err := openSalt(cfg)
	if err != nil {
		return err
	}
	view, err := keyView(c, cfg, store, keys, id)
	if err != nil {
		return err
	}
	report := bridgeReport(c, cfg)
	view.Removed = slices.ContainsFunc(report.Engine.Problems, func(p service.Problem) bool {
		return p.Minion == id && p.Kind == service.KeyRemoved
	})
	d := decide.Keys(decide.Admit(cfg.Admit), view)
	x := explanation{ID: id, Standing: decide.Stand(view.Row, view.Known, view.Accepted.Present),
		Keys: map[string]string{}, Decision: d.Act, Rule: d.Rule, Reason: d.Reason,
		Rules: decide.ExplainKeys(decide.Admit(cfg.Admit), view), Highstate: explainHighstate(report, view)}
	if view.Known {
		x.Row = &view.Row
	}
	x.Audit, err = audit.Last(cfg.Audit.File, id, c.Int("lines"))
	if x.Audit = append([]audit.Line{}, x.Audit...); err != nil { // [] in JSON, not null
		x.NoAudit = err.Error()
	}
	for name, key := range map[string]decide.Key{"pending": view.Pending, "accepted": view.Accepted,
		"rejected": view.Rejected, "denied": view.Denied} {
		if key.Present && view.Valid {
			x.Keys[name] = key.Digest
		}
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, x)
	}
	return printExplanation(c, x)
}

// keyView reads what this master and the fleet know of one id.
func keyView(c *cli.Context, cfg config.Config, store fleet.Store, keys *salt.Keys, id string) (decide.KeyView, error) {
	v := decide.KeyView{ID: id, Valid: cfg.ValidID()(id)}
	if !v.Valid {
		v.Pending.Present = true // as far as one can say of an id that no file may bear
		return v, nil
	}
	for state, key := range map[salt.State]*decide.Key{salt.Pending: &v.Pending, salt.Accepted: &v.Accepted,
		salt.Rejected: &v.Rejected, salt.Denied: &v.Denied} {
		text, err := keys.Read(id, state)
		if errors.Is(err, salt.ErrNoKey) {
			continue
		}
		if err != nil && !errors.Is(err, salt.ErrUnsettled) {
			return v, err
		}
		key.Present = true // one that is no whole key has no digest
		key.Digest, _ = fleet.KeyDigest(text)
	}
	instance, err := bearers(c, cfg, store, []string{id})
	if err != nil {
		return v, err
	}
	row, err := store.Minion(c.Context, instance[id])
	if errors.Is(err, fleet.ErrNotFound) {
		return v, nil
	}
	if err != nil {
		return v, err
	}
	v.Row, v.Known = row, true
	v.Proof, err = proofOf(c.Context, cfg, store, row)
	return v, err
}

// bridgeReport is what the bridge of this machine says of itself; nothing if none
// runs here.
func bridgeReport(c *cli.Context, cfg config.Config) (report service.Report) {
	if err := api.NewClient(cfg.Socket).Status(c.Context, &report); err != nil {
		return service.Report{}
	}
	return report
}

// explainHighstate says where the first highstate stands: in the bridge's own
// words if one runs here, since only it knows what it waits for.
func explainHighstate(report service.Report, v decide.KeyView) string {
	for _, p := range report.Engine.Highstate {
		if p.Minion == v.ID {
			return p.Why
		}
	}
	switch decide.Stand(v.Row, v.Known, v.Accepted.Present) {
	case decide.Foreign, decide.Unlisted:
		return "none: it is not in the fleet"
	case decide.Terminated:
		return "none: its instance was terminated"
	case decide.Adopted:
		return "none: it was adopted (phoenix highstate run " + v.ID + ")"
	case decide.Ran:
		return "ran, as job " + v.Row.ClaimJID + " by " + v.Row.HighstateRunner
	case decide.Broken:
		return fmt.Sprintf("attempt %d failed (retcode %s)", v.Row.Attempt, retcode(v.Row))
	case decide.Running:
		return "runs as job " + v.Row.ClaimJID + " by " + v.Row.ClaimOwner
	case decide.Accepted:
		return "wanted: starts when the minion connects"
	}
	return "wanted: starts when its key is accepted and it connects"
}

func printExplanation(c *cli.Context, x explanation) error {
	w := c.App.Writer
	fmt.Fprintf(w, "%s: %s\n\n", plain(x.ID), x.Standing)
	if x.Row == nil {
		fmt.Fprintln(w, "fleet      no row")
	} else {
		fmt.Fprintf(w, "fleet      %s, changed %s\n", x.Row.Status, x.Row.Modified)
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
	if x.Row != nil && x.Row.ClaimState != "" {
		fmt.Fprintf(w, "claim      %s by %s, version %d, attempt %d, job %s\n", x.Row.ClaimState, plain(x.Row.ClaimOwner),
			x.Row.ClaimVersion, x.Row.Attempt, plain(x.Row.ClaimJID))
	}
	fmt.Fprintln(w)
	for _, r := range x.Rules {
		mark, reason := "  ", ""
		if r.Decides {
			mark, reason = "->", r.Reason
		}
		fmt.Fprintln(w, strings.TrimRight(fmt.Sprintf("%s %-20s %s", mark, r.Rule, reason), " "))
	}
	fmt.Fprintf(w, "\nso: %s (%s)\n", x.Decision, x.Reason)
	switch {
	case x.NoAudit != "":
		fmt.Fprintf(w, "\nwhat was decided is not shown: %s\n", x.NoAudit)
	case len(x.Audit) > 0:
		fmt.Fprintln(w)
		for _, line := range x.Audit {
			fmt.Fprintln(w, decided(line))
		}
	}
	return nil
}

// decided is one line of the audit trail, for people.
func decided(line audit.Line) string {
	words := append([]string{line.Time.UTC().Format("2006-01-02 15:04:05Z"), "", line.Text}, line.More...)
	return plain(strings.Join(words, " "))
}
