package sealer_test

import (
	"errors"
	"strings"
	"testing"
)

func TestTamperingIsNamedAndRefused(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		tamper []string
		want   []string
	}{
		"row moved to another uid": {
			[]string{`update resources set uid = '` + uid(7) + `' where uid = '` + uid(1) + `'`},
			[]string{"resources of group a", "routes", uid(7), "does not belong here"},
		},
		"rows exchanged": {
			[]string{`update resources r set sealed = o.sealed, revision = o.revision from resources o
where (r.uid = '` + uid(1) + `' and o.uid = '` + uid(2) + `') or (r.uid = '` + uid(2) + `' and o.uid = '` + uid(1) + `')`},
			[]string{"resources of group a", uid(1), "does not belong here"},
		},
		"row moved to another kind": {
			[]string{`update resources set kind = 'services' where uid = '` + uid(1) + `'`},
			[]string{"services", uid(1), "does not belong here"},
		},
		"row moved from another group": {
			[]string{`update resources set group_uid = (select uid from groups where name = 'a') where uid = '` + uid(3) + `'`},
			[]string{"resources of group a", uid(3), "does not belong here"},
		},
		"row renamed": {
			[]string{`update resources set name = 'other' where uid = '` + uid(1) + `'`},
			[]string{"resources of group a", uid(1), "name is not the one"},
		},
		"labels changed": {
			[]string{`update resources set labels = '{"team": "y"}' where uid = '` + uid(1) + `'`},
			[]string{"resources of group a", uid(1), "labels are not those"},
		},
		"ciphertext rolled back": {
			[]string{`update resources set sealed = o.sealed from older o where resources.uid = o.uid`},
			[]string{"resources of group a", uid(2), "revision 3", "does not belong here"},
		},
		"row rolled back whole": {
			[]string{`update resources set sealed = o.sealed, revision = o.revision from older o where resources.uid = o.uid`},
			[]string{"does not match the head"},
		},
		"bit flipped in the content": {
			[]string{`update resources set sealed = set_byte(sealed, 60, get_byte(sealed, 60) # 1) where uid = '` + uid(1) + `'`},
			[]string{"resources of group a", uid(1), "was altered"},
		},
		"bit flipped in the term": {
			[]string{`update resources set sealed = set_byte(sealed, 4, get_byte(sealed, 4) # 2) where uid = '` + uid(1) + `'`},
			[]string{"resources of group a", uid(1), "no such term"},
		},
		"header of another format": {
			[]string{`update resources set sealed = set_byte(sealed, 0, 0) where uid = '` + uid(1) + `'`},
			[]string{"resources of group a", uid(1), "malformed ciphertext"},
		},
		"truncated by a byte": {
			[]string{`update resources set sealed = substring(sealed for octet_length(sealed) - 1) where uid = '` + uid(1) + `'`},
			[]string{"resources of group a", uid(1), "was altered"},
		},
		"truncated": {
			[]string{`update resources set sealed = substring(sealed for 30) where uid = '` + uid(1) + `'`},
			[]string{"resources of group a", uid(1), "malformed ciphertext"},
		},
		"replaced by plain text": {
			[]string{`update resources set sealed = 'record'::bytea where uid = '` + uid(1) + `'`},
			[]string{"resources of group a", uid(1), "malformed ciphertext"},
		},
		"row removed": {
			[]string{`delete from resources where uid = '` + uid(1) + `'`},
			[]string{"set of 1 rows does not match the head"},
		},
		"row removed, count corrected": {
			[]string{`delete from resources where uid = '` + uid(1) + `'`, `update heads set resource_count = 1 where group_uid = (select uid from groups where name = 'a')`},
			[]string{"heads of group a", "MAC does not verify"},
		},
		"head rolled back to an older revision": {
			[]string{`update heads set revision = 1 where group_uid = (select uid from groups where name = 'a')`},
			[]string{"heads of group a", "MAC does not verify"},
		},
		"heads exchanged": {
			[]string{`update heads h set epoch = o.epoch, revision = o.revision, resource_count = o.resource_count, digest = o.digest,
audit_seq = o.audit_seq, audit_head = o.audit_head, mac = o.mac from heads o
where h.group_uid = (select uid from groups where name = 'a') and o.group_uid = (select uid from groups where name = 'b')`},
			[]string{"heads of group a", "MAC does not verify"},
		},
		"groups renamed into each other": {
			[]string{
				`update groups set name = 'c' where name = 'a'`, `update groups set name = 'a' where name = 'b'`,
				`update groups set name = 'b' where name = 'c'`,
			},
			[]string{"heads of group a", "MAC does not verify"},
		},
		"change altered": {
			[]string{`update changes set sealed = set_byte(sealed, 60, get_byte(sealed, 60) # 1) where revision = 2`},
			[]string{"changes of group a", "revision 2", "was altered"},
		},
		"changes exchanged": {
			[]string{
				`update changes set revision = 99 where revision = 1`, `update changes set revision = 1 where revision = 2`,
				`update changes set revision = 2 where revision = 99`,
			},
			[]string{"changes of group a", "revision 1", "does not belong here"},
		},
		"keyring altered": {
			[]string{`update keyrings set wrapped = set_byte(wrapped, 60, get_byte(wrapped, 60) # 1)`},
			[]string{"keyrings of group a", "does not unwrap"},
		},
		"keyring of another group": {
			[]string{`update keyrings k set wrapped = o.wrapped from keyrings o where o.group_uid = (select uid from groups where name = 'b')`},
			[]string{"keyrings of group a", "does not unwrap"},
		},
		"keyring of another version": {
			[]string{`update keyrings set version = 2`},
			[]string{"keyrings of group a", "has version 2, the head says 1"},
		},
		"keyring and head of another version": {
			[]string{`update keyrings set version = 2`, `update heads set keyring_version = 2`},
			[]string{"keyrings of group a", "does not unwrap"},
		},
		"keyring removed": {
			[]string{`delete from keyrings`},
			[]string{"keyrings of group a", "the row is missing"},
		},
		"head removed": {
			[]string{`delete from heads`},
			[]string{"heads of group a", "the row is missing"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.put(t, w.a, 1, "one", "record one")
			w.put(t, w.a, 2, "two", "record two, first")
			w.Exec(t, `create table older as select uid, sealed, revision from resources where uid = '`+uid(2)+`'`)
			w.put(t, w.a, 2, "two", "record two, second")
			w.put(t, w.b, 3, "three", "record three")
			if err := w.read(t, "a"); err != nil {
				t.Fatalf("before: %v", err)
			}
			w.Exec(t, tc.tamper...)
			err := w.read(t, "a")
			if err == nil {
				t.Fatal("nothing was noticed")
			}
			for _, want := range tc.want {
				if !strings.Contains(fullText(err), want) {
					t.Errorf("error %q does not say %q", fullText(err), want)
				}
			}
			if strings.Contains(fullText(err), "record") {
				t.Errorf("error %q holds content", err)
			}
		})
	}
}

// fullText is the text of an error with that of its causes.
func fullText(err error) string {
	var b strings.Builder
	for ; err != nil; err = errors.Unwrap(err) {
		b.WriteString(err.Error() + "; ")
	}
	return b.String()
}
