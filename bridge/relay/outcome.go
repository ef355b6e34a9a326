package relay

import "slices"

// outcome is what became of a job, or of a part of one, at a peer.
type outcome struct {
	State string
	Why   string
	Count int // minions that the peer's master has keys of
}

const (
	stateSent        = "sent"        // the peer has not said yet
	stateUnreachable = "unreachable" // it was not sent
)

// worse has what a peer can say in order. Of the parts of a job (Salt 3008's batch mode
// publishes all under one job id), the worst is shown.
var worse = []string{stateNobody, statePublished, stateUnknown, stateRefused, stateUnreachable}

// outcomes is what became of a job at a peer, with all its parts.
type outcomes struct {
	pending int     // parts of which the peer has not said it
	worst   outcome // of those of which it has; Count is of all
}

// take takes in what became of one part.
func (f *outcomes) take(t outcome) {
	if f.pending == 0 { // said twice
		return
	}
	f.pending--
	count := f.worst.Count + t.Count
	if slices.Index(worse, t.State) >= slices.Index(worse, f.worst.State) {
		f.worst = t
	}
	f.worst.Count = count
}

// combined is what people are shown.
func (f *outcomes) combined() outcome {
	t := f.worst
	if f.pending > 0 && slices.Index(worse, t.State) <= slices.Index(worse, statePublished) {
		t.State, t.Why = stateSent, ""
	}
	return t
}
