package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"phoenix/bridge/agent"
	"phoenix/bridge/autoscaling"
	"phoenix/bridge/cloudwatch"
	"phoenix/bridge/decide"
)

// Validate fills what follows from other keys, and returns all faults at once.
func (c *Config) Validate() error {
	var faults []error
	fault := func(key, format string, args ...any) {
		faults = append(faults, fmt.Errorf("%s: %s", key, fmt.Sprintf(format, args...)))
	}
	if path, ok := strings.CutPrefix(c.Store, "sqlite:"); !c.OnDynamoDB() && (!ok || path == "") {
		fault("store", "%q is neither sqlite:PATH nor dynamodb:", c.Store)
	}
	if c.Audit.File == "" {
		c.Audit.File = filepath.Join("/var/lib/phoenix", auditFile)
		if path, ok := strings.CutPrefix(c.Store, "sqlite:"); ok {
			c.Audit.File = filepath.Join(filepath.Dir(path), auditFile)
		}
	}
	switch a := decide.Admit(c.Admit); {
	case a != decide.Listed && a != decide.Bound && a != decide.Proven:
		fault("admit", "%q is none of listed, bound and proven", c.Admit)
	case a == decide.Proven && !c.OnDynamoDB():
		fault("admit", "proven needs store dynamodb:, whose table of proofs IAM guards")
	}
	if _, err := autoscaling.NewNames(c.IDFrom, nil, nil); err != nil {
		fault("id_from", "%v", err)
	}
	if c.IDPattern == "" {
		c.IDPattern = IDPatternSQLite
		if c.OnDynamoDB() && c.IDFrom == ByInstanceID {
			c.IDPattern = IDPatternDynamoDB
		}
	}
	if c.UI && c.HTTPListen == "" {
		fault("ui", "it is served where http_listen says, which is not set")
	}
	if _, _, err := net.SplitHostPort(c.HTTPListen); c.HTTPListen != "" && err != nil {
		fault("http_listen", "%q is not HOST:PORT, or :PORT for each address of this machine", c.HTTPListen)
	}
	if _, err := regexp.Compile(c.IDPattern); err != nil {
		fault("id_pattern", "%v", err)
	}
	for key, items := range map[string][]string{"sqs.queues": c.SQS.Queues,
		"autoscaling.groups": c.AutoScaling.Groups} {
		for _, text := range items {
			if _, err := autoscaling.ParseItem(text); err != nil {
				fault(key, "%v", err)
			}
		}
	}
	if slices.Contains(c.AutoScaling.Hooks, "") {
		fault("autoscaling.hooks", "a name is empty")
	}
	if c.AutoScaling.LaunchFailures < 0 {
		fault("autoscaling.launch_failures", "%d is less than 0", c.AutoScaling.LaunchFailures)
	}
	if c.CloudWatch.Namespace != "" {
		if err := cloudwatch.CheckNamespace(c.CloudWatch.Namespace); err != nil {
			fault("cloudwatch.namespace", "%v", err)
		}
	}
	if c.Bus != BusAuto && c.Bus != BusOff {
		fault("bus", "%q is neither auto nor off", c.Bus)
	}
	c.checkAgent(fault)
	c.checkRelay(fault)
	if _, err := LogLevel(c.LogLevel); err != nil {
		fault("log_level", "%v", err)
	}
	for _, item := range c.Ready.Top {
		if env, path, ok := strings.Cut(item, "/"); !ok || env == "" || path == "" {
			fault("ready.top", "%q is not SALTENV/PATH", item)
		}
	}
	if (len(c.Ready.Top) > 0 || len(c.Ready.Pillar) > 0) && filepath.Base(c.SaltConfig) != "master" {
		fault("salt_config", "ready.top and ready.pillar need one that is called master, as salt-run does")
	}
	if len(c.Ready.Command) > 0 && c.Ready.Command[0] == "" {
		fault("ready.command", "the program is empty")
	}
	for key, items := range map[string][]string{"ready.pillar": c.Ready.Pillar, "identity.files": c.Identity.Files} {
		if slices.Contains(items, "") {
			fault(key, "an item is empty")
		}
	}
	if c.Heal.After != 0 && (c.Heal.After < minHeal || c.Heal.After > 24*time.Hour) {
		fault("heal.after", "%v is neither 0 nor between %v and 24h", c.Heal.After, minHeal)
	}
	if c.Rebind.Limit < 0 || c.Rebind.Limit > 1000 {
		fault("rebind.limit", "%d is not between 0 and 1000", c.Rebind.Limit)
	}
	h := c.Highstate
	if h.Function == "" {
		fault("highstate.function", "is empty")
	}
	if h.Attempts < 1 || h.Attempts > 100 {
		fault("highstate.attempts", "%d is not between 1 and 100", h.Attempts)
	}
	if h.Concurrency < 1 || h.Concurrency > 10_000 {
		fault("highstate.concurrency", "%d is not between 1 and 10000", h.Concurrency)
	}
	if h.Lease < minLease || h.Lease > time.Hour {
		fault("highstate.lease", "%v is not between %v and 1h", h.Lease, minLease)
	}
	if _, err := decide.ParseBreaker(h.Breaker); err != nil {
		fault("highstate.breaker", "%v", err)
	}
	return errors.Join(faults...)
}

// auditFile is the trail's name, where its folder follows from the store.
const auditFile = "audit.log"

// minLease: a master beats every 5 s, and stops publishing 10 s before its lease
// could be seen to have run out.
const minLease = 20 * time.Second

// minHeal: a restart of salt-master takes some 10 s, and a minute on a machine
// that is busy.
const minHeal = time.Minute

// ValidID returns the check of minion ids. Whatever the operator's pattern says,
// an id that Salt takes for a glob or a list, or that leaves a folder, is refused.
func (c *Config) ValidID() func(string) bool {
	pattern := regexp.MustCompile(c.IDPattern)
	return func(id string) bool {
		return id != "" && len(id) <= 255 && id[0] != '.' && !strings.ContainsAny(id, "*?[]{}()|^$+,;/\\ \"'`<>&!") &&
			!strings.ContainsFunc(id, func(r rune) bool { return r < 0x21 || r > 0x7e }) && pattern.MatchString(id)
	}
}

// checkAgent returns what is wrong with the settings of an agent, by their keys.
func (c *Config) checkAgent(fault func(key, format string, args ...any)) {
	a := c.Agent
	if a.Interval < agent.MinInterval || a.Interval > time.Hour {
		fault("agent.interval", "%v is not between %v and 1h", a.Interval, agent.MinInterval)
	}
	if a.Splay < 0 || a.Splay > time.Hour {
		fault("agent.splay", "%v is not between 0s and 1h", a.Splay)
	}
	if a.Settle < 0 || a.Settle > 7*24*time.Hour {
		fault("agent.settle", "%v is not between 0s and 168h", a.Settle)
	}
	if a.Follow != "" {
		if _, err := agent.ParseFollow(a.Follow); err != nil {
			fault("agent.follow", "%v", err)
		}
	}
	if !slices.Contains(agent.Orders(), agent.Order(a.Order)) {
		fault("agent.order", "%q is neither spread nor sorted", a.Order)
	}
	if len(a.Restart) == 0 || a.Restart[0] == "" {
		fault("agent.restart", "is empty")
	}
}

// Values of relay.jobs.
const (
	RelayOwn = "own"
	RelayAll = "all"
)

func (c *Config) checkRelay(fault func(key, format string, args ...any)) {
	if c.Relay.Jobs != RelayOwn && c.Relay.Jobs != RelayAll {
		fault("relay.jobs", "%q is neither own nor all", c.Relay.Jobs)
	}
	if c.Relay.Listen == "" {
		return
	}
	if _, port, err := net.SplitHostPort(c.Relay.Listen); err != nil {
		fault("relay.listen", "%q is not HOST:PORT, or :PORT for each address of this machine", c.Relay.Listen)
	} else if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		fault("relay.listen", "%q is no port", port)
	}
	if c.Bus == BusOff {
		fault("relay.listen", "the relay needs the event bus (bus: auto)")
	}
}

func LogLevel(text string) (slog.Level, error) {
	var level slog.Level
	err := level.UnmarshalText([]byte(text))
	if err != nil {
		return level, errors.New("is none of debug, info, warn, error")
	}
	return level, nil
}
