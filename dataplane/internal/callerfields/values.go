package callerfields

import "keyward.dev/dataplane/internal/exchange"

// value is the value of a field as it is made.
type value struct {
	x     *exchange.Exchange
	bytes []byte
}

func sayer(word string) says {
	switch word {
	case "consumer":
		return text(func(p *exchange.Principal) string { return p.Consumer })
	case "consumer_id":
		return text(func(p *exchange.Principal) string { return p.ConsumerUID })
	case "username":
		return text(func(p *exchange.Principal) string { return p.Username() })
	case "custom_id":
		return text(func(p *exchange.Principal) string { return p.CustomID() })
	case "kind":
		return text(kind)
	case "credential_name":
		return text(func(p *exchange.Principal) string { return p.Credential })
	case "groups":
		return list(',', func(p *exchange.Principal) []string { return p.Groups })
	case "scopes":
		return list(' ', func(p *exchange.Principal) []string { return p.Scopes() })
	case "subject":
		return text(func(p *exchange.Principal) string { return p.Subject() })
	case "how":
		return text(func(p *exchange.Principal) string { return p.How })
	case "anonymous":
		return text(anonymous)
	default: // a word that this gateway does not know is told by nothing
		return text(func(*exchange.Principal) string { return "" })
	}
}

func kind(p *exchange.Principal) string {
	switch p.Kind {
	case exchange.KindUser:
		return "user"
	case exchange.KindMachine:
		return "machine"
	default:
		return "anonymous"
	}
}

func anonymous(p *exchange.Principal) string {
	if p.Kind == exchange.KindAnonymous {
		return "true"
	}
	return ""
}

func text(of func(*exchange.Principal) string) says {
	return func(v value, p *exchange.Principal) (value, bool) {
		s := of(p)
		n := encodedLen(s, 0)
		if n > maxValue {
			return v, false
		}
		v.bytes = appendEncoded(v.x.Alloc(n), s, 0)
		return v, true
	}
}

func list(separator byte, of func(*exchange.Principal) []string) says {
	return func(v value, p *exchange.Principal) (value, bool) {
		elements := of(p)
		n, fit := 0, 0
		for _, e := range elements {
			more := encodedLen(e, separator) + 1
			if n+more-1 > maxValue {
				break
			}
			n, fit = n+more, fit+1
		}
		b := v.x.Alloc(n)
		for _, e := range elements[:fit] {
			if e == "" {
				continue
			}
			if len(b) > 0 {
				b = append(b, separator)
			}
			b = appendEncoded(b, e, separator)
		}
		v.bytes = b
		return v, true
	}
}

// plain says whether a byte stands for itself.
func plain(c, separator byte) bool { return '!' <= c && c <= '~' && c != '%' && c != separator }

func encodedLen(s string, separator byte) int {
	n := len(s)
	for i := range len(s) {
		if !plain(s[i], separator) {
			n += 2
		}
	}
	return n
}

func appendEncoded(b []byte, s string, separator byte) []byte {
	const digits = "0123456789ABCDEF"
	for i := range len(s) {
		if c := s[i]; plain(c, separator) {
			b = append(b, c)
		} else {
			b = append(b, '%', digits[c>>4], digits[c&15])
		}
	}
	return b
}
