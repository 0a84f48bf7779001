package child

// UsedBy is how a sign of life is looked for.
var UsedBy = usedBy
