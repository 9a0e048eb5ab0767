package hostsvc

// Logins are the services for policies that check passwords: counters against guessing, a bound on how many hashes are
// computed at once, and a memory of what was found to be right, or is being found out. All routes share them, and pushes leave them alone.
type Logins struct {
	Guard    *GuardTable
	Workers  *Workers
	Verified *Verified
	Flights  *Flights[Landing]
}

// NewLogins makes them, with bounds that fit a gateway.
func NewLogins() *Logins {
	return &Logins{Guard: NewGuardTable(0), Workers: NewWorkers(0), Verified: NewVerified(0), Flights: NewFlights[Landing]()}
}
