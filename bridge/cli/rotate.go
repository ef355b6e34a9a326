package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/autoscaling"
	"phoenix/bridge/awsenv"
	"phoenix/bridge/config"
	"phoenix/bridge/fleet"
	"phoenix/bridge/identity"
	"phoenix/bridge/open"
	"phoenix/bridge/retry"
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
	// forgetFor is how long minions are asked to forget the old key: one that fails over is
	// connected to another master within some 30 s.
	forgetFor = 45 * time.Second
	// maxSaid is as much of their output as an error line bears.
	maxSaid = 400
	// answerWithin bounds one ping of the master, whose workers may hang. Some are busy for
	// that long, so several pings must fail before it counts as stopped.
	answerWithin = 5 * time.Second
	provesMost   = 3
	// downWithin is how long a master that was stopped may still take connections.
	downWithin = 10 * time.Second
	// closedChecks and closedPoll: a master that is restarted refuses connections for a moment.
	closedChecks = 3
	closedPoll   = 500 * time.Millisecond
	// rotateWait and rotateDrain are the defaults of --wait and --drain. Agents read the
	// masters once a minute or so, and then have up to 30 s.
	rotateWait  = time.Hour
	rotateDrain = 3 * time.Minute
)

func rotateCommand() *cli.Command {
	return &cli.Command{
		Name:  "rotate",
		Usage: "replace a shared key that has leaked: run it on each master",
		Description: "On one master, --start makes a new key pair. Then run this on each master, at the same time or one after the\n" +
			"other. It gives both keys to the minions that are connected here, and waits until all masters have done so.\n" +
			"Then masters change their key, one at a time: each drains, stops salt-master, installs the new pair, and\n" +
			"serves again. Last, minions forget the old key. If it is killed, the next run continues at the same step.",
		Flags: []cli.Flag{jsonFlag, &cli.BoolFlag{Name: "dry-run",
			Usage: "show what would be done, and change nothing"},
			&cli.BoolFlag{Name: "start", Usage: "make a new key pair, if no rotation is running"},
			&cli.DurationFlag{Name: "wait", Value: rotateWait, Usage: "how long to wait for other masters"},
			&cli.DurationFlag{Name: "drain", Value: rotateDrain,
				Usage: "how long to wait for minions to leave this master"},
			&cli.StringFlag{Name: "stop-command", Value: "systemctl stop salt-master",
				Usage: "the command that stops salt-master"},
			&cli.StringFlag{Name: "start-command",
				Value: "systemctl start salt-master && systemctl try-restart phoenix-bridge",
				Usage: "the command that starts salt-master, and restarts the bridge, so that its relay uses the new key"}},
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
	c         *cli.Context
	id        string
	store     fleet.Store
	config    salt.Config
	place     *identity.Place
	bucket    *identity.Bucket
	keys      *salt.Keys
	client    *salt.Master
	address   string // of its request channel
	jobs      *minionJobs
	valid     func(string) bool
	left      func() (int, error)
	said      string
	unreached []string // as last read; the object forgets them with the rotation
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
	r := &rotator{c: c, id: cfg.InstanceID, store: store, config: master,
		address: strings.TrimPrefix(master.RetEndpoint(), "tcp://"), place: place, bucket: bucket, keys: keys,
		client: client, jobs: jobs,
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
		case out.Stage == identity.StageDistribute:
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
			if !retry.Sleep(ctx, rotatePoll) {
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
	out := rotatedIdentity{Told: []string{}, Untold: []string{}, Cleared: []string{}, WaitsFor: []string{},
		DryRun: r.c.Bool("dry-run")}
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
		out.Told, out.Untold, out.Cleared = append(out.Told, rotation.Distributed...),
			append(out.Untold, rotation.Unreached...), append(out.Cleared, rotation.Cleared...)
		if own.Digest != fresh.Digest && own.Digest != out.OldKeySHA256 {
			return out, fresh, fmt.Errorf("rotate identity: %w: %s, neither the old one nor the new one of the rotation", identity.ErrOtherKey, own.Digest)
		}
		r.unreached = rotation.Unreached
	} else if own.Digest != fresh.Digest {
		return out, fresh, fmt.Errorf("rotate identity: no rotation is under way, and %w: phoenix identity show",
			identity.ErrOtherKey)
	}
	if shared.Rotation == nil {
		out.Untold = append(out.Untold, r.unreached...)
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

// say prints the progress whenever it changes.
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
		fmt.Fprintf(w, "this master is done; the rotation ends when these are: %s\n",
			plain(strings.Join(out.WaitsFor, ", ")))
	default:
		fmt.Fprintf(w, "next on this master: %s %s\n", out.Stage, plain(strings.Join(out.WaitsFor, ", ")))
	}
	fmt.Fprintf(w, "key_sha256         %s\nmaster_finger      %s\n", out.KeySHA256, out.MasterFinger)
	for _, id := range out.Untold {
		fmt.Fprintf(w, "without both keys  %s\n", plain(id))
	}
	return nil
}
