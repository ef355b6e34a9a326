// Command phoenix makes Salt masters on AWS highly available: see "phoenix help".
package main

import (
	"os"

	"phoenix/bridge/cli"
)

// version is set by the linker.
var version = "unknown"

func main() { os.Exit(cli.Main(version)) }
