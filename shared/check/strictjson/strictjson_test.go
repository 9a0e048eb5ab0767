package strictjson_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"keyward.dev/shared/check/strictjson"
)

func TestObject(t *testing.T) {
	t.Parallel()
	want := map[string]any{
		"a": int64(-1), "b": 1.5, "c": []any{true, false, nil}, "d": map[string]any{}, "e": "x\"\\/\b\f\n\r\té\U0001F600", "f": []any{},
		"g": int64(9007199254740993), "h": 100.0,
	}
	got, err := strictjson.Object([]byte(" {\"a\":-1, \"b\" :1.5,\"c\":[true,false,null],\"d\":{},\"e\":\"x\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD83D\\ude00\",\r\n\t\"f\":[],\"g\":9007199254740993,\"h\":1e2} "))
	if err != nil {
		t.Fatalf("Object() = %v", err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Object() (-want +got):\n%s", diff)
	}
}

func TestObjectRefuses(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat(`{"a":`, 13) + "1" + strings.Repeat("}", 13)
	for _, tt := range []struct {
		name, in string
		want     error
	}{
		{"nothing", "", strictjson.ErrNotObject},
		{"a list", "[]", strictjson.ErrNotObject},
		{"a byte order mark", "\ufeff{}", strictjson.ErrNotObject},
		{"no end", `{"a":1`, strictjson.ErrSyntax},
		{"something behind it", `{} {}`, strictjson.ErrSyntax},
		{"a comma too many", `{"a":1,}`, strictjson.ErrSyntax},
		{"a comma too many in a list", `{"a":[1,]}`, strictjson.ErrSyntax},
		{"no colon", `{"a" 1}`, strictjson.ErrSyntax},
		{"no quotes", `{a:1}`, strictjson.ErrSyntax},
		{"another word", `{"a":True}`, strictjson.ErrSyntax},
		{"no value", `{"a":}`, strictjson.ErrSyntax},
		{"a control character", "{\"a\":\"\n\"}", strictjson.ErrSyntax},
		{"a control character after an escape", "{\"a\":\"\\n\n\"}", strictjson.ErrSyntax},
		{"another escape", `{"a":"\x"}`, strictjson.ErrSyntax},
		{"an escape at the end", `{"a":"\`, strictjson.ErrSyntax},
		{"half an escape", `{"a":"\u12`, strictjson.ErrSyntax},
		{"no hex", `{"a":"\u12g4"}`, strictjson.ErrSyntax},
		{"a zero in front", `{"a":01}`, strictjson.ErrSyntax},
		{"a plus", `{"a":+1}`, strictjson.ErrSyntax},
		{"no digits", `{"a":1.}`, strictjson.ErrSyntax},
		{"no exponent", `{"a":1e}`, strictjson.ErrSyntax},
		{"not a number", `{"a":NaN}`, strictjson.ErrSyntax},
		{"a member twice", `{"a":1,"b":2,"a":1}`, strictjson.ErrDuplicate},
		{"a member twice by escapes", `{"a":1,"\u0061":1}`, strictjson.ErrDuplicate},
		{"a member twice deeper", `{"x":[{"a":1,"a":1}]}`, strictjson.ErrDuplicate},
		{"broken UTF-8", "{\"a\":\"\xff\"}", strictjson.ErrEncoding},
		{"half a pair", `{"a":"\ud83d"}`, strictjson.ErrEncoding},
		{"two first halves", `{"a":"\ud83d\ud83d"}`, strictjson.ErrEncoding},
		{"a huge exponent", `{"a":1e999}`, strictjson.ErrNumber},
		{"a huge number", `{"a":9223372036854775808}`, strictjson.ErrNumber},
		{"many digits", `{"a":0.` + strings.Repeat("1", 40) + `}`, strictjson.ErrNumber},
		{"depth", deep, strictjson.ErrTooMuch},
		{"many values", `{"a":[` + strings.Repeat("1,", 8192) + `1]}`, strictjson.ErrTooMuch},
		{"a long name", `{"` + strings.Repeat("a", 513) + `":1}`, strictjson.ErrTooMuch},
		{"length", `{"a":"` + strings.Repeat("a", strictjson.MaxBytes) + `"}`, strictjson.ErrTooMuch},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got, err := strictjson.Object([]byte(tt.in)); !errors.Is(err, tt.want) || got != nil {
				t.Errorf("Object() = %v, %v, want %v", got, err, tt.want)
			}
		})
	}
}

// FuzzObject holds what is taken against the standard library, which takes more.
func FuzzObject(f *testing.F) {
	f.Add([]byte(`{"a":[1,2.5,"x\u00e9",null,{"b":true}],"a ":-0}`))
	f.Add([]byte(`{"a":1,"a":2}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := strictjson.Object(b)
		if err != nil {
			return
		}
		var theirs map[string]any
		if err := json.Unmarshal(b, &theirs); err != nil {
			t.Fatalf("Object() takes what the standard library refuses: %v", err)
		}
		ours, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		again, err := strictjson.Object(ours)
		if err != nil {
			t.Fatalf("Object() refuses its own: %v", err)
		}
		if diff := cmp.Diff(len(theirs), len(again)); diff != "" {
			t.Errorf("members (-standard +ours):\n%s", diff)
		}
	})
}
