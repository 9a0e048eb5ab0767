package httpwire

import "keyward.dev/dataplane/internal/exchange"

// AppendRequestLine appends the first line of an HTTP/1.1 request.
func AppendRequestLine(b, method, target []byte) []byte {
	b = append(b, method...)
	b = append(b, ' ')
	b = append(b, target...)
	return append(b, " HTTP/1.1\r\n"...)
}

// AppendStatusLine appends the first line of an HTTP/1.1 response. The status has three digits. The reason of one that is
// not known is empty.
func AppendStatusLine(b []byte, status int) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = append(b, byte('0'+status/100%10), byte('0'+status/10%10), byte('0'+status%10), ' ')
	b = append(b, exchange.Reason(status)...)
	return append(b, "\r\n"...)
}

// AppendField appends a field line. It refuses nothing: name and value were parsed or checked.
func AppendField(b, name, value []byte) []byte {
	b = append(b, name...)
	b = append(b, ": "...)
	b = append(b, value...)
	return append(b, "\r\n"...)
}

// AppendChunk appends a chunk with this data; nothing for no data, which would end the body.
func AppendChunk(b, data []byte) []byte {
	if len(data) == 0 {
		return b
	}
	b = AppendChunkSize(b, len(data))
	b = append(b, data...)
	return append(b, "\r\n"...)
}

// AppendChunkSize appends the line before n bytes of data, which the caller writes with CRLF after them.
func AppendChunkSize(b []byte, n int) []byte {
	const digits = "0123456789abcdef"
	shift := 0
	for n>>shift > 15 {
		shift += 4
	}
	for ; shift >= 0; shift -= 4 {
		b = append(b, digits[n>>shift&15])
	}
	return append(b, "\r\n"...)
}

// AppendLastChunk appends what ends a chunked body.
func AppendLastChunk(b []byte, trailer exchange.Headers) []byte {
	b = append(b, "0\r\n"...)
	for i := range trailer {
		b = AppendField(b, trailer[i].Name, trailer[i].Value)
	}
	return append(b, "\r\n"...)
}
