package ldapauth

import (
	"strconv"
	"time"

	"keyward.dev/dataplane/internal/exchange"
	"keyward.dev/dataplane/internal/hostsvc"
)

// The refusals. Callers are told alike of a wrong password, of a user that there is not and of one of whom there are several.
var (
	refuseMissing    = exchange.NewRefusal(401, "unauthenticated", "This route needs a user name and a password.").Absent()
	refuseInvalid    = exchange.NewRefusal(401, "unauthenticated", "The user name or the password is wrong.")
	refuseMalformed  = refuseInvalid.Because("login_malformed")
	refuseAmbiguous  = refuseInvalid.Because("ldap_ambiguous")
	refuseSeveral    = exchange.NewRefusal(401, "unauthenticated", "The request presents more than one login.")
	refuseNoConsumer = refuseInvalid.Because("no_consumer")
	refuseGroups     = exchange.NewRefusal(403, "forbidden", "The user is not in a group that may call this.").Because("group_required")
	refuseIncomplete = exchange.NewRefusal(503, "unavailable", "Credentials cannot be checked now.", exchange.Field("Retry-After", "5"))

	refuseTooMany = afters(429, "too_many_attempts", "There were too many wrong logins. Try again later.")
	refuseOutage  = afters(503, "unavailable", "Credentials cannot be checked now.")
)

// steps are the seconds that callers are told to wait.
var steps = [...]int{1, 2, 5, 10, 30, 60, 300, 600}

func afters(status int, code, detail string) (out [len(steps)]*exchange.Refusal) {
	for i, s := range steps {
		out[i] = exchange.NewRefusal(status, code, detail, exchange.Field("Retry-After", strconv.Itoa(s)))
	}
	return out
}

// after picks the first that is not too early.
func after(list *[len(steps)]*exchange.Refusal, wait time.Duration) *exchange.Refusal {
	for i, s := range steps {
		if wait <= time.Duration(s)*time.Second {
			return list[i]
		}
	}
	return list[len(list)-1]
}

func tooMany(wait time.Duration) *exchange.Refusal { return after(&refuseTooMany, wait) }

// unavailable says in the access log what is the matter with the directory.
func unavailable(o *hostsvc.LDAPOutage) *exchange.Refusal {
	return after(&refuseOutage, o.RetryAfter).Because(o.Reason)
}
