package config

import "errors"

// ErrInvalid marks the errors of a command line or a configuration: nothing was
// done, and nothing would be if it were tried again.
var ErrInvalid = errors.New("invalid")

type invalid struct{ error }

// Invalid marks err with ErrInvalid. Its text stays.
func Invalid(err error) error { return invalid{err} }

func (e invalid) Unwrap() []error { return []error{ErrInvalid, e.error} }
