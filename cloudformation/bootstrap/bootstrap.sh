#!/bin/bash
# Makes a Salt master or minion of a machine that has just started: Salt, its
# configuration, the services. The package of Phoenix brings it as
# /usr/lib/phoenix/bootstrap; what it needs to know stands before it as variables, or
# in /etc/phoenix/bootstrap.env (see the templates). Run it again at will; what it says
# is in /var/log/phoenix-bootstrap.log.
set -euo pipefail

say() { printf '%s phoenix-bootstrap: %s\n' "$(date -u +%FT%TZ)" "$*"; }
die() { say "FAILED: $*"; exit 1; }

# The network of a new machine, and the role's credentials, may need some time.
again() { # COMMAND…
	local try
	for try in 1 2 3 4 5 6; do
		"$@" && return
		say "try $try of 6: $1 did not succeed" >&2
		sleep $((try * 5))
	done
	return 1
}

metadata() { # PATH
	local imds=${AWS_EC2_METADATA_SERVICE_ENDPOINT:-http://169.254.169.254}/latest token
	token=$(curl -sS --fail -m 5 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 300' "$imds/api/token") || return
	curl -sS --fail -m 5 -H "X-aws-ec2-metadata-token: $token" "$imds/$1"
}

# value reads one text of a flat JSON object, as the metadata service gives it.
value() { sed -n "s/.*\"$1\" *: *\"\([^\"]*\)\".*/\1/p"; }

install_packages() { # PACKAGE…
	if command -v apt-get >/dev/null; then
		again apt-get -qq -o DPkg::Lock::Timeout=300 update &&
			again env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 --allow-downgrades install "$@"
	else
		again dnf -q -y install "$@"
	fi
}

# install_salt leaves salt_python, the interpreter that Salt runs on.
install_salt() { # SERVICE…
	if [ "$SALT_REPOSITORY" = pypi ]; then
		salt_from_pypi "$@"
		salt_python=/opt/salt/bin/python3
	else
		salt_from_packages "$@"
		salt_python=/opt/saltstack/salt/bin/python3
	fi
}

# None of the services may start by itself: a master makes a key at its first start,
# and a minion knocks with the wrong name.
salt_from_packages() { # SERVICE…
	local unit packages=()
	for unit in "$@"; do
		[ -e "/usr/lib/systemd/system/$unit.service" ] || systemctl mask "$unit"
	done
	if command -v apt-get >/dev/null; then
		apt_repository
		packages=("salt-common=$SALT_VERSION*" "${@/%/=$SALT_VERSION*}")
	else
		rpm_repository
		packages=("${@/%/-$SALT_VERSION*}")
	fi
	install_packages "${packages[@]}" || die "install Salt $SALT_VERSION"
	systemctl unmask "$@"
}

apt_repository() {
	install -d -m 0755 /etc/apt/keyrings
	again curl -sS --fail -L -m 60 -o /etc/apt/keyrings/salt.asc "$SALT_REPOSITORY/api/security/keypair/SaltProjectKey/public" || die "fetch the key of Salt's packages"
	cat >/etc/apt/sources.list.d/salt.sources <<-END
		Types: deb
		URIs: $SALT_REPOSITORY/saltproject-deb
		Suites: stable
		Components: main
		Signed-By: /etc/apt/keyrings/salt.asc
	END
}

rpm_repository() {
	cat >/etc/yum.repos.d/salt.repo <<-END
		[salt]
		name=Salt
		baseurl=$SALT_REPOSITORY/saltproject-rpm
		enabled=1
		gpgcheck=1
		gpgkey=$SALT_REPOSITORY/api/security/keypair/SaltProjectKey/public
	END
}

# salt_from_pypi makes an environment of its own, and services like those of Salt's
# packages.
salt_from_pypi() { # SERVICE…
	local service
	if ! python3 -c 'import venv, ensurepip' 2>/dev/null; then
		install_packages python3-venv || install_packages python3-pip || die 'install Python with venv'
	fi
	if [ "$(cat /opt/salt/version 2>/dev/null)" != "$SALT_VERSION" ]; then
		rm -rf /opt/salt
		python3 -m venv /opt/salt
		again /opt/salt/bin/pip install --quiet --disable-pip-version-check "salt==$SALT_VERSION" || die "install Salt $SALT_VERSION from PyPI"
		ln -sf /opt/salt/bin/salt* /usr/local/bin/
		echo "$SALT_VERSION" >/opt/salt/version
	fi
	install -d -m 0755 /etc/salt
	for service in "$@"; do
		[ -e "/etc/salt/${service#salt-}" ] || : >"/etc/salt/${service#salt-}"
		cat >"/etc/systemd/system/$service.service" <<-END
			[Unit]
			Description=$service, from PyPI
			After=network-online.target
			Wants=network-online.target

			[Service]
			Type=notify
			NotifyAccess=all
			KillMode=process
			LimitNOFILE=100000
			ExecStart=/opt/salt/bin/$service

			[Install]
			WantedBy=multi-user.target
		END
	done
}

# forget removes what the minion that this image was made of left of itself. The mark
# says for which instance that was done: it is not done twice. A master's key is never
# removed: one that is not the shared one is an error, see start_master.
forget() {
	local mark=/var/lib/phoenix/instance
	[ "$(cat "$mark" 2>/dev/null)" = "$instance" ] && return
	systemctl stop phoenix-agent salt-minion 2>/dev/null || true
	rm -rf /etc/salt/pki/minion /etc/salt/minion_id /etc/salt/minion.d/99-phoenix.conf \
		/etc/salt/minion.d/.99-phoenix.restart /etc/salt/minion.d/_schedule.conf /var/cache/salt/minion
	install -d -m 0755 /var/lib/phoenix
	echo "$instance" >"$mark"
}

configure_minion() {
	install -d -m 0755 /etc/salt/minion.d /etc/systemd/system/salt-minion.service.d
	cat >/etc/salt/minion.d/50-phoenix.conf <<-END
		# Written by phoenix-bootstrap. The list of masters is in 99-phoenix.conf.
		id: $instance
		# What a highstate returned is known here even if no master heard of it.
		cache_jobs: True
		# A master that is gone is noticed, and another turned to.
		master_alive_interval: 15
		retry_dns: 0
		tcp_keepalive_idle: 30
		tcp_keepalive_cnt: 3
		tcp_keepalive_intvl: 10
		rejected_retry: True
	END
	# A minion often takes no notice of SIGTERM (3007), and is away until it is killed.
	printf '# Written by phoenix-bootstrap.\n[Service]\nTimeoutStopSec=5\n' >/etc/systemd/system/salt-minion.service.d/50-phoenix.conf
}

# read_secret asks Secrets Manager, signed with the instance's role.
read_secret() {
	local role credentials url=https://secretsmanager.$PHOENIX_REGION.$PHOENIX_DOMAIN
	role=$(metadata meta-data/iam/security-credentials/) || return
	credentials=$(metadata "meta-data/iam/security-credentials/$role") || return
	# From standard input: what stands in arguments, everybody on the machine sees.
	curl -sS --fail -m 30 --aws-sigv4 "aws:amz:$PHOENIX_REGION:secretsmanager" -K - \
		-H 'content-type: application/x-amz-json-1.1' -H 'x-amz-target: secretsmanager.GetSecretValue' \
		-d "{\"SecretId\":\"$REPOSITORIES_SECRET\"}" "${AWS_ENDPOINT_URL_SECRETS_MANAGER:-$url}/" <<-END
			user = "$(value AccessKeyId <<<"$credentials"):$(value SecretAccessKey <<<"$credentials")"
			header = "x-amz-security-token: $(value Token <<<"$credentials")"
		END
}

# open_repositories gives git what the secret holds: lines of its credential store
# (a URL with user and token), or a private SSH key.
open_repositories() {
	local secret owner
	[ -n "$REPOSITORIES_SECRET" ] || return 0
	secret=$(again read_secret) || die "read secret $REPOSITORIES_SECRET"
	secret=$("$salt_python" -c 'import json, sys; print(json.load(sys.stdin)["SecretString"])' <<<"$secret") || die "read secret $REPOSITORIES_SECRET"
	owner=$(id -un salt 2>/dev/null || echo root) # the master's user: Salt's packages make it
	install -d -m 0700 -o "$owner" /etc/salt/git
	if [[ $secret == -----BEGIN* ]]; then
		install -m 0400 -o "$owner" /dev/stdin /etc/salt/git/key <<<"$secret"
		git config --system core.sshCommand 'ssh -i /etc/salt/git/key -o UserKnownHostsFile=/etc/salt/git/known_hosts -o StrictHostKeyChecking=accept-new'
	else
		install -m 0600 -o "$owner" /dev/stdin /etc/salt/git/credentials <<<"$secret"
		git config --system credential.helper 'store --file /etc/salt/git/credentials'
	fi
}

configure_master() {
	if [ -n "$STATES_REPOSITORY$PILLAR_REPOSITORY" ]; then
		command -v git >/dev/null || install_packages git || die 'install git'
		"$salt_python" -c 'import git' 2>/dev/null ||
			again "$salt_python" -m pip install --quiet --disable-pip-version-check GitPython || die 'install GitPython for Salt'
		open_repositories
	fi
	install -d -m 0755 /etc/salt/master.d /etc/systemd/system/salt-master.service.d
	install -m 0644 /usr/share/phoenix/salt-extensions/master.d/phoenix.conf /etc/salt/master.d/phoenix.conf
	{
		printf '# Written by phoenix-bootstrap.\nid: %s\n' "$instance"
		printf 'fileserver_backend: [%s]\n' "${STATES_REPOSITORY:+git, }roots"
		[ -z "$STATES_REPOSITORY" ] || printf 'gitfs_remotes:\n  - %s\ngitfs_base: %s\n' "$STATES_REPOSITORY" "$STATES_BRANCH"
		[ -z "$PILLAR_REPOSITORY" ] || printf 'ext_pillar:\n  - git:\n    - %s %s\n' "$PILLAR_BRANCH" "$PILLAR_REPOSITORY"
	} >/etc/salt/master.d/50-phoenix.conf
	cat >/etc/systemd/system/salt-master.service.d/50-phoenix.conf <<-END
		# Written by phoenix-bootstrap.
		[Service]
		EnvironmentFile=-/etc/default/phoenix
		# The masters' shared key, before a start makes another.
		ExecStartPre=+/usr/bin/phoenix identity install
	END
}

# configure_phoenix writes the configuration that bridge and agent share.
configure_phoenix() {
	{
		printf '# Written by phoenix-bootstrap.\nAWS_REGION=%s\n' "$PHOENIX_REGION"
		env | grep -E '^AWS_E[A-Z0-9_]*=' || true # endpoints that are not AWS's own
	} >/etc/default/phoenix
	{
		cat <<-END
			# Written by phoenix-bootstrap.
			store: 'dynamodb:'
			instance_id: $instance
			admit: proven
			dynamodb:
			  region: $PHOENIX_REGION
			  minions_table: $PHOENIX_MINIONS_TABLE
			  masters_table: $PHOENIX_MASTERS_TABLE
			  proofs_table: $PHOENIX_PROOFS_TABLE
		END
		[ -z "${PHOENIX_FOLLOW:-}" ] || printf 'agent:\n  follow: %s\n' "$PHOENIX_FOLLOW"
		[ "$PHOENIX_ROLE" != master ] || cat <<-END
			sqs:
			  queues: [$PHOENIX_QUEUE]
			autoscaling:
			  groups: ['masters:$PHOENIX_MASTERS_GROUP', 'minions:$PHOENIX_MINIONS_GROUP']
			identity:
			  bucket: $PHOENIX_IDENTITY_BUCKET
			  kms_key: $PHOENIX_IDENTITY_KEY
			  region: $PHOENIX_REGION
			  endpoint: '${AWS_ENDPOINT_URL_S3:-}'
			ready:
			  command: [salt-run, fileserver.update]
			  top: [${STATES_REPOSITORY:+base/top.sls}]
			heal:
			  after: 5m
			relay:
			  listen: ':4507'
		END
	} >/etc/phoenix/phoenix.yaml
}

start_master() {
	configure_master
	systemctl daemon-reload
	again phoenix identity install || die 'install the masters'\'' identity'
	systemctl enable salt-master phoenix-bridge
	systemctl restart salt-master phoenix-bridge
}

# start_minion leaves the minion's start to the agent: until that has written the list
# of masters there is none to turn to.
start_minion() {
	configure_minion
	systemctl daemon-reload
	systemctl enable salt-minion phoenix-agent
	systemctl restart phoenix-agent
}

main() {
	: "${PHOENIX_ROLE:?}" "${PHOENIX_REGION:?}" "${PHOENIX_DOMAIN:?}" "${SALT_VERSION:?}" "${SALT_REPOSITORY:?}"
	export AWS_REGION=$PHOENIX_REGION
	instance=$(again metadata meta-data/instance-id) || die 'ask the instance for its id'
	say "$PHOENIX_ROLE $instance begins, $(phoenix --version)"
	case $PHOENIX_ROLE in
	master) install_salt salt-master salt-minion ;;
	minion) install_salt salt-minion ;;
	*) die "$PHOENIX_ROLE is neither master nor minion" ;;
	esac
	forget
	configure_phoenix
	[ "$PHOENIX_ROLE" = minion ] || start_master
	start_minion
	say "$PHOENIX_ROLE $instance is set up"
}

# shellcheck disable=SC1091 # it is there on a machine that was set up before
[ -n "${PHOENIX_ROLE:-}" ] || . /etc/phoenix/bootstrap.env
main > >(tee -a /var/log/phoenix-bootstrap.log) 2>&1
