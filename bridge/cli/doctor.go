package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/admin"
	"phoenix/bridge/api"
	"phoenix/bridge/config"
	"phoenix/bridge/doctor"
	"phoenix/bridge/fleet"
	"phoenix/bridge/salt"
	"phoenix/bridge/service"
)

// doctorWithin bounds all that is asked of stores, of AWS and of masters' ports. Salt's
// own files are read in milliseconds, and 100,000 keys in some seconds.
const doctorWithin = 20 * time.Second

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "find problems of the Salt master or minion on this machine; changes nothing",
		Description: "It needs no configuration, no bridge and no store, and reads /etc/salt/master and /etc/salt/minion, or what\n" +
			"--salt-config names. If Phoenix is configured, it also checks what that configuration names.\n" +
			"Exit code 0: nothing worse than a note; 1: warnings or errors.",
		Flags: []cli.Flag{jsonFlag,
			&cli.BoolFlag{Name: "salt-only", Usage: "check Salt only, and ignore the configuration of Phoenix"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"},
				Usage: "show problems only; print nothing if there are none"}},
		Action: runDoctor,
	}
}

// errFindings ends doctor with exit code 1.
var errFindings = errors.New("warnings or errors were found")

func runDoctor(c *cli.Context) error {
	ctx, cancel := context.WithTimeout(c.Context, doctorWithin)
	defer cancel()
	v, err := newVisit(c)
	if err != nil {
		return err
	}
	defer v.close()
	v.examine(ctx, c.Bool("salt-only"))
	doctor.CalledWith(v.findings, v.flags)
	if c.Bool("quiet") {
		v.findings = worthSaying(v.findings)
	}
	if err := printFindings(c, v.findings); err != nil {
		return err
	}
	err = faultOf(v.findings)
	if err != nil && !c.Bool("quiet") && !c.Bool("json") {
		return exitOnly(err) // the summary has the numbers
	}
	return err
}

// faultOf returns the error that doctor ends with: nil where nothing is worse than a
// note.
func faultOf(findings []doctor.Finding) error {
	if worst := doctor.Worst(findings); worst != doctor.Warning && worst != doctor.Error {
		return nil
	}
	n := doctor.Count(findings)
	return fmt.Errorf("examine Salt: %w (errors: %d, warnings: %d, notes: %d)", errFindings, n[doctor.Error],
		n[doctor.Warning], n[doctor.Note])
}

// bridgeDoctor returns the operation of the socket: it examines the bridge's own
// master and fleet.
func bridgeDoctor(cfg config.Config, store fleet.Store) admin.Operation {
	return func(ctx context.Context, arguments json.RawMessage) (any, error) {
		var r struct {
			Quiet    bool `json:"quiet"`
			SaltOnly bool `json:"salt_only"`
		}
		if err := admin.Arguments(arguments, &r); err != nil {
			return nil, err
		}
		ctx, cancel := context.WithTimeout(ctx, doctorWithin)
		defer cancel()
		v := &visit{cfg: cfg, progress: func(string) func() { return func() {} },
			fleet: doctor.Fleet{Config: "the bridge's own", Store: cfg.Store}, paths: []string{cfg.SaltConfig}}
		if !cfg.OnDynamoDB() { // else one is opened that looks at the answers
			v.store = &openedStore{Store: store, close: func() error { return nil }}
		}
		defer v.close()
		v.examine(ctx, r.SaltOnly)
		if r.Quiet {
			return worthSaying(v.findings), faultOf(v.findings)
		}
		return v.findings, faultOf(v.findings)
	}
}

// examine examines the master and the minion of this machine, and the fleet.
func (v *visit) examine(ctx context.Context, saltOnly bool) {
	for _, path := range v.paths {
		if strings.Contains(filepath.Base(path), "minion") {
			v.minion(ctx, path)
		} else {
			v.master(ctx, path)
		}
	}
	if !saltOnly {
		v.findings = append(v.findings, doctor.ExamineFleet(v.fleet)...)
	}
	doctor.Sort(v.findings)
}

// worthSaying leaves out what is as it should be.
func worthSaying(findings []doctor.Finding) []doctor.Finding {
	kept := []doctor.Finding{}
	for _, f := range findings {
		if f.Severity != doctor.OK {
			kept = append(kept, f)
		}
	}
	return kept
}

// visit is one look at a machine.
type visit struct {
	cfg      config.Config
	paths    []string // configuration files of Salt
	fleet    doctor.Fleet
	findings []doctor.Finding
	progress func(string) (done func())
	flags    map[string]string // that commands of fixes keep, by their names
	store    *openedStore      // nil: there is none, or it cannot be read
	dates    dates             // of AWS's answers
}

// newVisit finds out where to look.
func newVisit(c *cli.Context) (*visit, error) {
	v := &visit{progress: func(what string) func() { return progress(c, what) }, flags: map[string]string{}}
	for _, name := range []string{"config", "salt-config", "store", "socket"} {
		if text, ok := flagText(c, name); ok {
			v.flags[name] = text
		}
	}
	if c.Bool("salt-only") {
		v.cfg = plainConfig(c)
		var err error
		v.paths, err = saltConfigs(v.cfg)
		return v, err
	}
	path, asked := configPath(c)
	cfg, err := readConfig(c)
	if err != nil {
		v.fleet.ConfigErr = err
		cfg = plainConfig(c)
	}
	_, storeAsked := flagText(c, "store")
	if _, err := os.Stat(path); err == nil || asked || v.fleet.ConfigErr != nil {
		v.fleet.Config = path
	} else if storeAsked || os.Getenv("PHOENIX_STORE") != "" {
		v.fleet.Config = "flags and variables"
	}
	v.cfg, v.fleet.Store = cfg, cfg.Store
	v.paths, err = saltConfigs(cfg)
	return v, err
}

// master looks at a master, and at the fleet as its bridge would.
func (v *visit) master(ctx context.Context, path string) {
	c, err := salt.ReadConfig(path)
	if err != nil {
		v.findings = append(v.findings, doctor.Unread("salt-config", path, err))
		return
	}
	done := v.progress("reading the master's keys and files")
	m := doctor.ReadMaster(c)
	done()
	queues, _ := v.cfg.Items()
	for _, q := range queues {
		m.Queues = append(m.Queues, q.Name)
	}
	valid, err := regexp.Compile(v.cfg.IDPattern)
	if err != nil { // of a command line that was not checked
		v.findings = append(v.findings, doctor.Unread("id-pattern", v.cfg.IDPattern, err))
		return
	}
	m.IDPattern, m.ValidID = v.cfg.IDPattern, valid.MatchString
	if len(v.flags) > 0 {
		m.Phoenix = "phoenix" // CalledWith adds them
	}
	if v.configured() {
		v.askBridge(ctx)
		v.readStore(ctx, true)
		if v.store != nil {
			m.Plan, err = v.plan(ctx, c)
			v.fleet.StoreErr = cmp.Or(v.fleet.StoreErr, err)
		}
		m.Unplanned = v.fleet.StoreErr != nil && !errors.Is(v.fleet.StoreErr, fs.ErrNotExist)
		if v.cfg.Identity.Bucket != "" {
			v.lookAtIdentity(ctx)
		}
		v.fleet.OwnKey, _ = salt.MasterKeyDigest(c)
		if v.store != nil || errors.Is(v.fleet.StoreErr, fs.ErrNotExist) {
			v.fleet.Foreign = m.Foreign()
		}
	}
	v.findings = append(v.findings, doctor.ExamineMaster(m)...)
}

// minion looks at a minion, and at the fleet as its agent would.
func (v *visit) minion(ctx context.Context, path string) {
	c, err := salt.ReadMinionConfig(path)
	if err != nil {
		v.findings = append(v.findings, doctor.Unread("minion-config", path, err))
		return
	}
	m := doctor.ReadMinion(c)
	m.Reach = reachMasters(ctx, c)
	if v.configured() {
		v.readStore(ctx, false)
		if v.fleet.Proof != nil {
			v.fleet.Proof.Key = m.Key
		}
		v.fleet.OwnKey = cmp.Or(v.fleet.OwnKey, m.MasterKey)
	}
	v.findings = append(v.findings, doctor.ExamineMinion(m)...)
}

// configured reports whether there is a configuration to go by.
func (v *visit) configured() bool { return v.fleet.Config != "" && v.fleet.ConfigErr == nil }

// askBridge asks the bridge on this machine, by its own socket.
func (v *visit) askBridge(ctx context.Context) {
	v.fleet.Socket = v.cfg.Socket
	var r service.Report
	if v.fleet.BridgeErr = api.NewClient(v.cfg.Socket).Status(ctx, &r); v.fleet.BridgeErr != nil {
		return
	}
	b := &doctor.Bridge{Ready: r.Ready, Why: r.NotReady, Unproven: r.Unproven, Twin: r.Twin, Reach: r.StoreReached,
		StoreErr: r.StoreError, Retired: r.Retired, Held: r.Engine.Fault, Breaker: r.Engine.Breaker}
	if !r.Bus.Connected && v.cfg.Bus != config.BusOff {
		b.Bus = cmp.Or(r.Bus.Error, "not connected")
	}
	if r.Queue != nil && r.Queue.Reconcile != nil {
		b.OverLimit = len(r.Queue.Reconcile.Held)
	}
	b.Relay = relayForDoctor(r.Relay)
	b.RemovedAll = r.Engine.Problem[service.KeyRemoved]
	for _, p := range r.Engine.Problems {
		if p.Kind == service.KeyRemoved {
			b.Removed = append(b.Removed, p.Minion)
		}
	}
	v.fleet.Bridge = b
}

func (v *visit) close() {
	if v.store != nil {
		_ = v.store.close()
	}
}
