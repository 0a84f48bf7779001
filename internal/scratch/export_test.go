package scratch

import "golang.org/x/sys/unix"

// OpenOn opens a folder on a machine whose file systems are of a type, with free bytes, and whose block devices and memory
// are described in files.
func OpenOn(opt Options, fsType, free int64, block, meminfo string) (*Folder, error) {
	return open(opt, kernel{
		statfs: func(_ string, fs *unix.Statfs_t) error {
			fs.Type, fs.Bavail, fs.Bsize = fsType, uint64(free), 1
			return nil
		},
		block: block, meminfo: meminfo,
	})
}
