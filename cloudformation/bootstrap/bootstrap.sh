#!/bin/bash
# Sets up a new machine as a Salt master or minion: Salt, its configuration, the
# services. Phoenix's package installs it as /usr/lib/phoenix/bootstrap. It takes its
# settings from variables, or from /etc/phoenix/bootstrap.env (see the templates). It
# may run any number of times, and writes its log to /var/log/phoenix-bootstrap.log.
set -euo pipefail

say() { printf '%s phoenix-bootstrap: %s\n' "$(date -u +%FT%TZ)" "$*"; }
die() { say "FAILED: $*"; exit 1; }

# again tries a command six times: the network and the role's credentials may come
# some seconds after the boot.
again() { # COMMAND…
	local try
	for try in 1 2 3 4 5 6; do
		"$@" && return
		say "attempt $try of 6: $1 failed" >&2
		sleep $((try * 5))
	done
	return 1
}

metadata() { # PATH
	local imds=${AWS_EC2_METADATA_SERVICE_ENDPOINT:-http://169.254.169.254}/latest token
	token=$(curl -sS --fail -m 5 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 300' "$imds/api/token") || return
	curl -sS --fail -m 5 -H "X-aws-ec2-metadata-token: $token" "$imds/$1"
}

# value reads one string of a flat JSON object, as the metadata service returns it.
value() { sed -n "s/.*\"$1\" *: *\"\([^\"]*\)\".*/\1/p"; }

install_packages() { # PACKAGE…
	if command -v apt-get >/dev/null; then
		again apt-get -qq -o DPkg::Lock::Timeout=300 update &&
			again env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 --allow-downgrades install "$@"
	else
		again dnf -q -y install "$@"
	fi
}

# install_salt sets salt_python, the interpreter that Salt runs on. It contacts no
# repository for what the image has in the wanted version.
install_salt() { # SERVICE…
	salt_python=/opt/saltstack/salt/bin/python3
	[ "$SALT_REPOSITORY" != pypi ] || salt_python=/opt/salt/bin/python3
	if has_salt "$@"; then
		say "the image has Salt $SALT_VERSION"
	elif [ "$SALT_REPOSITORY" = pypi ]; then
		salt_from_pypi "$@"
	else
		salt_from_packages "$@"
	fi
}

has_salt() { # SERVICE…
	local service version
	for service in "$@"; do
		[ -e "/usr/lib/systemd/system/$service.service" ] || [ -e "/etc/systemd/system/$service.service" ] || return
	done
	version=$("$salt_python" -c 'import salt.version; print(salt.version.__version__)' 2>/dev/null) || return
	[[ $version == "$SALT_VERSION" || $version == "$SALT_VERSION".* ]]
}

# salt_from_packages keeps the packages from starting the services: a master makes a
# key at its first start, and a minion asks for admission under the wrong id.
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

# fetch_key gets the public key that the packages are signed with, and checks it
# against the digest that the operator gave.
fetch_key() { # FILE
	install -d -m 0755 "${1%/*}"
	again curl -sS --fail -L -m 60 -o "$1.new" "$SALT_REPOSITORY/api/security/keypair/SaltProjectKey/public" || die "fetch the key of Salt's packages"
	if [ -z "$SALT_KEY_SHA256" ]; then
		say "the key of Salt's packages is trusted as $SALT_REPOSITORY has it: SHA-256 $(sha256sum <"$1.new")"
	else
		sha256sum --check --status <<<"$SALT_KEY_SHA256  $1.new" || die "the key of $SALT_REPOSITORY is not the one with SHA-256 $SALT_KEY_SHA256"
	fi
	mv "$1.new" "$1"
}

apt_repository() {
	fetch_key /etc/apt/keyrings/salt.asc
	cat >/etc/apt/sources.list.d/salt.sources <<-END
		Types: deb
		URIs: $SALT_REPOSITORY/saltproject-deb
		Suites: stable
		Components: main
		Signed-By: /etc/apt/keyrings/salt.asc
	END
}

rpm_repository() {
	fetch_key /etc/pki/rpm-gpg/salt.asc
	cat >/etc/yum.repos.d/salt.repo <<-END
		[salt]
		name=Salt
		baseurl=$SALT_REPOSITORY/saltproject-rpm
		enabled=1
		gpgcheck=1
		gpgkey=file:///etc/pki/rpm-gpg/salt.asc
	END
}

# salt_from_pypi makes an environment of its own, and services like those of Salt's
# packages. It is for trials: PyPI's packages are pinned by version only.
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

# collect_logs has CloudWatch Logs keep the log of the bootstrap, the lines of bridge and
# agent, and the audit trail of a master. The CloudWatch agent reads the journal since
# 1.300070 only, and each entry as JSON with all fields: rsyslog writes its lines to a
# file. A machine whose logs cannot be collected serves nevertheless, and in time: the
# packages have three minutes. Repositories of deb packages do not have the agent.
collect_logs() {
	local home=/opt/aws/amazon-cloudwatch-agent config=/etc/phoenix/cloudwatch-agent.json missing=()
	[ -n "$PHOENIX_LOG_GROUP" ] || return 0
	[ -x $home/bin/amazon-cloudwatch-agent-ctl ] || missing+=(amazon-cloudwatch-agent)
	command -v rsyslogd >/dev/null || missing+=(rsyslog)
	if [ ${#missing[@]} -gt 0 ] && { command -v apt-get >/dev/null || ! timeout 180 dnf -q -y install "${missing[@]}"; }; then
		say "WARNING: no logs are collected: the image has no ${missing[*]}"
		return 0
	fi
	systemctl enable --now rsyslog || say 'WARNING: rsyslog does not start'
	# What fails within a condition does not end the bootstrap.
	if ! { [ -z "$PHOENIX_PROXY" ] || log_proxy $home/etc/common-config.toml; } || ! log_files >$config; then
		say 'WARNING: no logs are collected: the configuration of the CloudWatch agent cannot be written'
		return 0
	fi
	# Beside what the image configures.
	$home/bin/amazon-cloudwatch-agent-ctl -a append-config -m ec2 -c file:$config -s || say 'WARNING: no logs are collected: the CloudWatch agent does not start'
}

# log_proxy writes the proxy into the agent's file, unless the image names one there.
log_proxy() { # FILE
	grep -qs '^\[proxy\]' "$1" || printf '\n# Written by phoenix-bootstrap.\n[proxy]\nhttp_proxy = "%s"\nhttps_proxy = "%s"\nno_proxy = "%s"\n' \
		"$PHOENIX_PROXY" "$PHOENIX_PROXY" "$no_proxy" >>"$1"
}

# log_files writes the configuration of the CloudWatch agent: which lines of which file
# go to which stream of which group.
log_files() {
	local syslog=/var/log/messages
	! command -v apt-get >/dev/null || syslog=/var/log/syslog
	echo '{"logs": {"logs_collected": {"files": {"collect_list": ['
	[ -z "$PHOENIX_AUDIT_GROUP" ] || { log_file /var/lib/phoenix/audit.log "$PHOENIX_AUDIT_GROUP" "$instance" && echo ,; }
	log_file /var/log/phoenix-bootstrap.log "$PHOENIX_LOG_GROUP" "$instance/bootstrap" && echo ,
	log_file $syslog "$PHOENIX_LOG_GROUP" "$instance/phoenix" ', "filters": [{"type": "include", "expression": " phoenix[[]| systemd[[]1]: .*phoenix-"}]'
	echo ']}}}}'
}

log_file() { # FILE GROUP STREAM MORE
	printf '{"file_path": "%s", "log_group_name": "%s", "log_stream_name": "%s"%s}' "$1" "$2" "$3" "${4:-}"
}

# forget removes the key, id and state that the image has of another minion. The mark
# names the instance for which that was done, so that it is done once. A master's key
# is never removed: one that is not the shared one is an error, see start_master.
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
		# The return of a highstate is kept here, also if no master received it.
		cache_jobs: True
		# The minion notices a master that is gone, and connects to another.
		master_alive_interval: 15
		retry_dns: 0
		tcp_keepalive_idle: 30
		tcp_keepalive_cnt: 3
		tcp_keepalive_intvl: 10
		rejected_retry: True
	END
	[ -z "$MINION_GRAINS" ] || write_grains
	if [ -n "$PHOENIX_PROXY" ]; then # pkg and git states use it
		printf '# Written by phoenix-bootstrap.\n[Service]\nEnvironmentFile=-/etc/default/phoenix\n' >/etc/systemd/system/salt-minion.service.d/50-phoenix.conf
	fi
}

# write_grains writes the static grains of the role. Salt ignores a file that it cannot
# parse, so that top.sls would match nothing.
write_grains() {
	"$salt_python" -c 'import sys, yaml; sys.exit(not isinstance(yaml.safe_load(sys.argv[1]), dict))' "$MINION_GRAINS" 2>/dev/null ||
		die "MinionGrains is not a map of YAML: $MINION_GRAINS"
	printf '# Written by phoenix-bootstrap.\n%s\n' "$MINION_GRAINS" >/etc/salt/grains
}

# read_secret asks Secrets Manager, signed with the instance's role.
read_secret() {
	local role credentials url=https://secretsmanager.$PHOENIX_REGION.$PHOENIX_DOMAIN
	role=$(metadata meta-data/iam/security-credentials/) || return
	credentials=$(metadata "meta-data/iam/security-credentials/$role") || return
	# By standard input: every user of the machine can read arguments.
	curl -sS --fail -m 30 --aws-sigv4 "aws:amz:$PHOENIX_REGION:secretsmanager" -K - \
		-H 'content-type: application/x-amz-json-1.1' -H 'x-amz-target: secretsmanager.GetSecretValue' \
		-d "{\"SecretId\":\"$REPOSITORIES_SECRET\"}" "${AWS_ENDPOINT_URL_SECRETS_MANAGER:-$url}/" <<-END
			user = "$(value AccessKeyId <<<"$credentials"):$(value SecretAccessKey <<<"$credentials")"
			header = "x-amz-security-token: $(value Token <<<"$credentials")"
		END
}

# open_repositories gives git the secret: lines of its credential store (a URL with user
# and token), or a private SSH key. An SSH host is known by GIT_HOST_KEYS only.
open_repositories() {
	local secret owner
	[ -n "$REPOSITORIES_SECRET" ] || return 0
	secret=$(again read_secret) || die "read secret $REPOSITORIES_SECRET"
	secret=$("$salt_python" -c 'import json, sys; print(json.load(sys.stdin)["SecretString"])' <<<"$secret") || die "read secret $REPOSITORIES_SECRET"
	owner=$(id -un salt 2>/dev/null || echo root) # the master's user: Salt's packages make it
	install -d -m 0700 -o "$owner" /etc/salt/git
	tr ';' '\n' <<<"$GIT_HOST_KEYS" | install -m 0444 -o "$owner" /dev/stdin /etc/salt/git/known_hosts
	if [[ $secret == -----BEGIN* ]]; then
		[ -n "$GIT_HOST_KEYS" ] || die 'a private SSH key needs GitHostKeys, the host keys of the repositories'
		install -m 0400 -o "$owner" /dev/stdin /etc/salt/git/key <<<"$secret"
		git config --system core.sshCommand 'ssh -i /etc/salt/git/key -o UserKnownHostsFile=/etc/salt/git/known_hosts -o GlobalKnownHostsFile=/dev/null -o StrictHostKeyChecking=yes'
	else
		install -m 0600 -o "$owner" /dev/stdin /etc/salt/git/credentials <<<"$secret"
		git config --system credential.helper 'store --file /etc/salt/git/credentials'
	fi
}

# install_gitpython installs these files and no others.
install_gitpython() {
	local list
	list=$(mktemp)
	cat >"$list" <<-END
		GitPython==3.2.1 --hash=sha256:d66b0832aa8755c1a84892937282df0befb16c97e5a64aeebd68be9c5e323f53
		gitdb==4.0.12 --hash=sha256:67073e15955400952c6565cc3e707c554a4eea2e428946f7a4c162fab9bd9bcf
		smmap==5.0.3 --hash=sha256:c106e05d5a61449cf6ba9a1e650227ecfb141590d2a98412103ff35d89fc7b2f
	END
	again "$salt_python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r "$list" || die 'install GitPython for Salt'
	rm "$list"
}

configure_master() {
	if [ -n "$STATES_REPOSITORY$PILLAR_REPOSITORY" ]; then
		command -v git >/dev/null || install_packages git || die 'install git'
		"$salt_python" -c 'import git' 2>/dev/null || install_gitpython
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
		# The masters' shared key, before a first start makes another.
		ExecStartPre=+/usr/bin/phoenix identity install
	END
}

# configure_phoenix writes the configuration that bridge and agent share.
configure_phoenix() {
	{
		printf '# Written by phoenix-bootstrap.\nAWS_REGION=%s\n' "$PHOENIX_REGION"
		env | grep -E '^AWS_E[A-Z0-9_]*=' || true # endpoints that are not AWS's own
		[ -z "$PHOENIX_PROXY" ] || printf '%s=%s\n' http_proxy "$PHOENIX_PROXY" https_proxy "$PHOENIX_PROXY" no_proxy "$no_proxy" \
			HTTP_PROXY "$PHOENIX_PROXY" HTTPS_PROXY "$PHOENIX_PROXY" NO_PROXY "$no_proxy"
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
			  groups: ['masters:$PHOENIX_MASTERS_GROUP', ${PHOENIX_MINIONS_GROUPS}]
			  launch_failures: $PHOENIX_LAUNCH_FAILURES
			highstate:
			  breaker: $PHOENIX_BREAKER
			cloudwatch:
			  namespace: '$PHOENIX_METRICS'
			identity:
			  bucket: $PHOENIX_IDENTITY_BUCKET
			  kms_key: $PHOENIX_IDENTITY_KMS_KEY
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

# start_minion leaves the start of the minion to the agent, which first writes the list
# of masters.
start_minion() {
	configure_minion
	systemctl daemon-reload
	systemctl enable salt-minion phoenix-agent
	systemctl restart phoenix-agent
}

main() {
	: "${PHOENIX_ROLE:?}" "${PHOENIX_REGION:?}" "${PHOENIX_DOMAIN:?}" "${SALT_VERSION:?}" "${SALT_REPOSITORY:?}"
	: "${PHOENIX_PROXY:=}" "${PHOENIX_NO_PROXY:=}" "${SALT_KEY_SHA256:=}" "${GIT_HOST_KEYS:=}" "${MINION_GRAINS:=}" "${PHOENIX_LAUNCH_FAILURES:=0}" "${PHOENIX_BREAKER:=5/10}" "${PHOENIX_METRICS:=}" "${PHOENIX_LOG_GROUP:=}" "${PHOENIX_AUDIT_GROUP:=}"
	export AWS_REGION=$PHOENIX_REGION
	# curl, apt, dnf, pip and git read these. The metadata service is not asked by a proxy.
	if [ -n "$PHOENIX_PROXY" ]; then
		export http_proxy=$PHOENIX_PROXY https_proxy=$PHOENIX_PROXY no_proxy=169.254.169.254,localhost,127.0.0.1,$PHOENIX_NO_PROXY
	fi
	instance=$(again metadata meta-data/instance-id) || die 'ask the instance for its id'
	say "setting up $PHOENIX_ROLE $instance, $(phoenix --version)"
	collect_logs # first: what fails after it can be read
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

# shellcheck disable=SC1091 # it exists on a machine that was set up before
[ -n "${PHOENIX_ROLE:-}" ] || . /etc/phoenix/bootstrap.env
main > >(tee -a /var/log/phoenix-bootstrap.log) 2>&1
