package main

import "context"

func (v *visit) lookAtAWS(ctx context.Context, asMaster bool) {}
func (v *visit) lookAtProof(ctx context.Context, key string)  {}
