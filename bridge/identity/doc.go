// Package identity gives all masters of a fleet one key pair, and what else they
// must have in common, by way of one object in S3.
//
// A minion remembers the public key of its master (minion_master.pub) and refuses
// a master that shows another. So masters that stand in for each other show the
// same one. Whoever is first makes it, by a write that S3 carries out only if the
// object is not there; all others install it before their Salt starts.
//
// # Caveats
//
// A key that a master has already is never overwritten. A Salt that was started
// before the identity was installed has made one of its own, and does not get in
// until that is taken away by hand.
//
// The private key lies in the object as it lies on the masters' disks, not
// encrypted by a passphrase (Salt's key_pass): S3 encrypts it with a key of KMS.
package identity
