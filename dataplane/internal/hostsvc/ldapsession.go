package hostsvc

import (
	"errors"
	"math"
	"time"

	"github.com/go-ldap/ldap/v3"
)

// LDAPSession is a connection while somebody uses it.
type LDAPSession struct {
	conn  *ldapConn
	until time.Time
	// broken says why nothing that was said on the connection counts, unwell that the server says it cannot, spent that the
	// connection is not to be used again.
	broken        error
	unwell, spent bool
}

// bind logs in. Not ok: the directory does not want the user with this password.
func (s *LDAPSession) bind(dn, password string) (ok bool, err error) {
	s.conn.reader = false
	req := ldap.NewSimpleBindRequest(dn, password, nil)
	req.AllowEmptyPassword = dn == "" && password == "" // to be nobody again
	_, err = s.conn.SimpleBind(req)
	if err == nil {
		return true, nil
	}
	code, answered := s.answered(err)
	if !answered {
		return false, err
	}
	switch code {
	case ldap.LDAPResultInvalidCredentials, ldap.LDAPResultNoSuchObject, ldap.LDAPResultInvalidDNSyntax,
		ldap.LDAPResultInappropriateAuthentication, ldap.LDAPResultInsufficientAccessRights,
		// What some directories say of accounts that are locked or switched off.
		ldap.LDAPResultConstraintViolation, ldap.LDAPResultUnwillingToPerform:
		return false, nil
	}
	return false, s.trouble(code)
}

// become logs in as the account of the configuration.
func (s *LDAPSession) become(dn, password string) error {
	ok, err := s.bind(dn, password)
	switch {
	case err != nil:
		return err
	case !ok:
		return outage("ldap_account_refused", nil)
	}
	s.conn.reader = true
	return nil
}

// Find asks as whoever is logged in. Referrals are not followed. Its errors are outages.
func (s *LDAPSession) Find(q LDAPQuery) (LDAPFound, error) {
	attributes := q.Attributes
	if len(attributes) == 0 {
		attributes = []string{"1.1"} // none (RFC 4511 section 4.5.1.8)
	}
	seconds := int(math.Ceil(max(time.Until(s.until), time.Second).Seconds()))
	res, err := s.conn.Search(&ldap.SearchRequest{
		BaseDN: q.Base, Scope: q.Scope.code(), DerefAliases: ldap.NeverDerefAliases, SizeLimit: q.Limit, EnforceSizeLimit: q.Limit > 0,
		TimeLimit: seconds, Filter: q.Filter, Attributes: attributes,
	})
	var found LDAPFound
	if res != nil {
		for _, e := range res.Entries {
			found.Entries = append(found.Entries, LDAPEntry{DN: e.DN, attributes: e.Attributes})
		}
	}
	if err == nil {
		return found, nil
	}
	if errors.Is(err, ldap.ErrSizeLimitExceeded) { // the server goes on beyond what it was asked for
		s.spent, found.More = true, true
		return found, nil
	}
	code, answered := s.answered(err)
	switch {
	case !answered:
		return LDAPFound{}, err
	case code == ldap.LDAPResultSizeLimitExceeded && len(found.Entries) > 0:
		found.More = true
		return found, nil
	case code == ldap.LDAPResultNoSuchObject:
		return LDAPFound{NoBase: true}, nil
	}
	return LDAPFound{}, s.trouble(code)
}

// answered returns the code of the server's answer, if it has answered; else the connection is broken.
func (s *LDAPSession) answered(err error) (code uint16, ok bool) {
	e, ok := errors.AsType[*ldap.Error](err)
	if !ok || e.ResultCode >= ldap.ErrorNetwork {
		s.broken = err
		return 0, false
	}
	return e.ResultCode, true
}

// trouble is what the server's answer means that is no answer to what was asked.
func (s *LDAPSession) trouble(code uint16) error {
	cause := errors.New(ldap.LDAPResultCodeMap[code])
	switch code {
	case ldap.LDAPResultBusy, ldap.LDAPResultUnavailable, ldap.LDAPResultOperationsError, ldap.LDAPResultOther:
		s.unwell = true
		return outage("ldap_unavailable", cause)
	case ldap.LDAPResultTimeLimitExceeded, ldap.LDAPResultAdminLimitExceeded, ldap.LDAPResultSizeLimitExceeded:
		return outage("ldap_limit", cause)
	default:
		return outage("ldap_refused", cause)
	}
}
