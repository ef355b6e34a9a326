package doctor

import (
	"bytes"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"phoenix/bridge/event"
	"phoenix/bridge/files"
	"phoenix/bridge/salt"
)

// localCache is Salt's default job cache.
const localCache = "local_cache"

// Returner is a job cache of somebody's own (master_job_cache).
type Returner struct {
	Path string // its file; empty: none was found, so that it is one of Salt's or missing
	// TakesJID: prep_jid returns the jid that it is given. One that makes its own gives
	// a job another jid than the one that Phoenix has stored before it publishes.
	TakesJID bool
}

func readReturner(c salt.Config) Returner {
	name, _ := c.Options["master_job_cache"].(string)
	if name == "" || name == localCache {
		return Returner{}
	}
	for _, dir := range append([]string{filepath.Join(c.ExtensionModules, "returners")}, list(c.Options["returner_dirs"])...) {
		path := filepath.Join(dir, name+".py")
		if text, err := files.Head(path, maxFile); err == nil {
			return Returner{Path: path, TakesJID: bytes.Count(text, []byte("passed_jid")) > 1}
		}
	}
	return Returner{}
}

// ourJobs are the functions of the jobs that a bridge publishes.
var ourJobs = []string{"state.highstate", "test.ping", "saltutil.find_job", "saltutil.find_cached_job", "config.get"}

// examineJobs says what keeps the master from publishing Phoenix's jobs as they are.
func examineJobs(r *report, m Master) {
	c := m.Config
	name, _ := c.Options["master_job_cache"].(string)
	back := setOption(c.DropIns, "master_job_cache", localCache, restartMaster)
	switch {
	case name == "" || name == localCache:
		r.ok("job-cache", "master_job_cache is Salt's own, in files")
	case m.Returner.Path != "" && !m.Returner.TakesJID:
		r.add(Error, "job-cache", back, "master_job_cache %s (%s) generates its own jids", quote(name), quote(m.Returner.Path))
	default:
		r.add(Warning, "job-cache", back, "master_job_cache is %s: no job is published while it fails", quote(name))
	}
	if dirs := list(c.Options["ext_job_cache"]); len(dirs) > 0 && dirs[0] != "" {
		r.add(Note, "job-cache", say("see ext_job_cache in "+quote(filepath.Dir(c.Path))), "ext_job_cache is %s: minions send their returns there, and the master gets none: Phoenix asks each minion for its cached job", some(dirs))
	}
	var stops []string
	if lists, ok := c.Options["publisher_acl_blacklist"].(map[string]any); ok {
		for _, user := range list(lists["users"]) {
			if matches(user, c.User) {
				stops = append(stops, "user "+quote(c.User))
			}
		}
		for _, pattern := range list(lists["modules"]) {
			for _, function := range ourJobs {
				if matches(pattern, function) && !slices.Contains(stops, function) {
					stops = append(stops, function)
				}
			}
		}
	}
	if len(stops) > 0 {
		r.add(Error, "publisher-blacklist", say("take them out of publisher_acl_blacklist in "+quote(filepath.Dir(c.Path))+", then: "+restartMaster),
			"publisher_acl_blacklist stops jobs of Phoenix: %s", strings.Join(stops, ", "))
	} else {
		r.ok("publisher-blacklist", "publisher_acl_blacklist stops no job of Phoenix")
	}
}

// matches is salt.utils.stringutils.expr_match: a glob, or a regular expression from
// the first character to the last.
func matches(pattern, text string) bool {
	if event.Glob(pattern)([]byte(text)) {
		return true
	}
	re, err := regexp.Compile("^(?:" + pattern + ")$")
	return err == nil && re.MatchString(text)
}
