package expression

import (
	"cel.dev/cel-go/checker"
	"cel.dev/cel-go/common/types"
)

// What is taken for the largest request: texts of the request cannot be longer than its head, and lists of what callers
// bring are not expected to be. Evaluations that may cost too much even so are counted.
const (
	maxRequestText = 64 << 10
	maxText        = 4 << 10
	maxElements    = 1024
)

// sizes tells how large variables, and what is in them, can be.
type sizes struct{}

// EstimateSize implements checker.CostEstimator.
func (sizes) EstimateSize(node checker.AstNode) *checker.SizeEstimate {
	path := node.Path()
	if len(path) == 0 {
		return nil
	}
	var most uint64
	switch node.Type().Kind() {
	case types.ListKind, types.MapKind:
		most = maxElements
	case types.StringKind, types.BytesKind, types.DynKind, types.AnyKind:
		most = maxText
		switch path[0] {
		case Path, RawPath, Query, Headers:
			most = maxRequestText
		}
	default:
		return nil
	}
	return &checker.SizeEstimate{Max: most}
}

// EstimateCallCost implements checker.CostEstimator: CEL's own estimates are used.
func (sizes) EstimateCallCost(string, string, *checker.AstNode, []checker.AstNode) *checker.CallEstimate {
	return nil
}
