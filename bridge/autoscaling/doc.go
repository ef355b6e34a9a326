// Package autoscaling brings what AWS says of instances into the fleet: messages of
// SQS queues ([Reader]), what AutoScaling and EC2 answer when they are asked
// ([Reconciler]), and the lifecycle hooks that wait for Phoenix ([Hooks]).
//
// A message says only "this instance launched" or "this instance ended". It may
// come late, twice, in any order, or never. So a row is written before a message
// is deleted, a termination is final, and what no message reported is found by asking.
//
// # Caveats
//
// One hook for each transition of a group: the row remembers one name. A second
// that sends to the same queue is served by the master that got its message, and
// by no other if that one dies.
//
// DescribeAutoScalingGroups does not list a warm pool. An instance whose launch
// into the pool no message reported is found when it moves to the group.
package autoscaling
