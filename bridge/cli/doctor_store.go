package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"phoenix/bridge/awsenv"
	"phoenix/bridge/compose"
	"phoenix/bridge/doctor"
	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/dynamo"
	"phoenix/bridge/fleet/sqlite"
	"phoenix/bridge/salt"
	"phoenix/bridge/service"
)

// maxCopied bounds a copy of a SQLite store: 100,000 minions take some 150 MB.
const maxCopied = 512 << 20

// openedStore is a store that doctor reads.
type openedStore struct {
	fleet.Store
	close func() error
	bad   map[string]error // rows that cannot be decoded, as far as they were looked for
}

// readStore opens the store, unless it is open, and sees what it says of masters.
func (v *visit) readStore(ctx context.Context, asMaster bool) {
	if v.store == nil && v.fleet.StoreErr == nil {
		v.store, v.fleet.StoreErr = v.openToRead(ctx)
	}
	if v.cfg.OnAWS() {
		v.lookAtAWS(ctx, asMaster)
	}
	if v.store == nil || v.fleet.Masters != nil {
		return
	}
	masters, err := v.store.Masters(ctx)
	bad, err := fleet.WithoutBadRows(err)
	if err != nil {
		v.fleet.StoreErr = fmt.Errorf("list masters: %w", err)
		return
	}
	v.leaveOut(bad)
	v.follow(masters)
	v.fleet.Rows = len(masters)+len(v.fleet.BadRows) > 0 || v.hasMinions(ctx)
	for _, m := range masters {
		if m.Status == fleet.Launch && m.MasterKeySHA256 != "" {
			v.fleet.Masters = append(v.fleet.Masters,
				doctor.MasterKey{InstanceID: m.InstanceID, Digest: m.MasterKeySHA256})
		}
	}
}

// errSome ends a listing that has shown that there are rows.
var errSome = errors.New("there are some")

// hasMinions reports whether the store has a minion, by its first page. That it cannot be
// read is found elsewhere.
func (v *visit) hasMinions(ctx context.Context) bool {
	_, err := fleet.WithoutBadRows(v.store.ByStatus(ctx, fleet.Launch, "", func(page []fleet.Minion) error {
		if len(page) > 0 {
			return errSome
		}
		return nil
	}))
	return errors.Is(err, errSome)
}

// leaveOut takes note of rows that cannot be decoded.
func (v *visit) leaveOut(bad map[string]error) {
	all := maps.Clone(v.store.bad)
	if all == nil {
		all = map[string]error{}
	}
	maps.Copy(all, bad)
	for _, id := range slices.Sorted(maps.Keys(all)) {
		v.fleet.BadRows = append(v.fleet.BadRows, all[id])
	}
}

// openToRead opens a store so that reading it changes nothing.
func (v *visit) openToRead(ctx context.Context) (*openedStore, error) {
	if !v.cfg.OnDynamoDB() {
		return openCopy(ctx, strings.TrimPrefix(v.cfg.Store, "sqlite:"))
	}
	tables, err := awsenv.Tables(ctx, v.cfg)
	if err != nil {
		return nil, err
	}
	tables.HTTP = &v.dates
	store, err := dynamo.Open(ctx, tables)
	if err != nil {
		return nil, err
	}
	return &openedStore{Store: store, close: store.Close}, nil
}

// openCopy opens a copy of a SQLite store: to open the file itself makes others
// beside it, and looks whether it can be written.
func openCopy(ctx context.Context, path string) (*openedStore, error) {
	dir, err := os.MkdirTemp("", "phoenix-doctor-")
	if err != nil {
		return nil, fmt.Errorf("read store: %w", err)
	}
	remove := func() error { return os.RemoveAll(dir) }
	to := filepath.Join(dir, "fleet.db")
	// The log last: what it holds more than the file is read with it.
	err = copyWithin(path, to, maxCopied)
	if err == nil {
		if err = copyWithin(path+"-wal", to+"-wal", maxCopied); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if err != nil {
		switch p, is := errors.AsType[*fs.PathError](err); {
		case is && strings.HasPrefix(p.Path, dir):
			err = fmt.Errorf("copy it to %s: %w", os.TempDir(), p.Err)
		case errors.Is(err, fs.ErrNotExist):
			err = fmt.Errorf("%w (there is no store yet: phoenix adopt, phoenix minions add and phoenix bridge create it)", cause(err))
		default:
			err = cause(err)
		}
		return nil, errors.Join(fmt.Errorf("read store %s: %w", path, err), remove())
	}
	store, err := sqlite.OpenCopy(ctx, to, path)
	if err != nil {
		return nil, errors.Join(err, remove())
	}
	bad, err := fleet.WithoutBadRows(store.Check(ctx))
	if err != nil {
		return nil, errors.Join(err, store.Close(), remove())
	}
	return &openedStore{store, func() error { return errors.Join(store.Close(), remove()) }, bad}, nil
}

func copyWithin(from, to string, most int64) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() > most {
		return fmt.Errorf("it is no file of at most %d MiB", most>>20)
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, io.LimitReader(in, most))
	return errors.Join(err, out.Close())
}

// plan is what a bridge with this configuration would do.
func (v *visit) plan(ctx context.Context, master salt.Config) (*doctor.Plan, error) {
	keys, err := salt.OpenKeys(master)
	if err != nil {
		return nil, nil // key-store reports it
	}
	cfg := v.cfg // Engine fills it in
	engine, _, _, err := compose.Engine(ctx, &cfg, master.Interface, v.store.Store, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	plan, err := service.MakePlan(ctx, engine, v.store, keys, nil)
	if err != nil {
		return nil, err
	}
	return &doctor.Plan{Foreign: plan.Foreign, Highstates: plan.Highstates, Acts: plan.Acts, OtherKeys: plan.OtherKeys},
		nil
}
