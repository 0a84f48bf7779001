package clone

// ParseLedger is how the bytes of a ledger are read.
var ParseLedger = parseLedger
