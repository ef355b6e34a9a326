// Package moto gives tests a stand-in for AWS: moto's server, a pinned release
// from PyPI, in a Python environment of its own below .cache.
//
// It answers 500 to CompleteLifecycleAction and RecordLifecycleActionHeartbeat,
// and enforces no IAM: such things are tried elsewhere, and DynamoDB on AWS's own
// DynamoDB Local.
package moto

import (
	"context"
	_ "embed" // for the resources
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"phoenix/lab/needs"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Region is the one that clients of the server use.
const Region = "us-west-2"

const (
	// upWithin: moto imports itself for some 3 s, several times that on a busy machine.
	upWithin = 2 * time.Minute
	// upPoll is how often it is asked whether it is there.
	upPoll = 50 * time.Millisecond
	// tailBytes is some of Python's tracebacks.
	tailBytes = 8 << 10
)

//go:embed resources.py
var resources string

// script runs the server until its standard input ends: with the test, in
// whatever way that ends. A call to AWS is one step. Moto has a thread for each
// call, and the threads share what they change, so that here one call is answered
// at a time, except SQS's, whose long polls wait; S3 has a path of its own. An
// instance whose termination is requested again, as the SDK does when an answer is
// lost, gets the first answer, where moto answers 500. And in a template
// AWS::NoValue is no item of a list, where moto makes it None, and zones of no
// region are those of the stack's, where moto gives four of another.
const script = `
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
from moto.core.responses import BaseResponse
from moto.s3.responses import S3Response
lock, call, put = threading.RLock(), BaseResponse.call_action, S3Response.put_object
def call_alone(self):
    if self.service_name == "sqs":
        return call(self)
    with lock:
        return call(self)
def put_alone(self):
    with lock:
        return put(self)
BaseResponse.call_action, S3Response.put_object = call_alone, put_alone
from moto.autoscaling.models import AutoScalingBackend
ended, terminate = {}, AutoScalingBackend.terminate_instance
def terminate_again(self, instance_id, should_decrement):
    if instance_id not in ended:
        ended[instance_id] = terminate(self, instance_id, should_decrement)
    return ended[instance_id]
AutoScalingBackend.terminate_instance = terminate_again
from moto.cloudformation import parsing
clean_json = parsing.clean_json
def clean(json, resources):
    value = clean_json(json, resources)
    return [item for item in value if item is not None] if isinstance(value, list) else value
parsing.clean_json, parsing.DEFAULT_REGION = clean, sys.argv[2]
exec(sys.argv[3], {"__name__": "moto.lab"}) # moto reads a service from the name of the module
from moto.server import main
main(["-H", "127.0.0.1", "-p", sys.argv[1]])
`

// Start runs a server with nothing in it, which ends with the test, and gives
// the configuration of its clients. It installs moto first where that is not yet
// so.
func Start(t testing.TB) aws.Config {
	t.Helper()
	needs.More(t, "moto, and Python for it")
	python, err := Install()
	if err != nil {
		t.Fatalf("install moto: %v", err)
	}
	port, err := freePort()
	if err != nil {
		t.Fatalf("find free port: %v", err)
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "moto.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(python, "-c", script, strconv.Itoa(port), Region, resources)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C ends the test, and that ends it
	stdin, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatalf("start moto: %v", err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait()
		_ = log.Close()
		if t.Failed() {
			tail(t, log.Name())
		}
	})
	url := fmt.Sprintf("http://127.0.0.1:%d", port)
	if err := up(t.Context(), url); err != nil {
		text, _ := os.ReadFile(log.Name())
		t.Fatalf("start moto: %v\n%s", err, text)
	}
	return aws.Config{Region: Region, BaseEndpoint: &url, Credentials: aws.CredentialsProviderFunc(
		func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "test", SecretAccessKey: "test"}, nil
		})}
}

// tail logs the end of the server's log, which alone tells the cause of a 500.
func tail(t testing.TB, path string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Logf("read log of moto: %v", err)
		return
	}
	t.Logf("--- end of moto's log\n%s", text[max(0, len(text)-tailBytes):])
}

// up waits until the server answers.
func up(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, upWithin)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/moto-api/", nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err == nil {
			return response.Body.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("does not answer: %w", err)
		case <-time.After(upPoll):
		}
	}
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}
