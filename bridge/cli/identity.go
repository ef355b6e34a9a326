package cli

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/awsenv"
	"phoenix/bridge/config"
	"phoenix/bridge/fleet"
	"phoenix/bridge/identity"
	"phoenix/bridge/salt"
)

func identityCommand() *cli.Command {
	dry := &cli.BoolFlag{Name: "dry-run", Usage: "show what would be done, and change nothing"}
	return &cli.Command{
		Name:  "identity",
		Usage: "the key pair that all masters of the fleet share",
		Subcommands: []*cli.Command{
			{
				Name:   "show",
				Usage:  "show the shared key and this master's, with the master_finger for minions",
				Flags:  []cli.Flag{jsonFlag},
				Action: showIdentity,
			},
			{
				Name:  "import",
				Usage: "share this master's key, and the files of identity.files",
				Description: "The first master that runs this makes the shared identity, which is never overwritten. On a master\n" +
					"that has the shared key, --replace-files shares its other files again.",
				Flags: []cli.Flag{jsonFlag, dry,
					&cli.BoolFlag{Name: "replace-files",
						Usage: "share again the files that differ from the shared ones"}},
				Action: changeIdentity(importIdentity),
			},
			{
				Name:  "install",
				Usage: "install the shared key on this master before its first start; if there is none, share its own or a new one",
				Description: "Never overwrites a different key of this master. Does nothing if the master has the shared key, so it\n" +
					"can run before each start of salt-master.",
				Flags: []cli.Flag{jsonFlag, dry,
					&cli.BoolFlag{Name: "replace-files",
						Usage: "overwrite files of identity.files that differ from the shared ones"}},
				Action: changeIdentity(installIdentity),
			},
			rotateCommand(),
		},
	}
}

// openIdentity opens both ends: where this machine's master keeps its key, and
// the object that the masters share.
//
// Without identity.bucket there is no object: nil.
func openIdentity(c *cli.Context) (*identity.Place, *identity.Bucket, error) {
	cfg, err := readConfig(c)
	if err != nil {
		return nil, nil, err
	}
	master, err := salt.ReadConfig(cfg.SaltConfig)
	if err == nil {
		err = master.Validate()
	}
	if err != nil {
		return nil, nil, usageError(fmt.Errorf("salt_config: %w", err))
	}
	if _, err := salt.OpenKeys(master); err != nil {
		return nil, nil, usageError(fmt.Errorf("salt_config: %w", err))
	}
	own, err := identity.Open(identity.Config{PKIDir: master.PKIDir, User: master.User, ID: master.ID,
		Files: cfg.Identity.Files})
	if err != nil {
		if !errors.Is(err, fs.ErrPermission) {
			err = usageError(err)
		}
		return nil, nil, err
	}
	if cfg.Identity.Bucket == "" {
		return own, nil, nil
	}
	bucket, err := openBucket(c.Context, cfg)
	return own, bucket, err
}

// openBucket opens the object that the masters share.
func openBucket(ctx context.Context, cfg config.Config) (*identity.Bucket, error) {
	i := cfg.Identity
	if i.Region == "" {
		loaded, err := awsenv.Load(ctx, cfg)
		if err != nil {
			return nil, err
		}
		i.Region = loaded.Region
	}
	bucket, err := identity.OpenBucket(ctx, identity.BucketConfig{
		Bucket: i.Bucket, Key: i.Key, KMSKey: i.KMSKey, Region: i.Region, Endpoint: i.Endpoint})
	if err != nil {
		return nil, usageError(err)
	}
	return bucket, nil
}

// shownKey is one key pair in the output of show.
type shownKey struct {
	KeySHA256    string `json:"key_sha256"`
	MasterFinger string `json:"master_finger"`
}

type shownIdentity struct {
	Object string    `json:"object,omitempty"` // empty: identity.bucket is not set
	Shared *shownKey `json:"shared"`           // null: there is none yet
	Files  []string  `json:"files"`
	Master *shownKey `json:"master"` // null: this master has no key yet
	Same   bool      `json:"same"`
}

func showIdentity(c *cli.Context) error {
	own, bucket, err := openIdentity(c)
	if err != nil {
		return err
	}
	shown := shownIdentity{Files: []string{}}
	switch public, err := own.Public(); {
	case errors.Is(err, identity.ErrNone):
	case err != nil:
		return fmt.Errorf("show identity: %w", err)
	default:
		digest, err := fleet.KeyDigest(public)
		if err != nil {
			return fmt.Errorf("show identity: %w", err)
		}
		shown.Master = &shownKey{digest, identity.Finger(public)}
	}
	if bucket != nil {
		shown.Object = bucket.String()
		switch shared, _, err := bucket.Get(c.Context); {
		case errors.Is(err, identity.ErrNone):
		case err != nil:
			return fmt.Errorf("show identity: %w", err)
		default:
			shown.Shared = &shownKey{shared.Digest, identity.Finger(shared.Public)}
			for _, f := range shared.Files {
				shown.Files = append(shown.Files, f.Path)
			}
			shown.Same = shown.Master != nil && shown.Master.KeySHA256 == shared.Digest
		}
	}
	if c.Bool("json") {
		return printJSON(c.App.Writer, shown)
	}
	return printIdentity(c, shown)
}

func printIdentity(c *cli.Context, shown shownIdentity) error {
	t := newTable(c.App.Writer, "", "KEY_SHA256", "MASTER_FINGER")
	for _, row := range []struct {
		name string
		key  *shownKey
	}{{"shared", shown.Shared}, {"this master", shown.Master}} {
		if row.key == nil {
			t.row(row.name, "none", "")
			continue
		}
		t.row(row.name, row.key.KeySHA256, row.key.MasterFinger)
	}
	if err := t.flush(); err != nil {
		return err
	}
	switch {
	case shown.Object == "":
		fmt.Fprintln(c.App.Writer, "identity.bucket is not set: nothing is shared")
	case shown.Shared == nil:
		fmt.Fprintf(c.App.Writer, "%s is not there yet\n", plain(shown.Object))
	case shown.Master != nil && !shown.Same:
		fmt.Fprintln(c.App.Writer, "the keys DIFFER: minions that trust one refuse the other")
	}
	for _, path := range shown.Files {
		fmt.Fprintf(c.App.Writer, "shared file  %s\n", plain(path))
	}
	return nil
}

// changedIdentity is what import and install did, or would do.
type changedIdentity struct {
	Action identity.Action `json:"action"`
	shownKey
	Files  []string `json:"files"`
	Kept   []string `json:"kept"`
	Fault  string   `json:"fault,omitempty"` // why what is shared was not read
	DryRun bool     `json:"dry_run"`
}

type change func(context.Context, *identity.Bucket, *identity.Place, identity.Options) (identity.Report, error)

func installIdentity(ctx context.Context, b *identity.Bucket, p *identity.Place,
	o identity.Options) (identity.Report, error) {
	return identity.Install(ctx, b, p, o)
}

func importIdentity(ctx context.Context, b *identity.Bucket, p *identity.Place,
	o identity.Options) (identity.Report, error) {
	return identity.Import(ctx, b, p, o)
}

func changeIdentity(do change) cli.ActionFunc {
	return func(c *cli.Context) error {
		own, bucket, err := openIdentity(c)
		if err != nil {
			return err
		}
		if bucket == nil {
			return usageError(errors.New("identity.bucket is not set: it names the S3 bucket that the masters share"))
		}
		r, err := do(c.Context, bucket, own,
			identity.Options{DryRun: c.Bool("dry-run"), Replace: c.Bool("replace-files")})
		if err != nil {
			return err
		}
		out := changedIdentity{Action: r.Action, DryRun: c.Bool("dry-run"), Files: []string{}, Kept: []string{}}
		out.Files, out.Kept = append(out.Files, r.Files...), append(out.Kept, r.Kept...)
		if !out.DryRun || out.Action != identity.Made { // a key that would be made has no name yet
			out.shownKey = shownKey{r.Pair.Digest, identity.Finger(r.Pair.Public)}
		}
		if r.Fault != nil {
			out.Fault = describeError(r.Fault)
		}
		if c.Bool("json") {
			return printJSON(c.App.Writer, out)
		}
		return printChange(c, out, bucket)
	}
}

func printChange(c *cli.Context, done changedIdentity, bucket *identity.Bucket) error {
	w := c.App.Writer
	text := map[identity.Action]string{
		identity.Made:      "a new key is made and shared as %s",
		identity.Offered:   "this master's key is shared as %s",
		identity.Installed: "the key of %s is installed",
		identity.Unchanged: "this master has the key of %s",
		identity.Kept:      "this master's own key stays; it was not held against %s",
		identity.Updated:   "files are shared anew in %s",
	}[done.Action]
	if done.DryRun {
		text = "would be so: " + text
	}
	fmt.Fprintf(w, text+"\n", plain(bucket.String()))
	if done.Fault != "" {
		fmt.Fprintf(c.App.ErrWriter, "warning: %s\n", plain(done.Fault))
	}
	if done.KeySHA256 != "" {
		fmt.Fprintf(w, "key_sha256     %s\nmaster_finger  %s\n", done.KeySHA256, done.MasterFinger)
	}
	for _, path := range done.Files {
		fmt.Fprintf(w, "written        %s\n", plain(path))
	}
	for _, path := range done.Kept {
		fmt.Fprintf(c.App.ErrWriter, "note: %s differs from the shared file, and stays (--replace-files takes the shared one)\n", plain(path))
	}
	return nil
}
