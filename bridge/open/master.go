package open

import (
	"fmt"

	"phoenix/bridge/config"
	"phoenix/bridge/salt"
)

// Master reads the configuration of the Salt master, and opens its key store and
// its request channel.
func Master(cfg config.Config) (salt.Config, *salt.Keys, *salt.Master, error) {
	master, err := salt.ReadConfig(cfg.SaltConfig)
	if err == nil {
		err = master.Validate()
	}
	if err != nil {
		return master, nil, nil, config.Invalid(fmt.Errorf("salt_config: %w", err))
	}
	keys, err := salt.OpenKeys(master)
	if err != nil {
		return master, nil, nil, config.Invalid(fmt.Errorf("salt_config: %w", err))
	}
	client, err := salt.NewMaster(master)
	return master, keys, client, err
}
