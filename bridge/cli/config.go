package cli

import (
	"os"
	"slices"

	"github.com/urfave/cli/v2"

	"phoenix/bridge/config"
)

// configFlags are the flags of all settings, and --config.
func configFlags() []cli.Flag {
	c := config.Default()
	flags := []cli.Flag{&cli.StringFlag{Name: "config", Aliases: []string{"c"}, EnvVars: []string{"PHOENIX_CONFIG"},
		Usage: "configuration `FILE`", DefaultText: config.DefaultPath}}
	for _, s := range c.Settings() {
		flags = append(flags, &cli.StringFlag{Name: s.Flag(), Usage: s.Usage, DefaultText: s.Text(),
			Category: "Configuration"})
	}
	return flags
}

// readConfig loads the configuration of a command.
func readConfig(c *cli.Context) (config.Config, error) {
	from := config.Source{Variable: os.LookupEnv, Flag: func(name string) (string, bool) { return flagText(c, name) }}
	if path, asked := configPath(c); asked {
		from.Path = path
	}
	cfg, err := config.Load(from)
	if err != nil {
		return cfg, usageError(err)
	}
	return cfg, nil
}

// configPath returns the path of the configuration, and reports whether the user gave it.
func configPath(c *cli.Context) (path string, asked bool) {
	if path, asked = flagText(c, "config"); asked {
		return path, true
	}
	if path = os.Getenv("PHOENIX_CONFIG"); path != "" {
		return path, true
	}
	return config.DefaultPath, false
}

// flagText returns the value of a flag given to the command or before it.
func flagText(c *cli.Context, name string) (string, bool) {
	for _, ctx := range c.Lineage() {
		if slices.Contains(ctx.LocalFlagNames(), name) {
			return ctx.String(name), true
		}
	}
	return "", false
}
