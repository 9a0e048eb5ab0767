package expression

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
)

const maxRegex = 1024

// zone are the time zones that need no tables: gateways have none, and two that had different ones would differ.
var zone = regexp.MustCompile(`^(UTC|[+-](0[0-9]|1[0-4]):[0-5][0-9])$`)

// restricted refuses what is CEL and would do at the time of a request what belongs to that of its compilation.
func restricted(root ast.Expr) (err error) {
	ast.PostOrderVisit(root, ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.CallKind || err != nil {
			return
		}
		call := e.AsCall()
		args := call.Args()
		switch name := call.FunctionName(); {
		case name == "matches" && len(args) > 0:
			err = regex(args[len(args)-1])
		case strings.HasPrefix(name, "get") && call.IsMemberFunction() && len(args) == 1:
			if z, ok := literal(args[0]); !ok || !zone.MatchString(z) {
				err = fmt.Errorf("%s: a time zone is written as an offset such as \"+01:00\", or \"UTC\"", name)
			}
		}
	}))
	return err
}

func regex(e ast.Expr) error {
	text, ok := literal(e)
	switch {
	case !ok:
		return errors.New("matches: the regular expression has to be a text, not the result of something")
	case len(text) > maxRegex:
		return fmt.Errorf("matches: the regular expression is longer than %d bytes", maxRegex)
	}
	return nil
}

func literal(e ast.Expr) (text string, ok bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	s, ok := e.AsLiteral().(types.String)
	return string(s), ok
}
