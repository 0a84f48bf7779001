package durable

import "os"

// CreateNamed is Create as on a filesystem without unnamed files.
func CreateNamed(root *os.Root, name string, mode os.FileMode) (*File, error) {
	return createNamed(root, name, mode, false)
}
