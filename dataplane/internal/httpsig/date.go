package httpsig

import "time"

// ParseDate reads the one form of a date that may be written (IMF-fixdate of RFC 9110 section 5.6.7), in seconds since 1970.
func ParseDate(b []byte) (Moment, bool) {
	const form = "Mon, 02 Jan 2006 15:04:05 GMT"
	if b = trim(b); len(b) != len(form) || string(b[25:]) != " GMT" || string(b[3:5]) != ", " ||
		b[7] != ' ' || b[11] != ' ' || b[16] != ' ' || b[19] != ':' || b[22] != ':' {
		return Moment{}, false
	}
	month := monthOf(b[8:11])
	day, ok1 := digits(b[5:7])
	year, ok2 := digits(b[12:16])
	hour, ok3 := digits(b[17:19])
	minute, ok4 := digits(b[20:22])
	second, ok5 := digits(b[23:25])
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || month == 0 || day == 0 || hour > 23 || minute > 59 || second > 60 {
		return Moment{}, false
	}
	t := time.Date(year, month, day, hour, minute, second, 0, time.UTC)
	if second < 60 && (t.Day() != day || t.Weekday().String()[:3] != string(b[:3])) {
		return Moment{}, false // there is no such day, or it is another one
	}
	return Moment{Unix: t.Unix(), Set: true}, true
}

func monthOf(b []byte) time.Month {
	for m := time.January; m <= time.December; m++ {
		if m.String()[:3] == string(b) {
			return m
		}
	}
	return 0
}

func digits(b []byte) (n int, ok bool) {
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int(c-'0')
	}
	return n, true
}
