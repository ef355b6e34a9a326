package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"phoenix/bridge/admin"
	"phoenix/bridge/audit"
	"phoenix/bridge/fleet"
)

// Times are in one zone in all that is printed, the machine's own, and what is printed can
// be typed. JSON is in UTC.
func TestOneZone(t *testing.T) {
	a := newAsker(t)
	was := time.Local
	time.Local = time.FixedZone("JST", 9*60*60)
	t.Cleanup(func() { time.Local = was })
	at := time.Now().Add(-30 * time.Minute).Truncate(time.Second)
	line := `{"time":"` + at.UTC().Format(time.RFC3339) + `","level":"INFO","msg":"key refused","minion":"web-1"}` +
		"\n"
	if err := audit.Append(a.dir+"/audit.log", []byte(line), audit.MaxFile); err != nil {
		t.Fatal(err)
	}
	a.apply(fleet.Add{InstanceID: "web-1"})
	row, err := a.store.Minion(t.Context(), "web-1")
	if err != nil {
		t.Fatal(err)
	}
	changed, err := fleet.ParseTime(row.Modified)
	if err != nil {
		t.Fatal(err)
	}
	local := func(t time.Time) string { return t.In(time.Local).Format(time.DateTime) }
	for _, command := range []string{"minions list", "minions list --wide", "highstate list --wide"} {
		a.says(exitOK, command, "CHANGED (JST)", local(changed))
	}
	a.says(exitOK, "minions explain web-1", "changed "+local(changed)+" JST", "decisions (JST):",
		local(at)+"  key refused")
	a.says(exitOK, "history", "TIME (JST)", local(at), local(changed))
	clock := local(at)[len("2006-01-02 "):]
	if one := a.says(exitOK, "history --since "+clock+" --until "+local(at.Add(time.Second))[len("2006-01-02 "):],
		local(at)); strings.Contains(one, "row is") {
		t.Errorf("of another time: %s", one)
	}
	a.says(exitOK, "history --since 3h --until 2h", " JST to ")
	var h admin.History
	dec := json.NewDecoder(bytes.NewReader([]byte(a.jsonOf("history --json"))))
	if err := dec.Decode(&h); err != nil || len(h.Events) != 2 || h.Events[0].Time.Location() != time.UTC ||
		h.Since.Location() != time.UTC {
		t.Errorf("%+v, %v", h, err)
	}
}

// The times of one table have one offset, whatever the zone has at each of them.
func TestOneOffset(t *testing.T) {
	zone := newClock(time.Date(2026, 11, 1, 0, 0, 0, 0, time.FixedZone("CET", 3600)))
	if got := zone.stamp("2026-07-01T10:00:00.000Z"); got != "2026-07-01 11:00:00" ||
		zone.title("CHANGED") != "CHANGED (CET)" {
		t.Error(got, zone.title("CHANGED"))
	}
	if got := zone.stamp("yesterday"); got != "yesterday" {
		t.Error(got)
	}
}
