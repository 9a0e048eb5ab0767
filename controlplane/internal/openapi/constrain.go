package openapi

import (
	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"

	"keyward.dev/shared/problem"
)

// constrain adds what JSON Schema can say of a field's validation rules. Sizes and percentages are left alone: the rules
// are about numbers that documents do not write, or not always.
func constrain(schema object, r *validate.FieldRules) {
	if r == nil || schema["anyOf"] != nil || schema["pattern"] == percentPattern {
		return
	}
	if s := r.GetString(); s != nil {
		constrainString(schema, s)
	}
	if n := r.GetInt32(); n != nil {
		bound(schema, n.HasGte(), int64(n.GetGte()), n.HasLte(), int64(n.GetLte()))
	}
	if n := r.GetInt64(); n != nil {
		bound(schema, n.HasGte(), n.GetGte(), n.HasLte(), n.GetLte())
	}
	if n := r.GetUint32(); n != nil {
		bound(schema, n.HasGte(), n.GetGte(), n.HasLte(), n.GetLte())
	}
	if n := r.GetUint64(); n != nil {
		bound(schema, n.HasGte(), n.GetGte(), n.HasLte(), n.GetLte())
	}
}

func constrainString(schema object, s *validate.StringRules) {
	if s.HasMinLen() {
		schema["minLength"] = s.GetMinLen()
	}
	if s.HasMaxLen() {
		schema["maxLength"] = s.GetMaxLen()
	}
	if s.HasPattern() && schema["pattern"] == nil {
		schema["pattern"] = s.GetPattern()
	}
}

func bound[N int64 | uint32 | uint64](schema object, hasLow bool, low N, hasHigh bool, high N) {
	if hasLow {
		schema["minimum"] = low
	}
	if hasHigh {
		schema["maximum"] = high
	}
}

func problemCodes() list {
	var out list
	for _, c := range problem.Codes() {
		out = append(out, string(c))
	}
	return out
}
