#!/usr/bin/env bash
# Builds packages of Salt, deb and rpm, laid out as Salt's own are (3006 to 3008: paths,
# units, user, modes, maintainer scripts), and signed repositories of both at the paths
# that Salt's own have. Salt's own packages bring a Python of their own; these bring the
# environment TREE, which needs the Python of the machine.
set -euo pipefail

tree=$1 version=$2 out=$3
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

export GNUPGHOME=$work/gnupg
install -d -m 0700 "$GNUPGHOME"
gpg --batch --quiet --passphrase '' --quick-generate-key 'Salt of the lab <salt@localhost>' rsa3072 sign never 2>/dev/null
gpg --batch --quiet --export-secret-keys --armor >"$work/secret.asc"
install -d "$out/api/security/keypair/SaltProjectKey" "$out/saltproject-rpm" "$out/saltproject-deb/pool"
gpg --batch --quiet --export --armor >"$out/api/security/keypair/SaltProjectKey/public"

# The units are as Salt's own of 3007.15. Others have KillMode=process for the minion.
cat >"$work/salt-master.service" <<-END
	[Unit]
	Description=The Salt Master Server
	After=network.target

	[Service]
	LimitNOFILE=100000
	Type=notify
	NotifyAccess=all
	ExecStart=/usr/bin/salt-master

	[Install]
	WantedBy=multi-user.target
END
cat >"$work/salt-minion.service" <<-END
	[Unit]
	Description=The Salt Minion
	After=network.target salt-master.service

	[Service]
	KillMode=mixed
	Type=notify
	NotifyAccess=all
	LimitNOFILE=8192
	ExecStart=/usr/bin/salt-minion

	[Install]
	WantedBy=multi-user.target
END
echo 'user: salt' >"$work/master"
: >"$work/minion"

# Both kinds of packages make the user, own the master's folders by it, and enable and
# start their service.
cat >"$work/common-pre" <<-END
	#!/bin/sh
	getent group salt >/dev/null || groupadd --system salt
	getent passwd salt >/dev/null || useradd --system --no-create-home -s /usr/sbin/nologin -g salt -d /opt/saltstack/salt salt
END
cat >"$work/master-post" <<-END
	#!/bin/sh
	touch /var/log/salt/master /var/log/salt/key
	chmod 640 /var/log/salt/master /var/log/salt/key
	chown -R salt:salt /etc/salt/pki/master /etc/salt/master.d /var/log/salt/master /var/log/salt/key /var/cache/salt/master /var/run/salt/master
	systemctl daemon-reload
	systemctl enable --now salt-master || true
END
cat >"$work/minion-post" <<-END
	#!/bin/sh
	systemctl daemon-reload
	systemctl enable --now salt-minion || true
END

package() { # NAME VERSION-OF-COMMON SCRIPTS CONTENTS, as YAML
	local name=$1 format
	for format in deb rpm; do
		local target=$out/saltproject-rpm common=salt
		if [ "$format" = deb ]; then target=$out/saltproject-deb/pool common=salt-common; fi
		cat >"$work/nfpm.yaml" <<-END
			name: ${name/%common/$common}
			arch: amd64
			platform: linux
			version: $version
			version_schema: none
			release: '0'
			maintainer: Lab <lab@localhost>
			description: Salt of the lab
			deb: {compression: none}
			rpm:
			  compression: gzip:1
			  signature: {key_file: $work/secret.asc}
			$3
			${2:+depends: [$common]}
			contents:
			$4
		END
		go tool -modfile=packaging/nfpm.mod nfpm package --config "$work/nfpm.yaml" --packager "$format" --target "$target/" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
	done
}

links=
for program in salt salt-call salt-cp salt-key salt-master salt-minion salt-run; do
	links+="
  - {src: /opt/saltstack/salt/bin/$program, dst: /usr/bin/$program, type: symlink}"
done
folder() { printf '\n  - {dst: %s, type: dir, file_info: {mode: %s, owner: %s, group: %s}}' "$1" "$2" "$3" "$3"; }
package common '' "scripts: {preinstall: $work/common-pre}" "
  - {src: $tree, dst: /opt/saltstack/salt, type: tree}$links$(folder /etc/salt 0755 root)$(folder /etc/salt/pki 0755 root)$(folder /var/cache/salt 0755 root)$(folder /var/log/salt 0755 root)"
masters=
for d in '' /minions /minions_autosign /minions_denied /minions_pre /minions_rejected; do masters+=$(folder "/etc/salt/pki/master$d" 0750 salt); done
for d in '' /jobs /proc /queues /roots /syndics /tokens; do masters+=$(folder "/var/cache/salt/master$d" 0750 salt); done
package salt-master 1 "scripts: {postinstall: $work/master-post}" "
  - {src: $work/salt-master.service, dst: /usr/lib/systemd/system/salt-master.service}
  - {src: $work/master, dst: /etc/salt/master, type: config|noreplace, file_info: {mode: 0640}}$masters$(folder /etc/salt/master.d 0755 salt)$(folder /var/run/salt/master 0750 salt)"
package salt-minion 1 "scripts: {postinstall: $work/minion-post}" "
  - {src: $work/salt-minion.service, dst: /usr/lib/systemd/system/salt-minion.service}
  - {src: $work/minion, dst: /etc/salt/minion, type: config|noreplace, file_info: {mode: 0640}}$(folder /etc/salt/minion.d 0755 root)$(folder /etc/salt/pki/minion 0700 root)$(folder /var/cache/salt/minion 0750 root)"

cd "$out/saltproject-deb"
install -d dists/stable/main/binary-amd64
dpkg-scanpackages --multiversion pool >dists/stable/main/binary-amd64/Packages 2>/dev/null
cd dists/stable
{
	printf 'Origin: lab\nSuite: stable\nCodename: stable\nArchitectures: amd64\nComponents: main\nDate: %s\nSHA256:\n' "$(date -Ru)"
	printf ' %s %s main/binary-amd64/Packages\n' "$(sha256sum <main/binary-amd64/Packages | cut -d' ' -f1)" "$(stat -c %s main/binary-amd64/Packages)"
} >Release
gpg --batch --quiet --clearsign --output InRelease Release
createrepo_c --quiet "$out/saltproject-rpm" >/dev/null
