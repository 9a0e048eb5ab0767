package app

import "syscall"

// fileShare is what part of the files that may be open the clients' connections may take: the rest is for upstreams and
// everything else.
const fileShare = 0.75

// connectionLimit is how many connections of clients there may be when the settings do not say.
func connectionLimit() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > 1<<30 {
		return 0
	}
	return int(float64(limit.Cur) * fileShare)
}
