package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"phoenix/lab"
	"phoenix/lab/moto"
)

// sharer is a machine with a master that was never started, and moto's S3.
type sharer struct {
	t    *testing.T
	pki  string
	args []string
}

func newSharer(t *testing.T, endpoint string) *sharer {
	t.Helper()
	dir := t.TempDir()
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	s := &sharer{t: t, pki: filepath.Join(dir, "pki")}
	cfg := filepath.Join(dir, "master")
	if err := os.WriteFile(cfg, fmt.Appendf(nil, "user: %s\npki_dir: %s\nid: salt-1\n", u.Username, s.pki),
		0o600); err != nil {
		t.Fatal(err)
	}
	s.args = []string{"--salt-config", cfg, "--identity-endpoint", endpoint, "--identity-region", moto.Region,
		"--identity-bucket", "masters"}
	return s
}

func (s *sharer) run(args ...string) (code int, out, errs string) {
	s.t.Helper()
	var stdout, stderr bytes.Buffer
	code = run(s.t.Context(), append(append([]string{"phoenix", "identity"}, args...), s.args...), &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

// The commands as an operator and a machine's start use them, with exit codes.
func TestIdentityCommands(t *testing.T) {
	cfg := moto.Start(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	client := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	_, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("masters"),
		CreateBucketConfiguration: &types.CreateBucketConfiguration{LocationConstraint: moto.Region}})
	if err != nil {
		t.Fatal(err)
	}
	one, two, stranger := newSharer(t, *cfg.BaseEndpoint), newSharer(t, *cfg.BaseEndpoint),
		newSharer(t, *cfg.BaseEndpoint)

	if code, out, errs := one.run("import"); code != exitNotFound {
		t.Errorf("import of nothing: %d %s%s", code, out, errs)
	}
	if code, out, errs := one.run("install", "--dry-run"); code != exitOK || !strings.Contains(out, "would be so") {
		t.Errorf("dry run: %d %s%s", code, out, errs)
	}
	if _, err := os.Stat(one.pki); err == nil {
		t.Error("the dry run wrote")
	}
	var made, installed changedIdentity
	decodeRun(t, one, &made, "install", "--json")
	decodeRun(t, two, &installed, "install", "--json")
	if made.Action != "made" || installed.Action != "installed" || made.KeySHA256 != installed.KeySHA256 ||
		len(installed.Files) != 2 {
		t.Errorf("%+v, then %+v", made, installed)
	}
	var shown shownIdentity
	decodeRun(t, two, &shown, "show", "--json")
	if !shown.Same || shown.Master.MasterFinger != made.MasterFinger || shown.Shared.KeySHA256 != made.KeySHA256 ||
		shown.Object != "s3://masters/phoenix/identity" {
		t.Errorf("%+v", shown)
	}
	if code, out, errs := two.run("show"); code != exitOK || strings.Count(out, made.MasterFinger) != 2 ||
		strings.Contains(out, "DIFFER") {
		t.Errorf("%d %s%s", code, out, errs)
	}

	// Another key stays, and is told beside the shared one.
	other := newSharer(t, *cfg.BaseEndpoint)
	other.args = append(other.args, "--identity-key", "other")
	if code, _, errs := other.run("install"); code != exitOK {
		t.Fatal(errs)
	}
	if err := os.CopyFS(stranger.pki, os.DirFS(other.pki)); err != nil {
		t.Fatal(err)
	}
	code, _, errs := stranger.run("install")
	if code != exitFailed || !strings.Contains(errs, made.MasterFinger) || strings.Count(errs, "\n") != 1 {
		t.Errorf("%d %s", code, errs)
	}
	if _, out, _ := stranger.run("show"); !strings.Contains(out, "DIFFER") {
		t.Errorf("show: %s", out)
	}

	for name, test := range map[string]struct {
		args []string
		code int
	}{
		"no bucket is named":   {[]string{"install", "--identity-bucket="}, exitUsage},
		"no such bucket":       {[]string{"install", "--identity-bucket=nowhere"}, exitStore},
		"path that climbs out": {[]string{"install", "--identity-files=../x"}, exitUsage},
		"no such command":      {[]string{"instal"}, exitUsage},
	} {
		s := newSharer(t, *cfg.BaseEndpoint)
		if strings.HasPrefix(strings.Join(test.args, " "), "install --identity-bucket") {
			s.args = s.args[:len(s.args)-2]
		}
		if code, out, errs := s.run(test.args...); code != test.code || errs == "" {
			t.Errorf("%s: exit code %d, want %d: %s%s", name, code, test.code, out, errs)
		}
	}
}

// TestFirstMastersRace: two masters that are the first run "phoenix identity
// install" at the same moment, as processes of their own. One makes the key pair,
// and both have it; ten times.
func TestFirstMastersRace(t *testing.T) {
	cfg := moto.Start(t)
	client := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	_, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("masters"),
		CreateBucketConfiguration: &types.CreateBucketConfiguration{LocationConstraint: moto.Region}})
	if err != nil {
		t.Fatal(err)
	}
	binary, err := lab.Binary()
	if err != nil {
		t.Fatal(err)
	}
	for round := range 10 {
		var racers [2]struct {
			*sharer
			out, errs bytes.Buffer
			cmd       *exec.Cmd
		}
		for i := range racers {
			r := &racers[i]
			r.sharer = newSharer(t, *cfg.BaseEndpoint)
			r.cmd = exec.Command(binary, append([]string{"identity", "install", "--json", "--identity-key",
				fmt.Sprint("race-", round)}, r.args...)...)
			r.cmd.Env = append(os.Environ(), "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test")
			r.cmd.Stdout, r.cmd.Stderr = &r.out, &r.errs
			if err := r.cmd.Start(); err != nil {
				t.Fatal(err)
			}
		}
		actions := map[string]int{}
		for i := range racers {
			r := &racers[i]
			if err := r.cmd.Wait(); err != nil {
				t.Fatalf("round %d: %v\n%s", round, err, &r.errs)
			}
			var changed changedIdentity
			if err := json.Unmarshal(r.out.Bytes(), &changed); err != nil {
				t.Fatalf("round %d: %v in %s", round, err, &r.out)
			}
			actions[string(changed.Action)]++
		}
		if actions["made"] != 1 || actions["installed"] != 1 {
			t.Errorf("round %d: %v", round, actions)
		}
		for _, name := range []string{"master.pem", "master.pub"} {
			one, err := os.ReadFile(filepath.Join(racers[0].pki, name))
			two, err2 := os.ReadFile(filepath.Join(racers[1].pki, name))
			if err := errors.Join(err, err2); err != nil || len(one) == 0 || !bytes.Equal(one, two) {
				t.Errorf("round %d: %s: the masters have different ones, or none: %v", round, name, err)
			}
		}
	}
}

func decodeRun(t *testing.T, s *sharer, into any, args ...string) {
	t.Helper()
	code, out, errs := s.run(args...)
	if code != exitOK {
		t.Fatalf("%v: exit code %d: %s", args, code, errs)
	}
	if err := json.Unmarshal([]byte(out), into); err != nil {
		t.Fatalf("%v: %v in %s", args, err, out)
	}
}
