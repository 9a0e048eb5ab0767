package password_test

import (
	"runtime"
	"strings"
	"testing"

	"keyward.dev/shared/password"
)

const known = "correct horse battery"

func TestMadeHashesVerify(t *testing.T) {
	t.Parallel()
	h, err := password.New(known)
	if err != nil {
		t.Fatal(err)
	}
	other, err := password.New(known)
	if err != nil {
		t.Fatal(err)
	}
	if h.String() == other.String() {
		t.Errorf("two hashes of one password are both %s", h)
	}
	read, err := password.Parse(h.String())
	if err != nil || read.String() != h.String() || !read.Approved() {
		t.Fatalf("Parse(%s) = %v, %v", h, read, err)
	}
	for presented, want := range map[string]bool{known: true, known + "x": false, "": false, strings.ToUpper(known): false} {
		if got := read.Verify([]byte(presented), nil); got != want {
			t.Errorf("Verify(%q) = %v, want %v", presented, got, want)
		}
	}
	pauses := 0
	if !read.Verify([]byte(known), func() { pauses++ }) || pauses < 100 {
		t.Errorf("with %d pauses the hash is another", pauses)
	}
	if password.Decoy().Verify([]byte(known), func() {}) || password.Decoy().Verify(nil, nil) {
		t.Error("a decoy lets somebody in")
	}
}

// TestForeignHashesVerify has hashes that other programs have made: Python's hashlib, libxcrypt, and argon2's reference.
func TestForeignHashesVerify(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, hash, password string
		approved             bool
	}{
		{"pbkdf2", "$pbkdf2-sha256$i=29000$AAECAwQFBgcICQoLDA0ODw$QKlCDPGRoLK139911fz4wmw+qxtasIBS/3PnV5Q49G0", known, true},
		{"pbkdf2 as passlib writes it", "$pbkdf2-sha256$29000$AAECAwQFBgcICQoLDA0ODw$QKlCDPGRoLK139911fz4wmw.qxtasIBS/3PnV5Q49G0", known, true},
		{"pbkdf2, cut", "$pbkdf2-sha256$i=10000$AAECAwQFBgcICQoLDA0ODw$X+DILeVuX9mNHCAvEDeDlQ", known, true},
		{"pbkdf2 with little salt", "$pbkdf2-sha256$i=10000$AAECAwQFBgc$5WFmNUEJcnGagZZ/aIvhmxNBp8byfCMfAYrdt6AgAYo", known, false},
		{"argon2id", "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc", "password", false},
		{"argon2id in four lanes", "$argon2id$v=19$m=19456,t=2,p=4$c29tZXNhbHRzb21lc2FsdA$qlEcnBD/yELbohXjw8u5Pj+v65UYbi2GsI1p2s41VK8", known, false},
		{"bcrypt", "$2b$10$abcdefghijklmnopqrstuuCj7fyLDJytXL.TfOiOeiv0fQvSOK1/2", known, false},
		{"bcrypt as PHP writes it", "$2y$08$abcdefghijklmnopqrstuuwezlW09AGl.Qc8oiYvHEzrpumH/GaSu", known, false},
		{"bcrypt of all that it looks at", "$2b$08$abcdefghijklmnopqrstuujyJJZFHxfP7uFcWoV4k5KREorUKVI2K", strings.Repeat("x", 72), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h, err := password.Parse(tt.hash)
			if err != nil {
				t.Fatal(err)
			}
			if !h.Verify([]byte(tt.password), nil) || !h.Verify([]byte(tt.password), func() {}) {
				t.Error("the right password is refused")
			}
			if h.Verify([]byte(tt.password[1:]), func() {}) || h.Verify(nil, nil) {
				t.Error("a wrong password is accepted")
			}
			if h.String() != tt.hash || h.Approved() != tt.approved {
				t.Errorf("String = %s, Approved = %v", h, h.Approved())
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	const salt, sum = "AAECAwQFBgcICQoLDA0ODw", "QKlCDPGRoLK139911fz4wmw+qxtasIBS/3PnV5Q49G0"
	const form = "is none of"
	tests := []struct{ name, hash, want string }{
		{"nothing", "", form},
		{"a password", known, form},
		{"no dollar in front", "pbkdf2-sha256$i=29000$" + salt + "$" + sum, form},
		{"another function", "$pbkdf2-sha512$i=29000$" + salt + "$" + sum, form},
		{"argon2i", "$argon2i$v=19$m=65536,t=2,p=1$" + salt + "$" + sum, form},
		{"sha512crypt", "$6$rounds=5000$saltsalt$abc", form},
		{"pbkdf2: iterations that are no number", "$pbkdf2-sha256$i=x$" + salt + "$" + sum, form},
		{"pbkdf2: leading zero", "$pbkdf2-sha256$i=029000$" + salt + "$" + sum, form},
		{"pbkdf2: negative", "$pbkdf2-sha256$i=-29000$" + salt + "$" + sum, form},
		{"pbkdf2: beyond a number", "$pbkdf2-sha256$i=99999999999999999999$" + salt + "$" + sum, form},
		{"pbkdf2: too few", "$pbkdf2-sha256$i=9999$" + salt + "$" + sum, "has 9999 iterations"},
		{"pbkdf2: too many", "$pbkdf2-sha256$i=2000001$" + salt + "$" + sum, "has 2000001 iterations"},
		{"pbkdf2: no salt", "$pbkdf2-sha256$i=29000$$" + sum, "has a salt of 0 bytes"},
		{"pbkdf2: no hash", "$pbkdf2-sha256$i=29000$" + salt, form},
		{"pbkdf2: an empty hash", "$pbkdf2-sha256$i=29000$" + salt + "$", "has 0 bytes"},
		{"pbkdf2: a short hash", "$pbkdf2-sha256$i=29000$" + salt + "$AAECAwQFBgc", "has 8 bytes"},
		{"pbkdf2: more than one block", "$pbkdf2-sha256$i=29000$" + salt + "$" + strings.Repeat("A", 64), "has 48 bytes"},
		{"pbkdf2: padding", "$pbkdf2-sha256$i=29000$" + salt + "==$" + sum, form},
		{"pbkdf2: bits that are left over", "$pbkdf2-sha256$i=29000$" + salt + "$QKlCDPGRoLK139911fz4wmw+qxtasIBS/3PnV5Q49G1", form},
		{"argon2id: an old version", "$argon2id$v=16$m=65536,t=2,p=1$" + salt + "$" + sum, form},
		{"argon2id: parameters in another order", "$argon2id$v=19$t=2,m=65536,p=1$" + salt + "$" + sum, form},
		{"argon2id: a parameter more", "$argon2id$v=19$m=65536,t=2,p=1,x=1$" + salt + "$" + sum, form},
		{"argon2id: too much memory", "$argon2id$v=19$m=65537,t=1,p=1$" + salt + "$" + sum, "uses 65537 KiB"},
		{"argon2id: too little memory", "$argon2id$v=19$m=8,t=1,p=1$" + salt + "$" + sum, "uses 8 KiB"},
		{"argon2id: too many passes for its memory", "$argon2id$v=19$m=65536,t=5,p=1$" + salt + "$" + sum, "makes 5 passes"},
		{"argon2id: no pass", "$argon2id$v=19$m=65536,t=0,p=1$" + salt + "$" + sum, "makes 0 passes"},
		{"argon2id: too many lanes", "$argon2id$v=19$m=65536,t=1,p=5$" + salt + "$" + sum, "has 5 lanes"},
		{"bcrypt: too costly", "$2b$13$abcdefghijklmnopqrstuuCj7fyLDJytXL.TfOiOeiv0fQvSOK1/2", "has cost 13"},
		{"bcrypt: too cheap", "$2b$04$abcdefghijklmnopqrstuuCj7fyLDJytXL.TfOiOeiv0fQvSOK1/2", "has cost 4"},
		{"bcrypt: cut", "$2b$10$abcdefghijklmnopqrstuuCj7fyLDJytXL.TfOiOeiv0fQvSOK1/", form},
		{"bcrypt: another letter", "$2b$10$abcdefghijklmnopqrstuuCj7fyLDJytXL.TfOiOeiv0fQvSOK1/+", form},
		{"bcrypt: cost that is no number", "$2b$1x$abcdefghijklmnopqrstuuCj7fyLDJytXL.TfOiOeiv0fQvSOK1/2", form},
		{"endless", "$pbkdf2-sha256$i=29000$" + salt + "$" + strings.Repeat("A", 600), form},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h, err := password.Parse(tt.hash)
			if err == nil || !strings.Contains(err.Error(), tt.want) || h != nil {
				t.Errorf("Parse = %v, %v; want an error with %q", h, err, tt.want)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for text, ok := range map[string]bool{
		"12345678": true, "1234567": false, "": false, "pässwörd": true, "päss": false, "with space": true, "with\ttab": false,
		"bad\xffutf8": false, strings.Repeat("x", password.MaxBytes): true, strings.Repeat("x", password.MaxBytes+1): false,
	} {
		if reason := password.Check(text); (reason == "") != ok {
			t.Errorf("Check(%q) = %q", text, reason)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("$pbkdf2-sha256$i=29000$AAECAwQFBgcICQoLDA0ODw$QKlCDPGRoLK139911fz4wmw+qxtasIBS/3PnV5Q49G0")
	f.Add("$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc")
	f.Add("$2b$10$abcdefghijklmnopqrstuuCj7fyLDJytXL.TfOiOeiv0fQvSOK1/2")
	f.Fuzz(func(t *testing.T, text string) {
		h, err := password.Parse(text)
		if err != nil {
			return
		}
		if h.String() != text {
			t.Errorf("%q is written again as %q", text, h)
		}
		if again, err := password.Parse(h.String()); err != nil || again.String() != text {
			t.Errorf("%q is read again as %v, %v", text, again, err)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	made, err := password.New(known)
	if err != nil {
		b.Fatal(err)
	}
	for name, text := range map[string]string{
		"pbkdf2":   made.String(),
		"argon2id": "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc",
		"bcrypt":   "$2b$10$abcdefghijklmnopqrstuuCj7fyLDJytXL.TfOiOeiv0fQvSOK1/2",
	} {
		h, err := password.Parse(text)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				h.Verify([]byte(known), runtime.Gosched)
			}
		})
	}
}
