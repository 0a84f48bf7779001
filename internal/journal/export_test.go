package journal

// SyslogAt is a log that listens elsewhere.
var SyslogAt = syslogAt

// ParseLine is what the fuzzer feeds.
var ParseLine = parseLine

// ObjectName reads an object's name and writes it again.
func ObjectName(name string) (string, bool) {
	p, ok := parseObject(name)
	return p.name(), ok
}
