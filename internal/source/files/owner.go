package files

import (
	"os/user"
	"strconv"
	"sync"
)

// owners remembers the names of users and groups. The zero value is ready; safe for concurrent use.
type owners struct {
	mu     sync.Mutex // guards the maps
	users  map[uint32]string
	groups map[uint32]string
}

// names returns the names of uid and gid, "" for a number without a name.
func (o *owners) names(uid, gid uint32) (name, group string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.users == nil {
		o.users, o.groups = map[uint32]string{}, map[uint32]string{}
	}
	name, found := o.users[uid]
	if !found {
		if u, err := user.LookupId(strconv.FormatUint(uint64(uid), 10)); err == nil {
			name = u.Username
		}
		o.users[uid] = name
	}
	group, found = o.groups[gid]
	if !found {
		if g, err := user.LookupGroupId(strconv.FormatUint(uint64(gid), 10)); err == nil {
			group = g.Name
		}
		o.groups[gid] = group
	}
	return name, group
}

// numbers finds the numbers that names have on this machine. Not safe for concurrent use.
type numbers struct {
	users  map[string]uint32
	groups map[string]uint32
}

// here returns the number that name has here, or number when it has none.
func here(cache map[string]uint32, name string, number uint32, look func(string) (string, error)) uint32 {
	if name == "" {
		return number
	}
	local, found := cache[name]
	if !found {
		local = number
		if text, err := look(name); err == nil {
			if parsed, err := strconv.ParseUint(text, 10, 32); err == nil {
				local = uint32(parsed)
			}
		}
		cache[name] = local
	}
	return local
}

// owner returns the numbers to give to a file of r's owner. A name that is known here wins over the number, so that a
// restore on another machine gives the files to the same people.
func (n *numbers) owner(r *record) (uid, gid uint32) {
	if n.users == nil {
		n.users, n.groups = map[string]uint32{}, map[string]uint32{}
	}
	uid = here(n.users, r.user, r.uid, func(name string) (string, error) {
		u, err := user.Lookup(name)
		if err != nil {
			return "", err
		}
		return u.Uid, nil
	})
	gid = here(n.groups, r.group, r.gid, func(name string) (string, error) {
		g, err := user.LookupGroup(name)
		if err != nil {
			return "", err
		}
		return g.Gid, nil
	})
	return uid, gid
}
