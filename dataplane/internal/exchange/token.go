package exchange

import "bytes"

// HasToken says whether a comma-separated list field value has the token, without regard to ASCII case.
func HasToken(value []byte, token string) bool {
	for len(value) > 0 {
		part := value
		if i := bytes.IndexByte(value, ','); i >= 0 {
			part, value = value[:i], value[i+1:]
		} else {
			value = nil
		}
		if EqualFold(trimOWS(part), token) {
			return true
		}
	}
	return false
}
