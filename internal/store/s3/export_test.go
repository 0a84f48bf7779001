package s3

// FewParts lowers the number of parts that a stream may have.
func FewParts(d *Driver, most int32) *Driver {
	d.parts = most
	return d
}
