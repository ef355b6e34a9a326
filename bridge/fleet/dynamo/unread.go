package dynamo

import "phoenix/bridge/fleet"

// unread returns the write of a change whose row has not been read: its condition
// is what the change asks of the row, its effect what the change does to it. It
// may be stricter than the change, since a write that fails is tried again on the
// row that failed it; never laxer. nil: the row has to be read first.
//
// These are the changes of a minion's usual life, so that each costs one write
// and no read. fleettest.Run holds each against fleet.Change.Apply, on every kind
// of row.
func unread(c fleet.Change) *write {
	switch c := c.(type) {
	case fleet.Retire:
		return retire(c)
	case fleet.Tombstone:
		return strip(c)
	case fleet.Bind:
		return bind(c)
	case fleet.Claim:
		return claim(c)
	case fleet.Finish:
		return finish(c)
	}
	// One that makes a row most often finds none.
	if row, err := c.Apply(fleet.Minion{}, false); err == nil {
		return rewrite(nil, fleet.Minion{}, row)
	}
	return nil
}

// living is the condition of most changes.
func (w *write) living() { w.is("status", fleet.Launch) }

func retire(c fleet.Retire) *write {
	w := &write{}
	w.when("attribute_not_exists(#status) OR #status <> %s", text(string(fleet.Terminate)))
	w.is("expires", int64(0))
	w.set("status", fleet.Terminate)
	w.set("inferred", c.Inferred)
	w.set("hook_name", c.HookName)
	if c.Group != "" {
		w.when("attribute_not_exists(#group) OR #group <> %s", text(""))
		w.sets = append(w.sets, "#group = if_not_exists(#group, "+w.value(text(c.Group))+")")
	}
	return w
}

func strip(c fleet.Tombstone) *write {
	if c.Expires == 0 {
		return nil
	}
	w := &write{}
	w.is("status", fleet.Terminate)
	w.is("expires", int64(0))
	// What the change leaves of a row: nothing but what it sets on an empty one,
	// and these.
	kept := map[string]bool{"instanceid": true, "status": true, "modified": true, "minion_id": true, "key_sha256": true,
		"replaced_sha256": true, "claim_version": true, "expires": true}
	for name := range attributes(&fleet.Minion{}) {
		if !kept[name] {
			w.removes = append(w.removes, "#"+name)
		}
	}
	w.set("expires", c.Expires)
	return w
}

func bind(c fleet.Bind) *write {
	if c.KeySHA256 == "" || c.Replaces != "" || c.Rebound != "" {
		return nil
	}
	w := &write{}
	w.living()
	w.is("key_sha256", "")
	w.set("key_sha256", c.KeySHA256)
	w.set("public_key", c.PublicKey)
	if c.MinionID != "" {
		w.when("attribute_not_exists(#minion_id) OR #minion_id <> %s", text(""))
		w.sets = append(w.sets, "#minion_id = if_not_exists(#minion_id, "+w.value(text(c.MinionID))+")")
	}
	return w
}

func claim(c fleet.Claim) *write {
	if c.JID == "" || c.Owner == "" || c.Attempt < 1 {
		return nil
	}
	w := &write{}
	w.living()
	w.is("claim_version", c.From)
	w.is("highstate_ran", false)
	w.when("attribute_not_exists(#highstate_runner) OR #highstate_runner <> %s", text(fleet.RunnerAdopted))
	jid := text(c.JID)
	over := "#claim_state = %[1]s AND #claim_jid = %[3]s AND #attempt = %[4]s"
	anew := "(attribute_not_exists(#claim_state) OR #claim_state = %[2]s) AND " +
		"(attribute_not_exists(#claim_jid) OR #claim_jid <> %[3]s) AND "
	if c.Attempt == 1 {
		anew += "(attribute_not_exists(#attempt) OR #attempt = %[5]s)"
	} else {
		anew += "#attempt = %[5]s"
	}
	w.when("("+over+") OR ("+anew+")", text(string(fleet.Claimed)), text(string(fleet.Failed)), jid,
		number(int64(c.Attempt)), number(int64(c.Attempt)-1))
	w.set("claim_version", c.From+1)
	w.set("claim_state", fleet.Claimed)
	w.set("claim_owner", c.Owner)
	w.set("claim_incarnation", c.Incarnation)
	w.set("claim_jid", c.JID)
	w.set("attempt", c.Attempt)
	return w
}

// finish is for the job that returned. Busy and Vanished are rare, and are left
// to a read.
func finish(c fleet.Finish) *write {
	if c.JID == "" || c.Outcome != fleet.Succeeded && c.Outcome != fleet.Erred {
		return nil
	}
	w := &write{}
	w.is("claim_jid", c.JID)
	// Added to anything else, DynamoDB refuses the request, and not the condition.
	w.when("attribute_type(#claim_version, %s)", text("N"))
	w.sets = append(w.sets, "#claim_version = #claim_version + "+w.value(number(1)))
	w.set("retcode", &c.Retcode)
	if c.Outcome == fleet.Erred {
		w.is("claim_state", fleet.Claimed)
		w.set("claim_state", fleet.Failed)
		return w
	}
	w.when("#claim_state = %s OR #claim_state = %s", text(string(fleet.Claimed)), text(string(fleet.Failed)))
	w.when("attribute_exists(#claim_owner)")
	w.set("claim_state", fleet.Done)
	w.set("highstate_ran", true)
	w.sets = append(w.sets, "#highstate_runner = #claim_owner")
	return w
}
