package cli

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/agent"
	"phoenix/bridge/autoscaling"
	"phoenix/bridge/awsenv"
	"phoenix/bridge/config"
	"phoenix/bridge/fleet"
	"phoenix/bridge/identity"
	"phoenix/bridge/open"
	"phoenix/bridge/salt"
)

const (
	// rotatePoll is how often it is decided whether another master is done.
	rotatePoll = 5 * time.Second
	// leftPoll is how often the minions that are left on a draining master are counted.
	leftPoll = time.Second
	// serveWithin bounds the wait for a master that was started to be ready again.
	serveWithin = 10 * time.Minute
	// serviceWithin bounds the commands that stop and start salt-master.
	serviceWithin = 3 * time.Minute
	// maxSaid is as much of their output as an error line bears.
	maxSaid = 400
	// answerWithin bounds one ping of the master, whose workers may hang.
	answerWithin = 5 * time.Second
	// downWithin is how long a master that was stopped may go on to answer.
	downWithin = 10 * time.Second
	// rotateWait and rotateDrain are the defaults of --wait and --drain. Agents read the
	// masters once a minute or so, and then have up to 30 s.
	rotateWait  = time.Hour
	rotateDrain = 3 * time.Minute
)

func rotateCommand() *cli.Command {
	return &cli.Command{
		Name:  "rotate",
		Usage: "replace a shared key that has leaked: run it on each master",
		Description: "On one master --start makes a new key pair. Then each master runs this, at the same time or one after the\n" +
			"other. It gives both keys to the minions that are connected here, and waits until all masters have. Then\n" +
			"masters change their key, one at a time: each drains, stops salt-master, has the new pair, and serves again.\n" +
			"Last, minions forget the old key. Killed at any point, it goes on where it was when it is run again.",
		Flags: []cli.Flag{jsonFlag, &cli.BoolFlag{Name: "dry-run", Usage: "say what would be done, and do nothing"},
			&cli.BoolFlag{Name: "start", Usage: "make a new key pair, if no rotation is under way"},
			&cli.DurationFlag{Name: "wait", Value: rotateWait, Usage: "how long to wait for other masters"},
			&cli.DurationFlag{Name: "drain", Value: rotateDrain, Usage: "how long to wait for minions to leave this master"},
			&cli.StringFlag{Name: "stop-command", Value: "systemctl stop salt-master", Usage: "stops salt-master"},
			&cli.StringFlag{Name: "start-command", Value: "systemctl start salt-master && systemctl try-restart phoenix-bridge",
				Usage: "starts salt-master, and restarts the bridge, whose relay shows the new key"}},
		Action: withStore(rotateIdentity),
	}
}

// rotatedIdentity is how far a rotation is.
type rotatedIdentity struct {
	Stage        identity.Stage `json:"stage"` // of this master
	Over         bool           `json:"over"`  // for all
	KeySHA256    string         `json:"key_sha256"`
	MasterFinger string         `json:"master_finger"`
	OldKeySHA256 string         `json:"old_key_sha256,omitempty"`
	Turn         string         `json:"turn,omitempty"`
	Told         []string       `json:"told"`
	Untold       []string       `json:"untold"` // minions
	Cleared      []string       `json:"cleared"`
	WaitsFor     []string       `json:"waits_for"`
	DryRun       bool           `json:"dry_run"`
}

// rotator carries one master through a rotation.
type rotator struct {
	c      *cli.Context
	id     string
	store  fleet.Store
	place  *identity.Place
	bucket *identity.Bucket
	keys   *salt.Keys
	client *salt.Master
	jobs   *minionJobs
	valid  func(string) bool
	left   func() (int, error)
	said   string
	untold []string // as last read; the object forgets them with the rotation
}

func rotateIdentity(c *cli.Context, cfg config.Config, store fleet.Store) error {
	place, bucket, err := openIdentity(c)
	if err != nil {
		return err
	}
	if bucket == nil {
		return usageError(errors.New("identity.bucket is not set: it names the S3 bucket that the masters share"))
	}
	master, keys, client, err := open.Master(cfg)
	if err != nil {
		return err
	}
	if _, err := awsenv.IdentifyMaster(c.Context, &cfg, ""); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(c.Context)
	defer stop()
	jobs, err := openJobs(ctx, master, client)
	if err != nil {
		return err
	}
	// id_pattern says whose keys Phoenix accepts; minions that were accepted before it came
	// must trust the new key, too.
	safe := config.Config{IDPattern: config.IDPatternSQLite}
	r := &rotator{c: c, id: cfg.InstanceID, store: store, place: place, bucket: bucket, keys: keys, client: client, jobs: jobs,
		valid: safe.ValidID(), left: autoscaling.Left(master.Interface, master.PublishPort)}
	if c.Bool("start") && !c.Bool("dry-run") {
		r.say("a new key pair is made, unless a rotation is under way")
		if _, err := identity.Start(ctx, bucket, place); err != nil {
			return err
		}
	}
	return r.run(ctx)
}

// run does what is next until nothing is, or others keep it waiting for too long.
func (r *rotator) run(ctx context.Context) error {
	until := time.Now().Add(r.c.Duration("wait"))
	for {
		out, fresh, err := r.look(ctx)
		if err != nil {
			return err
		}
		switch {
		case r.c.Bool("dry-run"), out.Stage == identity.StageDone:
			return r.print(out)
		case out.Stage == identity.StageTell:
			err = r.tell(ctx, fresh)
		case out.Stage == identity.StageChange:
			if err = r.change(ctx, fresh); errors.Is(err, errLater) {
				err = nil
			}
		case out.Stage == identity.StageClear:
			err = r.clear(ctx)
		case time.Now().After(until):
			return cmp.Or(r.print(out), fmt.Errorf("rotate identity: not done yet: this master waits for %s (run phoenix identity rotate there; "+
				"phoenix masters retire one that is gone)", strings.Join(out.WaitsFor, ", ")))
		default:
			r.say("waits for %s: run phoenix identity rotate there", strings.Join(out.WaitsFor, ", "))
			if !pause(ctx, rotatePoll) {
				return ctx.Err()
			}
		}
		if err != nil {
			return fmt.Errorf("rotate identity: %s: %w (run it again to go on)", out.Stage, err)
		}
	}
}

// look reads how far the rotation is. fresh is the pair that masters are to have.
func (r *rotator) look(ctx context.Context) (rotatedIdentity, identity.Pair, error) {
	out := rotatedIdentity{Told: []string{}, Untold: []string{}, Cleared: []string{}, WaitsFor: []string{}, DryRun: r.c.Bool("dry-run")}
	shared, _, err := r.bucket.Get(ctx)
	if err != nil {
		return out, identity.Pair{}, err
	}
	own, err := r.place.Pair()
	if err != nil {
		return out, identity.Pair{}, err
	}
	masters, err := r.masters(ctx)
	if err != nil {
		return out, identity.Pair{}, err
	}
	fresh := shared.Pair
	if rotation := shared.Rotation; rotation != nil {
		fresh = rotation.NewKey(shared.Pair)
		out.OldKeySHA256, out.Turn = rotation.OldDigest(), rotation.Turn
		out.Told, out.Untold, out.Cleared = append(out.Told, rotation.Told...), append(out.Untold, rotation.Untold...), append(out.Cleared, rotation.Cleared...)
		if own.Digest != fresh.Digest && own.Digest != out.OldKeySHA256 {
			return out, fresh, fmt.Errorf("rotate identity: %w: %s, neither the old one nor the new one of the rotation", identity.ErrOtherKey, own.Digest)
		}
		r.untold = rotation.Untold
	} else if own.Digest != fresh.Digest {
		return out, fresh, fmt.Errorf("rotate identity: no rotation is under way, and %w: phoenix identity show", identity.ErrOtherKey)
	}
	if shared.Rotation == nil {
		out.Untold = append(out.Untold, r.untold...)
	}
	out.KeySHA256, out.MasterFinger = fresh.Digest, identity.Finger(fresh.Public)
	stage, waits := shared.Rotation.NextStage(r.id, own.Digest, shared.Pair, masters)
	out.Stage, out.WaitsFor, out.Over = stage, append(out.WaitsFor, waits...), shared.Rotation == nil
	return out, fresh, nil
}

func (r *rotator) masters(ctx context.Context) ([]fleet.Master, error) {
	masters, err := r.store.Masters(ctx)
	if _, err := fleet.WithoutBadRows(err); err != nil {
		return nil, err
	}
	return masters, nil
}

// tell gives both keys to the minions that are connected to this master.
func (r *rotator) tell(ctx context.Context, fresh identity.Pair) error {
	r.say("tell: minions connected here get the new key beside the old one")
	all, missed, err := r.hand(ctx, fresh)
	if err != nil {
		return err
	}
	r.say("told %d of the %d minions that this master knows; others may be connected to other masters", all-len(missed), all)
	_, err = identity.Told(ctx, r.bucket, r.id, missed)
	return err
}

// hand writes both keys on the minions that answer. missed are the others of all that
// this master knows.
func (r *rotator) hand(ctx context.Context, fresh identity.Pair) (all int, missed []string, err error) {
	shared, _, err := r.bucket.Get(ctx)
	if err != nil {
		return 0, nil, err
	}
	if shared.Rotation == nil {
		return 0, nil, identity.ErrNoRotation
	}
	text := strings.TrimSpace(string(fresh.Public)) + "\n" + strings.TrimSpace(string(shared.Rotation.Old)) + "\n"
	ids, folders, err := r.connected(ctx, identity.Finger(fresh.Public))
	if err != nil {
		return 0, nil, err
	}
	wrote, err := r.each(ctx, folders, func(folder string) []salt.Call {
		name := below(folder, agent.KeysFile)
		return []salt.Call{minionWrites(name, text), call("file.read", name)}
	})
	if err != nil {
		return 0, nil, err
	}
	for _, id := range ids {
		if strings.TrimSpace(returned(wrote[id], "file.read")) != strings.TrimSpace(text) {
			missed = append(missed, id)
		}
	}
	return len(ids), missed, nil
}

// connected asks the minions that this master knows where they keep their keys: who is
// connected here answers. A minion with a master_finger would refuse another key.
func (r *rotator) connected(ctx context.Context, finger string) (ids []string, folders map[string][]string, err error) {
	list, err := r.keys.List()
	if err != nil {
		return nil, nil, err
	}
	for _, id := range list.Accepted {
		if r.valid(id) {
			ids = append(ids, id)
		} else {
			r.note("minion %s gets no job, since its id is none of a host: write the new key to its minion_master.pub", id)
		}
	}
	if len(ids) == 0 {
		return nil, nil, nil
	}
	answers, err := r.jobs.run(ctx, ids, call("config.get", "pki_dir"), call("config.option", "master_finger"))
	if err != nil {
		return nil, nil, err
	}
	folders = map[string][]string{}
	for id, answer := range answers {
		folder, wants := returned(answer, "config.get"), returned(answer, "config.option")
		switch {
		case wants != "" && wants != finger && finger != "":
			r.note("minion %s has a master_finger, and would refuse the new key: change it there to %s", id, finger)
		case folder != "":
			folders[folder] = append(folders[folder], id)
		}
	}
	return ids, folders, nil
}

// each runs the functions for a folder on the minions that have that one.
func (r *rotator) each(ctx context.Context, folders map[string][]string, calls func(folder string) []salt.Call) (map[string]any, error) {
	all := map[string]any{}
	for _, folder := range slices.Sorted(maps.Keys(folders)) {
		answers, err := r.jobs.run(ctx, folders[folder], calls(folder)...)
		if err != nil {
			return nil, err
		}
		maps.Copy(all, answers)
	}
	return all, nil
}

// change gives this master the new key.
func (r *rotator) change(ctx context.Context, fresh identity.Pair) error {
	alone, err := r.takeTurn(ctx)
	if err != nil {
		return err
	}
	own, err := r.place.Pair()
	if err != nil {
		return err
	}
	old := ""
	if own.Digest != fresh.Digest {
		if old = own.Digest; r.answers(ctx) {
			if err := r.clearOut(ctx, fresh, alone); err != nil {
				return err
			}
		} else {
			r.say("salt-master does not answer: it was stopped already")
		}
	}
	r.say("stop: %s", r.c.String("stop-command"))
	if err := r.service(ctx, r.c.String("stop-command")); err != nil {
		return err
	}
	err = r.isDown(ctx)
	if err == nil {
		r.say("exchange: the key of this master")
		err = r.place.Exchange(fresh, old)
	}
	// What was stopped is started again, whatever the outcome and even after Ctrl-C.
	r.say("start: %s", r.c.String("start-command"))
	if err := errors.Join(err, r.service(context.WithoutCancel(ctx), r.c.String("start-command"))); err != nil {
		return err
	}
	r.say("serve: waits until this master is ready with the new key")
	if err := r.serves(ctx, fresh.Digest); err != nil {
		return err
	}
	if err := r.store.DrainMaster(ctx, r.id, false); err != nil {
		return err
	}
	_, err = identity.EndTurn(ctx, r.bucket, r.id)
	return err
}

// errLater: another master took its turn first.
var errLater = errors.New("another master changes its key now")

// takeTurn takes the turn, if another master serves meanwhile, or there is no other.
func (r *rotator) takeTurn(ctx context.Context) (alone bool, err error) {
	masters, err := r.masters(ctx)
	if err != nil {
		return false, err
	}
	alone = !slices.ContainsFunc(masters, func(m fleet.Master) bool { return m.InstanceID != r.id && m.Status == fleet.Launch })
	if !alone && r.answers(ctx) { // else nothing is lost by going on
		if err := anotherServes(ctx, r.store, r.id, masters); err != nil {
			return false, err
		}
	}
	r.say("turn: this master changes its key now")
	_, err = identity.TakeTurn(ctx, r.bucket, r.id, func(id identity.Identity) error {
		own, err := r.place.Pair()
		if err != nil {
			return err
		}
		if stage, waits := id.Rotation.NextStage(r.id, own.Digest, id.Pair, masters); stage != identity.StageChange {
			return fmt.Errorf("%w: %s %v", errLater, stage, waits)
		}
		return nil
	})
	return alone, err
}

// clearOut has the minions leave, once they have both keys. Those that stay (no agent
// is beside them, or this is the only master) get the new key as the one that they
// trust: they take it at their next authentication, without a restart (3006.30, 3008.5).
func (r *rotator) clearOut(ctx context.Context, fresh identity.Pair, alone bool) error {
	r.say("tell: minions that came since get both keys")
	if _, _, err := r.hand(ctx, fresh); err != nil {
		return err
	}
	if !alone {
		r.say("drain: waits until minions have left this master, for up to %v", r.c.Duration("drain"))
		if err := r.store.DrainMaster(ctx, r.id, true); err != nil {
			return err
		}
		for until := time.Now().Add(r.c.Duration("drain")); time.Now().Before(until); {
			if n, err := r.left(); err == nil && n == 0 {
				r.say("no minion is left here")
				return nil
			}
			if !pause(ctx, leftPoll) {
				return ctx.Err()
			}
		}
	}
	r.say("trust: minions that are left here trust the new key from now on")
	_, folders, err := r.connected(ctx, "")
	if err != nil {
		return err
	}
	text := strings.TrimSpace(string(fresh.Public))
	_, err = r.each(ctx, folders, func(folder string) []salt.Call {
		name, temp := below(folder, "minion_master.pub"), below(folder, ".phoenix_master.new")
		return []salt.Call{minionWrites(temp, text), call("file.rename", temp, name)}
	})
	return err
}

// clear has the minions that are connected here forget the old key.
func (r *rotator) clear(ctx context.Context) error {
	r.say("forget: minions connected here forget the old key")
	ids, folders, err := r.connected(ctx, "")
	if err != nil {
		return err
	}
	gone, err := r.each(ctx, folders, func(folder string) []salt.Call {
		name := below(folder, agent.KeysFile)
		return []salt.Call{call("file.remove", name), call("file.file_exists", name)}
	})
	if err != nil {
		return err
	}
	n := 0
	for _, answer := range gone {
		byName, _ := answer.(map[string]any)
		if there, said := byName["file.file_exists"].(bool); said && !there {
			n++
		}
	}
	r.say("%d of the %d minions that this master knows have forgotten it", n, len(ids))
	masters, err := r.masters(ctx)
	if err != nil {
		return err
	}
	_, err = identity.Cleared(ctx, r.bucket, r.id, func(cleared []string) bool {
		return !slices.ContainsFunc(masters, func(m fleet.Master) bool {
			return m.Status == fleet.Launch && !slices.Contains(cleared, m.InstanceID)
		})
	})
	return err
}

// service runs a command of the operator's.
func (r *rotator) service(ctx context.Context, command string) error {
	ctx, cancel := context.WithTimeout(ctx, serviceWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", command)
	cmd.WaitDelay = 5 * time.Second
	if out, err := cmd.CombinedOutput(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		out = bytes.TrimSpace(out)
		return fmt.Errorf("run %q: %w: %s", command, err, out[max(0, len(out)-maxSaid):])
	}
	return nil
}

// answers reports whether salt-master answers a ping.
func (r *rotator) answers(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	return r.client.Prove(ctx) == nil
}

// isDown makes sure that salt-master is stopped before its key is replaced.
func (r *rotator) isDown(ctx context.Context) error {
	for until := time.Now().Add(downWithin); time.Now().Before(until); {
		asking, cancel := context.WithTimeout(ctx, time.Second)
		err := r.client.Prove(asking)
		cancel()
		if err != nil {
			return ctx.Err()
		}
		if !pause(ctx, leftPoll) {
			return ctx.Err()
		}
	}
	return errors.New("salt-master answers still: is --stop-command right?")
}

// serves waits until this master's row says that it is ready with that key.
func (r *rotator) serves(ctx context.Context, digest string) error {
	for until := time.Now().Add(serveWithin); ; {
		masters, err := r.masters(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(masters, func(m fleet.Master) bool { return m.InstanceID == r.id })
		if i >= 0 && masters[i].Ready && masters[i].MasterKeySHA256 == digest && r.answers(ctx) {
			return nil
		}
		if time.Now().After(until) {
			return fmt.Errorf("this master is not ready with the new key after %v: phoenix status says why", serveWithin)
		}
		if !pause(ctx, leftPoll) {
			return ctx.Err()
		}
	}
}

// say tells how far it is, once each time that this changes.
func (r *rotator) say(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); text != r.said {
		r.said = text
		r.note("%s", text)
	}
}

func (r *rotator) note(format string, args ...any) {
	fmt.Fprintf(r.c.App.ErrWriter, "%s  %s\n", time.Now().Format(time.TimeOnly), plain(fmt.Sprintf(format, args...)))
}

func (r *rotator) print(out rotatedIdentity) error {
	w := r.c.App.Writer
	if r.c.Bool("json") {
		return printJSON(w, out)
	}
	switch {
	case out.Over:
		fmt.Fprintln(w, "no rotation is under way: all masters have this key")
	case out.Stage == identity.StageDone:
		fmt.Fprintf(w, "this master is done; the rotation ends when these are: %s\n", plain(strings.Join(out.WaitsFor, ", ")))
	default:
		fmt.Fprintf(w, "next on this master: %s %s\n", out.Stage, plain(strings.Join(out.WaitsFor, ", ")))
	}
	fmt.Fprintf(w, "key_sha256     %s\nmaster_finger  %s\n", out.KeySHA256, out.MasterFinger)
	for _, id := range out.Untold {
		fmt.Fprintf(w, "not told       %s\n", plain(id))
	}
	return nil
}

// pause waits, unless ctx ends.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
