package basicauth

import (
	"strconv"
	"time"

	"keyward.dev/dataplane/internal/exchange"
)

// The refusals. Callers are not told whether a user exists, nor what exactly is wrong.
var (
	refuseMissing     = exchange.NewRefusal(401, "unauthenticated", "This route needs a user name and a password.").Absent()
	refuseInvalid     = exchange.NewRefusal(401, "unauthenticated", "The user name or the password is not valid.")
	refuseSeveral     = exchange.NewRefusal(401, "unauthenticated", "The request presents more than one user name and password.")
	refuseUnavailable = exchange.NewRefusal(503, "unavailable", "Credentials cannot be checked now.", exchange.Field("Retry-After", "5"))
	refuseBusy        = exchange.NewRefusal(503, "unavailable", "Credentials cannot be checked now.", exchange.Field("Retry-After", "2")).
				Because("logins_busy")
	refuseGuessing = guessing()
)

// waits are the times of Retry-After: it is rounded up to the next one, so that refusals can be prepared.
var waits = [...]int{1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 21600, 43200, 86400}

func guessing() (all [len(waits)]*exchange.Refusal) {
	for i, seconds := range waits {
		all[i] = exchange.NewRefusal(429, "too_many_attempts", "Too many wrong passwords; see Retry-After.",
			exchange.Field("Retry-After", strconv.Itoa(seconds)))
	}
	return all
}

func tooMany(wait time.Duration) *exchange.Refusal {
	for i, seconds := range waits {
		if wait <= time.Duration(seconds)*time.Second {
			return refuseGuessing[i]
		}
	}
	return refuseGuessing[len(waits)-1]
}
