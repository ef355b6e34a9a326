// Package dashboards has a Grafana dashboard and Prometheus alert rules for the metrics
// of phoenix bridge, and the tests of both.
package dashboards

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	named  = regexp.MustCompile(`\bphoenix_[a-z0-9_]+`) // process_ and go_ are those of every program
	inDocs = regexp.MustCompile("(?m)^\\| `([a-z0-9_]+)` \\|")
)

// metrics are those that docs/metrics.md has, which another test compares with the code.
func metrics(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range inDocs.FindAllStringSubmatch(string(text), -1) {
		names = append(names, m[1])
	}
	if len(names) < 30 {
		t.Fatalf("docs/metrics.md has %d metrics", len(names))
	}
	return names
}

// Each metric that dashboard and rules use is one that a bridge serves.
func TestMetricsAreServed(t *testing.T) {
	known := metrics(t)
	var board struct {
		Panels []struct {
			Title   string
			Type    string
			Targets []struct{ Expr string }
			GridPos struct{ X, W int }
		}
	}
	text, err := os.ReadFile("grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	used := map[string]string{}
	for _, p := range board.Panels {
		if p.Type != "row" && len(p.Targets) == 0 || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %s: %+v", p.Title, p)
		}
		for _, target := range p.Targets {
			for _, name := range named.FindAllString(target.Expr, -1) {
				used[name] = "panel " + p.Title
			}
		}
	}
	rules, err := os.ReadFile("alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(rules)) {
		if expr, ok := strings.CutPrefix(strings.TrimSpace(line), "expr: "); ok {
			for _, name := range named.FindAllString(expr, -1) {
				used[name] = "alert " + expr
			}
		}
	}
	if len(used) < 20 {
		t.Errorf("%d metrics are used", len(used))
	}
	for name, by := range used {
		if !slices.Contains(known, name) {
			t.Errorf("%s: no metric %s in docs/metrics.md", by, name)
		}
	}
}

// The rules are valid, and fire when they should and not else.
func TestAlerts(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("promtool is missing: apt-get install prometheus")
	}
	for _, args := range [][]string{{"check", "rules", "alerts.yml"}, {"test", "rules", "alerts_test.yml"}} {
		if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}
