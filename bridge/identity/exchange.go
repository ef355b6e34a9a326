package identity

import "fmt"

// Exchange gives this master the new pair in place of the old one. Its Salt must not
// run. Whenever it is cut short, what is there is the old key, or the new one, and no
// half of each: the public half goes first, since Salt and Phoenix derive it.
func (p *Place) Exchange(pair Pair, old string) error {
	own, err := p.Pair()
	switch {
	case err != nil:
		return err
	case own.Digest != pair.Digest && own.Digest != old:
		return otherKey(p, own, pair)
	case own.Digest != pair.Digest:
		if err := p.replacePrivate(pair); err != nil {
			return fmt.Errorf("write key pair into %s: %w%s", p.dir, err, permissionHint(err))
		}
	}
	var w Written
	if err := p.writePair(pair, &w); err != nil {
		return fmt.Errorf("write key pair into %s: %w%s", p.dir, err, permissionHint(err))
	}
	return nil
}

// replacePrivate puts the private half in the place of the one that this master's Salt
// goes by. 3008 leaves links of the old names, which stay.
func (p *Place) replacePrivate(pair Pair) error {
	d, err := p.openFolder(p.dir)
	if err != nil {
		return err
	}
	defer d.Close()
	var regular []string
	for _, name := range p.names() {
		if err := d.root.Remove(name + ".pub"); err == nil {
			p.step("removed " + name + ".pub")
		}
		if info, err := d.root.Lstat(name + ".pem"); err == nil && info.Mode().IsRegular() {
			regular = append(regular, name)
		}
	}
	if len(regular) == 0 {
		return fmt.Errorf("%s is a link that leads elsewhere", p.held())
	}
	for _, name := range regular[1:] { // a copy under another name
		if err := d.root.Remove(name + ".pem"); err != nil {
			return err
		}
		p.step("removed " + name + ".pem")
	}
	other := func(_, _ []byte) bool { return false }
	if _, err := d.put(regular[0]+".pem", pair.Private, privateMode, other, true); err != nil {
		return err
	}
	return d.sync(regular[0] + ".pem")
}
