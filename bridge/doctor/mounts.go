package doctor

import (
	"path/filepath"
	"slices"
	"strings"
)

// Mount is a file system as the kernel lists it.
type Mount struct{ Point, Kind, Source string }

// overNetwork are kinds of file systems that several machines may have mounted.
var overNetwork = []string{"nfs", "nfs4", "cifs", "smb3", "ceph", "glusterfs", "lustre", "gfs2", "ocfs2", "9p",
	"virtiofs", "afs", "beegfs",
	"fuse.sshfs", "fuse.glusterfs", "fuse.s3fs", "fuse.ceph", "fuse.juicefs", "fuse.mount-s3"}

// mounts reads /proc/self/mountinfo:
// 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
func mounts(path string) (found []Mount, err error) {
	err = lines(path, func(line string) {
		before, after, ok := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if ok && len(left) > 4 && len(right) > 1 {
			found = append(found, Mount{unescape.Replace(left[4]), right[0], right[1]})
		}
	})
	return found, err
}

// unescape undoes what the kernel does to blanks in paths.
var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)

// on returns the file system that a path is on: the last one mounted at the longest
// point above it.
func on(mounts []Mount, path string) (at Mount) {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	for _, m := range mounts {
		point := strings.TrimSuffix(m.Point, "/")
		if (path == point || strings.HasPrefix(path, point+"/")) && len(m.Point) >= len(at.Point) {
			at = m
		}
	}
	return at
}

func examineMounts(r *report, m Master) {
	shared := 0
	folders := []struct {
		option, path string
		severity     Severity
		then         string
	}{
		{"cachedir", m.Config.CacheDir, Warning, "give each master a cachedir of its own, on a local disk"},
		{"sock_dir", m.Config.SockDir, Error, "give each master a sock_dir of its own, on a local disk"},
		{"pki_dir", m.Config.PKIDir, Note,
			"that works if each master of it has a bridge of its own; else give each master its own"},
	}
	for _, dir := range folders {
		if at := on(m.Mounts, dir.path); slices.Contains(overNetwork, at.Kind) {
			shared++
			r.add(dir.severity, "shared-folders", say(dir.then), "%s %s is on %s (%s)", dir.option, quote(dir.path),
				at.Kind, quote(at.Source))
		}
	}
	for _, f := range m.Shared {
		for _, dir := range folders {
			if dir.option == f.Option {
				shared++
				r.add(dir.severity, "shared-folders", say(dir.then),
					"%s %s is the one of another master on this machine, too (%s)", dir.option, quote(dir.path),
					quote(f.With))
			}
		}
	}
	if shared == 0 {
		r.ok("shared-folders", "cachedir, sock_dir and pki_dir are on local file systems, and no other master here has them")
	}
}
