package config

import "time"

// epoch is the day on which tests of this package take place.
var epoch = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
