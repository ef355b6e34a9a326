//go:build packages

package packages

import (
	"os"
	"strings"
	"testing"

	"phoenix/lab"
	"phoenix/lab/debian"
)

// agent stands for the control program of the CloudWatch agent, which cannot be had here:
// it keeps what it is called with.
const agent = `#!/bin/sh
echo "$@" >>/srv/agent
cp /etc/phoenix/cloudwatch-agent.json /srv/collected.json
`

// TestLogs: on a machine whose image has the CloudWatch agent and rsyslog, rsyslog writes
// the lines of the services to the file that is collected, and the bootstrap gives the
// agent its configuration and the proxy.
func TestLogs(t *testing.T) {
	r := debian.Start(t)
	text, err := os.ReadFile("../../cloudformation/bootstrap/bootstrap.sh")
	must(t, err)
	library, _, _ := strings.Cut(string(text), "\n# shellcheck disable=SC1091")
	r.Put("/srv/library.sh", library)
	r.Put("/opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent-ctl", agent)
	r.Run("apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y install rsyslog >/dev/null && systemctl disable -q --now rsyslog")
	r.Run("chmod +x /opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent-ctl && mkdir -p /opt/aws/amazon-cloudwatch-agent/etc /etc/phoenix")
	collect := ". /srv/library.sh && instance=i-1 no_proxy=169.254.169.254 PHOENIX_LOG_GROUP=logs PHOENIX_AUDIT_GROUP=audit PHOENIX_PROXY=%s && collect_logs"
	for _, proxy := range []string{"", "http://proxy:3128"} { // twice: it changes nothing
		if out := r.Run(strings.Replace(collect, "%s", proxy, 1)); strings.Contains(out, "WARNING") {
			t.Fatalf("collect logs: %s", out)
		}
	}
	if out := r.Run("cat /srv/agent"); out != strings.Repeat("-a append-config -m ec2 -c file:/etc/phoenix/cloudwatch-agent.json -s\n", 2) {
		t.Errorf("the agent is called with %q", out)
	}
	if out := r.Run("cat /opt/aws/amazon-cloudwatch-agent/etc/common-config.toml"); !strings.Contains(out, `[proxy]`) ||
		!strings.Contains(out, `no_proxy = "169.254.169.254"`) {
		t.Errorf("proxy: %s", out)
	}
	collected := r.Run("cat /srv/collected.json")
	if !strings.Contains(collected, `"file_path": "/var/log/syslog"`) ||
		!strings.Contains(collected, `"log_stream_name": "i-1/phoenix"`) {
		t.Fatalf("collected: %s", collected)
	}
	// A service as the bridge is: its lines go to the journal, under its program's name.
	r.Run(`printf '#!/bin/sh\necho "level=INFO msg=\\"a line of the bridge\\""\nexit 3\n' >/srv/phoenix && chmod +x /srv/phoenix && (systemd-run --quiet --wait --unit=phoenix-bridge /srv/phoenix || true)`)
	lab.Eventually(t, within, "rsyslog has written what the service and systemd say", func() (bool, string) {
		// The agent's own filter.
		out, _ := r.Try(`grep -E ' phoenix[[]| systemd[[]1]: .*phoenix-' /var/log/syslog`)
		return strings.Contains(out, "a line of the bridge") &&
			strings.Contains(out, "phoenix-bridge.service: Failed with result"), out
	})
}
