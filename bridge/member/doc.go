// Package member makes the bridge a member of its own master's fleet, for what a
// master says to accepted minions only.
//
// What a master publishes goes out on its publish port, encrypted with a key that
// it gives to accepted minions. A bridge that reads it there knows what the master
// itself published: events do not say so, since an accepted minion can fire
// salt/job/<jid>/new, and can write to the job cache by _syndic_return (tried on
// 3006.28, 3007.15 and 3008.3).
//
// The member has a key pair of its own, made at each start and kept in memory. Its
// public key is among the accepted ones under a name with a leading dot, which
// the lists of Salt leave out (3006.28 and 3007.15: CkMinions._pki_minions and
// Key.list_keys; 3008.3: localfs_key.list_all), so that no target expects an answer
// of it and salt-key does not show it; _auth and the request channel look a key up
// by its name, and find it.
package member
