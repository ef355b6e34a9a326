package cli

import (
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/config"
	"phoenix/bridge/salt"
)

// plainConfig is as much of a configuration as Salt alone is looked at with.
func plainConfig(c *cli.Context) config.Config {
	cfg := config.Default()
	cfg.IDPattern = config.IDPatternSQLite
	for name, value := range map[string]*string{"salt-config": &cfg.SaltConfig, "id-pattern": &cfg.IDPattern} {
		if text, ok := flagText(c, name); ok {
			*value = text
		}
	}
	return cfg
}

// saltConfigs are the files to look at: the one that is named, or those that are
// where packages put them.
func saltConfigs(cfg config.Config) (found []string, err error) {
	usual := config.Default().SaltConfig
	if cfg.SaltConfig != usual {
		return []string{cfg.SaltConfig}, nil
	}
	for role, path := range map[string]string{"master": usual, "minion": minionConfig} {
		if salt.Configured(path, role) {
			found = append(found, path)
		}
	}
	slices.Sort(found)
	if len(found) == 0 {
		return nil, usageError(fmt.Errorf("find Salt: neither %s nor %s is there (--salt-config names the file)", usual,
			minionConfig))
	}
	return found, nil
}
