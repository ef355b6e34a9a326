package doctor

import (
	"bytes"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"phoenix/bridge/event"
	"phoenix/bridge/files"
	"phoenix/bridge/plural"
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
	for _, dir := range append([]string{filepath.Join(c.ExtensionModules, "returners")},
		list(c.Options["returner_dirs"])...) {
		path := filepath.Join(dir, name+".py")
		if text, err := files.Head(path, maxFile); err == nil {
			return Returner{Path: path, TakesJID: bytes.Count(text, []byte("passed_jid")) > 1}
		}
	}
	return Returner{}
}

// foreignJobs are the folders of the job cache that the master's user does not own: the
// cache itself, and those for the first two digits of the hash of a jid. Salt stores no
// job in them, and publishes none whose jid belongs there: "prep_jid could not store a jid
// after 5 tries" (salt/returners/local_cache.py, 3007). A command that root ran makes them.
func foreignJobs(c salt.Config) (found []string) {
	// Without the option it is who started the master, and here who calls doctor.
	if _, set := c.Options["user"]; !set {
		return nil
	}
	u, err := user.Lookup(c.User)
	if err != nil || u.Uid == "0" {
		return nil // root may write everywhere
	}
	cache := filepath.Join(c.CacheDir, "jobs")
	for _, path := range append([]string{cache}, joined(cache, names(cache))...) {
		var stat unix.Stat_t
		if unix.Lstat(path, &stat) == nil && stat.Mode&unix.S_IFMT == unix.S_IFDIR &&
			strconv.FormatUint(uint64(stat.Uid), 10) != u.Uid {
			found = append(found, path)
		}
	}
	return found
}

func joined(dir string, names []string) []string {
	paths := make([]string, len(names))
	for i, name := range names {
		paths[i] = filepath.Join(dir, name)
	}
	return paths
}

// ourJobs are the functions of the jobs that a bridge publishes.
var ourJobs = []string{"state.highstate", "test.ping", "saltutil.find_job", "saltutil.find_cached_job", "config.get"}

// examineJobs says what keeps the master from publishing Phoenix's jobs as they are.
func examineJobs(r *report, m Master) {
	c := m.Config
	name, _ := c.Options["master_job_cache"].(string)
	back := m.options().set("master_job_cache", localCache)
	switch {
	case name == "" || name == localCache:
		r.ok("job-cache", "master_job_cache is Salt's own, in files")
	case m.Returner.Path != "" && !m.Returner.TakesJID:
		r.add(Error, "job-cache", back, "master_job_cache %s (%s) generates its own jids", quote(name),
			quote(m.Returner.Path))
	default:
		r.add(Warning, "job-cache", back, "master_job_cache is %s: no job is published while it fails", quote(name))
	}
	if n := len(m.ForeignJobs); n > 0 {
		fix := say("give them to " + quote(c.User) + ": chown -R")
		if w, ok := words([]string{c.User, filepath.Join(c.CacheDir, "jobs")}); ok {
			owner, path, _ := strings.Cut(w, " ")
			fix = run("chown -R " + owner + " -- " + path)
		}
		r.add(Error, "job-cache", fix,
			"%s of the job cache with another owner than %s: no job is published whose job id belongs there: %s",
			plural.Of(n, "folder"), quote(c.User), some(m.ForeignJobs))
	}
	if dirs := list(c.Options["ext_job_cache"]); len(dirs) > 0 && dirs[0] != "" {
		r.add(Note, "job-cache", say("see ext_job_cache in "+quote(filepath.Dir(c.Path))),
			"ext_job_cache is %s: minions send their returns there, and the master gets none: Phoenix asks each minion for its cached job", some(dirs))
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
		r.add(Error, "publisher-blacklist",
			say("take them out of publisher_acl_blacklist in "+quote(filepath.Dir(c.Path))+", then: "+restartMaster),
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
