package bus

import "time"

const (
	firstPause = 100 * time.Millisecond

	// absentPause bounds the pauses while nobody listens: such a try costs the
	// master nothing, and one that restarts shall be found at once.
	absentPause = time.Second

	// droppedPause bounds them while connections do not last: Salt 3008.2 leaks
	// memory with each that comes and goes.
	droppedPause = 30 * time.Second

	// stableAfter is how long a connection must have lasted for the next pause
	// to be a short one again.
	stableAfter = time.Minute
)
