package doctor

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// examineStates says what makes a first highstate change nothing, or another run
// beside it.
func examineStates(r *report, m Minion) {
	o := m.Config.Options
	if states := o["startup_states"]; states != nil && states != "" {
		r.add(Warning, "startup-states", m.options().set("startup_states", "''"), "startup_states is %v", states)
	} else {
		r.ok("startup-states", "startup_states is not set")
	}
	if o["test"] == true {
		r.add(Warning, "test-mode", m.options().set("test", "False"),
			"test is on: a highstate changes nothing and counts as a success, unless it is run with test=False, as first highstates are")
	} else {
		r.ok("test-mode", "test is off")
	}
	if o["file_client"] == "local" {
		r.add(Error, "file-client", m.options().set("file_client", "remote"),
			"file_client is local: states come from this machine, and not from the master")
	} else {
		r.ok("file-client", "states come from the master")
	}
	for _, option := range []struct{ name, says string }{
		{"random_master", "the minion shuffles the list of masters that its agent sorted"},
		{"master_shuffle", "the minion shuffles the list of masters that its agent sorted"},
		{"master_failback", "the minion goes back to the first master of its list by itself"},
	} {
		if o[option.name] == true {
			r.add(Warning, "master-order", m.options().set(option.name, "False"), "%s is on: %s",
				option.name, option.says)
		}
	}
	if o["random_master"] != true && o["master_shuffle"] != true && o["master_failback"] != true {
		r.ok("master-order", "the minion keeps to the order of its list of masters")
	}
	examineModules(r, m)
	jobs := maps.Clone(m.Schedule)
	if jobs == nil {
		jobs = map[string]any{}
	}
	own, _ := o["schedule"].(map[string]any)
	maps.Copy(jobs, own)
	found := 0
	for _, name := range slices.Sorted(maps.Keys(jobs)) {
		job, _ := jobs[name].(map[string]any)
		if job["enabled"] == false || !slices.Contains(callsOf([]byte(fmt.Sprint(job["function"]))), callsStates) {
			continue
		}
		found++
		severity, when := Note, "by its schedule"
		// Salt's documentation calls it on by default; its code asks for a true value
		// (salt/utils/schedule.py, alike in 3006 to 3008).
		if job["run_on_start"] == true {
			severity, when = Warning, "at each start of the minion, too (run_on_start)"
		}
		r.add(severity, "schedule", say("set run_on_start: False for "+quote(name)+" in schedule in "+
			quote(filepath.Dir(m.Config.Path))+" or in the pillar, then: "+restartMinion),
			"the scheduled job %s runs %v %s", quote(name), job["function"], when)
	}
	for _, job := range m.Cron {
		if !job.Minion {
			continue
		}
		found++
		severity, when := Note, "by cron"
		if job.Boot {
			severity, when = Warning, "when the machine starts"
		}
		r.add(severity, "schedule", say("take it out of "+quote(job.File)), "%s runs states %s: %s", quote(job.File),
			when, quote(job.Line))
	}
	if found == 0 {
		r.ok("schedule", "neither the minion's schedule nor cron runs states")
	}
}

// examineModules says which functions of Phoenix's jobs the minion does not have
// (salt/loader/lazy.py, alike in 3006 to 3008: a list of modules that are loaded, or not).
func examineModules(r *report, m Minion) {
	o := m.Config.Options
	disabled, loaded := list(o["disable_modules"]), list(o["whitelist_modules"])
	var lacks []string
	for _, function := range ourJobs {
		module, _, _ := strings.Cut(function, ".")
		if slices.Contains(disabled, module) || len(loaded) > 0 && !slices.Contains(loaded, module) {
			lacks = append(lacks, function)
		}
	}
	if len(lacks) > 0 {
		r.add(Error, "modules", say("correct disable_modules and whitelist_modules in "+
			quote(filepath.Dir(m.Config.Path))+", then: "+restartMinion),
			"disable_modules or whitelist_modules leaves out %s", some(lacks))
	} else {
		r.ok("modules", "the minion has the functions of Phoenix's jobs")
	}
}

// stopMost is how long a restart of the minion may take, in seconds. A minion often ignores
// SIGTERM (3007), and systemd then waits for TimeoutStopSec, 90 s by default.
const stopMost = 30

// unitSettings is a drop-in of the unit, for printf. With KillMode=process alone, systemd
// leaves behind the process that serves, which is the only child of the main one, where that
// ignores SIGTERM. The next minion finds it and exits (3007.17, tried), or runs beside it.
const unitSettings = `[Service]\nKillMode=process\nTimeoutStopSec=10\n` +
	`ExecStop=-/bin/sh -c "read -r serving _ </proc/$$MAINPID/task/$$MAINPID/children; kill $$MAINPID; sleep 3; kill -9 $$MAINPID $$serving"\n`

func examineUnit(r *report, m Minion) {
	u := m.Unit
	folder := "/etc/systemd/system/" + filepath.Base(u.Path) + ".d"
	fix := run("mkdir -p "+folder, "printf '"+unitSettings+"' > "+folder+"/zz-phoenix.conf", "systemctl daemon-reload").
		then("Phoenix's package has such a drop-in, 40-phoenix-restart.conf")
	settings := "KillMode=" + orDefault(u.KillMode, "control-group") + ", TimeoutStopSec=" + seconds(u.TimeoutStopSec)
	switch {
	case u.Path == "":
		r.ok("unit", "systemd has no unit of the minion here")
	case u.KillMode != "process" && u.KillMode != "none":
		r.add(Warning, "unit", fix, "a restart kills what the minion's jobs have started (%s)", settings)
	case u.TimeoutStopSec == 0 || u.TimeoutStopSec > stopMost:
		r.add(Note, "unit", fix, "a restart may take as long as a minion that ignores SIGTERM is waited for (%s)",
			settings)
	default:
		r.ok("unit", "%s", settings)
	}
}

func orDefault(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

func seconds(n int) string {
	if n <= 0 {
		return "systemd's own"
	}
	return fmt.Sprint(n)
}

// examineReach says which masters of the list cannot be found or reached.
func examineReach(r *report, m Minion) {
	var nameless, closed []string
	for _, master := range slices.Sorted(maps.Keys(m.Reach)) {
		reach := m.Reach[master]
		if reach.NameErr != nil {
			nameless = append(nameless, master)
		}
		for _, port := range reach.Closed {
			closed = append(closed, fmt.Sprintf("%s port %d", quote(master), port))
		}
	}
	if len(nameless) > 0 {
		r.add(Warning, "master-names",
			say("correct master in "+quote(filepath.Dir(m.Config.Path))+", or the name service"),
			"no address is known for %s", some(nameless))
	} else {
		r.ok("master-names", "each master has an address")
	}
	if len(closed) > 0 {
		r.add(Warning, "master-ports", say("start the master, open the port, or correct master_port and publish_port"),
			"nothing answers at %s", strings.Join(closed[:min(len(closed), shown)], ", "))
	} else {
		r.ok("master-ports", "each master that was asked answers on both ports")
	}
}
