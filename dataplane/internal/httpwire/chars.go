package httpwire

// isTokenByte are the characters of a token (RFC 9110 section 5.6.2); isHostByte those of a host name.
var isTokenByte, isHostByte = charTables()

func charTables() (token, host [256]bool) {
	for c := range 256 {
		alnum := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
		token[c], host[c] = alnum, alnum
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		token[c] = true
	}
	for _, c := range "-_." {
		host[c] = true
	}
	return token, host
}

func isToken(b []byte) bool {
	for _, c := range b {
		if !isTokenByte[c] {
			return false
		}
	}
	return len(b) > 0
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isHex(c byte) bool {
	return isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'f'
}

func hexValue(c byte) int64 {
	if isDigit(c) {
		return int64(c - '0')
	}
	return int64(c|0x20-'a') + 10
}

// parseDecimal reads digits only; ok is false for anything else and above 2^63-1.
func parseDecimal(b []byte) (n int64, ok bool) {
	const limit = (1<<63 - 1) / 10
	for _, c := range b {
		if !isDigit(c) || n > limit {
			return 0, false
		}
		if n = n*10 + int64(c-'0'); n < 0 {
			return 0, false
		}
	}
	return n, len(b) > 0
}

func trimOWS(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}
