package cli

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"phoenix/bridge/fleet"
	"phoenix/bridge/fleet/sqlite"
)

// TestG12BadRows: a row that cannot be decoded is named, and hides no other.
func TestG12BadRows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fleet.db")
	store, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	_, err = store.Apply(t.Context(), []fleet.Change{fleet.Add{InstanceID: "web-1"}, fleet.Add{InstanceID: "web-2"},
		fleet.Add{InstanceID: "web-3"},
		fleet.Retire{InstanceID: "web-4"}, fleet.Retire{InstanceID: "web-5"}})
	for _, id := range []string{"salt-1", "salt-2"} {
		_, errBeat := store.Beat(t.Context(), fleet.Beat{InstanceID: id, IPAddr: "127.0.0.1"})
		err = errors.Join(err, errBeat)
	}
	db, errOpen := sql.Open("sqlite", path)
	if err = errors.Join(err, errOpen, store.Close()); err == nil {
		_, err = db.Exec(`UPDATE minions SET "group" = 'spoilt' WHERE instanceid IN ('web-2', 'web-5'); UPDATE masters SET zone = 'spoilt' WHERE instanceid = 'salt-2'`)
		err = errors.Join(err, db.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	phoenix := func(args ...string) (code int, out, errs bytes.Buffer) {
		code = run(t.Context(), append([]string{"phoenix"}, append(args, "--store", "sqlite:"+path)...), &out, &errs)
		return code, out, errs
	}
	for _, c := range []struct{ args, good, bad string }{
		{"minions list", "web-1 web-3 web-4", "web-2"},
		{"highstate list", "web-1 web-3", "web-2"},
		{"masters list", "salt-1", "salt-2"},
	} {
		code, out, errs := phoenix(strings.Fields(c.args)...)
		for _, id := range strings.Fields(c.good) {
			if !strings.Contains(out.String(), id) {
				t.Errorf("%s does not show %s:\n%s", c.args, id, &out)
			}
		}
		if code != exitStore || strings.Contains(out.String(), c.bad) ||
			!strings.Contains(errs.String(), `left out: row "`+c.bad+`" is damaged`) {
			t.Errorf("%s: exit %d\n%s%s", c.args, code, &out, &errs)
		}
		code, out, _ = phoenix(append(strings.Fields(c.args), "--json")...)
		var rows []map[string]any
		if err := json.Unmarshal(out.Bytes(), &rows); err != nil || code != exitStore ||
			len(rows) != len(strings.Fields(c.good)) {
			t.Errorf("%s --json: exit %d, %d rows, %v", c.args, code, len(rows), err)
		}
	}
	if code, out, _ := phoenix("status"); code != exitOK || !strings.Contains(out.String(), `left out: row "web-2"`) ||
		!strings.Contains(out.String(), `left out: row "salt-2"`) || !strings.Contains(out.String(), "salt-1") {
		t.Errorf("status: exit %d\n%s", code, &out)
	}
	if code, out, errs := phoenix("prune"); code != exitStore ||
		!strings.Contains(out.String(), "1 terminated are left") || !strings.Contains(errs.String(), "web-5") {
		t.Errorf("prune: exit %d\n%s%s", code, &out, &errs)
	}
	if code, out, errs := phoenix("minions", "retire", "web-1", "web-2", "web-3"); code != exitStore ||
		strings.Count(out.String(), "retired") != 2 || !strings.Contains(errs.String(), "web-2") {
		t.Errorf("retire: exit %d\n%s%s", code, &out, &errs)
	}
}
