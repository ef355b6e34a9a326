package awsenv

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"phoenix/bridge/config"
	"phoenix/bridge/health"
	"phoenix/lab/imds"
)

// onInstance makes this process believe that it runs on an instance.
func onInstance(t *testing.T, is imds.Instance) *imds.Service {
	t.Helper()
	s := imds.Start(t, is)
	t.Setenv("AWS_EC2_METADATA_DISABLED", "false")
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", s.URL)
	return s
}

var someInstance = imds.Instance{ID: "i-0123456789abcdef0", Account: "111122223333", Region: "eu-west-1",
	PrivateIP: "10.1.2.3"}

// All that is asked of an instance, by version 2 of its service alone.
func TestInstanceIdentity(t *testing.T) {
	for partition, arn := range map[string]string{
		"":           "arn:aws:ec2:eu-west-1:111122223333:instance/i-0123456789abcdef0",
		"aws-cn":     "arn:aws-cn:ec2:eu-west-1:111122223333:instance/i-0123456789abcdef0",
		"aws-us-gov": "arn:aws-us-gov:ec2:eu-west-1:111122223333:instance/i-0123456789abcdef0",
	} {
		is := someInstance
		is.Partition = partition
		service := onInstance(t, is)
		here, err := InstanceIdentity(t.Context())
		if err != nil || here.InstanceID != is.ID || here.Account != is.Account || here.Region != is.Region ||
			here.Address != is.PrivateIP || here.ARN(is.ID) != arn {
			t.Errorf("%+v, %v; ARN %s", here, err, here.ARN(is.ID))
		}
		if calls, v1 := service.Calls(); v1 > 0 {
			t.Errorf("%d calls of version 1 among %v", v1, calls)
		}
	}
}

// The stand-in refuses what the service itself refuses.
func TestServiceRefusesVersion1(t *testing.T) {
	service := onInstance(t, someInstance)
	for _, c := range []struct {
		method, path, header, value string
		want                        int
	}{
		{"GET", "/latest/dynamic/instance-identity/document", "", "", 401},
		{"GET", "/latest/api/token", "", "", 405},
		{"PUT", "/latest/api/token", "", "", 400},
		{"PUT", "/latest/api/token", "X-Forwarded-For", "10.0.0.1", 403},
		{"GET", "/latest/dynamic/instance-identity/document", "X-Aws-Ec2-Metadata-Token", "guessed", 401},
	} {
		r, err := http.NewRequestWithContext(t.Context(), c.method, service.URL+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.header != "" {
			r.Header.Set(c.header, c.value)
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != c.want {
			t.Errorf("%s %s (%s): %d, want %d", c.method, c.path, c.header, response.StatusCode, c.want)
		}
	}
}

// What the operator says goes before what the instance says, and the instance is
// not asked for what nobody needs.
func TestIdentifyMaster(t *testing.T) {
	for name, c := range map[string]struct {
		cfg           config.Config
		iface         string
		id, address   string
		asks, account bool
	}{
		"all of the instance": {config.Config{Store: "dynamodb:"}, "0.0.0.0", someInstance.ID,
			someInstance.PrivateIP, true, true},
		"queue alone": {config.Config{Store: "sqlite:x", SQS: struct {
			Queues   []string
			Endpoint string
		}{Queues: []string{"q"}}}, "", someInstance.ID, someInstance.PrivateIP, true, true},
		"the master's interface": {config.Config{Store: "dynamodb:"}, "10.9.9.9", someInstance.ID,
			"10.9.9.9", true, true},
		"all said": {config.Config{Store: "dynamodb:", InstanceID: "i-0a", Address: "salt.example"},
			"0.0.0.0", "i-0a", "salt.example", false, false},
		"all said, proven": {config.Config{Store: "dynamodb:", Admit: "proven", InstanceID: "i-0a",
			Address: "salt.example"}, "", "i-0a", "salt.example", true, true},
		"said, by the interface": {config.Config{Store: "dynamodb:", InstanceID: "i-0a"}, "10.9.9.9", "i-0a",
			"10.9.9.9", false, false},
		"off AWS: nobody's asked": {config.Config{Store: "sqlite:x", InstanceID: "host"}, "10.9.9.9", "host",
			"10.9.9.9", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			service := onInstance(t, someInstance)
			here, err := IdentifyMaster(t.Context(), &c.cfg, c.iface)
			if err != nil || c.cfg.InstanceID != c.id || c.cfg.Address != c.address ||
				(here.Account == someInstance.Account) != c.account {
				t.Errorf("%q at %q, %+v, %v", c.cfg.InstanceID, c.cfg.Address, here, err)
			}
			if calls, _ := service.Calls(); (len(calls) > 0) != c.asks {
				t.Errorf("asked %v", calls)
			}
		})
	}
}

// Off AWS nobody answers, or something else does: one line that says what to set,
// soon enough.
func TestNoInstance(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections, says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	stranger := httptest.NewServer(http.NotFoundHandler())
	defer stranger.Close()
	for name, c := range map[string]struct{ disabled, endpoint, want string }{
		"turned off": {"true", "", "it is turned off"},
		"nobody listens": {"false", "http://" + closed.Addr().String(),
			"Put \"http://" + closed.Addr().String() + "/latest/api/token\": dial tcp"},
		"something else":   {"false", stranger.URL, "it answers with status 404"},
		"packets are lost": {"false", "http://" + silent.Addr().String(), "no answer within 3s"},
		"version 1 alone":  {"false", versionOneOnly(t), "it answers with status 405"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("AWS_EC2_METADATA_DISABLED", c.disabled)
			t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", c.endpoint)
			t.Setenv("AWS_REGION", "")
			t.Setenv("AWS_CONFIG_FILE", "/dev/null")
			var asked sync.WaitGroup
			defer asked.Wait()
			for want, ask := range map[string]func() error{
				"find instance_id: ask instance metadata: ": func() error {
					_, err := IdentifyMaster(t.Context(), &config.Config{Store: "dynamodb:"}, "")
					return err
				},
				"find account for admit proven: ask instance metadata: ": func() error {
					_, err := IdentifyMaster(t.Context(),
						&config.Config{Store: "dynamodb:", Admit: "proven", InstanceID: "i-0a", Address: "a"}, "")
					return err
				},
				"find region: ask instance metadata: ": func() error {
					_, err := Load(t.Context(), config.Config{})
					return err
				},
			} {
				asked.Go(func() {
					begun := time.Now()
					err := ask()
					if err == nil || !errors.Is(err, config.ErrInvalid) ||
						!strings.HasPrefix(err.Error(), want+c.want) || !strings.HasSuffix(err.Error(), ")") {
						t.Errorf("%v, want %s%s", err, want, c.want)
					}
					if took := time.Since(begun); took > metadataTimeout+2*time.Second {
						t.Errorf("%s: it took %v", want, took)
					}
				})
			}
		})
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := InstanceIdentity(ctx); err == nil {
		t.Error("a caller who gave up is answered")
	}
}

// versionOneOnly answers a GET as version 1 did, to whoever asks, and knows no
// tokens: nothing that a bridge may believe.
func versionOneOnly(t *testing.T) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			http.Error(w, "", http.StatusMethodNotAllowed)
			return
		}
		_, _ = w.Write([]byte(`{"instanceId": "i-0bad", "accountId": "666666666666", "region": "eu-west-1"}`))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// What the instance says of its zone and its end, and what it does not say.
func TestInstanceMetadata(t *testing.T) {
	service := onInstance(t, someInstance)
	get := Metadata()
	if zone, err := health.Zone(t.Context(), get); zone != "eu-west-1a" || err != nil {
		t.Errorf("zone %q, %v", zone, err)
	}
	if why, err := health.Leaving(t.Context(), get); why.Why != "" || err != nil {
		t.Errorf("leaves: %+v, %v", why, err)
	}
	service.Say("spot/instance-action", `{"action":"terminate","time":"2026-01-01T00:02:00Z"}`)
	if why, err := health.Leaving(t.Context(), get); !strings.Contains(why.Why, "spot") || err != nil {
		t.Errorf("leaves: %+v, %v", why, err)
	}
	if calls, v1 := service.Calls(); v1 > 0 {
		t.Errorf("%d calls of version 1 among %v", v1, calls)
	}
}
