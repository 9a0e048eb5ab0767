package pgserver

import (
	"bytes"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

const (
	authOK       = 0
	authSASL     = 10
	authContinue = 11
	authFinal    = 12

	mechanism = "SCRAM-SHA-256"
	// maxIterations bounds the work a server can ask for; PostgreSQL's default is 4096.
	maxIterations = 1_000_000
)

// authenticate does the SCRAM-SHA-256 exchange of RFC 5802 and 7677 without channel binding. It accepts nothing else:
// this server is configured for nothing else.
func (c *conn) authenticate(password string) error {
	if _, err := c.authMessage(authSASL); err != nil {
		return err
	}
	bare := "n=,r=" + rand.Text()
	first := append([]byte(mechanism), 0)
	first = binary.BigEndian.AppendUint32(first, uint32(len("n,,"+bare)))
	if err := c.send('p', append(first, "n,,"+bare...)); err != nil {
		return err
	}
	challenge, err := c.authMessage(authContinue)
	if err != nil {
		return err
	}
	proof, signature, err := answer(bare, string(challenge), password)
	if err != nil {
		return fmt.Errorf("scram: %w", err)
	}
	if err := c.send('p', []byte(proof)); err != nil {
		return err
	}
	final, err := c.authMessage(authFinal)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(final, []byte("v="+signature)) != 1 {
		return errors.New("scram: the server does not know the password")
	}
	_, err = c.authMessage(authOK)
	return err
}

func (c *conn) authMessage(want uint32) ([]byte, error) {
	kind, body, err := c.receive()
	if err != nil {
		return nil, err
	}
	if kind != 'R' || len(body) < 4 || binary.BigEndian.Uint32(body) != want {
		return nil, fmt.Errorf("unexpected answer %q while logging in", kind)
	}
	return body[4:], nil
}

// answer computes the client's final message and the signature that the server must then show.
func answer(bare, challenge, password string) (message, signature string, err error) {
	var nonce, salt string
	var iterations int
	for field := range strings.SplitSeq(challenge, ",") {
		switch name, value, _ := strings.Cut(field, "="); name {
		case "r":
			nonce = value
		case "s":
			salt = value
		case "i":
			iterations, _ = strconv.Atoi(value)
		}
	}
	if !strings.HasPrefix(nonce, strings.TrimPrefix(bare, "n=,r=")) || iterations < 1 || iterations > maxIterations {
		return "", "", errors.New("unacceptable challenge")
	}
	saltBytes, err := base64.StdEncoding.DecodeString(salt)
	if err != nil {
		return "", "", err
	}
	salted, err := pbkdf2.Key(sha256.New, password, saltBytes, iterations, sha256.Size)
	if err != nil {
		return "", "", err
	}
	withoutProof := "c=biws,r=" + nonce
	transcript := bare + "," + challenge + "," + withoutProof
	clientKey := mac(salted, "Client Key")
	storedKey := sha256.Sum256(clientKey)
	proof := bytes.Clone(clientKey)
	subtle.XORBytes(proof, clientKey, mac(storedKey[:], transcript))
	return withoutProof + ",p=" + base64.StdEncoding.EncodeToString(proof),
		base64.StdEncoding.EncodeToString(mac(mac(salted, "Server Key"), transcript)), nil
}

func mac(key []byte, message string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(message))
	return h.Sum(nil)
}
