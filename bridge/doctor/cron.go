package doctor

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"phoenix/bridge/files"
)

// CronJob is a command that cron or systemd runs, and that changes keys or runs states.
type CronJob struct {
	File   string
	Line   string
	Calls  []string
	Boot   bool // it runs when the machine starts
	Minion bool // it runs states by salt-call, on this minion alone
}

// cronFiles are crontabs, a command a line; cronScripts are run as they are; units are
// systemd's, for a timer or for the start. Bootscripts run when the machine starts.
var (
	cronFiles = []string{"etc/crontab", "etc/anacrontab", "etc/cron.d/*", "var/spool/cron/*",
		"var/spool/cron/crontabs/*", "var/spool/cron/tabs/*"}
	cronScripts = []string{"etc/cron.hourly/*", "etc/cron.daily/*", "etc/cron.weekly/*", "etc/cron.monthly/*"}
	bootScripts = []string{"etc/rc.local"}
	units       = []string{"etc/systemd/system/*.service"}
)

// cronJobs finds what cron and systemd run of this machine, whose files are below root.
// The error is of a file that cannot be read.
func cronJobs(root string) (jobs []CronJob, unread error) {
	for _, kind := range []struct {
		patterns []string
		job      func(line string) (command string, boot bool)
	}{
		{cronFiles, func(line string) (string, bool) { return line, strings.HasPrefix(line, "@reboot") }},
		{cronScripts, func(line string) (string, bool) { return line, false }},
		{bootScripts, func(line string) (string, bool) { return line, true }},
		{units, func(line string) (string, bool) {
			if name, command, ok := strings.Cut(line, "="); ok && strings.HasPrefix(name, "Exec") {
				return command, false
			}
			return "", false
		}},
	} {
		for _, pattern := range kind.patterns {
			for _, path := range sortedGlob(filepath.Join(root, pattern)) {
				if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
					continue
				}
				text, err := files.Head(path, maxFile)
				if errors.Is(err, fs.ErrPermission) {
					unread = errors.Join(unread, err)
				}
				for line := range strings.Lines(string(text)) {
					command, boot := kind.job(strings.TrimSpace(line))
					if command == "" || strings.HasPrefix(command, "#") {
						continue
					}
					calls := cronCalls(root, command)
					if len(calls) > 0 {
						jobs = append(jobs, CronJob{File: path, Line: strings.TrimSpace(line), Calls: calls, Boot: boot,
							Minion: !slices.Contains(calls, callsAccept) && !slices.Contains(calls, callsKeys) &&
								strings.Contains(command, "salt-call")})
					}
				}
			}
		}
	}
	return jobs, unread
}

// cronCalls is what a command calls, by itself or in a script that it names.
func cronCalls(root, command string) []string {
	calls := callsOf([]byte(command))
	for word := range strings.FieldsSeq(command) {
		path := filepath.Join(root, strings.Trim(word, `"';`))
		info, err := os.Stat(path)
		if !filepath.IsAbs(word) || err != nil || !info.Mode().IsRegular() || info.Size() > maxFile {
			continue
		}
		if text, err := files.Head(path, maxFile); err == nil && strings.HasPrefix(string(text), "#!") {
			calls = append(calls, callsOf(withoutComments(text))...)
		}
	}
	slices.Sort(calls)
	return slices.DeleteFunc(slices.Compact(calls), func(call string) bool { return call == callsOld })
}

// examineCron says what the machine itself runs beside Phoenix on its master.
func examineCron(r *report, m Master) {
	found := 0
	for _, job := range m.Cron {
		if job.Minion {
			continue
		}
		found++
		severity, does := weigh(Actor{Check: "cron", Calls: job.Calls}, false, nil)
		r.add(severity, "cron", say("take it out of "+quote(job.File)), "%s: %s %s", quote(job.File),
			quote(job.Line), does)
	}
	switch {
	case m.CronErr != nil:
		r.add(Note, "cron", say("run phoenix doctor as root"), "not all crontabs were read: %s", oneLine(m.CronErr))
	case found == 0:
		r.ok("cron", "no crontab or unit of this machine calls salt-key or runs states")
	}
}
