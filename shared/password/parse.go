package password

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

// Bounds of imported hashes: below the least they protect nobody, above the most one login costs a gateway more than some
// tenths of a second of a core, or more than 64 MiB.
const (
	maxText = 512

	minIterations, maxIterations = 10_000, 2_000_000
	minCost, maxCost             = 8, 12
	maxMemory                    = 64 << 10 // KiB
	maxPasses                    = 16
	maxWork                      = 4 * maxMemory // KiB written
	maxLanes                     = 4
	minMemory                    = 4 << 10

	minSaltBytes, maxSaltBytes = 8, 64
	minSumBytes, maxSumBytes   = 16, 64
)

// encoding is what the PHC string format writes salts and hashes in.
var encoding = base64.RawStdEncoding.Strict()

var errForm = errors.New("is none of $argon2id$v=19$m=…,t=…,p=…$salt$hash, $pbkdf2-sha256$i=…$salt$hash and $2b$cost$… (bcrypt)")

// Parse reads a hash and refuses one that is too weak or too costly. Its errors say what is wrong with the hash, and nothing
// that is in it.
func Parse(text string) (*Hash, error) {
	if len(text) > maxText {
		return nil, errForm
	}
	id, rest, _ := strings.Cut(strings.TrimPrefix(text, "$"), "$")
	if !strings.HasPrefix(text, "$") {
		return nil, errForm
	}
	switch id {
	case "pbkdf2-sha256":
		return parsePBKDF2(text, rest)
	case "argon2id":
		return parseArgon2id(text, rest)
	case "2a", "2b", "2y":
		return parseBcrypt(text)
	default:
		return nil, errForm
	}
}

// parsePBKDF2 reads `i=600000$salt$hash`, also as Python's passlib writes it: the number alone, and `.` for `+`.
func parsePBKDF2(text, rest string) (*Hash, error) {
	parts := strings.Split(rest, "$")
	if len(parts) != 3 {
		return nil, errForm
	}
	rounds, ok := number(strings.TrimPrefix(parts[0], "i="))
	if !ok {
		return nil, errForm
	}
	if rounds < minIterations || rounds > maxIterations {
		return nil, fmt.Errorf("has %d iterations; between %d and %d are accepted", rounds, minIterations, maxIterations)
	}
	h := &Hash{alg: algPBKDF2, text: []byte(text), rounds: rounds}
	return h.decoded(strings.ReplaceAll(parts[1], ".", "+"), strings.ReplaceAll(parts[2], ".", "+"), sumBytes)
}

// parseArgon2id reads `v=19$m=19456,t=2,p=1$salt$hash`.
func parseArgon2id(text, rest string) (*Hash, error) {
	parts := strings.Split(rest, "$")
	if len(parts) != 4 || parts[0] != "v=19" {
		return nil, errForm
	}
	var values [3]int
	params := strings.Split(parts[1], ",")
	if len(params) != len(values) {
		return nil, errForm
	}
	for i, name := range []string{"m=", "t=", "p="} {
		digits, found := strings.CutPrefix(params[i], name)
		n, ok := number(digits)
		if !found || !ok {
			return nil, errForm
		}
		values[i] = n
	}
	memory, passes, lanes := values[0], values[1], values[2]
	switch {
	case memory < minMemory || memory > maxMemory:
		return nil, fmt.Errorf("uses %d KiB of memory; between %d and %d are accepted", memory, minMemory, maxMemory)
	case passes < 1 || passes > maxPasses || memory*passes > maxWork:
		return nil, fmt.Errorf("makes %d passes; up to %d are accepted, and with its memory up to %d", passes, maxPasses, maxWork/memory)
	case lanes < 1 || lanes > maxLanes:
		return nil, fmt.Errorf("has %d lanes; up to %d are accepted", lanes, maxLanes)
	}
	h := &Hash{alg: algArgon2id, text: []byte(text), rounds: passes, memory: uint32(memory), lanes: uint8(lanes)}
	return h.decoded(parts[2], parts[3], maxSumBytes)
}

// parseBcrypt reads `$2b$10$` with 22 characters of salt and 31 of hash.
func parseBcrypt(text string) (*Hash, error) {
	const length, cost = 60, len("$2b$10$")
	const alphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	if len(text) != length || text[cost-1] != '$' || strings.Trim(text[cost:], alphabet) != "" {
		return nil, errForm
	}
	rounds, err := bcrypt.Cost([]byte(text))
	if err != nil {
		return nil, errForm
	}
	if rounds < minCost || rounds > maxCost {
		return nil, fmt.Errorf("has cost %d; between %d and %d are accepted", rounds, minCost, maxCost)
	}
	return &Hash{alg: algBcrypt, text: []byte(text), rounds: rounds}, nil
}

// decoded returns the hash with salt and sum.
func (h *Hash) decoded(salt, sum string, maxSum int) (*Hash, error) {
	var errs [2]error
	h.salt, errs[0] = encoding.DecodeString(salt)
	h.sum, errs[1] = encoding.DecodeString(sum)
	switch {
	case errs[0] != nil || errs[1] != nil:
		return nil, errForm
	case len(h.salt) < minSaltBytes || len(h.salt) > maxSaltBytes:
		return nil, fmt.Errorf("has a salt of %d bytes; between %d and %d are accepted", len(h.salt), minSaltBytes, maxSaltBytes)
	case len(h.sum) < minSumBytes || len(h.sum) > maxSum:
		return nil, fmt.Errorf("has %d bytes; between %d and %d are accepted", len(h.sum), minSumBytes, maxSum)
	}
	return h, nil
}

// number reads digits as people write them: without sign and leading zeros.
func number(digits string) (int, bool) {
	n, err := strconv.Atoi(digits)
	return n, err == nil && n >= 0 && strconv.Itoa(n) == digits
}
