// Package awsenv is this process's view of AWS: which instance it runs on, the
// clients of the services that it uses, and what instances wrote of their keys.
package awsenv
