package compose

import (
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"strconv"
)

// socketUser returns who else may use the socket: the master's user, and its group.
func socketUser(name string, log *slog.Logger) (uid, gid int) {
	u, err := user.Lookup(name)
	if err == nil {
		uid, err = strconv.Atoi(u.Uid)
	}
	if err == nil {
		gid, err = strconv.Atoi(u.Gid)
	}
	if err != nil {
		log.Warn("only root may use the socket", "err", fmt.Errorf("look up the master's user %s: %w", name, err))
		return 0, -1
	}
	if os.Geteuid() != 0 {
		gid = -1 // it has the bridge's own, which is the master's
	}
	return uid, gid
}
