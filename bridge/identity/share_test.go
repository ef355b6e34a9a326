package identity

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"phoenix/bridge/fleet"
	"phoenix/lab/moto"
)

// TestMoto shares identities by way of moto's S3.
func TestMoto(t *testing.T) {
	cfg := moto.Start(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	client := s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = true })
	_, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("masters"),
		CreateBucketConfiguration: &types.CreateBucketConfiguration{LocationConstraint: moto.Region}})
	if err != nil {
		t.Fatal(err)
	}
	m := &motoLab{t, *cfg.BaseEndpoint, client}
	t.Run("Racers", m.racers)
	t.Run("Course", m.course)
	t.Run("Files", m.files)
	t.Run("Offer", m.offer)
	t.Run("LostAnswer", m.lostAnswer)
	t.Run("Garbage", m.garbage)
	t.Run("DryRun", m.dryRun)
	t.Run("NoBucket", m.noBucket)
	t.Run("Deleted", m.deleted)
}

type motoLab struct {
	*testing.T
	endpoint string
	client   *s3.Client
}

// bucket is an object of the test's own.
func (m *motoLab) bucket(t *testing.T, bucket string) *Bucket {
	t.Helper()
	b, err := OpenBucket(t.Context(),
		BucketConfig{Bucket: bucket, Key: t.Name(), Region: moto.Region, Endpoint: m.endpoint})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// racers: eight masters that start at once have one key pair, and one of them
// made it.
func (m *motoLab) racers(t *testing.T) {
	const n = 8
	b := m.bucket(t, "masters")
	var wg sync.WaitGroup
	var places [n]*Place
	var reports [n]Report
	var errs [n]error
	for i := range n {
		places[i] = newPlace(t)
		wg.Go(func() { reports[i], errs[i] = Install(t.Context(), b, places[i], Options{}) })
	}
	wg.Wait()
	made := 0
	for i := range n {
		if errs[i] != nil {
			t.Fatal(errs[i])
		}
		if reports[i].Action == Made {
			made++
		}
		if must(t, places[i].path("master.pem")) != must(t, places[0].path("master.pem")) ||
			must(t, places[i].path("master.pub")) != must(t, places[0].path("master.pub")) {
			t.Errorf("master %d has another key", i)
		}
	}
	if made != 1 {
		t.Errorf("%d masters say that they made it", made)
	}
}

// course: the first makes it, the second takes it, both have it; a stranger's key
// stays, and the error names both.
func (m *motoLab) course(t *testing.T) {
	b, first, second, stranger := m.bucket(t, "masters"), newPlace(t), newPlace(t), newPlace(t)
	install := func(p *Place, want Action) Report {
		t.Helper()
		r, err := Install(t.Context(), b, p, Options{})
		if err != nil || r.Action != want {
			t.Fatalf("%v, %v; want %v", r.Action, err, want)
		}
		return r
	}
	shared := install(first, Made).Pair
	install(second, Installed)
	install(first, Unchanged)
	install(second, Unchanged)
	own := newPair(t)
	put(t, own.Private, 0o400, stranger.path("master.pem"))
	for name, f := range map[string]func(context.Context, bucket, *Place, Options) (Report, error){"install": Install,
		"import": Import} {
		_, err := f(t.Context(), b, stranger, Options{Replace: true})
		if !errors.Is(err, ErrOtherKey) {
			t.Fatalf("%s: %v", name, err)
		}
		for _, want := range []string{own.Digest, shared.Digest, Finger(own.Public), Finger(shared.Public),
			stranger.path("master.pem")} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v: no word of %s", name, err, want)
			}
		}
	}
	if must(t, stranger.path("master.pem")) != string(own.Private) {
		t.Error("the stranger's key was touched")
	}
	head, err := m.client.HeadObject(t.Context(),
		&s3.HeadObjectInput{Bucket: aws.String("masters"), Key: aws.String(t.Name())})
	if err != nil || head.ServerSideEncryption != types.ServerSideEncryptionAwsKms {
		t.Errorf("encrypted by %v, %v", head, err)
	}
}

// offer: an existing master becomes the first of many, with the very text of its
// public key, by which its minions know it.
func (m *motoLab) offer(t *testing.T) {
	b, old, fresh := m.bucket(t, "masters"), newPlace(t), newPlace(t)
	own := newPair(t)
	put(t, own.Private, 0o400, old.path("master.pem"))
	put(t, own.Public, 0o644, old.path("master.pub"))
	before := inodes(t, old.dir)
	if r, err := Import(t.Context(), b, fresh, Options{}); !errors.Is(err, ErrNone) {
		t.Fatalf("imported nothing: %v, %v", r.Action, err)
	}
	if r, err := Install(t.Context(), b, old, Options{}); err != nil || r.Action != Offered ||
		len(r.Written.Files) > 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	if inodes(t, old.dir) != before {
		t.Error("its own files were touched")
	}
	if r, err := Install(t.Context(), b, fresh, Options{}); err != nil || r.Action != Installed {
		t.Fatalf("%v, %v", r.Action, err)
	}
	if must(t, fresh.path("master.pub")) != string(own.Public) ||
		must(t, fresh.path("master.pem")) != string(own.Private) {
		t.Error("the second master has another text")
	}
}

// files: what is listed comes along, all of it; later changes by an explicit word.
func (m *motoLab) files(t *testing.T) {
	b := m.bucket(t, "masters")
	outside := t.TempDir() + "/gpgkeys"
	list := []string{"master_sign.pem", outside}
	first, second, later := newPlace(t, list...), newPlace(t, list...), newPlace(t, append(list, "late.pem")...)
	put(t, []byte("sign"), 0o400, first.path("master_sign.pem"))
	if _, err := Install(t.Context(), b, first, Options{}); err == nil || !strings.Contains(err.Error(), outside) {
		t.Fatalf("a listed folder that is not there: %v", err)
	}
	if _, _, err := b.Get(t.Context()); !errors.Is(err, ErrNone) {
		t.Fatalf("half an identity was shared: %v", err)
	}
	put(t, []byte("gpg"), 0o600, outside, "private-keys-v1.d", "a.key")
	if r, err := Install(t.Context(), b, first, Options{}); err != nil || r.Action != Made {
		t.Fatalf("%+v, %v", r, err)
	}
	if err := os.RemoveAll(outside); err != nil { // all "machines" of this test share it
		t.Fatal(err)
	}
	if _, err := Install(t.Context(), b, second, Options{}); err != nil {
		t.Fatal(err)
	}
	if must(t, second.path("master_sign.pem")) != "sign" || must(t, outside, "private-keys-v1.d", "a.key") != "gpg" {
		t.Error("files differ")
	}
	if _, err := Install(t.Context(), b, later, Options{}); err == nil || !strings.Contains(err.Error(), "late.pem") {
		t.Errorf("a listed file that nobody has: %v", err)
	}
	put(t, []byte("anew"), 0o600, outside, "private-keys-v1.d", "a.key")
	if _, err := Import(t.Context(), b, second, Options{}); err == nil || !strings.Contains(err.Error(), "a.key") {
		t.Errorf("changed without a word: %v", err)
	}
	if r, err := Import(t.Context(), b, second, Options{Replace: true}); err != nil || r.Action != Updated ||
		len(r.Files) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := Import(t.Context(), b, second, Options{}); err != nil || r.Action != Unchanged {
		t.Errorf("%+v, %v", r, err)
	}
	if got, _, err := b.Get(t.Context()); err != nil || len(got.Files) != 2 || string(got.Files[1].Data) != "anew" {
		t.Errorf("%+v, %v", got.Files, err)
	}
}

// lostAnswer: a write whose answer was lost is our own when it is found again.
func (m *motoLab) lostAnswer(t *testing.T) {
	b, p := &deaf{bucket: m.bucket(t, "masters")}, newPlace(t)
	r, err := Install(t.Context(), b, p, Options{})
	if err != nil || r.Action != Installed || b.lost != 1 {
		t.Fatalf("%v, %v, %d lost", r.Action, err, b.lost)
	}
	if got, _, err := b.Get(t.Context()); err != nil || got.Digest != r.Pair.Digest {
		t.Errorf("%v, %v", got, err)
	}
}

// deaf does not hear the first answer, as the SDK that tries again does not.
type deaf struct {
	bucket
	lost int
}

func (d *deaf) Put(ctx context.Context, id Identity, tag string) error {
	err := d.bucket.Put(ctx, id, tag)
	if err == nil && d.lost == 0 {
		d.lost++
		return d.bucket.Put(ctx, id, tag)
	}
	return err
}

// garbage: an object that is none is neither installed nor overwritten.
func (m *motoLab) garbage(t *testing.T) {
	b, p := m.bucket(t, "masters"), newPlace(t)
	_, err := m.client.PutObject(t.Context(),
		&s3.PutObjectInput{Bucket: aws.String("masters"), Key: aws.String(t.Name()),
			Body: strings.NewReader("garbage")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Install(t.Context(), b, p, Options{Replace: true}); !errors.Is(err, fleet.ErrCorrupt) {
		t.Errorf("got %v", err)
	}
	if _, err := p.Pair(); !errors.Is(err, ErrNone) {
		t.Errorf("a key was made: %v", err)
	}
}

// dryRun says what would be, and nothing is.
func (m *motoLab) dryRun(t *testing.T) {
	b, p := m.bucket(t, "masters"), newPlace(t)
	if r, err := Install(t.Context(), b, p, Options{DryRun: true}); err != nil || r.Action != Made {
		t.Errorf("%v, %v", r.Action, err)
	}
	if _, _, err := b.Get(t.Context()); !errors.Is(err, ErrNone) {
		t.Errorf("it was shared: %v", err)
	}
	if _, err := os.Stat(p.dir); err == nil {
		t.Error("a folder was made")
	}
	if r, err := Install(t.Context(), b, newPlace(t), Options{}); err != nil || r.Action != Made {
		t.Fatalf("%v, %v", r.Action, err)
	}
	if r, err := Install(t.Context(), b, p, Options{DryRun: true}); err != nil || r.Action != Installed {
		t.Errorf("%v, %v", r.Action, err)
	}
	if _, err := os.Stat(p.dir); err == nil {
		t.Error("a folder was made")
	}
}

func (m *motoLab) noBucket(t *testing.T) {
	if _, err := Install(t.Context(), m.bucket(t, "nowhere"), newPlace(t), Options{}); !errors.Is(err,
		fleet.ErrUnavailable) ||
		!strings.Contains(err.Error(), "no such bucket") {
		t.Errorf("got %v", err)
	}
}

// deleted: a master that starts after the object was deleted makes no other key; one
// that has the key starts with it; once the object is back, all is as before.
func (m *motoLab) deleted(t *testing.T) {
	const name = "versioned"
	if _, err := m.client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(name),
		CreateBucketConfiguration: &types.CreateBucketConfiguration{LocationConstraint: moto.Region}}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.client.PutBucketVersioning(t.Context(), &s3.PutBucketVersioningInput{Bucket: aws.String(name),
		VersioningConfiguration: &types.VersioningConfiguration{Status: types.BucketVersioningStatusEnabled}}); err != nil {
		t.Fatal(err)
	}
	b, first, next := m.bucket(t, name), newPlace(t), newPlace(t)
	made, err := Install(t.Context(), b, first, Options{})
	if err != nil || made.Action != Made {
		t.Fatalf("%v, %v", made.Action, err)
	}
	gone, err := m.client.DeleteObject(t.Context(),
		&s3.DeleteObjectInput{Bucket: aws.String(name), Key: aws.String(t.Name())})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := Install(t.Context(), b, next, Options{}); !errors.Is(err, ErrDeleted) ||
		!strings.Contains(err.Error(), "restore it") {
		t.Errorf("a new master: %v, %v", r.Action, err)
	}
	if _, err := next.Pair(); !errors.Is(err, ErrNone) {
		t.Errorf("a new master has a key: %v", err)
	}
	if r, err := Install(t.Context(), b, first, Options{}); err != nil || r.Action != Kept ||
		!errors.Is(r.Fault, ErrDeleted) || r.Pair.Digest != made.Pair.Digest {
		t.Errorf("a master that has it: %v, %v", r.Action, err)
	}
	if _, err := m.client.DeleteObject(t.Context(),
		&s3.DeleteObjectInput{Bucket: aws.String(name), Key: aws.String(t.Name()),
			VersionId: gone.VersionId}); err != nil {
		t.Fatal(err)
	}
	if r, err := Install(t.Context(), b, next, Options{}); err != nil || r.Action != Installed ||
		r.Pair.Digest != made.Pair.Digest {
		t.Errorf("restored: %v, %v", r.Action, err)
	}
}
