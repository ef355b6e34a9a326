#!/bin/bash
# Makes a master or a minion of a machine that has just started: Salt, Phoenix,
# their configuration, their services. What it needs to know stands before it as
# variables (see the templates). It may be run again at will; what it says is in
# /var/log/phoenix-bootstrap.log.
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
	local imds=http://169.254.169.254/latest token
	token=$(curl -sS --fail -m 5 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 300' "$imds/api/token") || return
	curl -sS --fail -m 5 -H "X-aws-ec2-metadata-token: $token" "$imds/$1"
}

# value reads one text of a flat JSON object, as the metadata service gives it.
value() { sed -n "s/.*\"$1\" *: *\"\([^\"]*\)\".*/\1/p"; }

# fetch gets one object of the packages bucket, signed with the instance's role:
# images that have curl need nothing else.
fetch() { # KEY FILE
	local role credentials host
	role=$(metadata meta-data/iam/security-credentials/) || return
	credentials=$(metadata "meta-data/iam/security-credentials/$role") || return
	host=$PHOENIX_PACKAGES.s3.$PHOENIX_REGION.$PHOENIX_DOMAIN
	# From standard input: what stands in arguments, everybody on the machine sees.
	curl -sS --fail -m 300 -o "$2" --aws-sigv4 "aws:amz:$PHOENIX_REGION:s3" -K - "https://$host/$1" <<-END
		user = "$(value AccessKeyId <<<"$credentials"):$(value SecretAccessKey <<<"$credentials")"
		header = "x-amz-security-token: $(value Token <<<"$credentials")"
		header = "x-amz-content-sha256: UNSIGNED-PAYLOAD"
	END
}

install_phoenix() {
	local new=/usr/bin/.phoenix.new
	if ! sha256sum --check --status <<<"$PHOENIX_SHA256  /usr/bin/phoenix" 2>/dev/null; then
		again fetch "$PHOENIX_BINARY" "$new" || die "fetch s3://$PHOENIX_PACKAGES/$PHOENIX_BINARY"
		sha256sum --check --status <<<"$PHOENIX_SHA256  $new" || die "$PHOENIX_BINARY is not the file with SHA-256 $PHOENIX_SHA256"
		chmod 0755 "$new"
		mv "$new" /usr/bin/phoenix
	fi
	say "$(phoenix --version)"
}

# install_salt installs packages of Salt. None of them may start by itself: a
# master makes a key at its first start, a minion knocks with the wrong name.
install_salt() { # PACKAGE…
	local unit
	for unit in "$@"; do
		[ -e "/usr/lib/systemd/system/$unit.service" ] || systemctl mask "$unit"
	done
	if command -v apt-get >/dev/null; then
		apt_repository
		local packages=() package
		for package in salt-common "$@"; do packages+=("$package=$SALT_VERSION*"); done
		again apt-get -qq -o DPkg::Lock::Timeout=300 update
		again env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 --allow-downgrades install "${packages[@]}" || die "install Salt $SALT_VERSION"
	else
		rpm_repository
		again dnf -q -y install "${@/%/-$SALT_VERSION*}" || die "install Salt $SALT_VERSION"
	fi
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

# forget removes what the minion that this image was made of left of itself. The
# mark says for which instance that was done: it is not done twice. A master's key
# is never removed: one that is not the shared one is an error, see start_master.
forget() {
	local mark=/var/lib/phoenix/instance
	[ "$(cat "$mark" 2>/dev/null)" = "$instance" ] && return
	rm -rf /etc/salt/pki/minion /etc/salt/minion_id /etc/salt/minion.d/99-phoenix.conf /var/cache/salt/minion
	install -d -m 0755 /var/lib/phoenix
	echo "$instance" >"$mark"
}

configure_minion() {
	install -d -m 0755 /etc/salt/minion.d
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
}

# install_git gives Salt's own Python what its git backends need.
install_git() {
	if command -v apt-get >/dev/null; then
		again env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 install git
	else
		again dnf -q -y install git
	fi
	again salt-pip install --quiet GitPython || die 'install GitPython for Salt'
}

configure_master() {
	[ -z "$STATES_REPOSITORY$PILLAR_REPOSITORY" ] || install_git
	install -d -m 0755 /etc/salt/master.d
	{
		printf '# Written by phoenix-bootstrap.\nid: %s\n' "$instance"
		printf 'fileserver_backend: [%s]\n' "${STATES_REPOSITORY:+git, }roots"
		[ -z "$STATES_REPOSITORY" ] || printf 'gitfs_remotes:\n  - %s\ngitfs_base: %s\n' "$STATES_REPOSITORY" "$STATES_BRANCH"
		[ -z "$PILLAR_REPOSITORY" ] || printf 'ext_pillar:\n  - git:\n    - %s %s\n' "$PILLAR_BRANCH" "$PILLAR_REPOSITORY"
	} >/etc/salt/master.d/50-phoenix.conf
}

# configure_phoenix writes the configuration that bridge and agent share.
configure_phoenix() {
	install -d -m 0755 /etc/phoenix
	cat >/etc/phoenix/phoenix.yaml <<-END
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
	[ "$PHOENIX_ROLE" = master ] || return 0
	cat >>/etc/phoenix/phoenix.yaml <<-END
		sqs:
		  queues: [$PHOENIX_QUEUE]
		autoscaling:
		  groups: ['masters:$PHOENIX_MASTERS_GROUP', 'minions:$PHOENIX_MINIONS_GROUP']
		identity:
		  bucket: $PHOENIX_IDENTITY_BUCKET
		  kms_key: $PHOENIX_IDENTITY_KEY
		  region: $PHOENIX_REGION
		ready:
		  command: [salt-run, fileserver.update]
	END
}

# unit writes a service, unless a package of Phoenix has brought it.
unit() { # NAME BESIDE COMMAND
	[ -e "/usr/lib/systemd/system/$1.service" ] && return
	cat >"/etc/systemd/system/$1.service" <<-END
		[Unit]
		Description=Phoenix, beside $2
		After=network-online.target $2.service
		Wants=network-online.target

		[Service]
		Environment=AWS_REGION=$PHOENIX_REGION
		ExecStart=/usr/bin/phoenix $3
		RuntimeDirectory=phoenix
		StateDirectory=phoenix
		Restart=always
		RestartSec=5

		[Install]
		WantedBy=multi-user.target
	END
}

start_master() {
	configure_master
	unit phoenix-bridge salt-master bridge
	install -d /etc/systemd/system/salt-master.service.d
	cat >/etc/systemd/system/salt-master.service.d/50-phoenix.conf <<-END
		[Service]
		# The masters' shared key, before a start makes another.
		ExecStartPre=+/usr/bin/phoenix identity install
	END
	systemctl daemon-reload
	again phoenix identity install || die 'install the masters'\'' identity'
	systemctl enable --now salt-master phoenix-bridge
}

# start_minion leaves the minion's start to the agent: until that has written the
# list of masters there is none to turn to.
start_minion() {
	configure_minion
	unit phoenix-agent salt-minion agent
	systemctl daemon-reload
	systemctl enable salt-minion
	systemctl enable --now phoenix-agent
}

main() {
	: "${PHOENIX_ROLE:?}" "${PHOENIX_REGION:?}" "${PHOENIX_DOMAIN:?}" "${PHOENIX_PACKAGES:?}" "${PHOENIX_BINARY:?}" "${PHOENIX_SHA256:?}" "${SALT_VERSION:?}"
	export AWS_REGION=$PHOENIX_REGION
	instance=$(again metadata meta-data/instance-id) || die 'ask the instance for its id'
	say "$PHOENIX_ROLE $instance begins"
	install_phoenix
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

main > >(tee -a /var/log/phoenix-bootstrap.log) 2>&1
