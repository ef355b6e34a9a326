package cli

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"phoenix/bridge/config"
	"phoenix/bridge/fleet"
	"phoenix/bridge/service"
)

// printed is what a command prints; it must end well.
func printed(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	if code := run(t.Context(), append([]string{"phoenix"}, args...), &out, &errs); code != exitOK || errs.Len() > 0 {
		t.Fatalf("phoenix %v: exit %d\n%s", args, code, &errs)
	}
	return out.String()
}

// words reports whether text has each of words.
func words(t *testing.T, where, text string, words ...string) {
	t.Helper()
	for _, word := range words {
		if !strings.Contains(text, word) {
			t.Errorf("%s does not tell of %s", where, word)
		}
	}
}

// Help texts, manual page, reference and README tell of what there is.
func TestWhatIsToldIsWhatThereIs(t *testing.T) {
	manual, told := strings.ReplaceAll(printed(t, "man"), `\-`, "-"), printed(t, "man", "--markdown")
	file, err := os.ReadFile("../../docs/reference.md")
	if err != nil {
		t.Fatal(err)
	}
	if string(file) != told {
		t.Error("docs/reference.md is not what the code says: make docs")
	}
	help := printed(t, "--help")
	app := newApp(nil, nil)
	for _, topic := range leaves(topics(app)) {
		own := printed(t, append(strings.Fields(topic.name), "--help")...)
		for where, text := range map[string]string{"the manual page": manual, "docs/reference.md": told,
			topic.name + " --help": own} {
			words(t, where, text, "phoenix "+topic.name)
			for _, f := range topic.flags {
				words(t, where+" of "+topic.name, text, "--"+f.names[0])
			}
		}
		words(t, "--help", help, strings.Fields(topic.name)[0])
	}
	c := config.Default()
	for _, s := range c.Settings() {
		words(t, "docs/reference.md", told, "`"+s.Key+"`", "`--"+s.Flag()+"`", "`"+s.Variable()+"`")
		words(t, "the manual page", manual, ".B "+s.Key+"\n")
		if !strings.Contains(help, "  --"+s.Flag()+" ") && !strings.Contains(help, "  --"+s.Flag()+"\n") {
			t.Errorf("--help does not tell of --%s", s.Flag())
		}
	}
	for _, e := range exitCodes {
		words(t, "docs/reference.md", told, fmt.Sprintf("| %d | %s |", e.code, e.meaning))
	}
	for _, m := range service.Metrics() {
		words(t, "docs/reference.md", told, "`"+m.Name+"`")
	}
}

// Each text of help fits a terminal, and says how the command is typed.
func TestHelpFitsATerminal(t *testing.T) {
	var all [][]string
	var walk func([]topic)
	walk = func(topics []topic) {
		for _, t := range topics {
			all = append(all, strings.Fields(t.name))
			walk(t.commands)
		}
	}
	walk(topics(newApp(nil, nil)))
	for _, name := range append(all, nil) {
		text := printed(t, append(name, "--help")...)
		if !strings.HasPrefix(text, strings.TrimSpace("Usage: phoenix "+strings.Join(name, " "))) {
			t.Errorf("%v begins with %.40q", name, text)
		}
		for line := range strings.Lines(text) {
			if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > helpWidth {
				t.Errorf("%v: a line has %d columns: %s", name, n, line)
			}
		}
		if len(name) > 0 && text != printed(t, append([]string{"help"}, name[:1]...)...) && len(name) == 1 {
			t.Errorf("help %v says something else", name)
		}
	}
}

// Each command has an example, which can be typed as it stands.
func TestExamples(t *testing.T) {
	app := newApp(nil, nil)
	all := leaves(topics(app))
	for _, topic := range all {
		if len(topic.examples) == 0 {
			t.Errorf("%s has no example", topic.name)
		}
		for _, e := range topic.examples {
			named := false
			for part := range strings.SplitSeq(e.line, "|") {
				_, args, is := strings.Cut(part, "phoenix "+topic.name)
				named = named || is
				if !is {
					continue
				}
				args, _, _ = strings.Cut(args, "&&")
				for _, word := range strings.Fields(args) {
					name, _, _ := strings.Cut(word, "=")
					if strings.HasPrefix(name, "-") && name != "-" && !has(app.Flags, name) &&
						!slices.ContainsFunc(topic.flags,
							func(f topicFlag) bool { return slices.Contains(f.names, strings.TrimLeft(name, "-")) }) {
						t.Errorf("%q: no flag %s", e.line, name)
					}
				}
			}
			if !named {
				t.Errorf("%q is no example of %s", e.line, topic.name)
			}
		}
	}
	for name := range examples {
		if !slices.ContainsFunc(all, func(t topic) bool { return t.name == name }) {
			t.Errorf("an example of %s, which is no command", name)
		}
	}
}

// README's table has no key that is none, no default that is another, and is short.
func TestREADMEAgreesWithTheCode(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "\n"); n > 150 {
		t.Errorf("README has %d lines", n)
	}
	words(t, "README", string(text), "](docs/reference.md)", "](docs/quickstart.md)", "](docs/README.md)")
	_, section, _ := strings.Cut(string(text), "## Configuration")
	section, _, _ = strings.Cut(section, "\n## ")
	c := config.Default()
	known := map[string]config.Setting{}
	for _, s := range c.Settings() {
		known[s.Key] = s
	}
	n := 0
	for line := range strings.Lines(section) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 || !strings.Contains(cells[1], "`") {
			continue
		}
		n++
		for _, key := range strings.Split(cells[1], ",") {
			s, ok := known[strings.Trim(key, " `")]
			if !ok {
				t.Errorf("README tells of %s, which is no key", key)
				continue
			}
			if def := s.Text(); def != "" && !strings.Contains(cells[2], "`"+def+"`") {
				t.Errorf("README says %s is %s by default, not %s", s.Key, cells[2], def)
			}
		}
	}
	if n < 10 || n > 20 {
		t.Errorf("README's table has %d rows", n)
	}
}

// Pages link to pages that are there.
func TestLinksLeadSomewhere(t *testing.T) {
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	index, err := os.ReadFile("../../docs/README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range strings.Split(string(text), "](")[1:] {
			link, _, _ := strings.Cut(part, ")")
			link, _, _ = strings.Cut(link, "#")
			if link == "" || strings.Contains(link, "://") {
				continue
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(page), link)); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
		if name := filepath.Base(page); name != "README.md" {
			words(t, "docs/README.md", string(index), "]("+name+")")
		}
	}
}

// A shell offers what there is: commands, flags, and the minions of the fleet.
func TestBashCompletes(t *testing.T) {
	cfg, store := watchedFleet(t)
	expect(t, store, "db-1")
	if _, err := fleet.ApplyOne(t.Context(), store, fleet.Retire{InstanceID: "db-1"}); err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	self, err := os.Executable()
	if err == nil {
		err = os.Symlink(self, filepath.Join(bin, "phoenix"))
	}
	if err != nil {
		t.Fatal(err)
	}
	complete := func(line ...string) []string {
		t.Helper()
		script := printed(t, "completion", "bash") +
			`COMP_WORDS=(phoenix "$@") COMP_CWORD=$#; _phoenix; printf '%s\n' "${COMPREPLY[@]}"`
		cmd := exec.Command("bash", append([]string{"-c", script, "bash"}, line...)...)
		cmd.Env = append(os.Environ(), beMain+"=1", "PHOENIX_CONFIG="+cfg, "PATH="+bin+":"+os.Getenv("PATH"))
		var errs bytes.Buffer
		cmd.Stderr = &errs
		out, err := cmd.Output()
		if err != nil || errs.Len() > 0 {
			t.Fatalf("complete %q: %v\n%s%s", line, err, out, &errs)
		}
		return strings.Fields(string(out))
	}
	all := complete("")
	for _, command := range topics(newApp(nil, nil)) {
		if !slices.Contains(all, command.name) {
			t.Errorf("%s is not offered", command.name)
		}
		for _, leaf := range leaves([]topic{command}) {
			offered := complete(append(strings.Fields(leaf.name), "--")...)
			for _, f := range leaf.flags {
				if !slices.Contains(offered, "--"+f.names[0]) {
					t.Errorf("%s: --%s is not offered", leaf.name, f.names[0])
				}
			}
		}
	}
	for line, want := range map[string]string{
		"sta":                            "status",
		"minions e":                      "explain",
		"minions explain ":               "web-1", // a terminated one is not asked for
		"--store x minions explain w":    "",      // of another store
		"minions explain --json we":      "web-1",
		"minions explain web-1 ":         "",
		"minions list we":                "web-1",
		"masters drain ":                 "master-1", // and no minion
		"status --inter":                 "--interval",
		"--config " + cfg + " minions a": "add",
		"events --tag ":                  "",
		"nonsense ":                      strings.Join(all, " "),
		"bridge ":                        "",
		"completion ":                    "bash zsh",
	} {
		got := strings.Join(complete(strings.Split(line, " ")...), " ")
		if got != want {
			t.Errorf("%q: offered is %q, not %q", line, got, want)
		}
	}
}
