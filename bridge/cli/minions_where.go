package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/admin"
	"phoenix/bridge/api"
	"phoenix/bridge/awsenv"
	"phoenix/bridge/decide"
	"phoenix/bridge/fleet"
	"phoenix/bridge/open"
	"phoenix/bridge/plural"
	"phoenix/bridge/relay"
	"phoenix/bridge/service"
)

const (
	// whereChunk minions get a ping at a time: as salt '*' test.ping, for some seconds.
	whereChunk = 5000
	// whereWait is how long nobody has to answer before the others count as silent.
	whereWait = 5 * time.Second
	// recordWithin bounds the wait for the bridge to have read the last return, which
	// this command has read from the same event bus.
	recordWithin = 2 * time.Second
)

var waitFlag = &cli.DurationFlag{Name: "wait", Value: whereWait,
	Usage: "stop waiting for answers when none has come for this time"}

func whereCommand() *cli.Command {
	return &cli.Command{
		Name:      "where",
		Usage:     "show which master serves each minion, by a test.ping",
		ArgsUsage: "[ID | GLOB…]",
		Description: "The test.ping is published on this master and, if its relay runs (relay.listen), on all others. Without the relay\n" +
			"only minions of this master answer: run the command on the other masters, too. MASTER is the one through which\n" +
			"the minion answered. A minion that is connected to several masters (agent.follow) answers once, to the ping that\n" +
			"it received first, mostly that of this master. If a minion does not answer, LAST SEEN ON is the master through\n" +
			"which it last answered a job of this master, and WHY NOT is the reason, as far as it is known here.\n" +
			"Exit code 1: a minion that was named by its id did not answer.",
		Flags:  []cli.Flag{jsonFlag, waitFlag},
		Action: withStore(performing(whereMinions)),
	}
}

// place is where a minion is.
type place struct {
	ID     string `json:"id"`
	Master string `json:"master"`              // by which it answered; empty: it did not
	Last   string `json:"last_seen,omitempty"` // where it was seen last, if it did not
	Why    string `json:"why,omitempty"`       // it did not answer
}

// whereabouts are places of minions, as far as this master reaches.
type whereabouts struct {
	self    string
	asked   bool // any: they can answer
	relayed bool // the relay asked the minions of the other masters
	several bool // some minions are connected to several masters
	places  map[string]place
}

// findMinions asks minions of the fleet to answer, and finds by which master they do. It
// stops when none has answered for a time.
func findMinions(c *cli.Context, a admin.Admin, rows []fleet.Minion, wait time.Duration) (*whereabouts, error) {
	cfg := a.Config
	if _, err := awsenv.IdentifyMaster(c.Context, &cfg, ""); err != nil {
		return nil, err
	}
	w := &whereabouts{self: cfg.InstanceID, places: map[string]place{}}
	ids := []string{}
	valid := cfg.ValidID()
	for _, row := range rows {
		p, answers := placeOf(row, valid)
		if answers {
			ids = append(ids, p.ID)
		}
		w.places[p.ID] = p
	}
	if len(ids) == 0 {
		return w, nil
	}
	w.asked = true
	masters, err := a.Masters(c.Context)
	if _, err := fleet.WithoutBadRows(err); err != nil {
		return nil, err
	}
	f := fleet.CountFollowing(admin.Serving(masters, cfg.Highstate.Lease, time.Now()))
	w.several = f.Connections > f.Minions
	master, _, client, err := open.Master(cfg)
	if err != nil {
		return nil, err
	}
	if err := client.Prove(c.Context); err != nil { // before a wait for its event bus
		return nil, fmt.Errorf("%w; the masters that serve can say more (phoenix masters list)", err)
	}
	var report service.Report
	bridge := api.NewClient(cfg.Socket)
	if err := bridge.Status(c.Context, &report); err == nil && report.Relay != nil {
		w.relayed = len(report.Relay.Peers) > 0
	}
	ctx, stop := context.WithCancel(c.Context)
	defer stop()
	jobs, err := openJobs(ctx, master, client)
	if err != nil {
		return nil, err
	}
	jobs.quiet = wait
	defer progress(c, fmt.Sprintf("asking %s", plural.Of(len(ids), "minion")))()
	for chunk := range slices.Chunk(ids, whereChunk) {
		answers, err := jobs.once(ctx, chunk, call("test.ping"))
		if err != nil {
			return nil, err
		}
		for id := range answers {
			w.places[id] = place{ID: id, Master: w.self}
		}
		if !w.relayed {
			continue
		}
		job, err := recorded(ctx, bridge, jobs.jid, len(answers))
		if err != nil {
			return nil, fmt.Errorf("find minions: %w", err)
		}
		w.take(job)
	}
	return w, nil
}

// placeOf returns the place of a minion that has not answered, and whether it can.
func placeOf(row fleet.Minion, valid func(id string) bool) (p place, answers bool) {
	p = place{ID: row.SaltID(), Why: noAnswer}
	switch phase := decide.PhaseOf(row, true, false); {
	case row.Status == fleet.Terminate:
		p.Why = "its instance was terminated"
	case row.KeySHA256 == "":
		p.Why = fmt.Sprintf("%s: no key is bound to it", phase)
	case !valid(p.ID):
		p.Why = "its id does not match id_pattern"
	default:
		answers = true
	}
	return p, answers
}

const noAnswer = "it has not answered"

// take takes in by which masters minions returned.
func (w *whereabouts) take(job relay.Job) {
	for _, m := range job.Minions {
		w.places[m.Minion] = place{ID: m.Minion, Master: m.Master}
	}
	for _, m := range job.Missing {
		if p, asked := w.places[m.Minion]; asked && p.Master == "" {
			w.places[m.Minion] = place{ID: m.Minion, Last: m.Master, Why: m.Why}
		}
	}
}

// recorded returns the bridge's record of a job, once it has as many returns as came.
func recorded(ctx context.Context, bridge *api.Client, jid string, answers int) (job relay.Job, err error) {
	again := time.NewTicker(jobPoll)
	defer again.Stop()
	for until := time.Now().Add(recordWithin); ; {
		err = bridge.Jobs(ctx, jid, &job)
		if err == nil && job.Returned >= answers || time.Now().After(until) {
			return job, err
		}
		select {
		case <-ctx.Done():
			return job, ctx.Err()
		case <-again.C:
		}
	}
}

func whereMinions(c *cli.Context, a admin.Admin) error {
	rows, err := a.Minions(c.Context, admin.ListMinions{})
	bad, err := fleet.WithoutBadRows(err)
	if err != nil {
		return err
	}
	rows, unknown, err := filterMinions(c, rows)
	if err != nil {
		return err
	}
	if len(rows) == 0 && unknown != nil {
		return unknown
	}
	if !c.Args().Present() { // those that are gone are asked for by their ids alone
		rows = slices.DeleteFunc(rows, func(r fleet.Minion) bool { return r.Status == fleet.Terminate })
	}
	w, err := findMinions(c, a, rows, c.Duration("wait"))
	if err != nil {
		return err
	}
	w.explainSilence(c.Context, a)
	places := []place{}
	for _, row := range rows {
		places = append(places, w.places[row.SaltID()])
	}
	slices.SortFunc(places, func(a, b place) int { return cmp.Compare(a.ID, b.ID) })
	if c.Bool("json") {
		err = printJSON(c.App.Writer, places)
	} else {
		err = printPlaces(c.App.Writer, places)
		w.say(a)
	}
	if err == nil {
		err = silent(c.Args().Slice(), places)
	}
	return errors.Join(unknown, err, nameBad(c, bad))
}

// printPlaces prints where minions are, and why some have not answered.
func printPlaces(w io.Writer, places []place) error {
	columns := []string{"MINION", "MASTER"}
	silent := slices.ContainsFunc(places, func(p place) bool { return p.Master == "" })
	if silent {
		columns = append(columns, "LAST SEEN ON", "WHY NOT")
	}
	t := newTable(w, columns...)
	for _, p := range places {
		if silent {
			t.row(p.ID, p.Master, p.Last, p.Why)
		} else {
			t.row(p.ID, p.Master)
		}
	}
	return t.flush()
}

// explainSilence adds why minions did not answer, as far as their keys on this master are
// the reason.
func (w *whereabouts) explainSilence(ctx context.Context, a admin.Admin) {
	silent := false
	for _, p := range w.places {
		silent = silent || p.Master == ""
	}
	if !silent {
		return
	}
	others, err := a.OtherKeys(ctx)
	if err != nil {
		others = nil // the answer stands without it; status reports the error
	}
	w.blameKeys(others, a.RemovedByHand(ctx))
}

// blameKeys adds to minions that did not answer that their key was deleted by hand, or that
// another key of them is known: Salt does not let the machine with it in.
func (w *whereabouts) blameKeys(others []admin.OtherKey, removed map[string]bool) {
	for id := range removed {
		if p, asked := w.places[id]; asked && p.Master == "" {
			p.Why = fmt.Sprintf("its key was deleted here by hand (phoenix keys restore %s)", id)
			w.places[id] = p
		}
	}
	for _, k := range others {
		if p, asked := w.places[k.ID]; asked && p.Master == "" {
			p.Why += fmt.Sprintf("; %s (phoenix minions explain %s)", k, k.ID)
			w.places[k.ID] = p
		}
	}
}

// say says what the answer leaves out.
func (w *whereabouts) say(a admin.Admin) {
	if w.asked && !w.relayed && a.Note != nil {
		a.Note("minions of other masters are not asked: no relay runs here (relay.listen); run this on them")
	}
	if w.relayed && w.several && a.Note != nil {
		a.Note("some minions are connected to several masters (agent.follow): each is shown with the one through which it answered first")
	}
}

// silent returns an error if a minion that was named by its id did not answer.
func silent(named []string, places []place) error {
	for _, p := range places {
		if p.Master == "" && slices.Contains(named, p.ID) {
			return fmt.Errorf("find minion %s: %s", p.ID, p.Why)
		}
	}
	return nil
}
