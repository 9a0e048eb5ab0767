package expression

import (
	"errors"
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/interpreter"
)

const (
	// MaxBytes bounds the text of an expression.
	MaxBytes = 4096
	// maxCost is what one evaluation may cost, in CEL's units: a step of the evaluation each, and a tenth for each byte of a
	// text that is looked through. It is some milliseconds at most.
	maxCost = 100_000
	// maxEstimate is what an evaluation may be estimated to cost on the largest request. It is generous, for two loops over
	// claims in each other, because what a real request may cost is maxCost.
	maxEstimate = 100_000 * maxCost
	// maxNesting is how deep loops over lists and maps may stand in each other.
	maxNesting = 2
	// maxDepth is how deep an expression may be nested.
	maxDepth = 64
)

// Variables gives what an expression sees, by the names of variables; only what the expression names is asked for.
type Variables = cel.Activation

// Condition is a compiled expression. It is immutable and may be evaluated by many at once.
type Condition struct {
	program cel.Program
}

// ErrCost is that of an evaluation which was given up because it cost too much.
var ErrCost = errors.New("the evaluation costs too much")

var errNoBool = errors.New("the result is no bool")

// Compile compiles an expression. The error says in one line what is wrong with it.
func Compile(text string) (*Condition, error) {
	env, err := environment()
	if err != nil {
		return nil, err
	}
	if len(text) > MaxBytes {
		return nil, fmt.Errorf("is longer than %d bytes", MaxBytes)
	}
	tree, issues := env.Compile(text)
	if issues.Err() != nil {
		return nil, firstIssue(issues)
	}
	if err := resultType(tree.OutputType()); err != nil {
		return nil, err
	}
	if err := restricted(tree.NativeRep().Expr()); err != nil {
		return nil, err
	}
	return program(env, tree)
}

// program plans the evaluation. What cannot cost too much is not counted: counting costs more than most expressions.
func program(env *cel.Env, tree *cel.Ast) (*Condition, error) {
	estimate, err := env.EstimateCost(tree, sizes{})
	if err != nil {
		return nil, fmt.Errorf("its cost cannot be estimated: %w", err)
	}
	if estimate.Max > maxEstimate {
		return nil, errors.New("may cost too much on a large request: do not loop over lists within loops over lists")
	}
	options := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize)}
	if estimate.Max > maxCost {
		options = append(options, cel.CostLimit(maxCost))
	}
	p, err := env.Program(tree, options...)
	if err != nil {
		return nil, fmt.Errorf("cannot be planned: %w", err)
	}
	return &Condition{program: p}, nil
}

// Holds evaluates the condition. An error is something that is missing or of another type in this request, or ErrCost.
func (c *Condition) Holds(vars Variables) (bool, error) {
	v, _, err := c.program.Eval(vars)
	if err != nil {
		if e, ok := errors.AsType[interpreter.EvalCancelledError](err); ok && e.Cause == interpreter.CostLimitExceeded {
			return false, ErrCost
		}
		return false, fmt.Errorf("evaluate: %w", err)
	}
	b, ok := v.(types.Bool)
	if !ok {
		return false, errNoBool
	}
	return bool(b), nil
}

func resultType(t *cel.Type) error {
	switch {
	case t.IsExactType(cel.BoolType):
		return nil
	case t.IsExactType(cel.DynType):
		return errors.New("is of a type that only a request tells; compare it, such as `… == true`")
	default:
		return fmt.Errorf("is of type %s, not bool", cel.FormatCELType(t))
	}
}

// firstIssue tells the first thing that is wrong; the others mostly follow from it.
func firstIssue(issues *cel.Issues) error {
	first := issues.Errors()[0]
	message, _, _ := strings.Cut(first.Message, " (in container '')")
	message, _, _ = strings.Cut(message, "\n")
	if prefix, ok := strings.CutPrefix(message, "undeclared reference to '"); ok {
		if names := alternatives(strings.TrimSuffix(prefix, "'")); len(names) > 0 {
			message += "; there are " + strings.Join(names, ", ")
		}
	}
	at := first.Location
	if at.Line() < 1 {
		return errors.New(message)
	}
	return fmt.Errorf("line %d, column %d: %s", at.Line(), at.Column()+1, message)
}
